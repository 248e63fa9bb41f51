"""Linear models from a history to all items, in closed form: which item goes with which, and which comes next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from models.ease import ease_weights
from models.interactions import Interactions
from models.recommender import RecommenderError
from models.timelines import Timelines

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
    return ItemWeights(items, ease_weights(interactions.matrix()[:, items], l2), interactions.n_items)


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
    """The ridge regression of the next item on the ones before it, the newer the heavier (after SLIST, Choi 2021).

    For each row with a past: S its ``window`` newest entries with weight ``exp(-rank / decay)``, T the row's item;
    B = (SᵀS + l2 I)⁻¹ SᵀT. Of more than ``max_rows`` rows a random part is taken.
    """
    items = most_rated(interactions, max_items)
    rows = timelines.with_past()
    if len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_rows, replace=False))
    gram = np.zeros((len(items), len(items)), dtype=np.float32)
    cross = np.zeros_like(gram)
    # In parts, for the windows of a million rows are tens of millions of entries.
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        pasts = timelines.before(part, longest=window)
        past = csr_array(pasts.matrix(timelines.n_items, decay=decay)[:, items])
        target = csr_array(
            (np.ones(len(part), np.float32), timelines.items[part], np.arange(len(part) + 1)),
            shape=(len(part), timelines.n_items),
        )[:, items]
        gram += (past.T @ past).toarray()
        cross += (past.T @ target).toarray()
    gram[np.diag_indices(len(items))] += np.float32(l2)
    factor, failed = lapack.spotrf(gram.T, lower=0, overwrite_a=1)
    if failed:
        raise RecommenderError(f"the Gram matrix of the histories has no inverse; l2 = {l2} is too small")
    weights, _ = lapack.spotrs(factor, cross, lower=0)
    return ItemWeights(items, np.ascontiguousarray(weights, dtype=np.float32), interactions.n_items)
