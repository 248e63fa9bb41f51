"""Features as the recommenders see them: histories looked up as of a moment, and their scaling.

Nothing here knows where a feature comes from; names and values are handed in by whoever built the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.data.item_content import ItemContent


@dataclass(frozen=True, slots=True)
class FeatureHistory:
    """Feature values through time: one row a key and moment from which the values hold.

    ``keys`` int64[H] (an item index), ``times`` int64[H] (epoch seconds), ``values`` float32[H, F] (NaN = unknown),
    ``names`` F names. Sorted by key, then time: build with :meth:`of`, which sorts.
    """

    keys: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, keys: ArrayLike, times: ArrayLike, values: ArrayLike, names: Sequence[str]) -> FeatureHistory:
        """Build a history from rows in any order; of two rows with the same key and time the later one wins.

        Raises ``ValueError`` when the shapes do not fit together.
        """
        key_column, time_column = np.asarray(keys, dtype=np.int64), np.asarray(times, dtype=np.int64)
        table = np.asarray(values, dtype=np.float32)
        if table.shape != (len(key_column), len(names)) or len(time_column) != len(key_column):
            raise ValueError(
                f"{len(key_column)} keys, {len(time_column)} times, {len(names)} names do not fit values {table.shape}"
            )
        order = np.lexsort((time_column, key_column))  # stable, so that the later of two equal rows comes last
        return cls(key_column[order], time_column[order], table[order], tuple(names))

    def rows_as_of(self, keys: ArrayLike, times: ArrayLike) -> NDArray[np.int64]:
        """int64, shape of ``keys``: the row that held for each key at each time (its moment included), -1 if none."""
        wanted_keys, wanted_times = np.broadcast_arrays(
            np.asarray(keys, dtype=np.int64), np.asarray(times, dtype=np.int64)
        )
        if len(self.keys) == 0:
            return np.full(wanted_keys.shape, -1, dtype=np.int64)
        # One sorted number a (key, time) makes this a single binary search; 1900 until today in seconds leaves
        # room for 2e9 keys in 63 bits.
        start = int(self.times.min()) - 1
        span = int(self.times.max()) - start + 1
        codes = self.keys * span + (self.times - start)
        wanted = wanted_keys * span + np.clip(wanted_times - start, 0, span - 1)
        rows = np.searchsorted(codes, wanted, side="right").astype(np.int64) - 1
        return np.where((rows >= 0) & (self.keys[rows] == wanted_keys), rows, -1)

    def as_of(self, keys: ArrayLike, times: ArrayLike) -> NDArray[np.float32]:
        """float32[..., F]: the values that held for each key at each time, NaN where there was no row yet."""
        rows = self.rows_as_of(keys, times)
        if len(self.keys) == 0:
            return np.full((*rows.shape, len(self.names)), np.nan, dtype=np.float32)
        values = self.values[rows]
        values[rows < 0] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class TrainingFeatures:
    """The features that go with interactions: one user row an interaction, and the items' histories.

    ``user_values`` float32[N, Fu] is row by row what was known of the interaction's user at its time;
    ``user_names`` Fu names; ``item_histories`` one or more histories keyed by item index, their columns side by side.
    ``item_content`` the words and years of all items, for recommenders that read them; None where nothing is known.
    """

    user_values: NDArray[np.float32]
    user_names: tuple[str, ...]
    item_histories: tuple[FeatureHistory, ...]
    item_content: ItemContent | None = None

    @property
    def item_names(self) -> tuple[str, ...]:
        """The Fi names of the item features, in column order."""
        return tuple(name for history in self.item_histories for name in history.names)

    def take(self, rows: NDArray[Any]) -> TrainingFeatures:
        """Return the features of the given interactions; the items' histories stay whole, to be read as of a time."""
        return replace(self, user_values=self.user_values[rows])

    def items_as_of(self, items: ArrayLike, times: ArrayLike) -> NDArray[np.float32]:
        """float32[..., Fi]: features of items (broadcast against ``times``, epoch seconds), NaN where unknown."""
        parts = [history.as_of(items, times) for history in self.item_histories]
        shape = np.broadcast_shapes(np.shape(items), np.shape(times))
        return np.concatenate([np.empty((*shape, 0), dtype=np.float32), *parts], axis=-1)


