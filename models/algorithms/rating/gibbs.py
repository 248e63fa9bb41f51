"""Draws of a Gibbs sampler for vectors with a Gaussian prior whose mean depends on features (Macau, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln

from models.algorithms.rating.side_information import Directions

#: Systems that are solved at a time, in numbers (float32: 64 MB).
_CELLS = 16_000_000
#: Stars are given in steps, so that none is more precise than a tenth; float32 would not bear it either.
MOST_PRECISE = 100.0
#: How far a relative precision may be from 1.
MOST_RELATIVE = 5.0
#: The prior's own guess of the covariance, this part of the identity for each dimension.
_SPREAD = 0.2


class Prior:
    """The prior of n vectors of d numbers: ``x ~ N(mean + features · weights, precision⁻¹)``, all of it drawn too.

    Each group of features has weights [k, d] with an own strength: ``weights ~ N(0, (strength · precision)⁻¹)``.
    """

    def __init__(self, groups: Sequence[Directions], d: int) -> None:
        self.groups = tuple(groups)
        self.mean = np.zeros(d)
        self.precision = np.diag(np.concatenate([[4.0], np.full(d - 1, 5.0)]))
        self.weights = tuple(np.zeros((group.coordinates.shape[1], d)) for group in groups)
        self._strengths = [0.1 * float(group.squares.max(initial=0.0)) + 1.0 for group in groups]

    def draw(self, vectors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw weights, strengths, mean and precision for ``vectors`` [n, d]; the prior's mean of each, [n, d]."""
        n, d = vectors.shape
        root = np.linalg.cholesky(self.precision)
        inverse_root = np.linalg.inv(root)
        parts = [group.coordinates @ weights for group, weights in zip(self.groups, self.weights, strict=True)]
        drawn = []
        for place, group in enumerate(self.groups):
            left = vectors - self.mean - sum(part for other, part in enumerate(parts) if other != place)
            # The columns' products with each other are 0, so that the equations fall apart into single ones.
            total = group.squares + self._strengths[place]
            weights = (group.coordinates.T @ left) / total[:, None]
            weights += rng.standard_normal(weights.shape) @ inverse_root / np.sqrt(total)[:, None]
            squares = float(((weights @ root) ** 2).sum())
            self._strengths[place] = float(rng.gamma(1.0 + 0.5 * weights.size) / (1e-3 + 0.5 * squares))
            parts[place] = group.coordinates @ weights
            drawn.append(weights)
        self.weights = tuple(drawn)
        left = vectors - sum(parts)
        self.mean = left.mean(axis=0) + rng.standard_normal(d) @ inverse_root / np.sqrt(n)
        self.precision = self._draw_precision(left - self.mean, rng)
        return np.asarray(self.mean + sum(parts), dtype=np.float64)

    def _draw_precision(self, errors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """From the Wishart distribution, by Bartlett's decomposition."""
        n, d = errors.shape
        scatter = errors.T @ errors + _SPREAD * d * np.eye(d)
        for weights, strength in zip(self.weights, self._strengths, strict=True):
            scatter += strength * weights.T @ weights
        freedom = n + sum(len(weights) for weights in self.weights) + d
        triangle = np.tril(rng.standard_normal((d, d)), -1)
        triangle += np.diag(np.sqrt(rng.chisquare(freedom - np.arange(d))))
        root = np.linalg.cholesky(np.linalg.inv(scatter)) @ triangle
        return np.asarray(root @ root.T, dtype=np.float64)


class Whims:
    """How precise the stars of each user or of each film are: ``precision ~ Gamma(shape, rate)``, with all drawn.

    Some users give stars that their taste explains, others at whim, and some films divide even those of one taste; what
    is told at whim should count for less. A rating's precision is the product of both sides', so that one of them is
    ``relative``: its mean is 1, its rate is its shape.
    """

    def __init__(self, n: int, *, relative: bool = False) -> None:
        self.precision = np.ones(n)
        self.shape = self.rate = 10.0 if relative else 2.0
        self._relative = relative

    def draw(self, counts: NDArray[np.int64], squares: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Draw all for ``counts`` ratings each, with ``squares`` the sums of their squared errors.

        The squares are weighted with the other side's precision.
        """
        n = len(counts)
        drawn = rng.gamma(self.shape + 0.5 * counts) / (self.rate + 0.5 * squares)
        most = MOST_RELATIVE if self._relative else MOST_PRECISE
        self.precision = np.clip(drawn, 1.0 / most, most)
        if not self._relative:
            self.rate = float(rng.gamma(self.shape * n + 1.0) / (self.precision.sum() + 1.0))
        # The shape has no distribution to draw from: a step of Metropolis and Hastings on its logarithm.
        proposed = self.shape * float(np.exp(0.1 * rng.standard_normal()))
        gain = self._log_density(proposed) - self._log_density(self.shape) + np.log(proposed / self.shape)
        if np.log(rng.random()) < gain:
            self.shape = proposed
        if self._relative:
            self.rate = self.shape

    def _log_density(self, shape: float) -> float:
        rate = shape if self._relative else self.rate
        likely = len(self.precision) * (shape * np.log(rate) - gammaln(shape))
        likely += (shape - 1) * np.log(self.precision).sum() - rate * self.precision.sum()
        return float(likely - 0.1 * shape)


class Rated:
    """The stars of one side's rows, ready to be multiplied with tables of the other side: csr[n, m] with its data."""

    def __init__(self, stars: csr_array) -> None:
        self._stars = csr_array(stars, dtype=np.float32)
        self._ones = csr_array((np.ones(stars.nnz, dtype=np.float32), stars.indices, stars.indptr), shape=stars.shape)

    def draw(
        self,
        others: NDArray[np.float64],
        other_weights: NDArray[np.float64],
        own_weights: NDArray[np.float64],
        prior: Prior,
        expected: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """[n, d]: a vector for every row given the other side's [m, d], whose first number is its bias.

        The stars are ``own bias + other bias + product of the factors``, with a precision that is the product of the
        other's weight and the own one; ``expected`` [n, d] are the means of the prior.
        """
        n, d = expected.shape
        upper = np.triu_indices(d)
        places = np.zeros((d, d), dtype=np.int64)
        places[upper] = np.arange(len(upper[0]))
        whole = torch.from_numpy(np.maximum(places, places.T).reshape(-1))
        design = others.astype(np.float32)
        design[:, 0] = 1.0
        weighted = design * other_weights[:, None].astype(np.float32)
        biases = others[:, :1].astype(np.float32)
        right = torch.from_numpy(self._stars @ weighted - self._ones @ (weighted * biases))
        # The products of a row's vectors with themselves are a sum over its cells like any other: no loop over rows.
        flat = torch.from_numpy(self._ones @ (weighted[:, upper[0]] * design[:, upper[1]]))
        own = torch.from_numpy(own_weights.astype(np.float32))
        precision = torch.from_numpy(prior.precision.astype(np.float32))
        right = own[:, None] * right + torch.from_numpy((expected @ prior.precision).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal((n, d), dtype=np.float32))
        drawn = np.empty((n, d))
        step = max(1, _CELLS // (d * d))
        for start in range(0, n, step):
            part = slice(start, start + step)
            system = (flat[part] * own[part, None])[:, whole].reshape(-1, d, d)
            root = torch.linalg.cholesky(system + precision)
            half = torch.linalg.solve_triangular(root, right[part, :, None], upper=False)
            solved = torch.linalg.solve_triangular(root.mT, half + noise[part, :, None], upper=True)
            drawn[part] = solved[:, :, 0].numpy()
        return drawn
