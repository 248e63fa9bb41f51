"""A process that fits a network and stands still when a given state is written, so that it can be killed there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import base as recommender
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.two_stage.model import Flagship, FlagshipConfig
from models.base import Recommender
from models.runtime.checkpoints import Checkpoint
from tests.unit.models.examples import features_of, two_tastes

HALTED = "halted"

RECIPE = NeuMFConfig(
    batch_size=64, epochs=5, patience=5, threads=1, learning_rate=0.02, weight_decay=0.05, negatives=4, dropout=0.2
)


def recipe(*, pretrain: bool) -> NeuMFConfig:
    """Drop-out, features that are hidden at random, early stopping and a refit: every generator is used."""
    return replace(RECIPE, pretrain=pretrain, pretrain_learning_rate=0.01)


FLAGSHIP = FlagshipConfig(
    l2=5.0, next_l2=5.0, factors=8, hidden=16, epochs=5, batch_size=64, min_items=1, learning_rate=0.02, encoders=2
)


def maker(kind: str) -> Recommender:
    """Return the model to fit: ``neumf``, ``neumf pretrained`` or ``flagship``."""
    return Flagship(FLAGSHIP) if kind == "flagship" else NeuMF(recipe(pretrain=kind == "neumf pretrained"))


def fit(checkpoints: Path | None, kind: str) -> Recommender:
    """Run the fit that a test kills or leaves undisturbed."""
    interactions, _ = two_tastes()
    return maker(kind).fit(interactions, features_of(interactions), seed=7, checkpoints=checkpoints)


def main(checkpoints: str, kind: str, stage: str, epoch: str) -> None:
    """Fit until the state of an epoch is written, say so, and wait for the end of stdin, which never comes."""

    class HaltingCheckpoint(Checkpoint):
        def save(self, stage_: str, state: Mapping[str, Any]) -> None:
            super().save(stage_, state)
            if (stage_, state["epoch"]) == (stage, int(epoch)):
                print(HALTED, flush=True)
                sys.stdin.read()

    recommender.Checkpoint = HaltingCheckpoint  # type: ignore[misc]
    fit(Path(checkpoints), kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
