"""Content-based: the items whose words are like those of the history; answers for films that nobody rated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import Recommender, WordWeights
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """Which words count."""

    #: A word of fewer items says nothing of others.
    min_items: int = 2
    #: Logarithmic counts: a tag given a hundred times is not a hundred times as true.
    sublinear: bool = True


class ContentBased(Recommender):
    """Scores with the cosine of the TF-IDF vector of an item and the sum of those in the history.

    The words (genres, decade, title, tags) are ``TrainingFeatures.item_content``, which a fit needs. Nothing is learnt
    from interactions, so an item without a rating and a user without an index are answered like all others.
    """

    name: ClassVar[str] = "content"
    config_class: ClassVar[type[Any]] = ContentConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: ContentConfig | None = None) -> None:
        super().__init__(config)
        self._vectors: csr_array = csr_array((0, 0), dtype=np.float32)
        self._names: NDArray[np.str_] = np.empty(0, dtype=np.str_)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of the vectors: at most a hundred words an item, in three copies."""
        return 3 * 8 * 100 * n_items

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        if features is None or features.item_content is None:
            raise RecommenderError("content: needs the content of the items")
        counts = features.item_content.counts
        if counts.shape[0] != self.n_items:
            raise RecommenderError(f"content: the words of {counts.shape[0]} items, not {self.n_items}")
        known = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= self.config.min_items)
        if len(known) == 0:
            raise RecommenderError(f"content: no word is on {self.config.min_items} items")
        weights = TfidfTransformer(sublinear_tf=self.config.sublinear).fit_transform(counts[:, known])
        self._vectors = csr_array(weights).astype(np.float32)
        self._vectors.sort_indices()
        self._names = np.array(features.item_content.names, dtype=np.str_)[known]
        progress(Progress(1, 1, {}))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Cosines between 0 and 1; 0 for an item without a word or a user without a history."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        profiles = csr_array(ones @ self._vectors)
        lengths = np.sqrt(np.asarray(profiles.multiply(profiles).sum(axis=1)).ravel())
        scores = (profiles @ self._vectors.T).toarray()
        return np.asarray(scores / np.where(lengths > 0, lengths, 1.0)[:, None], dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return how much the cosine falls without each entry; the profile's length is recomputed too."""
        self._explains(batch)
        met, asked = (self._vectors[rows].astype(np.float64) for rows in (batch.history.indices, items))
        profile = np.asarray(met.sum(axis=0), dtype=np.float64)
        whole, shared = asked @ profile, (asked @ met.T).toarray()
        own = np.asarray(met.multiply(met).sum(axis=1)).ravel()
        length = float(profile @ profile)
        left = length - 2 * (met @ profile) + own
        # Of a history of one nothing is left, but for rounding.
        empty = left <= 1e-9 * length
        without = np.where(empty, 0.0, (whole[:, None] - shared) / np.sqrt(np.where(empty, 1.0, left)))
        return np.asarray(whole[:, None] / np.sqrt(length or 1.0) - without, dtype=np.float32)

    def word_weights(self, batch: UserBatch, items: NDArray[np.int64]) -> WordWeights:
        """Return the products that sum to the cosine, for each word of the items."""
        self._explains(batch)
        profile = np.asarray(self._vectors[batch.history.indices].sum(axis=0), dtype=np.float64)
        asked = self._vectors[items]
        columns = np.unique(asked.indices)
        weights = asked[:, columns].toarray() * profile[columns] / np.sqrt(profile @ profile or 1.0)
        return WordWeights(weights.astype(np.float32), self._names[columns].tolist())

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the items' own vectors."""
        return np.asarray((self._vectors[items] @ self._vectors.T).toarray(), dtype=np.float32)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        vectors = self._vectors
        return {}, {"data": vectors.data, "indices": vectors.indices, "indptr": vectors.indptr, "names": self._names}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["indptr"].shape != (self.n_items + 1,):
            raise RecommenderError(f"content: vectors of {len(arrays['indptr']) - 1} items, not {self.n_items}")
        self._names = arrays["names"]
        self._vectors = csr_array(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(self.n_items, len(self._names))
        )
