"""What was measured or published before on the same files; the long ones are in ``tests/prove``."""

from __future__ import annotations

from statistics import mean

import pytest

from models.evaluation.benchmarks import read_problem
from models.evaluation.evaluation_run import Recipe, run_cell
from tests.unit.models.real_data import real_file

pytestmark = pytest.mark.real_data


def test_ease_and_popularity_meet_the_measured_rows_of_75_25_on_ml_100k() -> None:
    problem = read_problem("random-75-25", {"ratings": real_file("ml-100k/u.data")})
    # Another split moves a figure by .004 (one standard deviation), so the mean of four is held to the rows.
    rows = [run_cell(problem, Recipe("ease", {"l2": 300.0}), seed=seed) for seed in (1, 2, 3, 42)]
    for figure, measured in {"ndcg_10": 0.478, "precision_10": 0.418, "recall_10": 0.222, "map_10": 0.147}.items():
        assert mean(row[figure] for row in rows) == pytest.approx(measured, abs=0.005)
    popular = [run_cell(problem, Recipe("popularity"), seed=seed)["ndcg_10"] for seed in (1, 2, 3, 42)]
    assert mean(popular) == pytest.approx(0.249, abs=0.005)


def test_popularity_and_ease_leave_the_last_one_out_of_ml_100k_as_before() -> None:
    problem = read_problem("leave-last-out", {"ratings": real_file("ml-100k/u.data")})
    popularity, ease = (run_cell(problem, Recipe(name), seed=42) for name in ("popularity", "ease"))
    # Full rankings depend on no drawn negatives.
    assert popularity["full_ndcg_10"] == pytest.approx(0.0250, abs=0.0005)
    assert ease["full_ndcg_10"] == pytest.approx(0.0416, abs=0.001)
    assert ease["full_recall_20"] == pytest.approx(0.1516, abs=0.002)
    assert ease["hr_10"] > popularity["hr_10"] + 0.2


def test_als_predicts_the_stars_of_u1_better_than_the_biases_alone() -> None:
    files = {"train": real_file("ml-100k/u1.base"), "test": real_file("ml-100k/u1.test")}
    problem = read_problem("rating", files)
    whole, biases = (run_cell(problem, Recipe("als", settings), seed=1) for settings in ({}, {"regularization": 1e6}))
    assert whole["rmse"] == pytest.approx(0.936, abs=0.005)
    assert whole["rmse"] < biases["rmse"] - 0.01
    assert whole["test_ratings"] == 20_000
