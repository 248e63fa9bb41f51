"""What is known of users or films beside the stars, as few numbers in their principal directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models.data.features import Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import DECADE, GENRE

#: Singular values below this part of the largest are noise of the arithmetic.
_RANK_TOLERANCE = 1e-5
#: Of the subspace iteration: columns more than are wanted, and rounds.
_MORE, _ROUNDS = 30, 5


@dataclass(frozen=True, slots=True)
class Directions:
    """A table of features turned to its principal directions, so that the columns' products with each other are 0.

    ``coordinates`` float64[n, k] are the rows of the table, ``basis`` float32[F, k] turns others: ``row @ basis``.
    """

    coordinates: NDArray[np.float64]
    basis: NDArray[np.float32]

    @property
    def squares(self) -> NDArray[np.float64]:
        """float64[k]: the sum of squares of each column."""
        return np.asarray((self.coordinates**2).sum(axis=0), dtype=np.float64)


def directions_of_table(table: NDArray[np.float32]) -> Directions:
    """All directions of float32[n, F] that hold anything."""
    if table.shape[1] == 0:
        return Directions(np.empty(table.shape), np.empty((0, 0), dtype=np.float32))
    return _strong(*_decomposed(table.astype(np.float64)))


def directions_of_meetings(met: csr_array, rank: int) -> Directions:
    """Return the strongest directions of who rated what, from csr of ones[n, F] with each row scaled to length 1.

    A row without entries stays a row of zeros. SVD++ has a weight for every movie that a user rated, whatever the
    stars. These directions hold nearly all of what it learns, in so few numbers that their weights can be drawn like
    any others.
    """
    table = unit_rows(met).astype(np.float64)
    few = min(table.shape)
    if rank == 0 or table.nnz == 0:
        return Directions(np.empty((table.shape[0], 0)), np.empty((table.shape[1], 0), dtype=np.float32))
    if rank >= few // 2:
        left, values, right = _decomposed(table.toarray())
        return _strong(left[:, :rank], values[:rank], right[:rank])
    # Subspace iteration (Halko et al. 2011): some columns more than are wanted, turned towards the strongest.
    columns = np.random.default_rng(0).standard_normal((table.shape[1], min(few, rank + _MORE)))
    for _ in range(_ROUNDS):
        columns = _orthogonal(table.T @ _orthogonal(table @ columns))
    left, values, right = _decomposed(table @ columns)
    return _strong(left[:, :rank], values[:rank], right[:rank] @ columns.T)


def _decomposed(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the singular value decomposition, by torch: its memory is aligned, without which repeated runs differ.

    Directions of equal strength can be rotated into each other, and the last bit decides how.
    """
    left, values, right = torch.linalg.svd(torch.from_numpy(table).clone(), full_matrices=False)
    return left.numpy(), values.numpy(), right.numpy()


def _orthogonal(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(torch.linalg.qr(torch.from_numpy(columns).clone())[0].numpy(), dtype=np.float64)


def unit_rows(met: csr_array) -> csr_array:
    """Return the rows of ones, each divided by the root of its number of entries."""
    return csr_array(diags_array(np.maximum(np.diff(met.indptr), 1) ** -0.5) @ met)


def _strong(left: NDArray[np.float64], values: NDArray[np.float64], right: NDArray[np.float64]) -> Directions:
    kept = values > _RANK_TOLERANCE * max(float(values.max(initial=0.0)), 1e-30)
    return Directions(left[:, kept] * values[kept], np.ascontiguousarray(right[kept].T, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Activity:
    """The number of ratings as a feature: its logarithm in deviations from the training's mean, and the square."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Activity:
        """Return the scale of the training's ``counts`` int64[n]."""
        logs = np.log1p(counts)
        return cls(float(logs.mean()), max(float(logs.std()), 1e-3))

    def columns(self, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(counts), 2]."""
        scaled = np.clip((np.log1p(counts) - self.mean) / self.deviation, -3.0, 3.0)
        return np.column_stack([scaled, scaled**2 - 1.0]).astype(np.float32)


def latest_user_values(interactions: Interactions, features: TrainingFeatures | None) -> NDArray[np.float32]:
    """float32[n_users, Fu]: what was known of each user at his last rating, NaN for one without any."""
    if features is None:
        return np.empty((interactions.n_users, 0), dtype=np.float32)
    values = np.full((interactions.n_users, len(features.user_names)), np.nan, dtype=np.float32)
    order = np.lexsort((interactions.timestamps, interactions.users))
    last = np.append(np.diff(interactions.users[order]) > 0, True)
    values[interactions.users[order[last]]] = features.user_values[order[last]]
    return values


def item_table(features: TrainingFeatures | None, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[n_items, F]: genres and decades as 0 and 1, the year and its square, and how often it was rated.

    Genres and decades are taken where the content says them; without content only the last is known.
    """
    parts: list[NDArray[np.float32]] = [Activity.of(counts).columns(counts)]
    content = None if features is None else features.item_content
    if content is not None:
        years = content.years[:, None]
        scale = Standardizer.fit(years)
        scaled = scale.transform(years)[:, :1]
        squares = np.where(np.isnan(years), np.float32(0.0), scaled**2 - 1)
        parts += [content.kinds({GENRE, DECADE}).counts.toarray(), scaled, squares]
    return _side_by_side(parts, len(counts))


def _side_by_side(parts: Sequence[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    return np.concatenate([np.empty((rows, 0), dtype=np.float32), *parts], axis=1).astype(np.float32)
