"""What users met before a moment, as flat arrays that a model pools: cut from training rows, or from a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.data.batch import UserBatch
from models.data.interactions import Interactions


@dataclass(frozen=True, slots=True)
class Pasts:
    """B histories, one after the other: entry e of history b is in ``bounds[b]:bounds[b + 1]``.

    ``bounds`` int64[B + 1], ``items`` int64[E], ``stars`` float32[E]; ``ranks`` float32[E] counts the entries of the
    same history that are strictly newer, so that what has one time has one rank; ``ages`` float32[E] are seconds before
    the newest entry. Where the order is not known or not to be used both are 0.
    """

    bounds: NDArray[np.int64]
    items: NDArray[np.int64]
    stars: NDArray[np.float32]
    ranks: NDArray[np.float32]
    ages: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of histories."""
        return len(self.bounds) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[B]: the entries of each history."""
        return np.diff(self.bounds)

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64[E]: the history of each entry."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def matrix(self, n_items: int, *, decay: float = np.inf, longest: float = np.inf) -> csr_array:
        """csr float32[B, n_items]: each entry's weight ``exp(-rank / decay)``, 0 from rank ``longest`` on."""
        weights = np.where(self.ranks < longest, np.exp(-self.ranks / np.float32(decay)), 0.0).astype(np.float32)
        return csr_array((weights, self.items, self.bounds), shape=(len(self), n_items))

    def newest(self, count: int) -> Pasts:
        """Return the histories without the entries that have ``count`` or more newer ones."""
        kept = self.ranks < count
        bounds = np.concatenate([[0], np.cumsum(np.bincount(self.rows[kept], minlength=len(self)))])
        return Pasts(bounds, self.items[kept], self.stars[kept], self.ranks[kept], self.ages[kept])

    @classmethod
    def of_batch(cls, batch: UserBatch, *, in_order: bool) -> Pasts:
        """Build the histories of a batch; ``in_order`` False ignores their times."""
        history = batch.history
        rows = np.repeat(np.arange(len(batch)), np.diff(history.indptr))
        times = batch.history_times if in_order else None
        ranks, ages = _order(rows, np.zeros(len(rows), dtype=np.int64) if times is None else times, len(batch))
        return cls(
            history.indptr.astype(np.int64),
            history.indices.astype(np.int64),
            np.asarray(history.data, dtype=np.float32),
            ranks,
            ages,
        )


def _order(
    rows: NDArray[np.int64], times: NDArray[np.int64], n_rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ranks and ages, as of :class:`Pasts`, of entries whose histories ``rows`` are ascending."""
    order = np.lexsort((-times, rows))
    sorted_rows, sorted_times = rows[order], times[order]
    starts = np.searchsorted(rows, np.arange(n_rows))
    place = np.arange(len(rows))
    changes = np.append(True, (sorted_rows[1:] != sorted_rows[:-1]) | (sorted_times[1:] != sorted_times[:-1]))
    block = np.flatnonzero(changes[: len(rows)])[np.cumsum(changes[: len(rows)]) - 1]
    ranks, ages = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    ranks[order] = (np.minimum(block, place) - starts[sorted_rows]).astype(np.float32)
    newest = sorted_times[starts[sorted_rows]] if len(rows) else sorted_times
    ages[order] = (newest - sorted_times).astype(np.float32)
    return ranks, ages


class Timelines:
    """The rows of interactions by user and time, from which the past before any row can be cut.

    Rows of one user with the same time are one block. Nobody knows their order, so they stand in a random one, and to
    each other they are equally new. ``users``, ``items``, ``stars``, ``times`` are the sorted columns, ``order`` their
    places in the interactions, ``block_ends`` int64[N] where each row's block ends, ``starts`` int64[n_users + 1] where
    each user's rows do.
    """

    def __init__(self, interactions: Interactions, *, seed: int) -> None:
        lots = np.random.default_rng(seed).random(len(interactions), dtype=np.float32)
        order = np.lexsort((lots, interactions.timestamps, interactions.users))
        self.n_items = interactions.n_items
        self.order = order
        self.users = interactions.users[order].astype(np.int64)
        self.items = interactions.items[order].astype(np.int64)
        self.stars = interactions.ratings[order]
        self.times = interactions.timestamps[order]
        self.starts = np.concatenate([[0], np.cumsum(interactions.user_counts())]).astype(np.int64)
        new = np.append(True, (np.diff(self.users) != 0) | (np.diff(self.times) != 0))[: len(order)]
        ends = np.append(np.flatnonzero(new)[1:], len(order))
        self.block_ends = ends[np.cumsum(new) - 1] if len(order) else ends[:0]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.items)

    def with_past(self) -> NDArray[np.int64]:
        """int64[M]: the rows that are not the first of a user whose rows have at least two different times."""
        firsts = self.starts[self.users]
        in_order = self.block_ends[firsts] < self.starts[self.users + 1]
        return np.flatnonzero((np.arange(len(self)) > firsts) & in_order)

    def before(self, rows: NDArray[np.int64], *, longest: int | None = None) -> Pasts:
        """Return what precedes each of some rows, or only the newest ``longest`` entries of it."""
        first = self.starts[self.users[rows]]
        if longest is not None:
            first = np.maximum(first, rows - longest)
        bounds = np.concatenate([[0], np.cumsum(rows - first)]).astype(np.int64)
        places = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], rows - first)
        stop = np.repeat(rows, rows - first)
        newest = self.times[np.maximum(stop - 1, 0)]
        return Pasts(
            bounds,
            self.items[places],
            self.stars[places],
            np.maximum(stop - self.block_ends[places], 0).astype(np.float32),
            (newest - self.times[places]).astype(np.float32),
        )

    def around(self, rows: NDArray[np.int64], *, window: int) -> Pasts:
        """Return what the same user met within ``window`` rows of each row, before or after it, without the row.

        Ranks count the rows between, ages are the seconds. A row without a known time (0) has no neighbours.
        """
        away = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
        places = rows[:, None] + away
        within = (places >= 0) & (places < len(self))
        places = np.where(within, places, 0)
        near = within & (self.users[places] == self.users[rows][:, None])
        near &= (self.times[places] > 0) & (self.times[rows] > 0)[:, None]
        found = places[near]
        of, which = np.nonzero(near)
        return Pasts(
            np.concatenate([[0], np.cumsum(near.sum(axis=1))]).astype(np.int64),
            self.items[found],
            self.stars[found],
            (np.abs(away[which]) - 1).astype(np.float32),
            np.abs(self.times[found] - self.times[rows[of]]).astype(np.float32),
        )

    def subsets(self, users: NDArray[np.int64], kept: NDArray[np.bool_]) -> tuple[Pasts, Pasts]:
        """Return the users' rows where ``kept`` bool[N] is set, and those where it is not, both without an order."""
        first, stops = self.starts[users], self.starts[users + 1]
        bounds = np.concatenate([[0], np.cumsum(stops - first)]).astype(np.int64)
        places = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], stops - first)
        of = np.repeat(np.arange(len(users)), stops - first)
        return self._part(of, places, kept[places], len(users)), self._part(of, places, ~kept[places], len(users))

    def _part(self, of: NDArray[np.int64], places: NDArray[np.int64], wanted: NDArray[np.bool_], size: int) -> Pasts:
        taken = places[wanted]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(of[wanted], minlength=size))]).astype(np.int64)
        nothing = np.zeros(len(taken), dtype=np.float32)
        return Pasts(bounds, self.items[taken], self.stars[taken], nothing, nothing)
