"""How a fitted recommender is judged in a task, and the figures that a report says of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models import metrics
from models.algorithms.rating.base import RatingRecommender
from models.base import Recommender, mask_seen, top_k
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.evaluation.bootstrap import bootstrap_interval, bootstrap_ratio_interval
from models.evaluation.protocols.base import Judgement, RankingTask, RatingTask
from models.runtime.errors import UnknownUser

#: Scores that a batch of users holds at a time (float32: 4 MB); a recommender holds some dozen numbers for each.
_CELLS = 1_000_000
#: The length of the lists that coverage, novelty and diversity look at.
LIST = 10


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the metrics are computed of: ``hits`` bool[Q, depth] of the full ranking, ``relevant`` int64[Q] items each.

    ``among`` int64[Q]: the rank of the target among the task's candidates, where it has some.
    """

    hits: NDArray[np.bool_]
    relevant: NDArray[np.int64]
    among: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure a user; ``depth`` is how long a list it needs, 0 for one that ranks the candidates only."""

    depth: int
    of: Callable[[Ranked], NDArray[np.float64]]


def _hit(ranked: Ranked) -> NDArray[np.float64]:
    return np.asarray(ranked.hits[:, :10].any(axis=1), dtype=np.float64)


def _among(ranked: Ranked) -> NDArray[np.int64]:
    if ranked.among is None:
        raise ValueError("the task has no candidates")
    return ranked.among


def _single_ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.asarray(np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0), dtype=np.float64)


#: Metrics of the full ranking by name.
_FULL: dict[str, Metric] = {
    "ndcg_10": Metric(10, lambda r: metrics.list_ndcg(r.hits, r.relevant, 10)),
    "ndcg_100": Metric(100, lambda r: metrics.list_ndcg(r.hits, r.relevant, 100)),
    "precision_10": Metric(10, lambda r: metrics.list_precision(r.hits, 10)),
    "recall_10": Metric(10, lambda r: metrics.list_recall(r.hits, r.relevant, 10)),
    "recall_20": Metric(20, lambda r: metrics.list_recall(r.hits, r.relevant, 20)),
    "recall_capped_20": Metric(20, lambda r: metrics.list_recall(r.hits, r.relevant, 20, capped=True)),
    "recall_capped_50": Metric(50, lambda r: metrics.list_recall(r.hits, r.relevant, 50, capped=True)),
    "map_10": Metric(10, lambda r: metrics.list_average_precision(r.hits, r.relevant, 10)),
    "mrr_10": Metric(10, lambda r: metrics.list_reciprocal_rank(r.hits, 10)),
    "hr_10": Metric(10, _hit),
}
#: Metrics of a task with candidates: the published ones rank these only, the full ranking has ``full_`` before it.
_AMONG: dict[str, Metric] = {
    "hr_10": Metric(0, lambda r: np.asarray(_among(r) < 10, dtype=np.float64)),
    "ndcg_10": Metric(0, lambda r: _single_ndcg(_among(r), 10)),
    "full_ndcg_10": _FULL["ndcg_10"],
    "full_recall_20": _FULL["recall_20"],
}


def judge(recommender: Recommender, task: RankingTask, names: Sequence[str]) -> Judgement:
    """Return the figures ``names`` of every user of the task, for a recommender fitted on ``task.fit``.

    Among equal scores an irrelevant item ranks before a relevant one, so that constant scores gain nothing. Users whom
    the recommender cannot answer have NaN; ``UnknownUser`` is raised if it can answer none.
    """
    table = _AMONG if task.candidates is not None else _FULL
    depth = max(LIST, *(table[name].depth for name in names))
    hits = np.zeros((len(task), depth), dtype=bool)
    lists = np.full((len(task), LIST), -1, dtype=np.int64)
    among = None if task.candidates is None else np.zeros(len(task), dtype=np.int64)
    answered = np.ones(len(task), dtype=bool)
    unanswered = None
    start = time.perf_counter()
    for block in _blocks(task):
        try:
            scores = np.array(recommender.score(_batch(recommender, task, block)), dtype=np.float32)
        except UnknownUser as error:
            answered[block], unanswered = False, str(error)
            continue
        if among is not None and task.candidates is not None:
            candidates = task.candidates[block]
            own = np.take_along_axis(scores, np.maximum(candidates, 0), axis=1)
            among[block] = metrics.target_ranks(
                np.where(candidates < 0, -np.inf, own), np.zeros(len(candidates), dtype=np.int64)
            )
        relevant = task.relevant[block]
        rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
        ranking = mask_seen(scores, (task.history if task.hidden is None else task.hidden)[block])
        if task.pools is not None and task.pool_of is not None:
            ranking[~task.pools[task.pool_of[block]]] = -np.inf
        ranking[rows, relevant.indices] = np.nextafter(ranking[rows, relevant.indices], np.float32(-np.inf))
        best = top_k(ranking, depth)[0]
        hits[block], lists[block] = metrics.list_hits(best, relevant), best[:, :LIST]
    seconds = time.perf_counter() - start
    if not answered.any():
        raise UnknownUser(unanswered or f"{recommender.name}: answered nobody")
    counts = np.diff(task.relevant.indptr).astype(np.int64)
    ranked = Ranked(hits, counts, among)
    by_user = {name: np.where(answered, table[name].of(ranked), np.nan) for name in names}
    return Judgement(by_user, lists, seconds, unanswered)


def _blocks(task: RankingTask) -> Iterator[slice | NDArray[np.int64]]:
    """Yield the known users and then the unknown ones, in parts whose scores fit into memory."""
    step = max(1, min(256, _CELLS // task.fit.n_items))
    for users in (np.flatnonzero(task.users >= 0), np.flatnonzero(task.users < 0)):
        for start in range(0, len(users), step):
            yield users[start : start + step]


def _batch(recommender: Recommender, task: RankingTask, rows: slice | NDArray[np.int64]) -> UserBatch:
    history = csr_array(task.history[rows])
    wanted = np.arange(len(task))[rows]
    starts, lengths = task.history.indptr[wanted], np.diff(task.history.indptr)[wanted]
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    times = task.history_times[np.arange(lengths.sum()) + offsets]
    user_features = None if task.user_features is None else task.user_features[rows]
    return UserBatch(task.users[rows], history, user_features, task.item_features(wanted), times)


def report(judgement: Judgement, task: RankingTask, primary: str) -> dict[str, Any]:
    """Return the figures as JSON values: means with 95 % intervals, beyond accuracy, the primary one by segment.

    A task of several questions has the figures of each, as ``ndcg_10_users_1``.
    """
    if task.segments is not None:
        return _report_of_segments(judgement, task, task.segments)
    inside = ~np.isnan(judgement.by_user[primary])
    if task.apart is not None:
        inside &= ~task.apart
    found: dict[str, Any] = {name: _mean(values[inside]) for name, values in judgement.by_user.items()}
    found |= {
        "intervals": {
            name: list(bootstrap_interval(values[inside])) for name, values in judgement.by_user.items() if inside.any()
        },
        "test_users": int(inside.sum()),
        "score_seconds": round(judgement.score_seconds, 3),
        "beyond_accuracy": _beyond_accuracy(judgement, task, inside),
        f"{primary}_by_activity": _by_activity(judgement.by_user[primary], task, inside),
        "recall_10_by_item_age": _by_item_age(judgement.lists, task, inside),
    }
    if task.apart is not None:
        found["new_users"] = {
            name: _mean(values[task.apart & ~np.isnan(values)]) for name, values in judgement.by_user.items()
        } | {"test_users": int(task.apart.sum())}
    if judgement.unanswered is not None:
        found["unanswered"] = judgement.unanswered
    return found


def _report_of_segments(
    judgement: Judgement, task: RankingTask, segments: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    """Means and intervals of each segment; ``by_chance`` is NDCG@10 of a random order of the items that are ranked."""
    found: dict[str, Any] = {}
    intervals: dict[str, list[float]] = {}
    answered: dict[str, int] = {}
    for segment, part in segments.items():
        for name, values in judgement.by_user.items():
            own = values[part & ~np.isnan(values)]
            answered[segment] = len(own)
            if len(own):
                found[f"{name}_{segment}"] = float(own.mean())
                intervals[f"{name}_{segment}"] = list(bootstrap_interval(own))
    chance = _chance(task)
    return found | {
        "intervals": intervals,
        "test_users": answered,
        "score_seconds": round(judgement.score_seconds, 3),
        "by_chance": {segment: float(chance[part].mean()) for segment, part in segments.items()},
        **({} if judgement.unanswered is None else {"unanswered": judgement.unanswered}),
    }


def _chance(task: RankingTask) -> NDArray[np.float64]:
    """float64[Q]: NDCG@10 to be expected of a random order, in which each place is relevant with the same chance."""
    hidden = task.history if task.hidden is None else task.hidden
    ranked = np.full(len(task), task.fit.n_items)
    if task.pools is not None and task.pool_of is not None:
        rows = np.repeat(task.pool_of, np.diff(hidden.indptr))
        inside = np.bincount(
            np.repeat(np.arange(len(task)), np.diff(hidden.indptr)),
            weights=task.pools[rows, hidden.indices],
            minlength=len(task),
        )
        ranked = task.pools.sum(axis=1)[task.pool_of] - inside.astype(np.int64)
    else:
        ranked -= np.diff(hidden.indptr)
    relevant = np.diff(task.relevant.indptr).astype(np.int64)
    every = metrics.list_ndcg(np.ones((len(task), 10), dtype=bool), relevant, 10)
    return np.asarray(every * relevant / ranked, dtype=np.float64)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _beyond_accuracy(judgement: Judgement, task: RankingTask, inside: NDArray[np.bool_]) -> dict[str, float | None]:
    """Coverage, novelty, diversity and popularity of the first ten places."""
    lists, counts = judgement.lists[inside], task.fit.item_counts()
    lift = metrics.popularity_lift(lists, counts, csr_array(task.history[np.flatnonzero(inside)]))
    return {
        "coverage_10": metrics.coverage(lists, task.fit.n_items),
        "novelty_10": _mean(metrics.novelty(lists, counts, int((task.fit.user_counts() > 0).sum()))),
        "intra_list_diversity_10": _mean(metrics.intra_list_diversity(lists, _item_vectors(task.fit))),
        "popularity_lift_10": _mean(lift[~np.isnan(lift)]),
    }


def _item_vectors(fit: Interactions) -> csr_array:
    """csr[n_items, n_users]: who met each item, of unit length. Two items are alike when the same people met them."""
    by_item = fit.matrix().T.tocsr()
    lengths = np.sqrt(np.maximum(np.diff(by_item.indptr), 1))
    return csr_array(diags_array(1.0 / lengths) @ by_item)


def _by_activity(values: NDArray[np.float64], task: RankingTask, inside: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the means of thirds of the users by the length of their history, each with its bounds and size."""
    lengths = np.diff(task.history.indptr)
    if not inside.any():
        return {}
    low, high = np.quantile(lengths[inside], [1 / 3, 2 / 3])
    thirds = {
        "light": inside & (lengths <= low),
        "medium": inside & (lengths > low) & (lengths <= high),
        "heavy": inside & (lengths > high),
    }
    return {
        name: {"mean": _mean(values[part]), "users": int(part.sum()), "longest_history": int(lengths[part].max())}
        for name, part in thirds.items()
        if part.any()
    }


