"""Biased SVD and SVD++: stars from biases and factors by stochastic gradient (Koren 2008), in minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models.algorithms.rating.base import FactorRecommender, Factors
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback


@dataclass(frozen=True, slots=True)
class SvdConfig:
    """The defaults of Surprise, whose published table is the known answer."""

    factors: int = 100
    epochs: int = 20
    learning_rate: float = 0.005
    regularization: float = 0.02
    init_std: float = 0.1
    #: Ratings a step, whose gradients are added up. Surprise takes one at a time; with 500 of ml-100k its table is met
    #: within .003, for even the heaviest user has a handful in a step.
    batch_size: int = 500


@dataclass(frozen=True, slots=True)
class SvdppConfig(SvdConfig):
    """The defaults of Surprise for SVD++."""

    factors: int = 20
    learning_rate: float = 0.007


class _Step:
    """One step's rows: the distinct users and items among them, and the sums over each one's rows."""

    def __init__(self, index: NDArray[np.int32]) -> None:
        self.distinct, inverse, counts = np.unique(index, return_inverse=True, return_counts=True)
        self.counts = counts.astype(np.float32)
        self._sums = csr_array(
            (
                np.ones(len(index), dtype=np.float32),
                np.argsort(inverse, kind="stable"),
                np.append(0, np.cumsum(counts)),
            ),
            shape=(len(self.distinct), len(index)),
        )

    def sums(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[distinct, ...]: the rows of ``values`` added up by user or item."""
        return np.asarray(self._sums @ values, dtype=np.float32)


class Svd(FactorRecommender):
    """Biases and factors that shrink the squared error of each rating plus ``regularization`` times their squares."""

    name: ClassVar[str] = "svd"
    config_class: ClassVar[type[Any]] = SvdConfig

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Factors twice (learnt and kept), and a permutation."""
        return 2 * 4 * (n_users + n_items) * (int(self.config.factors) + 1) + 16 * n_interactions

    def _learn(
        self, interactions: Interactions, stars: NDArray[np.float32], seed: int, progress: ProgressCallback
    ) -> Factors:
        config: SvdConfig = self.config
        rng = np.random.default_rng(seed)
        rate, decay = np.float32(config.learning_rate), np.float32(config.regularization)
        bu, bi = np.zeros(interactions.n_users, np.float32), np.zeros(interactions.n_items, np.float32)
        p, q = (_normal(rng, n, config) for n in (interactions.n_users, interactions.n_items))
        for epoch in range(1, config.epochs + 1):
            squares = 0.0
            for rows in _steps(rng, len(interactions), config.batch_size):
                u, i = interactions.users[rows], interactions.items[rows]
                of_users, of_items = _Step(u), _Step(i)
                pu, qi = p[u], q[i]
                error = stars[rows] - bu[u] - bi[i] - np.einsum("nf,nf->n", pu, qi)
                squares += float(error @ error)
                gradients = of_users.sums(error[:, None] * qi), of_items.sums(error[:, None] * pu)
                for step, bias, factors, gradient in ((of_users, bu, p, gradients[0]), (of_items, bi, q, gradients[1])):
                    at = step.distinct
                    bias[at] += rate * (step.sums(error) - decay * step.counts * bias[at])
                    factors[at] += rate * (gradient - decay * step.counts[:, None] * factors[at])
            _tell(self, progress, epoch, squares / len(interactions))
        return Factors(bu, bi, p, q)


class Svdpp(FactorRecommender):
    """SVD whose user factors also have a part of every item that the user rated, whatever the stars.

    ``p[u] + |N(u)|^-1/2 * sum of y[j] for j in N(u)`` stands where SVD has ``p[u]``; kept is the whole.
    """

    name: ClassVar[str] = "svdpp"
    config_class: ClassVar[type[Any]] = SvdppConfig

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Three tables of factors, the kept ones, and the matrix of who rated what while it is made."""
        return 4 * (2 * n_users + 3 * n_items) * (int(self.config.factors) + 1) + 80 * n_interactions

    def _learn(
        self, interactions: Interactions, stars: NDArray[np.float32], seed: int, progress: ProgressCallback
    ) -> Factors:
        config: SvdppConfig = self.config
        rng = np.random.default_rng(seed)
        rate, decay = np.float32(config.learning_rate), np.float32(config.regularization)
        bu, bi = np.zeros(interactions.n_users, np.float32), np.zeros(interactions.n_items, np.float32)
        p, q, y = (_normal(rng, n, config) for n in (interactions.n_users, *(interactions.n_items,) * 2))
        rated = interactions.matrix()
        weights = (np.maximum(np.diff(rated.indptr), 1) ** -0.5).astype(np.float32)
        implicit = csr_array(diags_array(weights) @ rated).astype(np.float32)
        for epoch in range(1, config.epochs + 1):
            squares = 0.0
            for rows in _steps(rng, len(interactions), config.batch_size):
                u, i = interactions.users[rows], interactions.items[rows]
                of_users, of_items = _Step(u), _Step(i)
                at = of_users.distinct
                theirs = implicit[at]
                whole = p[at] + theirs @ y
                qi, pu = q[i], whole[np.searchsorted(at, u)]
                error = stars[rows] - bu[u] - bi[i] - np.einsum("nf,nf->n", pu, qi)
                squares += float(error @ error)
                of_p, of_q = of_users.sums(error[:, None] * qi), of_items.sums(error[:, None] * pu)
                bu[at] += rate * (of_users.sums(error) - decay * of_users.counts * bu[at])
                p[at] += rate * (of_p - decay * of_users.counts[:, None] * p[at])
                its = of_items.distinct
                bi[its] += rate * (of_items.sums(error) - decay * of_items.counts * bi[its])
                q[its] += rate * (of_q - decay * of_items.counts[:, None] * q[its])
                # Each rating moves y of every item that its user rated, and so does each one's decay.
                touched = rated[at].T @ of_users.counts
                y += rate * (theirs.T @ of_p - decay * touched[:, None] * y)
            _tell(self, progress, epoch, squares / len(interactions))
        return Factors(bu, bi, np.asarray(p + implicit @ y), q)


def _normal(rng: np.random.Generator, n: int, config: SvdConfig) -> NDArray[np.float32]:
    return (rng.standard_normal((n, config.factors), dtype=np.float32) * np.float32(config.init_std)).astype(np.float32)


def _steps(rng: np.random.Generator, n_rows: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows in a random order, ``size`` at a time."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, size):
        yield order[start : start + size]


def _tell(recommender: Svd | Svdpp, progress: ProgressCallback, epoch: int, mean_square: float) -> None:
    """Report an epoch; ``RecommenderError`` when the steps were too long and the factors have grown without bound."""
    if not np.isfinite(mean_square):
        raise RecommenderError(f"{recommender.name}: diverged in epoch {epoch}; lower the learning rate or batch size")
    figures = {"epoch": float(epoch), "train_rmse": float(np.sqrt(mean_square))}
    recommender.learning_curve.append(figures)
    progress(Progress(epoch, recommender.config.epochs, figures))
