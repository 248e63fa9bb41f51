"""Row splits that the ranking protocols are made of; each draws with its own seeded generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.data.interactions import Interactions


def places_in_user(interactions: Interactions, order_within: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64[N]: the place of each row among its user's rows, from 0, sorted by ``order_within`` float64[N].

    >>> rows = Interactions.of([0, 1, 0], [5, 5, 6])
    >>> places_in_user(rows, np.array([0.9, 0.1, 0.2])).tolist()
    [1, 0, 0]
    """
    order = np.lexsort((order_within, interactions.users))
    starts = np.concatenate([[0], np.cumsum(interactions.user_counts())[:-1]])
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - starts[interactions.users[order]]
    return places


def shuffled_places(interactions: Interactions, seed: int) -> NDArray[np.int64]:
    """int64[N]: the place of each row in a random order of its user's rows.

    The rows are drawn for in the order of their pairs, so that the order in a file changes nothing.
    """
    lots = np.empty(len(interactions))
    lots[np.argsort(interactions.codes(), kind="stable")] = np.random.default_rng(seed).random(len(interactions))
    return places_in_user(interactions, lots)


def first_share(interactions: Interactions, places: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """bool[N]: the first ``share`` of each user's rows, rounded to the nearest number (half to even, as Python does).

    Of 75 % of 3 rows 2 are taken, of 2 rows 2:

    >>> rows = Interactions.of([0, 0, 0, 1, 1], [0, 1, 2, 0, 1])
    >>> first_share(rows, np.array([0, 1, 2, 0, 1]), 0.75).tolist()
    [True, True, False, True, True]
    """
    return np.asarray(places < np.rint(share * interactions.user_counts())[interactions.users])


def recbole_counts(n_rows: NDArray[np.int64], shares: Sequence[float]) -> NDArray[np.int64]:
    """int64[len(n_rows), parts]: rows of each part by RecBole's rule, whose parts but the first are never empty.

    Each later part gets the floor of its share, the first the rest; a part whose share is a fraction below one then
    takes one row from the first, from the last part on, as long as the first has more than one.

    >>> recbole_counts(np.array([20, 5, 2]), [0.8, 0.1, 0.1]).tolist()
    [[16, 2, 2], [3, 1, 1], [1, 0, 1]]
    """
    wanted = np.outer(n_rows, np.asarray(shares)).round(9)
    counts = np.floor(wanted).astype(np.int64)
    counts[:, 0] = n_rows - counts[:, 1:].sum(axis=1)
    for part in range(len(shares) - 1, 0, -1):
        takes = (wanted[:, part] > 0) & (wanted[:, part] < 1) & (counts[:, 0] > 1)
        counts[:, part] += takes
        counts[:, 0] -= takes
    return counts
