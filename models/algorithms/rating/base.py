"""Recommenders that predict stars: the same contract, and one more question."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class Factors:
    """What a rating recommender learns: biases float[n], factors float[n, f]; of users and of items."""

    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Stars that are expected and how far off they may be: the mean and standard deviation, float32 of any one shape.

    What is foretold is the rating itself, so that the deviation holds the user's whims beside what is not known of his
    taste. Neither is cut to the scale.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def interval(self, level: float = 0.8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Two bounds between which the rating is with probability ``level``, as likely above as below."""
        reach = np.float32(ndtri(0.5 + level / 2)) * self.deviation
        return self.mean - reach, self.mean + reach

    def chance_of(self, stars: float) -> NDArray[np.float32]:
        """Return the probability of so many stars or more, on a continuous scale."""
        return np.asarray(ndtr((self.mean - np.float32(stars)) / self.deviation), dtype=np.float32)


class RatingRecommender(Recommender):
    """A recommender whose score is the number of stars that a user would give, and that can be asked for pairs."""

    @abstractmethod
    def predict(self, users: ArrayLike, items: ArrayLike) -> NDArray[np.float32]:
        """float32[N]: the stars of pairs; user -1 is a stranger. Not cut to the scale."""

    def _pairs(self, users: ArrayLike, items: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs as int64[N]; raise ``RecommenderError`` for an index outside the training's."""
        u, i = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
        if len(u) and (u.max() >= self.n_users or i.min() < 0 or i.max() >= self.n_items):
            raise RecommenderError(f"{self.name}: a user or item index outside {self.n_users} and {self.n_items}")
        return u, i


class FactorRecommender(RatingRecommender):
    """Stars from a mean, a bias of the user, one of the item and a product of factors.

    ::

        r(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] · item_factors[i]

    A subclass learns these in ``_learn``. A user or item without a training row has bias and factors 0, so that a
    stranger is answered with the items' own biases.
    """

    def __init__(self, config: Any | None = None) -> None:
        super().__init__(config)
        self._mean = 0.0
        self._user_bias: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._item_bias: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._user_factors: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._item_factors: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        self._mean = float(interactions.ratings.mean(dtype=np.float64))
        stars = (interactions.ratings - self._mean).astype(np.float32)
        learnt = self._learn(interactions, stars, seed, progress)
        rated, met = interactions.user_counts() > 0, interactions.item_counts() > 0
        self._user_bias = np.where(rated, learnt.user_bias, 0.0).astype(np.float32)
        self._item_bias = np.where(met, learnt.item_bias, 0.0).astype(np.float32)
        self._user_factors = np.where(rated[:, None], learnt.user_factors, 0.0).astype(np.float32)
        self._item_factors = np.where(met[:, None], learnt.item_factors, 0.0).astype(np.float32)

    @abstractmethod
    def _learn(
        self, interactions: Interactions, stars: NDArray[np.float32], seed: int, progress: ProgressCallback
    ) -> Factors:
        """Biases and factors for ``stars`` float32[N], the rows' ratings less their mean."""

    def predict(self, users: ArrayLike, items: ArrayLike) -> NDArray[np.float32]:
        """float32[N]: the stars of pairs; user -1 is a stranger. Not cut to the scale."""
        u, i = self._pairs(users, items)
        known, place = u >= 0, np.maximum(u, 0)
        personal = self._user_bias[place] + np.einsum("nf,nf->n", self._user_factors[place], self._item_factors[i])
        return np.asarray(self._mean + self._item_bias[i] + np.where(known, personal, 0.0), dtype=np.float32)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the predicted stars of every item."""
        if len(batch) and batch.users.max() >= self.n_users:
            raise RecommenderError(f"{self.name}: a user index outside {self.n_users}")
        known, place = batch.users >= 0, np.maximum(batch.users, 0)
        factors = np.where(known[:, None], self._user_factors[place], np.float32(0.0))
        bias = np.where(known, self._user_bias[place], np.float32(0.0))
        return np.asarray(
            np.float32(self._mean) + bias[:, None] + self._item_bias + factors @ self._item_factors.T, dtype=np.float32
        )

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the item factors, 0 for an item without any."""
        return cosines(self._item_factors, items)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"mean": self._mean}, {
            "user_bias": self._user_bias,
            "item_bias": self._item_bias,
            "user_factors": self._user_factors,
            "item_factors": self._item_factors,
        }

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["item_factors"].shape[0] != self.n_items or arrays["user_factors"].shape[0] != self.n_users:
            raise RecommenderError(f"{self.name}: factors of other sizes than {self.n_users} and {self.n_items}")
        self._mean = float(facts["mean"])
        self._user_bias, self._item_bias = arrays["user_bias"], arrays["item_bias"]
        self._user_factors, self._item_factors = arrays["user_factors"], arrays["item_factors"]


def cosines(vectors: NDArray[np.float32], items: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[len(items), n]: cosine of the vectors [n, d] of some items with all, 0 for a vector of zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.asarray(units[items] @ units.T, dtype=np.float32)
