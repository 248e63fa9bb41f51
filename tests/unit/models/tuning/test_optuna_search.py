from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.base import Recommender
from models.evaluation import evaluation_run as cells
from models.evaluation.benchmarks import RankingProblem, read_problem
from models.registry import configured
from models.runtime.errors import RecommenderError
from models.tuning.default_hyperparameters import chosen_settings
from models.tuning.optuna_search import SPACES, main, tune


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    codes = np.random.default_rng(0).choice(40 * 150, 800, replace=False)
    (tmp_path / "u.data").write_text("\n".join(f"{c // 150}\t{c % 150}\t4\t{t}" for t, c in enumerate(codes)))
    return tmp_path / "u.data"


def _problem(ratings: Path) -> RankingProblem:
    problem = read_problem("random-75-25", {"ratings": ratings})
    assert isinstance(problem, RankingProblem)
    return problem


def test_a_study_goes_on_where_it_ended_as_if_it_had_not(ratings: Path, tmp_path: Path) -> None:
    problem = _problem(ratings)
    whole = tune(problem, "itemknn", tmp_path / "whole.db", 11, seed=3)
    tune(problem, "itemknn", tmp_path / "parts.db", 4, seed=3)
    parts = tune(problem, "itemknn", tmp_path / "parts.db", 11, seed=3)
    assert len(parts.trials) == 11
    assert [trial.params for trial in parts.trials] == [trial.params for trial in whole.trials]
    assert [trial.value for trial in parts.trials] == [trial.value for trial in whole.trials]


def test_the_best_is_that_of_the_trials(ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "ease", "--storage", str(tmp_path / "tuning" / "study.db"), "--trials", "3"]
    assert main(["leave-last-out", "--ratings", str(ratings), *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    best = max(said["trials"], key=lambda trial: trial["validation"])
    assert len(said["trials"]) == 3
    assert (said["best"], said["validation"]) == (best["settings"], best["validation"])


def test_what_is_tuned_never_sees_the_test(ratings: Path, tmp_path: Path) -> None:
    problem = _problem(ratings)
    task = problem.cut(3)
    asked: list[int] = []

    class Watching(type(problem.protocol)):  # type: ignore[misc]
        def split(self, interactions, *, seed):  # type: ignore[no-untyped-def]
            asked.append(len(interactions))
            return super().split(interactions, seed=seed)

    tune(RankingProblem(Watching(), problem.cut, problem.data), "ease", tmp_path / "study.db", 1, seed=3)
    assert asked == [len(task.fit)]


@pytest.mark.parametrize("name", SPACES)
def test_what_is_tried_are_settings_of_the_recommender(name: str) -> None:
    import optuna

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    assert configured(name, SPACES[name](trial)).name == name


def test_what_is_not_tried_is_as_it_was_chosen_for_such_data(
    ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, object]] = []

    def watched(name: str, values: dict[str, object]) -> Recommender:
        made.append(values)
        return configured("popularity", {})

    monkeypatch.setattr(cells, "configured", watched)
    tune(_problem(ratings), "flagship", tmp_path / "study.db", 1, seed=1)
    (values,) = made
    chosen = chosen_settings("flagship", 800, "random-75-25")
    assert chosen["task"] == "any"
    tried = {"l2", "epochs", "factors", "dropout", "ranker_weight_decay"}
    assert {key: values[key] for key in chosen.keys() - tried} == {
        key: value for key, value in chosen.items() if key not in tried
    }
    assert any(values[key] != chosen[key] for key in tried)


def test_what_has_nothing_to_tune_is_named(ratings: Path, tmp_path: Path) -> None:
    with pytest.raises(RecommenderError, match="popularity: has nothing to tune"):
        tune(_problem(ratings), "popularity", tmp_path / "study.db", 1, seed=1)
