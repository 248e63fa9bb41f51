"""The processes that fit one recommender together, started by ``torchrun``; alone there is one, and nothing is sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from models.runtime.device import training_device
from models.runtime.errors import RecommenderError


@dataclass(frozen=True, slots=True)
class Team:
    """Which of how many processes this is.

    All have the same rows and the same network. Of every step's rows each takes its share; PyTorch's
    ``DistributedDataParallel`` averages their gradients before anyone moves a weight, so that all networks stay the
    same to the bit. A loss has to be a sum over the share's rows, times the number of processes, over the number of
    the step's rows: the average of the gradients is then that of the whole step, as one process computes it.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """Return the team of the running process group, or a team of one if there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def together(self, network: nn.Module) -> nn.Module:
        """Return the network to call in a step: its gradients are averaged over the team before they are used."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def total(self, value: Tensor) -> Tensor:
        """Sum a tensor over the team."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def as_the_first_says(self, figures: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Return the figures of process 0, so that all processes decide alike; the others pass the same names."""
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        if self.size > 1:
            distributed.broadcast(values, 0)
        return dict(zip(figures, values.tolist(), strict=True))

    def check_equal(self, state: Mapping[str, Tensor]) -> None:
        """Raise ``RecommenderError`` unless the whole team holds the same bits."""
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for name, value in state.items():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
        first = own.to(team_device(), copy=True)
        distributed.broadcast(first, 0)
        differ = torch.tensor([float(not torch.equal(first.cpu(), own))], device=team_device())
        if self.total(differ).item():
            raise RecommenderError(f"the weights of {int(differ.item())} of {self.size} processes are others")


def team_device() -> torch.device:
    """Where the team's messages have to lie: NCCL sends what is on a GPU, Gloo what is in memory."""
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def torchrun_team(device: str) -> Iterator[Team]:
    """Yield the team that ``torchrun`` started this process in, else a team of one; clean up on exit."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    place = training_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Team.current()
    finally:
        distributed.destroy_process_group()
