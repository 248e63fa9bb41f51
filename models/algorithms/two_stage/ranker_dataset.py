"""What the flagship's ranker learns from: rows that the first stage did not see, and what is to be ranked there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.algorithms.two_stage.cold_start_backoff import TOLD
from models.data.sequences import Pasts, Timelines

#: Lists at most, those of newcomers among them; what is in each: the best by the plain blend, and some of the others.
LISTS, NEW_LISTS = 20_000, 5_000
_BEST, _OTHERS = 200, 200
LIST_SIZE = _BEST + _OTHERS
#: Share of the users that the first stage does not know while the ranker learns: how far each part can be believed of
#: somebody who is new.
_NEWCOMERS = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """Q moments: what stands before a user's row int64[Q] is known, all until ``stops`` int64[Q] is to be found."""

    rows: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of moments."""
        return len(self.rows)

    def take(self, places: slice | NDArray[np.int64]) -> Asked:
        """Return the moments at these places."""
        return Asked(self.rows[places], self.stops[places])

    def targets(self, timelines: Timelines) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what is to be found: the moment that each target belongs to and its item, both int64[T]."""
        counts = self.stops - self.rows
        of = np.repeat(np.arange(len(self)), counts)
        return of, timelines.items[self.rows[of] + np.arange(len(of)) - (np.cumsum(counts) - counts)[of]]


def held_rows(timelines: Timelines, per_user: int) -> NDArray[np.int64]:
    """Return the last ``per_user`` rows of each user whose rows have an order, at most a quarter of the user's rows.

    At least one row is held out, and a short history is never held out whole.
    """
    rows = timelines.with_past()
    users = timelines.users[rows]
    after = np.append(np.flatnonzero(np.diff(users)) + 1, len(users))
    left = np.repeat(after, np.diff(np.concatenate([[0], after]))) - np.arange(len(users))
    most = np.maximum(1, np.diff(timelines.starts)[users] // 4)
    held: NDArray[np.int64] = rows[left <= np.minimum(per_user, most)]
    return held


def held_at_random(timelines: Timelines, seed: int) -> NDArray[np.int64]:
    """Return a random fifth of the rows, for histories without an order."""
    return np.flatnonzero(np.random.default_rng(seed).random(len(timelines)) < 0.2)


def newcomers(timelines: Timelines, seed: int) -> NDArray[np.bool_]:
    """bool[n_users]: a tenth of the users, to be known by nothing but what is told of them."""
    return np.random.default_rng([seed, 1]).random(len(timelines.starts) - 1) < _NEWCOMERS


def told(timelines: Timelines, among: NDArray[np.bool_], at_most: int, generator: np.random.Generator) -> Asked:
    """Moments after the first ``TOLD`` entries of users who have as many more; all that follows is to be found.

    The first of rows without a time are random ones, which are no newcomer's: who has such rows is left out.
    """
    counts = np.array(TOLD)[:, None]
    ordered = np.zeros(len(among), dtype=bool)
    ordered[timelines.users[timelines.with_past()]] = True
    users = np.flatnonzero(among & ordered)
    # The earliest one comes first, and an unknown time is 0.
    users = users[timelines.times[timelines.starts[users]] > 0]
    first, stop = timelines.starts[users], timelines.starts[users + 1]
    long_enough = stop - first >= 2 * counts
    found = Asked((first + counts)[long_enough], np.broadcast_to(stop, long_enough.shape)[long_enough])
    return some(found, at_most, generator)


def some(asked: Asked, at_most: int, generator: np.random.Generator) -> Asked:
    """All of them, or so many drawn."""
    if len(asked) <= at_most:
        return asked
    return asked.take(np.sort(generator.choice(len(asked), at_most, replace=False)))


def candidates(
    blend: NDArray[np.float32],
    pasts: Pasts,
    of: NDArray[np.int64],
    targets: NDArray[np.int64],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
    """Choose each list's items: the targets, the best others by ``blend`` float32[Q, n_items], some of the rest.

    Returns the items int64[Q, C], which of them are targets bool[Q, C], and the offsets float32[Q, C] of
    ``train_ranker``. ``blend`` is overwritten.
    """
    order = blend
    size = min(order.shape[1], LIST_SIZE)
    best = min(size, _BEST)
    order[pasts.rows, pasts.items] = -np.inf
    wanted = np.zeros(order.shape, dtype=bool)
    wanted[of, targets] = True
    order[wanted] = np.inf
    first = np.argpartition(-order, best - 1, axis=1)[:, :best]
    lots = generator.random(order.shape, dtype=np.float32)
    lots[np.isneginf(order)] = -1.0
    np.put_along_axis(lots, first, np.float32(2.0), axis=1)
    chosen = np.argpartition(-lots, size - 1, axis=1)[:, :size]
    rows = np.arange(len(chosen))[:, None]
    rest = np.maximum((~np.isneginf(order)).sum(axis=1, keepdims=True) - best, 0)
    drawn = lots[rows, chosen] <= 1.0
    shares = np.log(np.maximum(rest, 1) / np.maximum(np.minimum(rest, size - best), 1))
    offsets = np.where(drawn, shares, 0.0) + np.where(np.isneginf(order[rows, chosen]), -np.inf, 0.0)
    return chosen, wanted[rows, chosen], offsets.astype(np.float32)
