"""One cell of the quality tables: a recommender fitted and judged in a protocol for one seed, and what it cost."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.algorithms.rating.base import RatingRecommender
from models.base import Recommender
from models.evaluation.benchmarks import RankingProblem, RatingProblem
from models.evaluation.bootstrap import paired_interval
from models.evaluation.protocols.base import Judgement, RankingTask
from models.evaluation.runner import judge, judge_ratings, report
from models.registry import RATING_RECOMMENDERS, configured, module_of, recommender_class
from models.runtime.code_fingerprint import code_fingerprint
from models.runtime.errors import RecommenderError
from models.runtime.memory import peak_memory, reset_peak_memory
from models.runtime.progress_bar import shown_progress
from models.tuning.grid_search import choose

#: What a fit may hold: 12 GB, on which every edition has to fit.
MEMORY_LIMIT = 12 * 2**30


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recommender by name with the settings that are given and those that are chosen on the validation."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def make(self, chosen: Mapping[str, Any], threads: int) -> Recommender:
        """Build the recommender with ``threads`` where it can be set, and without features: ratings files have none."""
        known = {field_.name for field_ in fields(recommender_class(self.name).config_class)}
        imposed = {key: value for key, value in (("use_features", False), ("threads", threads)) if key in known}
        return configured(self.name, {**imposed, **self.settings, **chosen})


def run_cell(
    problem: RankingProblem | RatingProblem,
    recipe: Recipe,
    *,
    seed: int,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
) -> dict[str, Any]:
    """Return the row of a recipe and seed: figures, configuration, seconds and memory, as plain JSON values.

    Raises ``RecommenderError`` if the recipe states more memory than the limit, or cannot answer the protocol's users.
    """
    if (recipe.name in RATING_RECOMMENDERS) != isinstance(problem, RatingProblem):
        raise RecommenderError(f"{recipe.name}: is not for this protocol, which {_asks(problem)}")
    if isinstance(problem, RatingProblem):
        return _rating_row(problem, recipe, seed, threads, memory_limit)
    task = problem.cut(seed)
    chosen: dict[str, Any] = {}
    tried: list[Any] = []
    if recipe.grid:
        choice = choose(recipe.name, recipe.grid, problem.protocol, task, seed=seed, base=_base(recipe, threads))
        chosen, tried = choice.best, [[values, value] for values, value in choice.tried]
    recommender = recipe.make(chosen, threads)
    stated = _stated_memory(recommender, task.fit.n_users, task.fit.n_items, len(task.fit), memory_limit)
    reset_peak_memory()
    start = time.perf_counter()
    with shown_progress(recipe.name) as progress:
        recommender.fit(task.fit, task.features, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    judgement = judge(recommender, task, problem.protocol.metrics)
    peak = peak_memory()
    return {
        "recommender": recipe.name,
        "seed": seed,
        **report(judgement, task, problem.protocol.primary),
        "fit_seconds": round(seconds, 3),
        "peak_memory_mb": round(peak / 2**20),
        "stated_fit_memory_mb": round(stated / 2**20),
        "config": asdict(recommender.config),
        "by_user": {
            "figure": problem.protocol.primary,
            # JSON has no NaN: None is a user whom the recommender could not answer, or who is reported apart.
            "values": [None if math.isnan(value) else value for value in _inside(judgement, task, problem)],
            **({} if task.segments is None else {"segments": _segment_of(task.segments)}),
        },
        **({"chosen_on_validation": chosen, "validation": tried} if recipe.grid else {}),
    }


def _inside(judgement: Judgement, task: RankingTask, problem: RankingProblem) -> list[float]:
    values = judgement.by_user[problem.protocol.primary]
    shown = values if task.apart is None else np.where(task.apart, np.nan, values)
    return [float(value) for value in shown]


def _segment_of(segments: Mapping[str, NDArray[np.bool_]]) -> list[str]:
    """Return the segment of each user; the segments of a task do not overlap."""
    names = np.array(list(segments))
    return [str(name) for name in names[np.argmax(np.stack(list(segments.values())), axis=0)]]


def _rating_row(problem: RatingProblem, recipe: Recipe, seed: int, threads: int, memory_limit: int) -> dict[str, Any]:
    if recipe.grid:
        raise RecommenderError(f"{recipe.name}: the rating protocols cut no validation; give the values themselves")
    folds, seconds = [], 0.0
    recommender = recipe.make({}, threads)
    reset_peak_memory()
    stated = 0
    for task in problem.cut(seed):
        recommender = recipe.make({}, threads)
        stated = _stated_memory(recommender, task.fit.n_users, task.fit.n_items, len(task.fit), memory_limit)
        start = time.perf_counter()
        with shown_progress(recipe.name) as progress:
            recommender.fit(task.fit, task.features, seed=seed, progress=progress)
        seconds += time.perf_counter() - start
        if not isinstance(recommender, RatingRecommender):
            raise RecommenderError(f"{recipe.name}: predicts no stars")
        folds.append(judge_ratings(recommender, task))
    return {
        "recommender": recipe.name,
        "seed": seed,
        **{name: float(np.mean([fold[name] for fold in folds])) for name in ("rmse", "mae")},
        # Of folds the mean of the bounds: each is an interval over the users of its own fold.
        "intervals": {
            name: np.mean([fold["intervals"][name] for fold in folds], axis=0).tolist() for name in ("rmse", "mae")
        },
        "folds": len(folds),
        "test_ratings": sum(fold["test_ratings"] for fold in folds),
        "score_seconds": round(sum(fold["score_seconds"] for fold in folds), 3),
        "fit_seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory() / 2**20),
        "stated_fit_memory_mb": round(stated / 2**20),
        "config": asdict(recommender.config),
    }


def paired_rows(rows: Sequence[Mapping[str, Any]], against: str) -> list[dict[str, Any]]:
    """Each recommender less ``against`` on the same users of the same seed: mean, and its paired 95 % interval.

    One pair a segment where the task has some. Empty for the rating protocols, or where ``against`` has no row.
    """
    bars = {row["seed"]: row["by_user"] for row in rows if row["recommender"] == against and "by_user" in row}
    found = []
    for row in rows:
        if row["recommender"] == against or row["seed"] not in bars:
            continue
        ours, theirs = (
            np.array([np.nan if value is None else value for value in by_user["values"]])
            for by_user in (row["by_user"], bars[row["seed"]])
        )
        answered = ~np.isnan(ours) & ~np.isnan(theirs)
        segments = row["by_user"].get("segments")
        for segment in [None] if segments is None else dict.fromkeys(segments):
            both = answered if segment is None else answered & (np.array(segments) == segment)
            if both.any():
                found.append(
                    {
                        "recommender": row["recommender"],
                        "seed": row["seed"],
                        "against": against,
                        "figure": row["by_user"]["figure"] + ("" if segment is None else f"_{segment}"),
                        "difference": float((ours - theirs)[both].mean()),
                        "interval": list(paired_interval(ours[both], theirs[both])),
                    }
                )
    return found


def without_users(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without the figures of single users, which serve pairing only."""
    return [{key: value for key, value in row.items() if key != "by_user"} for row in rows]


