"""What a network is trained on, and in which precision its products are computed there."""

from __future__ import annotations

import os

import torch

from models.runtime.errors import RecommenderError


def training_device(wanted: str) -> torch.device:
    """Where a network is trained: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.

    In a team each process of a machine takes the GPU of its own number.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise RecommenderError(f"device {wanted!r} is none of auto, cpu, cuda")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecommenderError("device cuda: this machine, or this build of torch, has none")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def in_bfloat16(wanted: str, device: torch.device) -> bool:
    """Whether matrix products are computed in half precision: ``float32`` no, ``bfloat16`` yes, ``auto`` as below.

    ``auto`` takes it where the processor multiplies it itself (AVX-512 BF16, AMX, a GPU from Ampere on); anywhere else
    it would be slower than float32.
    """
    if wanted not in ("auto", "float32", "bfloat16"):
        raise RecommenderError(f"precision {wanted!r} is none of auto, float32, bfloat16")
    if wanted != "auto":
        return wanted == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
