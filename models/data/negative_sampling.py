"""Negatives: items that a user never met, drawn uniformly, without a Python loop over interactions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.data.interactions import Interactions

#: Cells of the random matrix that :func:`distinct_negatives` holds at a time (float32: 64 MB).
_CELLS = 16_000_000


class NegativeSampler:
    """Draws for each given user items outside ``interactions``, uniformly and independently (repeats may occur).

    A user who met every item has no negative: the draw is -1. Memory: 8 bytes a pair.
    """

    def __init__(self, interactions: Interactions) -> None:
        self._codes = np.unique(interactions.codes())
        self._n_items = interactions.n_items
        seen = np.bincount(self._codes // max(self._n_items, 1), minlength=interactions.n_users)
        self._full = seen >= self._n_items

    def draw(self, users: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """int32, shape of ``users``: one negative for each."""
        drawn = rng.integers(0, self._n_items, size=users.shape, dtype=np.int32)
        open_ = np.flatnonzero(self._met(users.ravel(), drawn.ravel()))
        drawn_flat, users_flat = drawn.reshape(-1), users.ravel()
        # Rejection: what was met is drawn again until nothing is left. At MovieLens's densities (1 to 7 %) a handful
        # of rounds, each on the few still open; users who met everything would never end.
        hopeless = self._full[users_flat[open_]]
        drawn_flat[open_[hopeless]] = -1
        open_ = open_[~hopeless]
        while len(open_):
            drawn_flat[open_] = rng.integers(0, self._n_items, size=len(open_), dtype=np.int32)
            open_ = open_[self._met(users_flat[open_], drawn_flat[open_])]
        return drawn

    def _met(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        wanted = users.astype(np.int64) * self._n_items + items
        places = np.minimum(np.searchsorted(self._codes, wanted), len(self._codes) - 1)
        found: NDArray[np.bool_] = self._codes[places] == wanted
        return found


def distinct_negatives(
    interactions: Interactions, users: NDArray[np.int32], count: int, *, seed: int
) -> NDArray[np.int32]:
    """int32[len(users), count]: distinct items outside ``interactions`` for each user, uniform; -1 where none is left.

    ``interactions`` must hold everything the users ever met (training, validation and test), or a negative may be a
    positive of another part.
    """
    rng = np.random.default_rng(seed)
    n_items = interactions.n_items
    matrix = interactions.matrix()
    taken = min(count, n_items)
    negatives = np.full((len(users), count), -1, dtype=np.int32)
    step = max(1, _CELLS // max(n_items, 1))
    for start in range(0, len(users), step):
        block = users[start : start + step]
        lots = rng.random((len(block), n_items), dtype=np.float32)
        seen = matrix[block]
        lots[np.repeat(np.arange(len(block)), np.diff(seen.indptr)), seen.indices] = np.inf
        # The items with the lowest lots are a uniform sample without replacement.
        columns = np.argpartition(lots, taken - 1, axis=1)[:, :taken].astype(np.int32)
        left = np.isfinite(np.take_along_axis(lots, columns, axis=1))
        negatives[start : start + step, :taken] = np.where(left, columns, -1)
    return negatives
