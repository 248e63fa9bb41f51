"""Popularity: everybody gets what most people met. The floor that every recommender must clear, and the fallback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback


class Popularity(Recommender):
    """Scores an item by the number of its interactions, the same for everybody; answers unknown users too."""

    name: ClassVar[str] = "popularity"

    def __init__(self, config: Any | None = None) -> None:
        super().__init__(config)
        self._counts: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of the counts, as integers and as scores."""
        return 12 * n_items

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        self._counts = interactions.item_counts().astype(np.float32)
        progress(Progress(1, 1, {}))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the counts, one row for each user."""
        return np.tile(self._counts, (len(batch), 1))

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the counts again: popularity has no similarity, so every item's neighbours are the popular ones."""
        return np.tile(self._counts, (len(items), 1))

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"counts": self._counts}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["counts"].shape != (self.n_items,):
            raise RecommenderError(f"popularity: {arrays['counts'].shape} counts for {self.n_items} items")
        self._counts = arrays["counts"]