def mean_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a recommender: its figures' means over the seeds, and their standard deviation from two seeds on."""
    found = []
    for name in dict.fromkeys(row["recommender"] for row in rows):
        own = [row for row in rows if row["recommender"] == name]
        figures = [key for key, value in own[0].items() if isinstance(value, float)]
        mean = {key: float(np.mean([row[key] for row in own])) for key in figures}
        spread = {key: float(np.std([row[key] for row in own], ddof=1)) for key in figures} if len(own) > 1 else {}
        found.append(
            {
                "recommender": name,
                "seeds": [row["seed"] for row in own],
                **mean,
                "peak_memory_mb": max(row["peak_memory_mb"] for row in own),
                "deviation": {key: value for key, value in spread.items() if not key.endswith("_seconds")},
            }
        )
    return found


def cell_key(problem: RankingProblem | RatingProblem, protocol: str, recipe: Recipe, seed: int) -> str:
    """Return the hash of all that a cell's figures depend on: data, protocol, recipe, seed, and their code."""
    told = vars(problem.protocol) if isinstance(problem, RankingProblem) else {}
    # Arrays among a protocol's settings come from the data, which are hashed.
    settings = {key: value for key, value in told.items() if isinstance(value, int | float | str)}
    data = problem.data["sha256"], problem.data.get("beside_sha256")
    facts = [protocol, settings, data, repr(recipe), seed]
    code = [code_fingerprint(module) for module in (__name__, "models.evaluation.benchmarks", module_of(recipe.name))]
    return hashlib.sha256(repr((facts, code)).encode()).hexdigest()


def _base(recipe: Recipe, threads: int) -> dict[str, Any]:
    config = recipe.make({}, threads).config
    return {field_.name: getattr(config, field_.name) for field_ in fields(config)}


def _asks(problem: RankingProblem | RatingProblem) -> str:
    return "asks for stars" if isinstance(problem, RatingProblem) else "asks for a ranking"


def _stated_memory(recommender: Recommender, n_users: int, n_items: int, n_rows: int, limit: int) -> int:
    stated = recommender.fit_memory(n_users, n_items, n_rows)
    if stated > limit:
        raise RecommenderError(
            f"{recommender.name}: a fit would hold {stated / 2**30:.1f} GB, the limit is {limit / 2**30:.1f} GB"
        )
    return stated
