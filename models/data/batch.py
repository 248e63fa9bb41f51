"""Batches of users to recommend to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.data.features import ItemsAsOf
from models.runtime.errors import RecommenderError


@dataclass(frozen=True, slots=True)
class UserBatch:
    """B users to recommend to, with everything that is known of them and of the items now.

    ``users`` int64[B]: index of the training, -1 = unknown to it. ``history`` csr[B, n_items]: what each user met
    (data: stars, or 1), which is also what is not recommended again; ``history_times`` int64[nnz] goes with
    ``history.data``. ``user_features`` float32[B, Fu], ``item_features`` float32[n_items, Fi] (what is served) or
    ``ItemsAsOf`` another moment for each user (what is evaluated); NaN = unknown. What a recommender does not use it
    ignores.
    """

    users: NDArray[np.int64]
    history: csr_array
    user_features: NDArray[np.float32] | None = None
    item_features: NDArray[np.float32] | ItemsAsOf | None = None
    history_times: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Refuse a batch whose parts do not fit together."""
        if self.history.shape[0] != len(self.users):
            raise RecommenderError(f"{len(self.users)} users, but {self.history.shape[0]} rows of history")
        if self.user_features is not None and len(self.user_features) != len(self.users):
            raise RecommenderError(f"{len(self.users)} users, but {len(self.user_features)} rows of features")

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.users)

    def take(self, rows: slice) -> UserBatch:
        """Return the users of a slice as a smaller batch."""
        start, stop, _ = rows.indices(len(self))
        bounds = slice(int(self.history.indptr[start]), int(self.history.indptr[stop]))
        features = self.item_features
        return UserBatch(
            self.users[rows],
            self.history[rows],
            None if self.user_features is None else self.user_features[rows],
            features.take(rows) if isinstance(features, ItemsAsOf) else features,
            None if self.history_times is None else self.history_times[bounds],
        )
