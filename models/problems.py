"""A protocol on given files: what is read, how it is cut for a seed, and what can be said of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.features import TrainingFeatures
from models.interactions import Interactions
from models.item_texts import read_item_texts
from models.protocols.contract import RankingProtocol, RankingTask, RatingTask
from models.protocols.leave_last_out import LeaveLastOut
from models.protocols.ncf_split import NcfSplit, read_ncf_files
from models.protocols.random_8_1_1 import Random811
from models.protocols.random_75_25 import Random7525
from models.protocols.rating import RatingFolds, rating_task
from models.protocols.strong_generalisation import StrongGeneralisation
from models.protocols.temporal import Temporal
from models.ratings_file import read_rating_parts, read_ratings

#: Every protocol and the files that it needs, in the order of the tables.
FILES: dict[str, tuple[str, ...]] = {
    "ncf-split": ("train", "test", "negatives"),
    "leave-last-out": ("ratings",),
    "random-8-1-1": ("ratings",),
    "random-75-25": ("ratings",),
    "temporal": ("ratings",),
    "strong-generalisation": ("ratings",),
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
    """The named protocol on its files; ``ValueError`` says what is wrong with one of them."""
    if name == "ncf-split":
        task = read_ncf_files(files["train"], files["test"], files["negatives"])
        return RankingProblem(NcfSplit(), lambda seed: task, _facts(files, task.fit))
    if name == "rating":
        train, test = (file.interactions for file in read_rating_parts(files["train"], files["test"]))
        fold = rating_task(train, test)
        return RatingProblem(name, lambda seed: (fold,), {**_facts(files, train), "test_interactions": len(test)})
    path = files["ratings"]
    if name == "rating-5-fold":
        every = read_ratings(path, keep_timeless=True).interactions
        return RatingProblem(name, lambda seed: RatingFolds().split(every, seed=seed), _facts(files, every))
    # A global cut needs every time; the last one out can learn from users whose order is unknown.
    file = read_ratings(path, keep_timeless=name != "temporal")
    protocols: dict[str, RankingProtocol] = {
        "leave-last-out": LeaveLastOut(judged=None if file.known_times.all() else file.known_times),
        "random-8-1-1": Random811(min_rating=min_rating),
        "random-75-25": Random7525(),
        "temporal": Temporal(share=share),
        "strong-generalisation": StrongGeneralisation(),
    }
    protocol, rows = protocols[name], file.interactions
    texts = read_item_texts(path.parent, file.item_ids)
    facts = _facts(files, rows) | {"users_with_unknown_times": file.users_left_out, "item_texts": texts is not None}

    def cut(seed: int) -> RankingTask:
        return with_texts(protocol.split(rows, seed=seed), texts)

    return RankingProblem(protocol, cut, facts)


def with_texts(task: RankingTask, texts: tuple[str, ...] | None) -> RankingTask:
    """The task with the items' texts for those who read them; a validation of the same fit has them already."""
    if texts is None or task.features is not None:
        return task
    return replace(task, features=TrainingFeatures.of_texts(texts, len(task.fit)))


def _facts(files: Mapping[str, Path], rows: Interactions) -> dict[str, Any]:
    digests = []
    for path in files.values():
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return {
        # One file's own digest, so that anyone can compare it; of several that of their digests.
        "sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
        "files": {kind: path.name for kind, path in files.items()},
        "users": rows.n_users,
        "items": rows.n_items,
        "interactions": len(rows),
    }
