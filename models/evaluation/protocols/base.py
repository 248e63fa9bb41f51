"""The contract of every protocol: how to split, what is asked, what is reported. All are judged alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.data.features import ItemsAsOf, TrainingFeatures
from models.data.interactions import Interactions


class ProtocolError(ValueError):
    """Data that a protocol cannot be run on; the message says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class RankingTask:
    """Q users to recommend to after a fit on ``fit``, and what would have been right.

    ``users`` int64[Q]: index of the training, -1 = held out of it. ``history`` csr[Q, n_items] (stars) is what the
    recommender is told of each user, ``history_times`` int64[nnz] when. ``relevant`` csr[Q, n_items]: what should be
    found, at least one item a user. ``hidden`` csr[Q, n_items]: what is left out of the ranking; the history unless
    given. ``candidates`` int32[Q, C]: the target and its sampled negatives (-1: none left), for the metrics that rank
    only these. ``apart`` bool[Q]: users who are reported by themselves and are not in the means. ``identities``
    int64[Q]: each user's index in what was split, also where he is held out. ``pools`` bool[P, n_items] and ``pool_of``
    int64[Q]: the items that are ranked for each user, all unless given. ``segments`` name -> bool[Q], for a task of
    several questions: each has its own figures, and there are none of all of them together.

    Beside the ratings, all None where nothing is known: ``features``, one row an interaction of ``fit``, with the
    items' content; ``user_features`` float32[Q, Fu], the users' at the moment of asking; ``asked_at`` int64[Q]
    (epoch seconds), as of which the items' features are read from their histories; ``facts``, where all this came from.
    """

    fit: Interactions
    users: NDArray[np.int64]
    history: csr_array
    history_times: NDArray[np.int64]
    relevant: csr_array
    hidden: csr_array | None = None
    candidates: NDArray[np.int32] | None = None
    apart: NDArray[np.bool_] | None = None
    identities: NDArray[np.int64] | None = None
    pools: NDArray[np.bool_] | None = None
    pool_of: NDArray[np.int64] | None = None
    segments: Mapping[str, NDArray[np.bool_]] | None = None
    features: TrainingFeatures | None = None
    user_features: NDArray[np.float32] | None = None
    asked_at: NDArray[np.int64] | None = None
    facts: Facts | None = None

    def __len__(self) -> int:
        """Return the number of users asked for."""
        return len(self.users)

    def item_features(self, rows: NDArray[np.int64]) -> ItemsAsOf | NDArray[np.float32] | None:
        """All items' features as of the moments of some users, one table where they are one; None: unknown."""
        if self.features is None or self.asked_at is None or not self.features.item_histories:
            return None
        times = self.asked_at[rows]
        if len(times) and (times == times[0]).all():
            items = np.arange(self.fit.n_items)
            return self.features.items_as_of(items, np.full(len(items), times[0]))
        return ItemsAsOf(self.features.item_histories, times, self.fit.n_items)


class Facts(Protocol):
    """What is known of items and users beside the ratings, and what of it may be known with a fit."""

    def tell(self, task: RankingTask) -> RankingTask:
        """Return the task with the features of its fit and of the users that it asks for."""
        ...


@dataclass(frozen=True, slots=True)
class RatingTask:
    """Stars to predict for the pairs of ``test`` after a fit on ``fit``, over the same index spaces.

    ``features``: one row an interaction of ``fit``, with the items' content; None where nothing is known.
    """

    fit: Interactions
    test: Interactions
    features: TrainingFeatures | None = None