@dataclass(frozen=True, slots=True)
class ItemsAsOf:
    """All items' features as of another moment for each of B users, not looked up yet.

    Written out they are float32[B, n_items, Fi], gigabytes for a test set; a recommender that can looks up what it made
    of a history's rows instead. ``times`` int64[B] epoch seconds.
    """

    histories: tuple[FeatureHistory, ...]
    times: NDArray[np.int64]
    n_items: int

    def rows(self, history: FeatureHistory) -> NDArray[np.int64]:
        """int64[B, n_items]: the row of a history that held for each item at each user's moment, -1 if none."""
        return history.rows_as_of(np.arange(self.n_items)[None, :], self.times[:, None])

    def take(self, rows: slice) -> ItemsAsOf:
        """Return the moments of a slice of the users."""
        return ItemsAsOf(self.histories, self.times[rows], self.n_items)


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Scaling of F features with the statistics of training rows: ``[values or 0, missing flags]``.

    ``heavy`` bool[F] marks columns that are compressed by ``log1p`` first; ``mean`` and ``std`` float32[F] are of the
    compressed column, missing values left out; ``flagged`` bool[F] marks the columns that were ever missing: only they
    get a flag, for one that was never raised in training has no weight.
    """

    heavy: NDArray[np.bool_]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    flagged: NDArray[np.bool_]

    @classmethod
    def fit(cls, values: NDArray[np.float32]) -> Standardizer:
        """Statistics of ``values`` float32[N, F]; a column without any value gets mean 0, deviation 1."""
        raw = np.asarray(values, dtype=np.float64)
        missing = np.isnan(raw)
        mean, std = _moments(raw, missing)
        # Counts and days span four orders of magnitude: unlogged, one heavy rater drowns everybody else. Taken for
        # such a column is one that is never negative, with a deviation above 3 and above a third of its mean (which
        # leaves stars, shares and release years as they are).
        low = np.where(missing, np.inf, raw).min(axis=0, initial=np.inf)
        heavy = (low >= 0) & (std > 3.0) & (std > np.abs(mean) / 3.0)
        mean, std = _moments(np.where(heavy, np.log1p(np.maximum(raw, 0.0)), raw), missing)
        flagged: NDArray[np.bool_] = missing.sum(axis=0) > 0
        return cls(heavy, mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32), flagged)

    def transform(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[..., width] of ``values`` float32[..., F]; beyond 5 deviations a value is cut, for it was never seen.

        Raises ``ValueError`` for another number of columns than in the fit.
        """
        if values.shape[-1] != len(self.mean):
            raise ValueError(f"{values.shape[-1]} features, the training had {len(self.mean)}")
        missing = np.isnan(values)
        squeezed = np.array(values, dtype=np.float32)
        squeezed[..., self.heavy] = np.log1p(np.maximum(squeezed[..., self.heavy], 0))
        scaled = np.clip((squeezed - self.mean) / self.std, -5.0, 5.0)
        scaled[missing] = 0.0
        return np.concatenate([scaled, missing[..., self.flagged].astype(np.float32)], axis=-1)

    @property
    def width(self) -> int:
        """The number of columns that :meth:`transform` returns."""
        return len(self.mean) + int(self.flagged.sum())


def _moments(raw: NDArray[np.float64], missing: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column without its missing values; 0 and 0 where there is none."""
    count = np.maximum((~missing).sum(axis=0), 1)
    mean = np.where(missing, 0.0, raw).sum(axis=0) / count
    return mean, np.sqrt((np.where(missing, 0.0, raw - mean) ** 2).sum(axis=0) / count)
