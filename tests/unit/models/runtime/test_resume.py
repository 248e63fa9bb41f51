"""A fit that is killed and asked for again ends as one that nobody disturbed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.algorithms.neumf.model import NeuMF
from models.base import Recommender
from models.runtime.checkpoints import Checkpoint
from settings import PROJECT_ROOT
from tests.unit.models import halted_fit
from tests.unit.models.examples import features_of, two_tastes


def kill_at(checkpoints: Path, stage: str, epoch: int, kind: str) -> None:
    """Start the fit in a process of its own and kill it when the state of the epoch is on disk."""
    command = (sys.executable, "-m", "tests.unit.models.halted_fit", checkpoints, kind, stage, str(epoch))
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as fit:
        assert fit.stdout is not None
        line = fit.stdout.readline()
        fit.send_signal(signal.SIGKILL)
        told = fit.stderr.read() if fit.stderr is not None else ""
        fit.wait()
    assert line.strip() == halted_fit.HALTED, told
    assert fit.returncode == -signal.SIGKILL


def same_bits(one: Recommender, other: Recommender, folder: Path) -> bool:
    for name, fitted in (("one", one), ("other", other)):
        fitted.save(folder / name)
    return all(
        (folder / "one" / file).read_bytes() == (folder / "other" / file).read_bytes()
        for file in ("weights.npz", "recommender.json")
    )


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("neumf", [("train", 3), ("refit", 2)]),
        ("neumf pretrained", [("refit-gmf", 1)]),
        ("flagship", [("held-1", 2), ("whole-0", 3)]),
    ],
)
def test_a_fit_killed_time_and_again_ends_with_the_bits_of_one_that_was_not(
    kind: str, kills: list[tuple[str, int]], tmp_path: Path
) -> None:
    for stage, epoch in kills:
        kill_at(tmp_path / "states", stage, epoch, kind)
    resumed = halted_fit.fit(tmp_path / "states", kind)
    undisturbed = halted_fit.fit(None, kind)
    assert same_bits(resumed, undisturbed, tmp_path)
    resumed.checkpoint.remove()
    assert list((tmp_path / "states").iterdir()) == []


def test_what_was_trained_before_the_kill_is_not_trained_again(tmp_path: Path) -> None:
    kill_at(tmp_path, "train", 3, "neumf")
    interactions, _ = two_tastes()
    told: list[int] = []
    NeuMF(halted_fit.recipe(pretrain=False)).fit(
        interactions,
        features_of(interactions),
        seed=7,
        progress=lambda step: told.append(step.step),
        checkpoints=tmp_path,
    )
    assert told == [4, 5]


def test_a_state_is_of_its_own_data_seed_and_recipe_alone(tmp_path: Path) -> None:
    interactions, _ = two_tastes()
    features, config = features_of(interactions), halted_fit.recipe(pretrain=False)
    fewer = interactions.take(np.arange(len(interactions) - 1))
    other_features = features_of(interactions, seed=1)
    NeuMF(config).fit(interactions, features, seed=7, checkpoints=tmp_path)
    for rows, known, seed in (
        (fewer, features_of(fewer), 7),
        (interactions, other_features, 7),
        (interactions, features, 8),
    ):
        with_states = NeuMF(config).fit(rows, known, seed=seed, checkpoints=tmp_path)
        without = NeuMF(config).fit(rows, known, seed=seed)
        assert same_bits(with_states, without, tmp_path / f"{len(rows)} {seed} {known is features}")


def test_a_fit_without_a_folder_keeps_no_state() -> None:
    assert halted_fit.fit(None, "neumf").checkpoint.folder is None
    assert NeuMF().checkpoint.folder == Checkpoint().folder
