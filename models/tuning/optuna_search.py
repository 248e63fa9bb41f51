"""``python -m models.tuning.optuna_search PROTOCOL --model NAME --storage FILE``: settings, on a validation of the fit.

The study is kept in an SQLite file: the same command again goes on where it ended, whether it finished or was killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from models.evaluation.benchmarks import FILES, RATING_PROTOCOLS, RankingProblem
from models.evaluation.evaluation_run import Recipe
from models.evaluation.ncf_files import read_given_problem
from models.evaluation.protocols.base import RankingProtocol, RankingTask
from models.evaluation.runner import judge
from models.runtime.errors import RecommenderError
from models.tuning.default_hyperparameters import chosen_settings

_Suggest = Callable[[optuna.Trial], dict[str, Any]]

#: What is tried of each recommender: a setting that has no best value inside its range is reported at its bound.
SPACES: dict[str, _Suggest] = {
    "itemknn": lambda trial: {
        "neighbours": trial.suggest_int("neighbours", 20, 500, log=True),
        "shrinkage": trial.suggest_float("shrinkage", 0.1, 200.0, log=True),
        "weigh_users": trial.suggest_categorical("weigh_users", [False, True]),
    },
    "ease": lambda trial: {"l2": trial.suggest_float("l2", 10.0, 5_000.0, log=True)},
    "ease_sparse": lambda trial: {
        "l2": trial.suggest_float("l2", 10.0, 5_000.0, log=True),
        "neighbours": trial.suggest_int("neighbours", 50, 400, log=True),
    },
    "ials": lambda trial: {
        "factors": trial.suggest_categorical("factors", [32, 64, 128]),
        "regularization": trial.suggest_float("regularization", 1e-3, 0.1, log=True),
        "unobserved": trial.suggest_float("unobserved", 0.01, 1.0, log=True),
    },
    "hybrid": lambda trial: {
        "weight": trial.suggest_float("weight", 0.0, 0.6),
        "settings": {"l2": trial.suggest_float("l2", 10.0, 5_000.0, log=True)},
    },
    "bpr": lambda trial: {
        "factors": trial.suggest_categorical("factors", [32, 64, 128]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 2e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.01, 2.0, log=True),
    },
    "neumf": lambda trial: {
        "factors": trial.suggest_categorical("factors", [8, 16, 32, 64]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 2e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.05, 3.0, log=True),
        "negatives": trial.suggest_int("negatives", 3, 12),
    },
    "flagship": lambda trial: {
        "l2": trial.suggest_float("l2", 100.0, 3_000.0, log=True),
        "epochs": trial.suggest_int("epochs", 10, 100, log=True),
        "factors": trial.suggest_categorical("factors", [32, 64, 128]),
        "dropout": trial.suggest_float("dropout", 0.1, 0.5),
        "ranker_weight_decay": trial.suggest_float("ranker_weight_decay", 0.1, 10.0, log=True),
    },
}


def tune(
    problem: RankingProblem, name: str, storage: Path, trials: int, *, seed: int, threads: int = 1
) -> optuna.Study:
    """Return the study, run on until it has ``trials`` finished trials, those in the file included.

    A trial's suggestions depend only on the seed and the trials before it, so an interrupted study resumes with the
    suggestions that it would have had. Settings that are not tuned come from ``default_hyperparameters.toml``
    for data of this size.
    """
    if name not in SPACES:
        raise RecommenderError(f"{name}: has nothing to tune; choose one of {', '.join(SPACES)}")
    base = chosen_settings(name, problem.data["interactions"], problem.protocol.name)
    task = problem.cut(seed)
    watched = problem.protocol.validation(task, seed=seed)
    storage.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=study_name(problem, name, seed, base),
        # By SQLite's own URI: the path may hold what SQLAlchemy's URL takes for its own.
        storage=f"sqlite:///{storage.absolute().as_uri()}?uri=true",
        direction="maximize",
        load_if_exists=True,
    )
    while (done := len(_finished(study))) < trials:
        # A sampler of its own for each trial: a resumed study draws what an uninterrupted one would have drawn.
        study.sampler = optuna.samplers.TPESampler(seed=seed * 100_003 + done, n_startup_trials=8)
        study.optimize(
            lambda trial: _value(trial, problem.protocol, watched, Recipe(name, base), seed, threads), n_trials=1
        )
    return study


def study_name(problem: RankingProblem, name: str, seed: int, base: Mapping[str, Any]) -> str:
    """One study a protocol, data set, recommender, seed and settings that are not tried."""
    told = hashlib.sha256(json.dumps(base, sort_keys=True).encode()).hexdigest()[:8]
    return f"{problem.protocol.name} {problem.data['sha256'][:16]} {name} {seed} {told}"


def report(study: optuna.Study) -> dict[str, Any]:
    """Return the best settings with their validation figure, and every finished trial."""
    finished = _finished(study)
    return {
        "study": study.study_name,
        "best": study.best_params,
        "validation": study.best_value,
        "trials": [{"settings": trial.params, "validation": trial.value} for trial in finished],
    }


def _value(
    trial: optuna.Trial, protocol: RankingProtocol, watched: RankingTask, recipe: Recipe, seed: int, threads: int
) -> float:
    recommender = recipe.make(SPACES[recipe.name](trial), threads)
    recommender.fit(watched.fit, watched.features, seed=seed)
    return float(np.nanmean(judge(recommender, watched, (protocol.primary,)).by_user[protocol.primary]))


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune one recommender; 0 and JSON on stdout, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m models.tuning.optuna_search", description=__doc__)
    protocols = parser.add_subparsers(dest="protocol", required=True)
    for name, kinds in FILES.items():
        if name in RATING_PROTOCOLS:
            continue
        command = protocols.add_parser(name)
        for kind in kinds:
            command.add_argument(f"--{kind}", type=Path, required=True)
        command.add_argument("--model", required=True, choices=tuple(SPACES))
        command.add_argument("--storage", type=Path, required=True, help="an SQLite file; the study goes on in it")
        command.add_argument("--trials", type=int, default=20, help="finished trials that the study shall have")
        command.add_argument("--seed", type=int, default=42)
        command.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        files: Mapping[str, Path] = {kind: getattr(given, kind) for kind in FILES[given.protocol]}
        problem = read_given_problem(given.protocol, files)
        if not isinstance(problem, RankingProblem):
            raise RecommenderError(f"{given.protocol}: cuts no validation")
        study = tune(problem, given.model, given.storage, given.trials, seed=given.seed, threads=given.threads)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report(study), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
