"""Interactions: who met which film when, as plain index arrays, and the matrices made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class Interactions:
    """One row a user and item: indices from 0, not the ids of an edition, in any order.

    ``users`` int32[N], ``items`` int32[N], ``ratings`` float32[N] (stars), ``timestamps`` int64[N] (epoch seconds).
    ``n_users`` and ``n_items`` are the sizes of the index spaces; an index may have no row (a user without ratings).
    Build with :meth:`of`, which checks lengths and ranges.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ratings: NDArray[np.float32]
    timestamps: NDArray[np.int64]
    n_users: int
    n_items: int

    @classmethod
    def of(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        ratings: ArrayLike | None = None,
        timestamps: ArrayLike | None = None,
        *,
        n_users: int | None = None,
        n_items: int | None = None,
    ) -> Interactions:
        """Interactions of array-likes; missing ratings are 1, missing times 0, sizes default to the highest index + 1.

        Raises ``ValueError`` for unequal lengths or an index outside its space.
        """
        user_index, item_index = np.asarray(users, dtype=np.int32), np.asarray(items, dtype=np.int32)
        stars = np.ones(len(user_index)) if ratings is None else np.asarray(ratings)
        times = np.zeros(len(user_index)) if timestamps is None else np.asarray(timestamps)
        lengths = {len(user_index), len(item_index), len(stars), len(times)}
        if len(lengths) != 1:
            raise ValueError(f"columns of unequal length: {sorted(lengths)}")
        size_users = int(user_index.max(initial=-1)) + 1 if n_users is None else n_users
        size_items = int(item_index.max(initial=-1)) + 1 if n_items is None else n_items
        for what, index, size in (("user", user_index, size_users), ("item", item_index, size_items)):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise ValueError(f"{what} index outside 0..{size - 1}: {index.min()}..{index.max()}")
        return cls(user_index, item_index, stars.astype(np.float32), times.astype(np.int64), size_users, size_items)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.users)

    def take(self, rows: NDArray[Any]) -> Interactions:
        """Return the given rows (indices or a mask) over the same index spaces."""
        return Interactions(
            self.users[rows], self.items[rows], self.ratings[rows], self.timestamps[rows], self.n_users, self.n_items
        )

    def codes(self) -> NDArray[np.int64]:
        """int64[N] ``user * n_items + item``: one number a pair."""
        return self.users.astype(np.int64) * self.n_items + self.items

    def item_counts(self) -> NDArray[np.int64]:
        """int64[n_items]: rows of each item."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def user_counts(self) -> NDArray[np.int64]:
        """int64[n_users]: rows of each user."""
        return np.bincount(self.users, minlength=self.n_users).astype(np.int64)

    def matrix(self) -> csr_array:
        """Csr float32[n_users, n_items] of ones: 1 where the user met the item, however often; columns sorted."""
        codes = np.unique(self.codes())
        indptr = np.searchsorted(codes, np.arange(self.n_users + 1, dtype=np.int64) * max(self.n_items, 1))
        return csr_array(
            (np.ones(len(codes), dtype=np.float32), codes % max(self.n_items, 1), indptr),
            shape=(self.n_users, self.n_items),
        )
