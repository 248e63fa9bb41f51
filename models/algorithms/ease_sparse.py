"""EASE for catalogues whose item-item matrix does not fit: a sparse inverse, each item on the few that explain it best.

The inverse of a large Gram matrix by columns, each restricted to a pattern of its own, is the sparse approximate
inverse of numerical analysis (Grote & Huckle 1997); SANSA (Spišák et al. 2023) brought the idea of such an inverse to
EASE. Here the pattern of an item is chosen by what each other one alone would explain of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from models.algorithms.neumf.model import torch_threads
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Cells of co-occurrences that are looked at at a time (float32: 64 MB, and a sparse product and its order beside it).
_CELLS = 16_000_000
#: Cells of the small systems that are solved at a time.
_SYSTEM_CELLS = 8_000_000


@dataclass(frozen=True, slots=True)
class EaseSparseConfig:
    """How strongly it is held back, and how much of the matrix it may take in."""

    #: The L2 weight, as EASE's.
    l2: float = 300.0
    #: Items that may speak for another one: the size of its system, and its weights. NDCG@10 on the validation of
    #: ml-100k's 75/25: .2451 with 100, .2553 with 200, .2556 with all (EASE itself).
    neighbours: int = 200
    #: Only the most rated items speak for others; every item is spoken for. 24,000 are 2.3 GB of co-occurrences; of
    #: ml-25m's 62,000 films those beyond have some 25 ratings, which ``l2`` leaves hardly a weight.
    max_regressors: int = 24_000
    threads: int = 1


class EaseSparse(Recommender):
    """Scores with ``history @ B``, B sparse; answers unknown users too.

    With G = XᵀX of ones and S the pattern of item j: ``B[S, j] = (G[S, S] + λI)⁻¹ G[S, j]``, which is column j of
    EASE's B when S is all other items. S are the items with the largest ``G[i, j] / √(G[i, i] + λ)``: the square is
    what item i alone takes off the regression's loss.
    """

    name: ClassVar[str] = "ease_sparse"
    config_class: ClassVar[type[Any]] = EaseSparseConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: EaseSparseConfig | None = None) -> None:
        super().__init__(config)
        self._weights: csr_array = csr_array((0, 0), dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Co-occurrences of those that speak, the weights three times, the matrix in copies, one block of each step."""
        regressors = min(n_items, int(self.config.max_regressors))
        weights = n_items * min(int(self.config.neighbours), regressors)
        blocks = 32 * min(_CELLS, n_items * regressors) + 24 * _SYSTEM_CELLS
        return 4 * regressors * regressors + 3 * 12 * weights + 48 * n_interactions + blocks

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: EaseSparseConfig = self.config
        counts = interactions.item_counts()
        ranked = np.lexsort((np.arange(len(counts)), -counts))
        ranked = ranked[counts[ranked] > 0]
        # In the order of their index, so that the weights of a row come sorted.
        speaking = np.sort(ranked[: config.max_regressors])
        place = np.full(self.n_items, -1, dtype=np.int64)
        place[speaking] = np.arange(len(speaking))
        x = interactions.matrix()
        by_item, among = csr_array(x.T.tocsr()), csr_array(x[:, speaking])
        step = max(1, _CELLS // len(speaking))
        gram = np.empty((len(speaking), len(speaking)), dtype=np.float32)
        for start in range(0, len(speaking), step):
            gram[start : start + step] = (by_item[speaking[start : start + step]] @ among).toarray()
        kept = min(config.neighbours, len(speaking) - 1)
        explained = np.sqrt(np.diag(gram) + np.float32(config.l2))
        targets, patterns, weights = np.sort(ranked), [], []
        with torch_threads(config.threads), torch.inference_mode():
            for start in range(0, len(targets) if kept else 0, step):
                block = targets[start : start + step]
                # The others' co-occurrences are not among those that are kept.
                own = place[block]
                together = np.empty((len(block), len(speaking)), dtype=np.float32)
                together[own >= 0] = gram[own[own >= 0]]
                together[own < 0] = (by_item[block[own < 0]] @ among).toarray()
                strength = together / explained
                strength[np.flatnonzero(own >= 0), own[own >= 0]] = -1.0
                pattern = np.sort(np.argpartition(-strength, kept - 1, axis=1)[:, :kept], axis=1)
                patterns.append(speaking[pattern].astype(np.int32))
                right = np.take_along_axis(together, pattern, axis=1)
                weights.append(_solve(torch.from_numpy(gram), pattern, torch.from_numpy(right), config.l2))
                progress(Progress(start // step + 1, -(-len(targets) // step), {}))
        self._weights = _assembled(targets, patterns, weights, self.n_items)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the history (as ones) times the weights; 0 for an item without a rating."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        return np.asarray((ones @ self._weights).toarray(), dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weights that each item gives to the others or, if it gives none, those given to it."""
        given = np.asarray(self._weights[items].toarray(), dtype=np.float32)
        silent = np.diff(self._weights.indptr)[items] == 0
        if silent.any():
            given[silent] = self._weights[:, items[silent]].toarray().T
        return given

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        weights = self._weights
        return {}, {"data": weights.data, "indices": weights.indices, "indptr": weights.indptr}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["indptr"].shape != (self.n_items + 1,):
            raise RecommenderError(f"ease_sparse: weights of {len(arrays['indptr']) - 1} items, not {self.n_items}")
        self._weights = csr_array(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(self.n_items, self.n_items)
        )


def _solve(gram: Tensor, pattern: NDArray[np.int64], right: Tensor, l2: float) -> NDArray[np.float32]:
    """float32[b, m]: for each row the x of ``(gram[S, S] + l2 I) x = right``, S its row of ``pattern`` [b, m]."""
    n, kept = len(gram), pattern.shape[1]
    solved = torch.empty_like(right)
    flat, places = gram.reshape(-1), torch.from_numpy(pattern)
    step = max(1, _SYSTEM_CELLS // (kept * kept))
    for start in range(0, len(pattern), step):
        block = slice(start, start + step)
        system = flat[places[block][:, :, None] * n + places[block][:, None, :]]
        system.diagonal(dim1=1, dim2=2).add_(l2)
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed.any():
            raise RecommenderError(f"ease_sparse: a system has no solution; l2 = {l2} is too small")
        solved[block] = torch.cholesky_solve(right[block][:, :, None], factor).squeeze(2)
    return np.asarray(solved.numpy(), dtype=np.float32)


def _assembled(
    targets: NDArray[np.int64], patterns: list[NDArray[np.int32]], weights: list[NDArray[np.float32]], n_items: int
) -> csr_array:
    """Csr float32[n_items, n_items]: the weight that a row's item gives to a column's."""
    if not patterns:
        return csr_array((n_items, n_items), dtype=np.float32)
    indices = np.concatenate(patterns)
    lengths = np.zeros(n_items, dtype=np.int64)
    lengths[targets] = indices.shape[1]
    by_target = csr_array(
        (np.concatenate(weights).ravel(), indices.ravel(), np.append(0, np.cumsum(lengths))), shape=(n_items, n_items)
    )
    found = csr_array(by_target.T.tocsr())
    found.sort_indices()
    return found
