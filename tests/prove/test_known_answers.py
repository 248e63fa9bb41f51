"""Published and measured rows on the real files beside the project, met by the same commands that anyone can run."""

from __future__ import annotations

from statistics import mean

import pytest

from models.evaluation.benchmarks import read_problem
from models.evaluation.evaluation_run import Recipe, run_cell
from tests.unit.models.real_data import real_file

pytestmark = pytest.mark.real_data

ML_1M = "ml-1m/ratings_partial_timestamps.tsv.gz"


def test_ease_meets_the_measured_ndcg_of_8_1_1_on_ml_1m() -> None:
    problem = read_problem("random-8-1-1", {"ratings": real_file(ML_1M)}, min_rating=3.0)
    assert problem.data["interactions"] == 1_000_209
    rows = [run_cell(problem, Recipe("ease", {"l2": 500.0}), seed=seed) for seed in (1, 2, 3)]
    assert mean(row["ndcg_10"] for row in rows) == pytest.approx(0.282, abs=0.005)
    assert run_cell(problem, Recipe("popularity"), seed=1)["ndcg_10"] == pytest.approx(0.119, abs=0.005)


@pytest.mark.xfail(strict=True, reason="our split gives .214; which of the two splits differs from RecBole's is open")
def test_ease_meets_the_measured_recall_of_8_1_1_on_ml_1m() -> None:
    problem = read_problem("random-8-1-1", {"ratings": real_file(ML_1M)}, min_rating=3.0)
    rows = [run_cell(problem, Recipe("ease", {"l2": 500.0}), seed=seed) for seed in (1, 2, 3)]
    assert mean(row["recall_10"] for row in rows) == pytest.approx(0.207, abs=0.005)


def test_ease_meets_the_measured_row_of_the_ncf_split_of_2999_users() -> None:
    problem = read_problem("leave-last-out", {"ratings": real_file(ML_1M)})
    rows = [run_cell(problem, Recipe("ease", {"l2": 500.0}), seed=seed) for seed in (1, 2, 3)]
    assert rows[0]["test_users"] == 2_999
    assert mean(row["hr_10"] for row in rows) == pytest.approx(0.705, abs=0.005)
    assert mean(row["ndcg_10"] for row in rows) == pytest.approx(0.445, abs=0.005)


@pytest.mark.parametrize(("name", "rmse", "mae"), [("svd", 0.934, 0.737), ("svdpp", 0.919, 0.721)])
def test_svd_and_svdpp_meet_surprises_table_on_five_folds_of_ml_100k(name: str, rmse: float, mae: float) -> None:
    problem = read_problem("rating-5-fold", {"ratings": real_file("ml-100k/u.data")})
    row = run_cell(problem, Recipe(name), seed=1)
    assert row["rmse"] == pytest.approx(rmse, abs=0.01)
    assert row["mae"] == pytest.approx(mae, abs=0.01)


def test_bmf_predicts_the_stars_of_u1_as_measured_and_beyond_the_published_rows() -> None:
    problem = read_problem("rating", {"train": real_file("ml-100k/u1.base"), "test": real_file("ml-100k/u1.test")})
    row = run_cell(problem, Recipe("bmf"), seed=1)
    assert row["rmse"] == pytest.approx(0.8825, abs=0.003)
    # GHRS, the best published row of this split.
    assert row["rmse"] < 0.887
