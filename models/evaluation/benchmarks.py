"""A protocol on given files: what is read, how it is cut for a seed, and what can be said of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.data.interactions import Interactions
from models.data.ratings_reader import read_rating_parts, read_ratings
from models.evaluation.protocols.base import RankingProtocol, RankingTask, RatingTask
from models.evaluation.protocols.cold_start import ColdStart
from models.evaluation.protocols.global_temporal import Temporal
from models.evaluation.protocols.leave_last_out import LeaveLastOut
from models.evaluation.protocols.ncf import NcfSplit, read_ncf_files
from models.evaluation.protocols.random_75_25 import Random7525
from models.evaluation.protocols.random_80_10_10 import Random811
from models.evaluation.protocols.rating_folds import RatingFolds, rating_task
from models.evaluation.protocols.strong_generalization import StrongGeneralisation
from models.evaluation.side_features import EditionFacts, read_edition_facts

#: Every protocol and the files that it needs, in the order of the tables.
FILES: dict[str, tuple[str, ...]] = {
    "ncf-split": ("train", "test", "negatives"),
    "leave-last-out": ("ratings",),
    "random-8-1-1": ("ratings",),
    "random-75-25": ("ratings",),
    "temporal": ("ratings",),
    "strong-generalisation": ("ratings",),
    "cold-start": ("ratings",),
    "rating": ("train", "test"),
    "rating-5-fold": ("ratings",),
}
#: The protocols whose recommenders predict stars.
RATING_PROTOCOLS = ("rating", "rating-5-fold")


@dataclass(frozen=True, slots=True)
class RankingProblem:
    """A ranking protocol on data: ``cut(seed)`` is the task, ``protocol`` cuts validations and names the metrics."""

    protocol: RankingProtocol
    cut: Callable[[int], RankingTask]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RatingProblem:
    """A rating protocol on data: ``cut(seed)`` are the folds."""

    name: str
    cut: Callable[[int], tuple[RatingTask, ...]]
    data: Mapping[str, Any]


def read_problem(
    name: str, files: Mapping[str, Path], *, min_rating: float = 3.0, share: float = 0.9
) -> RankingProblem | RatingProblem:
    """Read the files of the named protocol; raise ``ValueError`` if one of them is invalid."""
    if name == "ncf-split":
        task = read_ncf_files(files["train"], files["test"], files["negatives"])
        return RankingProblem(NcfSplit(), lambda seed: task, _said(files, task.fit))
    if name == "rating":
        parts = read_rating_parts(files["train"], files["test"])
        train, test = (part.interactions for part in parts)
        fold = rating_task(train, test)
        beside = read_edition_facts(files["train"].parent, parts[0].user_ids, parts[0].item_ids)
        said = {**_said(files, train), **_said_beside(beside), "test_interactions": len(test)}
        return RatingProblem(name, lambda seed: (_with_features(fold, beside),), said)
    path = files["ratings"]
    if name == "rating-5-fold":
        file = read_ratings(path, keep_timeless=True)
        beside, every = read_edition_facts(path.parent, file.user_ids, file.item_ids), file.interactions
        return RatingProblem(
            name,
            lambda seed: tuple(_with_features(fold, beside) for fold in RatingFolds().split(every, seed=seed)),
            {**_said(files, every), **_said_beside(beside)},
        )
    # A global cut needs every time; the last one out can learn from users whose order is unknown.
    file = read_ratings(path, keep_timeless=name != "temporal")
    in_time = None if file.known_times.all() else file.known_times
    protocols: dict[str, RankingProtocol] = {
        "leave-last-out": LeaveLastOut(judged=in_time),
        "random-8-1-1": Random811(min_rating=min_rating),
        "random-75-25": Random7525(),
        "temporal": Temporal(share=share),
        "strong-generalisation": StrongGeneralisation(),
        "cold-start": ColdStart(judged=in_time),
    }
    protocol, rows = protocols[name], file.interactions
    beside = read_edition_facts(path.parent, file.user_ids, file.item_ids)
    said = {**_said(files, rows), **_said_beside(beside), "users_with_unknown_times": file.users_left_out}

    def cut(seed: int) -> RankingTask:
        task = protocol.split(rows, seed=seed)
        return task if beside is None else beside.tell(task)

    return RankingProblem(protocol, cut, said)


def _with_features(fold: RatingTask, beside: EditionFacts | None) -> RatingTask:
    return fold if beside is None else replace(fold, features=beside.known_to(fold.fit))


def _said_beside(beside: EditionFacts | None) -> dict[str, Any]:
    """Which files beside the ratings were read, whether they say who the users are, and their digest."""
    if beside is None:
        return {"beside": [], "user_features": False}
    names = [path.name for path in beside.files]
    return {"beside": names, "user_features": bool(beside.user_names), "beside_sha256": _digest(beside.files)}


def _digest(files: Iterable[Path]) -> str:
    """One file's own digest, so that anyone can compare it; of several that of their digests."""
    digests = []
    for path in files:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _said(files: Mapping[str, Path], rows: Interactions) -> dict[str, Any]:
    return {
        "sha256": _digest(files.values()),
        "files": {kind: path.name for kind, path in files.items()},
        "users": rows.n_users,
        "items": rows.n_items,
        "interactions": len(rows),
    }