class RankingProtocol(ABC):
    """A way to split interactions into a task, with the metrics that its publication reports.

    A protocol never sees what it held out when it cuts a validation: unless its publication has a validation part,
    that is the same protocol on ``task.fit``.
    """

    name: ClassVar[str]
    #: Keys of ``models.evaluation.runner.METRICS``.
    metrics: ClassVar[tuple[str, ...]]
    #: What choosing on the validation and the tables by segment look at.
    primary: ClassVar[str]

    @abstractmethod
    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Split the interactions into a task; raise ``ProtocolError`` where no user is left to ask for."""

    def validation(self, task: RankingTask, *, seed: int) -> RankingTask:
        """Return a task for choosing, never for reporting, with the facts that its own smaller fit may know."""
        watched = self._validation(task, seed=seed)
        return watched if task.facts is None else task.facts.tell(watched)

    def _validation(self, task: RankingTask, *, seed: int) -> RankingTask:
        """Apply the same protocol again to the training part."""
        return self.split(task.fit, seed=seed)


class RatingProtocol(ABC):
    """A way to split ratings into one task or several folds; RMSE and MAE are means over the folds."""

    name: ClassVar[str]

    @abstractmethod
    def split(self, interactions: Interactions, *, seed: int) -> tuple[RatingTask, ...]:
        """Return the folds."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Every user's rows of interactions in one matrix: ``stars`` csr[n_users, n_items], ``times`` int64[nnz]."""

    stars: csr_array
    times: NDArray[np.int64]

    @classmethod
    def of(cls, interactions: Interactions) -> Histories:
        """One cell a pair; of two rows of a pair the later one counts."""
        order = np.lexsort((interactions.timestamps, interactions.codes()))
        codes = interactions.codes()[order]
        order = order[np.append(codes[1:] != codes[:-1], True)] if len(order) else order
        counts = np.bincount(interactions.users[order], minlength=interactions.n_users)
        stars = csr_array(
            (interactions.ratings[order], interactions.items[order], np.concatenate([[0], np.cumsum(counts)])),
            shape=(interactions.n_users, interactions.n_items),
        )
        return cls(stars, interactions.timestamps[order])

    def of_users(self, users: NDArray[np.int64]) -> tuple[csr_array, NDArray[np.int64]]:
        """Return the rows of some users in the order given, and their times; -1 has no history."""
        starts, stops = self.stars.indptr[:-1], self.stars.indptr[1:]
        known = users >= 0
        lengths = np.where(known, (stops - starts)[np.maximum(users, 0)], 0).astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(np.where(known, starts[np.maximum(users, 0)], 0) - indptr[:-1], lengths)
        cells = np.arange(indptr[-1]) + places
        part = csr_array(
            (self.stars.data[cells], self.stars.indices[cells], indptr), shape=(len(users), self.stars.shape[1])
        )
        return part, self.times[cells]


def matrix_of(rows: Interactions, users: NDArray[np.int64]) -> csr_array:
    """csr[len(users), n_items] of ones: the items of ``rows`` for each of some users in the order given."""
    return csr_array(rows.matrix()[users])


def task_of(
    fit: Interactions,
    relevant: Interactions,
    *,
    hidden: Interactions | None = None,
    candidates: NDArray[np.int32] | None = None,
) -> RankingTask:
    """Build the task of recommending ``relevant`` to its users after a fit on ``fit``, their history.

    ``hidden`` holds further rows that the ranking leaves out. A user without a row in ``fit`` counts as unknown, apart.
    """
    users = np.unique(relevant.users).astype(np.int64)
    if len(users) == 0:
        raise ProtocolError("the split leaves nobody to recommend to")
    known = fit.user_counts()[users] > 0
    history, times = Histories.of(fit).of_users(users)
    unranked = None
    if hidden is not None:
        unranked = csr_array(matrix_of(fit, users) + matrix_of(hidden, users))
    return RankingTask(
        fit,
        np.where(known, users, -1),
        history,
        times,
        matrix_of(relevant, users),
        hidden=unranked,
        candidates=candidates,
        apart=None if known.all() else ~known,
        identities=users,
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a recommender did in a task: every figure of every user, so that two recommenders can be paired.

    ``by_user`` name -> float64[Q] (NaN where the recommender cannot answer the user); ``lists`` int64[Q, k] the items
    recommended; ``score_seconds`` wall time; ``unanswered`` why some users have no figure.
    """

    by_user: Mapping[str, NDArray[np.float64]]
    lists: NDArray[np.int64]
    score_seconds: float
    unanswered: str | None = None
    hits_at: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