def _by_item_age(lists: NDArray[np.int64], task: RankingTask, inside: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the share of relevant items in the first ten places, by when the item was first rated in the fit.

    The groups are thirds of the rated items from the oldest on, and the unrated ones; empty if times are not known.
    """
    first = np.full(task.fit.n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, task.fit.items, task.fit.timestamps)
    rated = task.fit.item_counts() > 0
    if len(np.unique(first[rated])) < 3:
        return {}
    users = np.flatnonzero(inside)
    relevant = csr_array(task.relevant[users])
    found = metrics.list_hits(lists[users], relevant)
    hit_codes = (np.arange(len(users))[:, None] * task.fit.n_items + lists[users])[found]
    rows = np.repeat(np.arange(len(users), dtype=np.int64), np.diff(relevant.indptr))
    hit = np.isin(rows * task.fit.n_items + relevant.indices, hit_codes)
    bounds = np.quantile(first[rated], [1 / 3, 2 / 3])
    age = np.where(rated, np.searchsorted(bounds, first), 3)[relevant.indices]
    names = ("oldest third", "middle third", "newest third", "unrated")
    return {
        name: {"mean": float(hit[age == part].mean()), "relevant": int((age == part).sum())}
        for part, name in enumerate(names)
        if (age == part).any()
    }


def judge_ratings(recommender: RatingRecommender, task: RatingTask) -> dict[str, Any]:
    """RMSE and MAE over the test rows, predictions cut to the scale of the fit, with intervals over users."""
    start = time.perf_counter()
    low, high = task.fit.ratings.min(), task.fit.ratings.max()
    predicted = np.clip(recommender.predict(task.test.users, task.test.items), low, high)
    seconds = time.perf_counter() - start
    error = predicted.astype(np.float64) - task.test.ratings
    rows = task.test.user_counts().astype(np.float64)
    squares, absolute = (
        np.bincount(task.test.users, weights=of_rows, minlength=len(rows)).astype(np.float64)
        for of_rows in (error**2, np.abs(error))
    )
    some = rows > 0
    bounds = bootstrap_ratio_interval(squares[some], rows[some])
    return {
        "rmse": metrics.rmse(predicted, task.test.ratings),
        "mae": metrics.mae(predicted, task.test.ratings),
        "intervals": {
            "rmse": [math.sqrt(bound) for bound in bounds],
            "mae": list(bootstrap_ratio_interval(absolute[some], rows[some])),
        },
        "test_ratings": len(task.test),
        "score_seconds": round(seconds, 3),
    }
