"""ItemKNN: the items most like those in the history, likeness by who met them (Deshpande & Karypis 2004)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack

from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Cells of the likeness matrix that are held at a time (float32: 64 MB).
_CELLS = 16_000_000


@dataclass(frozen=True, slots=True)
class ItemKnnConfig:
    """How many neighbours an item has, and how likeness is damped."""

    neighbours: int = 200
    #: Added to the product of the lengths: two items met by few, though by the same few, are not yet alike.
    shrinkage: float = 10.0
    #: Weigh a meeting with the logarithm of how many items the user did not meet: who met everything says little.
    weigh_users: bool = True


class ItemKnn(Recommender):
    """Scores an item with the summed likeness to the history; answers unknown users too.

    Likeness is the shrunk cosine ``x_i · x_j / (|x_i| |x_j| + shrinkage)`` of the columns of the user-item matrix. Of
    each item only the ``neighbours`` nearest count.
    """

    name: ClassVar[str] = "itemknn"
    config_class: ClassVar[type[Any]] = ItemKnnConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: ItemKnnConfig | None = None) -> None:
        super().__init__(config)
        self._likeness: csr_array = csr_array((0, 0), dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of the neighbours, three copies of the matrix, and one similarity block with its order."""
        kept = min(int(self.config.neighbours), n_items)
        return 2 * 8 * n_items * kept + 3 * 8 * n_interactions + 4 * 4 * _CELLS

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: ItemKnnConfig = self.config
        x = interactions.matrix()
        if config.weigh_users:
            met = np.diff(x.indptr)
            x = csr_array(diags_array(np.log((1.0 + self.n_items) / (1.0 + met)).astype(np.float32)) @ x)
        by_item = csr_array(x.T.tocsr())
        lengths = np.sqrt(np.asarray(by_item.multiply(by_item).sum(axis=1)).ravel()).astype(np.float32)
        kept = min(config.neighbours, self.n_items - 1)
        step = max(1, _CELLS // self.n_items)
        parts = []
        for start in range(0, self.n_items, step):
            block = slice(start, min(start + step, self.n_items))
            own = np.arange(block.start, block.stop)
            likeness = (by_item[block] @ x).toarray().astype(np.float32)
            likeness /= lengths[block][:, None] * lengths + np.float32(config.shrinkage) + np.float32(1e-9)
            likeness[own - start, own] = 0.0
            if kept < self.n_items - 1:
                # Items as near as the last one stay too: whichever is cut would be chance.
                bound = -np.partition(-likeness, kept - 1, axis=1)[:, kept - 1 : kept]
                likeness[likeness < bound] = 0.0
            parts.append(csr_array(likeness))
        self._likeness = csr_array(vstack(parts, format="csr"))
        self._likeness.sort_indices()
        progress(Progress(1, 1, {}))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the summed similarity of each item's neighbours in the history."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        return np.asarray((ones @ self._likeness.T).toarray(), dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the similarity of each entry to each item: the score is their sum."""
        self._explains(batch)
        return np.asarray(self._likeness[items][:, batch.history.indices].toarray(), dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the similarity to each item's neighbours, and 0 to all other items."""
        return np.asarray(self._likeness[items].toarray(), dtype=np.float32)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        likeness = self._likeness
        return {}, {"data": likeness.data, "indices": likeness.indices, "indptr": likeness.indptr}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["indptr"].shape != (self.n_items + 1,):
            raise RecommenderError(f"itemknn: neighbours of {len(arrays['indptr']) - 1} items, not {self.n_items}")
        self._likeness = csr_array(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(self.n_items, self.n_items)
        )
