"""Several processes fit one network through PyTorch's own engine, as `torchrun` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.fit import main
from models.registry import load_recommender
from models.runtime.device import training_device
from models.runtime.distributed import Team
from models.runtime.errors import RecommenderError
from settings import PROJECT_ROOT
from tests.unit.models.examples import batch_of, two_tastes

SETTINGS = (
    "neumf.batch_size=64", "neumf.epochs=4", "neumf.patience=4", "neumf.learning_rate=0.02", "neumf.weight_decay=0.05",
    "neumf.use_features=False", "neumf.refit=False", "neumf.device='cpu'", "neumf.precision='float32'",
)  # fmt: skip


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, _ = two_tastes()
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    columns = zip(rows.users + 1, rows.items + 1, rows.ratings, rows.timestamps, strict=True)
    path.write_text("userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in columns))
    return path


def started_by_torchrun(processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`torchrun --standalone --nproc-per-node N`, which finds a free port of its own."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return subprocess.run(
        [*command, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def report(text: str) -> dict[str, Any]:
    """Parse the JSON on a stdout; only output of a single process is one value."""
    found: dict[str, Any] = json.loads(text)
    return found


def test_two_processes_fit_what_one_fits(ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The fit itself compares the weights of its processes bit by bit and fails where they differ.
    told = started_by_torchrun(
        2, "-m", "models.fit", "neumf", "--ratings", ratings, "--out", tmp_path / "two", "--set", *SETTINGS
    )
    assert told.returncode == 0, told.stderr
    of_two = report(told.stdout)
    assert main(["neumf", "--ratings", str(ratings), "--out", str(tmp_path / "one"), "--set", *SETTINGS]) == 0
    of_one = report(capsys.readouterr().out)
    assert (of_one["processes"], of_two["processes"]) == (1, 2)
    # The negatives are drawn by each process, so the figures are near and not the same.
    for one, two in zip(of_one["learning_curve"], of_two["learning_curve"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.1)
    assert of_two["learning_curve"][-1]["loss"] < of_two["learning_curve"][0]["loss"]
    rows, missing = two_tastes()
    for folder in ("one", "two"):
        items, _ = load_recommender(tmp_path / folder).recommend(batch_of(rows, np.arange(60)), 1)
        assert (items[:, 0] // 10 == missing // 10).mean() > 0.9


def test_a_step_of_a_team_is_the_step_of_one_process(tmp_path: Path) -> None:
    steps = {}
    for processes in (1, 2):
        told = started_by_torchrun(processes, "-m", "tests.unit.models.team_steps", tmp_path / f"{processes}.npz")
        assert told.returncode == 0, told.stderr
        with np.load(tmp_path / f"{processes}.npz") as stored:
            steps[processes] = {name: stored[name] for name in stored.files}
    assert steps[1].keys() == steps[2].keys()
    for name, weights in steps[1].items():
        np.testing.assert_allclose(steps[2][name], weights, rtol=1e-3, atol=1e-5, err_msg=name)


def test_processes_whose_weights_differ_are_found_out(tmp_path: Path) -> None:
    told = started_by_torchrun(2, "-m", "tests.unit.models.team_steps", tmp_path / "never", "differ")
    assert told.returncode != 0
    assert "the weights of 1 of 2 processes are others" in told.stderr
    assert not (tmp_path / "never").exists()


def test_who_is_fitted_by_one_process_says_so(
    ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["ease", "--ratings", str(ratings), "--out", str(tmp_path / "ease")]) == 2
    assert "ease: is fitted by one process, not by 2" in capsys.readouterr().err
    assert not (tmp_path / "ease").exists()


def test_alone_a_process_is_a_team_of_one() -> None:
    team, network = Team.current(), torch.nn.Linear(2, 2)
    assert team == Team(0, 1)
    assert team.together(network) is network
    assert team.total(torch.tensor(3.0)).item() == 3.0
    assert team.as_the_first_says({"a": 1.5}, torch.device("cpu")) == {"a": 1.5}


def test_a_device_that_is_not_there_is_refused() -> None:
    assert training_device("cpu").type == "cpu"
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(RecommenderError, match="'tpu' is none of auto, cpu, cuda"):
        training_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RecommenderError, match="device cuda"):
            training_device("cuda")
