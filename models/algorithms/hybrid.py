"""Hybrid: a collaborative recommender and the content-based one, their scores on one scale and weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.algorithms.content_based import ContentBased, ContentConfig
from models.base import Recommender, WordWeights
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback


@dataclass(frozen=True, slots=True)
class HybridConfig:
    """Which collaborative recommender, its settings, and how much the content counts beside it."""

    #: ``ease`` or ``ials``: both read the history of the batch, as the content-based part does.
    collaborative: str = "ease"
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The weight of the content's scores, between 0 and 1; the collaborative ones have the rest.
    weight: float = 0.1
    #: What popularity adds to the collaborative scores, in their own units, a standard deviation of the logarithm of
    #: the ratings. Those scores grow with the history, so that it counts for who has rated little and fades.
    popularity: float = 0.0
    content: Mapping[str, Any] = field(default_factory=dict)


class Hybrid(Recommender):
    """Scores with ``(1 - weight) * z(collaborative) + weight * z(content)``, z a user's scores in standard deviations.

    To the collaborative scores some popularity may be added first. Their mean and deviation are of the films that
    somebody met in the fit: the others have no such score and get 0, the mean, so that an unrated film is placed by
    its content.
    """

    name: ClassVar[str] = "hybrid"
    config_class: ClassVar[type[Any]] = HybridConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: HybridConfig | None = None) -> None:
        super().__init__(config)
        if not 0.0 <= self.config.weight <= 1.0:
            raise RecommenderError(f"hybrid: the weight {self.config.weight} is not between 0 and 1")
        self.collaborative = _collaborative(self.config)
        self.content = ContentBased(ContentConfig(**self.config.content))
        #: bool[n_items]: met by somebody in the fit; float32[n_items]: how often, as deviations of the logarithm.
        self._met: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self._popularity: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._counts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the sum of the bytes of both parts."""
        return sum(part.fit_memory(n_users, n_items, n_interactions) for part in (self.collaborative, self.content))

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        # The content first: it takes a moment to say that there is none.
        for step, part in enumerate((self.content, self.collaborative), start=1):
            part.fit(interactions, features, seed=seed)
            progress(Progress(step, 2, {}))
        self._take(interactions.item_counts())

    def _take(self, counts: NDArray[np.int64]) -> None:
        self._counts, self._met = counts, counts > 0
        self._popularity = standardized(np.log1p(counts)[None].astype(np.float32), self._met)[0]

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the blended scores; for a user without a history, popularity alone decides."""
        return self._blend(self._collaborative_scores(batch), self.content.score(batch))

    def _collaborative_scores(self, batch: UserBatch) -> NDArray[np.float32]:
        return self.collaborative.score(batch) + np.float32(self.config.popularity) * self._popularity

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those of both parts in the user's present units: his mean and deviation are taken to stay as they are."""
        self._explains(batch)
        collaborative, content = self._units(batch)
        of_items = (
            self.collaborative.contributions(batch, items) * np.where(self._met[items], collaborative, 0.0)[:, None]
        )
        return np.asarray(of_items + content * self.content.contributions(batch, items), dtype=np.float32)

    def word_weights(self, batch: UserBatch, items: NDArray[np.int64]) -> WordWeights:
        """Those of the content, in the units of the blend."""
        words = self.content.word_weights(batch, items)
        return WordWeights(words.weights * np.float32(self._units(batch)[1]), words.names)

    def _units(self, batch: UserBatch) -> tuple[float, float]:
        """Return the factor of each part's scores in the blend: its weight over the deviation of the user's scores."""
        collaborative = moments(self._collaborative_scores(batch)[:, self._met])[1][0]
        content = moments(self.content.score(batch))[1][0]
        weight = float(self.config.weight)
        return (1.0 - weight) / float(collaborative), weight / float(content)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the blend of both parts' similarities."""
        return self._blend(self.collaborative.similarities(items), self.content.similarities(items))

    def _blend(self, collaborative: NDArray[np.float32], content: NDArray[np.float32]) -> NDArray[np.float32]:
        weight = np.float32(self.config.weight)
        return (1 - weight) * standardized(collaborative, self._met) + weight * standardized(content)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        facts: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {"counts": self._counts}
        for name, part in (("collaborative", self.collaborative), ("content", self.content)):
            facts[name], of_part = part._state()
            arrays |= {f"{name}.{key}": values for key, values in of_part.items()}
        return facts, arrays

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["counts"].shape != (self.n_items,):
            raise RecommenderError(f"hybrid: {arrays['counts'].shape} counts for {self.n_items} items")
        self._take(arrays["counts"])
        for name, part in (("collaborative", self.collaborative), ("content", self.content)):
            part.n_users, part.n_items = self.n_users, self.n_items
            part._restore(
                facts[name],
                {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")},
            )


def standardized(scores: NDArray[np.float32], of: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Each row of ``scores`` float32[B, n] less its mean, over its standard deviation; 0 where all are equal.

    Only the columns ``of`` bool[n] count and are scaled, the others are 0.

    >>> standardized(np.array([[1.0, 3.0, 9.0]], dtype=np.float32), np.array([True, True, False])).tolist()
    [[-1.0, 1.0, 0.0]]
    """
    some = np.ones(scores.shape[1], dtype=bool) if of is None else of
    mean, deviation = moments(scores[:, some])
    found = (scores - mean[:, None]) / deviation[:, None]
    found[:, ~some] = 0.0
    return np.asarray(found, dtype=np.float32)


def moments(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and standard deviation of each row, float32[B] each; equal scores get a deviation of 1."""
    if scores.shape[1] == 0:
        return np.zeros(len(scores), dtype=np.float32), np.ones(len(scores), dtype=np.float32)
    mean, deviation = scores.mean(axis=1), scores.std(axis=1)
    # Equal scores differ from their mean by rounding alone, which is not to be blown up.
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return mean, np.where(flat, np.float32(1.0), deviation)


def _collaborative(config: HybridConfig) -> Recommender:
    """Create the collaborative part that the configuration names; torch is imported for iALS only."""
    if config.collaborative == "ease":
        from models.algorithms.ease import Ease, EaseConfig

        return Ease(EaseConfig(**config.settings))
    if config.collaborative == "ials":
        from models.algorithms.ials import Ials, IalsConfig

        return Ials(IalsConfig(**config.settings))
    raise RecommenderError(f"hybrid: blends ease or ials with the content, not {config.collaborative!r}")
