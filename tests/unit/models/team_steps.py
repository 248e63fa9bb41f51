"""A process of a team that trains some steps on rows which all of them hold, and writes the weights it ends with."""

from __future__ import annotations

import sys

import numpy as np
import torch

from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.neumf.training import Task, _epoch, _optimizer, _Pairs, new_network
from models.data.interactions import Interactions
from models.runtime.distributed import Team, torchrun_team

#: The last step has one row: one of two processes has none, and must take part all the same.
ROWS, STEP = 33, 8


def main(path: str, *differ: str) -> None:
    """Train an epoch on pairs that do not depend on the number of processes."""
    with torchrun_team("cpu"):
        team = Team.current()
        users = np.arange(ROWS) % 11
        rows = Interactions.of(users, (users * 3 + np.arange(ROWS)) % 13, n_users=11, n_items=13)
        config = NeuMFConfig(batch_size=STEP, use_features=False, learning_rate=0.01, negatives=2)
        torch.manual_seed(0)
        network = new_network(rows, None, config)
        candidates = np.random.default_rng(0).integers(0, 13, (ROWS, 3)).astype(np.int32)
        task = Task(rows, None, np.arange(ROWS), np.arange(0), 0, torch.device("cpu"), False, team)
        own = np.arange(ROWS)[team.rank :: team.size]
        pairs = _Pairs(rows, candidates[own], None, own, task.device)
        optimizer = _optimizer(network, config, tuning=False)
        called = team.together(network)
        for _ in range(3):
            _epoch(called, optimizer, pairs, ROWS, config, task)
        if differ and team.rank:
            with torch.no_grad():
                network.gmf_out[0] += 1e-6
        team.check_equal(network.state_dict())
        if team.rank == 0:
            with open(path, "wb") as stream:  # noqa: PTH123
                np.savez(stream, **{name: value.numpy() for name, value in network.state_dict().items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
