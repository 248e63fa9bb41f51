"""What the histories have in common at large: an ideal low-pass filter of who met what (after GF-CF, Shen 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models.data.interactions import Interactions


@dataclass(frozen=True, slots=True)
class Spectral:
    """``given`` and ``asked`` float32[n_items, r]: a history times the one, times the other's transpose."""

    given: NDArray[np.float32]
    asked: NDArray[np.float32]

    def score(self, history: csr_array, wanted: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """float32[B, n_items] of histories csr[B, n_items], or of the ``wanted`` items alone."""
        asked = self.asked if wanted is None else self.asked[wanted]
        return np.asarray((history @ self.given) @ asked.T, dtype=np.float32)


def spectral(interactions: Interactions, *, rank: int, seed: int) -> Spectral:
    """From R = U^-½ X I^-½, X who met what, U and I the counts of users and items: V its ``rank`` first right vectors.

    A history h scores ``h I^-½ V Vᵀ I^½``. An item that nobody met scores 0.
    """
    from sklearn.utils.extmath import randomized_svd

    matrix = interactions.matrix()
    of_users, of_items = (1.0 / np.sqrt(np.maximum(np.asarray(matrix.sum(axis=axis)), 1.0)) for axis in (1, 0))
    rank = min(rank, *matrix.shape)
    if rank == 0 or matrix.nnz == 0:
        nothing = np.zeros((interactions.n_items, 0), dtype=np.float32)
        return Spectral(nothing, nothing)
    scaled = csr_array(diags_array(of_users) @ matrix @ diags_array(of_items))
    _, _, right = randomized_svd(scaled, rank, n_iter=4, random_state=seed)
    known = np.asarray(interactions.item_counts() > 0)[:, None]
    vectors = right.T * known
    return Spectral((vectors * of_items[:, None]).astype(np.float32), (vectors / of_items[:, None]).astype(np.float32))
