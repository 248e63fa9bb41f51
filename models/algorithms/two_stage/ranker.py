"""The second stage of the flagship: a small network that ranks by what the first stage and the features say.

It is trained on what was held out of the first stage's fit, so that it learns how far each part can be believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

#: Examples a step.
_BATCH = 64
#: Share of the examples that are watched instead of learnt from: the epoch that is best on them is kept.
_WATCHED = 0.2


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """How large the ranker is and how it is trained."""

    #: Units of the hidden layer; 0: the blend alone.
    hidden: int = 16
    epochs: int = 40
    learning_rate: float = 5e-3
    weight_decay: float = 0.5


class Ranker(nn.Module):
    """[..., F] inputs to [...] scores: a linear blend with the weights ``start`` float32[F] at first, and an MLP.

    The weights are held to that start, and the last layer of the MLP starts at zero: with little to learn from, the
    ranker stays near the plain blend, which needs no data to be sensible.

    ``damped``: the last input says from 0 to 1 how much of what is learnt is left out, for lists that are too few to
    learn from.
    """

    def __init__(self, start: Tensor, config: RankerConfig, *, damped: bool) -> None:
        super().__init__()
        self.damped = damped
        width = len(start)
        self.start: Tensor
        self.register_buffer("start", start)
        self.change = nn.Parameter(torch.zeros(width))
        self.bent: nn.Sequential | None = None
        if config.hidden:
            last = nn.Linear(config.hidden, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.bent = nn.Sequential(nn.Linear(width, config.hidden), nn.GELU(), last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the scores."""
        learnt = inputs @ self.change
        if self.bent is not None:
            learnt = learnt + self.bent(inputs).squeeze(-1)
        if self.damped:
            learnt = (1 - inputs[..., -1]) * learnt
        scores: Tensor = inputs @ self.start + learnt
        return scores

    @torch.inference_mode()
    def score(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[...] of ``inputs`` float32[..., F]."""
        return np.asarray(self(torch.from_numpy(inputs)).numpy(), dtype=np.float32)


def train_ranker(
    inputs: NDArray[np.float32],
    relevant: NDArray[np.bool_],
    offsets: NDArray[np.float32],
    config: RankerConfig,
    *,
    start: NDArray[np.float32],
    damped: bool = False,
    seed: int,
) -> tuple[Ranker, list[dict[str, float]]]:
    """Train a ranker on Q lists of C candidates with the softmax over each list; return it and its curve.

    ``inputs`` float32[Q, C, F]; ``relevant`` bool[Q, C]; ``offsets`` float32[Q, C]: logarithm of the number of items
    that a candidate stands for, -inf where a list has no more. Without it the softmax would count only the poor items
    that were drawn, not the many that they stand for. ``start`` float32[F] and ``damped`` are those of :class:`Ranker`.
    """
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranker = Ranker(torch.from_numpy(start), config, damped=damped)
        lists = generator.permutation(len(inputs))
        watched = lists[: int(len(lists) * _WATCHED)]
        learnt = lists[len(watched) :]
        optimizer = torch.optim.AdamW(ranker.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        tensors = torch.from_numpy(inputs), torch.from_numpy(relevant), torch.from_numpy(offsets)
        best, kept, curve = np.inf, _copied(ranker), []
        for epoch in range(1, config.epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - (epoch - 1) / config.epochs)
            ranker.train()
            generator.shuffle(learnt)
            for first in range(0, len(learnt), _BATCH):
                loss = _loss(ranker, tensors, learnt[first : first + _BATCH])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            loss_watched = _watched_loss(ranker.eval(), tensors, watched)
            curve.append({"epoch": float(epoch), "watched_loss": loss_watched})
            if loss_watched < best or not len(watched):
                best, kept = loss_watched, _copied(ranker)
        ranker.load_state_dict(kept)
    return ranker.eval(), curve


def _copied(ranker: Ranker) -> dict[str, Any]:
    return {name: value.clone() for name, value in ranker.state_dict().items()}


def _loss(ranker: Ranker, tensors: tuple[Tensor, Tensor, Tensor], rows: NDArray[np.int64]) -> Tensor:
    inputs, relevant, offsets = (tensor[torch.from_numpy(rows)] for tensor in tensors)
    chances = functional.log_softmax((ranker(inputs) + offsets).clamp(min=-1e9), dim=1)
    counts = relevant.sum(dim=1).clamp(min=1)
    return -((chances * relevant).sum(dim=1) / counts).mean()


@torch.inference_mode()
def _watched_loss(ranker: Ranker, tensors: tuple[Tensor, Tensor, Tensor], rows: NDArray[np.int64]) -> float:
    if not len(rows):
        return 0.0
    losses = [
        (_loss(ranker, tensors, rows[s : s + 256]).item(), len(rows[s : s + 256])) for s in range(0, len(rows), 256)
    ]
    return sum(loss * size for loss, size in losses) / len(rows)


def ranker_arrays(ranker: Ranker) -> dict[str, NDArray[Any]]:
    """Return the arrays that :func:`restored_ranker` takes."""
    return {f"ranker.{name}": value.numpy() for name, value in ranker.state_dict().items()}


def restored_ranker(arrays: Mapping[str, NDArray[Any]], config: RankerConfig, *, damped: bool = False) -> Ranker:
    """Restore the ranker from the arrays of :func:`ranker_arrays`."""
    state = {
        name.removeprefix("ranker."): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("ranker.")
    }
    ranker = Ranker(torch.zeros_like(state["start"]), config, damped=damped)
    ranker.load_state_dict(state)
    return ranker.eval()
