"""Linear models from a history to all items, in closed form: what goes with what, comes next, or comes near."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from models.algorithms.ease import ease_weights
from models.data.interactions import Interactions
from models.data.sequences import Pasts, Timelines
from models.runtime.errors import RecommenderError

#: Rows whose pasts are taken into a Gram matrix at a time.
_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class ItemWeights:
    """``weights`` float32[m, m] from an item of a history (row) to an item to be met (column), both of ``items``.

    ``items`` int64[m] ascending are the ones that have weights, of ``n_items``; all others give and get 0.
    """

    items: NDArray[np.int64]
    weights: NDArray[np.float32]
    n_items: int

    def score(self, history: csr_array, wanted: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """float32[B, n_items] of histories csr[B, n_items] with the weight of each entry; or of some items alone."""
        known = history if len(self.items) == self.n_items else csr_array(history[:, self.items])
        if wanted is not None:
            places = np.minimum(np.searchsorted(self.items, wanted), max(len(self.items) - 1, 0))
            columns = np.where(self.items[places] == wanted, self.weights[:, places], np.float32(0.0))
            return np.asarray(known @ columns, dtype=np.float32)
        if len(self.items) == self.n_items:
            return np.asarray(known @ self.weights, dtype=np.float32)
        scores = np.zeros((history.shape[0], self.n_items), dtype=np.float32)
        scores[:, self.items] = known @ self.weights
        return scores


def most_rated(interactions: Interactions, at_most: int) -> NDArray[np.int64]:
    """int64[m] ascending: the most rated items, none that nobody rated, at most so many; ties by index."""
    counts = interactions.item_counts()
    ranked = np.lexsort((np.arange(len(counts)), -counts))[:at_most]
    return np.sort(ranked[counts[ranked] > 0]).astype(np.int64)


def goes_with(interactions: Interactions, *, l2: float, max_items: int) -> ItemWeights:
    """EASE (Steck 2019) over the most rated items."""
    items = most_rated(interactions, max_items)
    weights = ease_weights(interactions.matrix()[:, items], l2)
    # Column by column, as they come, they would be copied for every product with some histories.
    return ItemWeights(items, np.ascontiguousarray(weights), interactions.n_items)


def comes_next(
    timelines: Timelines,
    interactions: Interactions,
    *,
    l2: float,
    decay: float,
    window: int,
    max_items: int,
    max_rows: int,
    seed: int,
) -> ItemWeights:
    """Fit the ridge regression of the next item on those before it, the newer the heavier (after SLIST, Choi 2021).

    For each row with a past: S its ``window`` newest entries with weight ``exp(-rank / decay)``, T the row's item;
    B = (SᵀS + l2 I)⁻¹ SᵀT. Of more than ``max_rows`` rows a random part is taken.
    """
    return _regression(
        lambda rows: timelines.before(rows, longest=window),
        _some(timelines.with_past(), max_rows, seed),
        timelines,
        most_rated(interactions, max_items),
        l2=l2,
        decay=decay,
    )


def comes_near(
    timelines: Timelines,
    interactions: Interactions,
    *,
    l2: float,
    decay: float,
    max_items: int,
    max_rows: int,
    seed: int,
) -> ItemWeights:
    """As :func:`comes_next`, of an item on those that its user met shortly before and after it.

    What stands close together was on one page or in one mood: it says more of an item than the rest of a history.
    Rows without a time are left out.
    """
    # Further away the weight is below a fiftieth.
    window = math.ceil(4 * decay)
    return _regression(
        lambda rows: timelines.around(rows, window=window),
        _some(np.flatnonzero(timelines.times > 0), max_rows, seed),
        timelines,
        most_rated(interactions, max_items),
        l2=l2,
        decay=decay,
    )


def _some(rows: NDArray[np.int64], at_most: int, seed: int) -> NDArray[np.int64]:
    if len(rows) <= at_most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False))


def _regression(
    beside: Callable[[NDArray[np.int64]], Pasts],
    rows: NDArray[np.int64],
    timelines: Timelines,
    items: NDArray[np.int64],
    *,
    l2: float,
    decay: float,
) -> ItemWeights:
    """Fit the ridge regression of the rows' items on those of ``beside``, with weights ``exp(-rank / decay)``."""
    gram = np.zeros((len(items), len(items)), dtype=np.float32)
    # In the order of the library that solves it in its own memory: these are the largest matrices of a fit.
    cross = np.zeros_like(gram, order="F")
    # In parts, for the windows of a million rows are tens of millions of entries.
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        met = csr_array(beside(part).matrix(timelines.n_items, decay=decay)[:, items])
        target = csr_array(
            (np.ones(len(part), np.float32), timelines.items[part], np.arange(len(part) + 1)),
            shape=(len(part), timelines.n_items),
        )[:, items]
        gram += (met.T @ met).toarray()
        cross += (met.T @ target).toarray(order="F")
    gram[np.diag_indices(len(items))] += np.float32(l2)
    factor, failed = lapack.spotrf(gram.T, lower=0, overwrite_a=1)
    if failed:
        raise RecommenderError(f"the Gram matrix of the histories has no inverse; l2 = {l2} is too small")
    del gram
    weights, _ = lapack.spotrs(factor, cross, lower=0, overwrite_b=1)
    del factor, cross
    return ItemWeights(items, np.ascontiguousarray(weights, dtype=np.float32), timelines.n_items)
