"""EASE: an item-item linear model in closed form (Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Cells of the Gram matrix that are made, or mirrored, at a time (float32: 64 MB).
_CELLS = 16_000_000


@dataclass(frozen=True, slots=True)
class EaseConfig:
    """How strongly EASE is held back, and how many items it may take in."""

    #: The L2 weight: 300 to 500 was best on ml-100k and ml-1m; it grows with the number of users.
    l2: float = 300.0
    #: Only the most rated items get weights, for memory grows with their square (see :func:`ease_memory`); the others
    #: score 0. 12,000 items are 1 GB at the peak: every edition up to ml-10m fits whole.
    max_items: int = 12_000


def ease_memory(n_users: int, n_items: int) -> int:
    """Bytes that a fit over this many items holds at its peak beside the interactions' matrix.

    The weights are made where the Gram matrix was. With fewer users than items (see :func:`_weights`) the matrix is
    there in full twice, beside the users' kernel.
    """
    if n_users < n_items:
        return 4 * (n_items * n_items + 2 * n_users * n_items + 2 * n_users * n_users)
    return 4 * n_items * n_items + 16 * min(_CELLS, n_items * n_items)


class Ease(Recommender):
    """Scores with ``history @ B``, B the ridge regression of each item on all others; answers unknown users too.

    With X the user-item matrix of ones and P = (XᵀX + λI)⁻¹: B = I - P · diag(1 / diag(P)), whose diagonal is zero.
    The user is the history of the batch, so a new rating changes the next answer without a fit.
    """

    name: ClassVar[str] = "ease"
    config_class: ClassVar[type[Any]] = EaseConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: EaseConfig | None = None) -> None:
        super().__init__(config)
        self._items: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._weights: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes for the items that get weights (:func:`ease_memory`) and for the matrix and its copies."""
        return ease_memory(n_users, min(n_items, self.config.max_items)) + 48 * n_interactions

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        counts = interactions.item_counts()
        ranked = np.lexsort((np.arange(len(counts)), -counts))[: self.config.max_items]
        self._items = np.sort(ranked[counts[ranked] > 0]).astype(np.int64)
        x = interactions.matrix()[:, self._items]
        self._weights = ease_weights(x, float(self.config.l2))
        progress(Progress(1, 1, {}))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the history (as ones) times the weights; an item outside the weights scores 0."""
        known = csr_array(batch.history[:, self._items])
        known.data = np.ones_like(known.data, dtype=np.float32)
        scores = np.zeros((len(batch), self.n_items), dtype=np.float32)
        scores[:, self._items] = known @ self._weights
        return scores

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weight of each entry for each item: the score is their sum."""
        self._explains(batch)
        met, known = self._places(np.asarray(batch.history.indices, dtype=np.int64))
        asked, answered = self._places(items)
        weights = self._weights[np.ix_(met, asked)].T
        return np.where(answered[:, None] & known, weights, np.float32(0.0))

    def _places(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of ``items`` in the weights, and which of them are there at all."""
        places = np.minimum(np.searchsorted(self._items, items), max(len(self._items) - 1, 0))
        return places, np.asarray(self._items[places] == items)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weights that each item gives to the others; all 0 for an item outside the weights."""
        places, known = self._places(items)
        found = np.zeros((len(items), self.n_items), dtype=np.float32)
        found[np.ix_(known, self._items)] = self._weights[places[known]]
        return found

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"items": self._items, "weights": self._weights}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["weights"].shape != (len(arrays["items"]),) * 2:
            raise RecommenderError(f"ease: weights {arrays['weights'].shape} for {len(arrays['items'])} items")
        self._items, self._weights = arrays["items"], arrays["weights"]


def ease_weights(x: csr_array, l2: float) -> NDArray[np.float32]:
    """float32[n, n]: B of the docstring of :class:`Ease`, from csr x[users, n]."""
    n_users, n_items = x.shape
    if n_users < n_items:
        # Woodbury: P = (I - Xᵀ (XXᵀ + λI)⁻¹ X) / λ. The same numbers from the smaller of two inverses; the factor
        # 1 / λ cancels in B. ml-latest-small (610 users, 9,724 items): 1 s instead of 20.
        kernel = _inverse((x @ x.T).toarray().astype(np.float32), l2)
        p = x.T @ (kernel @ x.toarray())
        p *= np.float32(-1.0)
        p[np.diag_indices(n_items)] += 1.0
    else:
        p = _inverse(gram(x), l2)
    p /= -np.diag(p).copy()
    p[np.diag_indices(n_items)] = 0.0
    return np.asarray(p, dtype=np.float32)


def gram(x: csr_array) -> NDArray[np.float32]:
    """XᵀX in full; a part at a time, for the sparse product of all is thrice as large."""
    by_item = csr_array(x.T.tocsr())
    n_items = x.shape[1]
    gram = np.empty((n_items, n_items), dtype=np.float32)
    step = max(1, _CELLS // max(n_items, 1))
    for start in range(0, n_items, step):
        gram[start : start + step] = (by_item[start : start + step] @ x).toarray()
    return gram


def _inverse(gram: NDArray[np.float32], l2: float) -> NDArray[np.float32]:
    """(gram + l2 I)⁻¹ of a symmetric matrix, in its own memory, by Cholesky: half the work of a general inverse."""
    n = len(gram)
    gram[np.diag_indices(n)] += np.float32(l2)
    factor, failed = lapack.spotrf(gram.T, lower=0, overwrite_a=1)
    inverse, failed_too = lapack.spotri(factor, lower=0, overwrite_c=1)
    if failed or failed_too:
        raise RecommenderError(f"ease: the Gram matrix has no inverse; l2 = {l2} is too small")
    # Only the upper triangle was written: the lower one is its mirror, a band of columns at a time.
    step = max(1, _CELLS // max(n, 1))
    for start in range(0, n, step):
        stop = min(start + step, n)
        inverse[stop:, start:stop] = inverse[start:stop, stop:].T
        band = inverse[start:stop, start:stop]
        inverse[start:stop, start:stop] = np.triu(band) + np.triu(band, 1).T
    return np.asarray(inverse, dtype=np.float32)
