from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.evaluation import evaluation_run as cells
from models.evaluation.benchmarks import read_problem
from models.evaluation.evaluation_run import Recipe, cell_key
from models.evaluation.leaderboards import main
from models.registry import RECOMMENDERS, configured
from models.runtime.code_fingerprint import code_fingerprint
from models.runtime.memory import peak_memory, reset_peak_memory
from models.tuning.default_hyperparameters import chosen_settings
from orchestration.synthetic.generated_edition import main as make_generated


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a folder with an ml-100k of 40 users, and nothing else."""
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    _write_ratings(folder / "u.data", seed=0)
    return tmp_path / "data"


def _write_ratings(file: Path, seed: int) -> None:
    codes = np.random.default_rng(seed).choice(40 * 150, 800, replace=False)
    file.write_text("\n".join(f"{c // 150}\t{c % 150}\t{1 + c % 5}\t{t}" for t, c in enumerate(codes)))


def _make(data: Path, reports: Path, *more: str) -> list[str]:
    arguments = ["--data", str(data), "--reports", str(reports), "--seeds", "1", "2", *more]
    assert main([*arguments, "--protocol", "random-75-25", "--model", "popularity", "ease"]) == 0
    return sorted(file.name for file in (reports / "cells").iterdir())


def test_the_tables_say_what_was_run_and_what_is_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = tmp_path / "reports"
    arguments = ["--data", str(data), "--reports", str(reports), "--seeds", "1", "--model", "popularity", "als", "ease"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "## 75/25, ML-100k (`random-75-25`)" in said
    assert "| popularity | " in said
    assert "| als | " in said
    assert "8:1:1, ML-1M, ratings of 3 and more is left out: no " in said
    assert ", the best, less each other's ndcg_10, users' means over the seeds: " in said
    report = json.loads((reports / "evaluation.json").read_text())
    protocols = [table["protocol"] for table in report["tables"]]
    assert protocols == ["random-75-25", "rating-5-fold", "leave-last-out", "temporal", "cold-start"]


def test_the_generated_edition_is_judged_where_it_was_made(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_generated([str(tmp_path / "made"), "--users", "300", "--movies", "100", "--ratings", "6000"]) == 0
    arguments = ["--data", str(data), "--reports", str(tmp_path / "reports"), "--generated", str(tmp_path / "made")]
    assert main([*arguments, "--seeds", "1", "--protocol", "temporal", "--model", "popularity"]) == 0
    said = capsys.readouterr().out
    assert "## One global cut, a generated edition (`temporal`)" in said
    assert "300 users" in said


def test_a_finished_cell_is_read_again(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = tmp_path / "reports"
    assert len(_make(data, reports)) == 4
    first = capsys.readouterr()
    assert "ease, seed 2" in first.err
    assert len(_make(data, reports)) == 4
    second = capsys.readouterr()
    assert second.err == ""
    assert second.out == first.out


def test_other_data_make_other_cells(data: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    before = _make(data, reports)
    _write_ratings(data / "ml-100k" / "u.data", seed=1)
    assert len(set(_make(data, reports)) - set(before)) == 4


def test_a_cell_stands_on_settings_seed_and_code(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = read_problem("random-75-25", {"ratings": data / "ml-100k" / "u.data"})
    keys = {
        cell_key(problem, "random-75-25", recipe, seed)
        for recipe in (Recipe("ease"), Recipe("ease", {"l2": 5.0}), Recipe("popularity"))
        for seed in (1, 2)
    }
    assert len(keys) == 6
    monkeypatch.setattr(cells, "code_fingerprint", lambda module: "changed")
    assert cell_key(problem, "random-75-25", Recipe("ease"), 1) not in keys


def test_the_code_of_one_recommender_says_nothing_of_another() -> None:
    assert code_fingerprint("models.algorithms.ease") != code_fingerprint("models.algorithms.itemknn")
    assert code_fingerprint("models.algorithms.ease") == code_fingerprint("models.algorithms.ease")


def test_nothing_to_make_tables_of_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--reports", str(tmp_path / "reports")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_chosen_settings_are_settings_of_their_recommender(name: str) -> None:
    for size in (100_000, 1_000_000, 25_000_000):
        values = chosen_settings(name, size)
        config = configured(name, values).config
        assert all(getattr(config, field) == value for field, value in values.items())
        # What is saved and loaded again is the same configuration, in which a list would be a tuple.
        assert not any(isinstance(value, list) for value in values.values())


def test_a_size_takes_the_settings_of_the_smallest_one_that_holds_it() -> None:
    assert chosen_settings("ials", 300_000)["regularization"] == 0.03
    assert chosen_settings("ials", 10**9) == {}


def test_the_peak_is_what_was_held_since_the_reset() -> None:
    big = np.ones(40_000_000)
    assert peak_memory() > big.nbytes
    del big
    if not reset_peak_memory():
        pytest.skip("this system cannot start a new peak")
    before = peak_memory()
    big = np.ones(20_000_000)
    assert peak_memory() > before + 0.9 * big.nbytes


def test_a_setting_that_is_a_table_itself_is_not_taken_for_that_of_a_protocol() -> None:
    assert chosen_settings("hybrid", 100_000)["settings"] == {"l2": 500.0}
    assert chosen_settings("hybrid", 100_000)["weight"] == 0.1
    assert chosen_settings("hybrid", 100_000, "random-75-25")["weight"] == 0.2
