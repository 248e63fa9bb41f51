"""From the feature store's files to what the recommenders take: index spaces, interactions, feature histories.

The item index is the position in ``items.parquet``, the user index the position in ``users.parquet``; both files are
written by the asset `catalogue` and travel in the bundle, so that an index means the same in training and serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent, film_words

ITEMS_FILE = "items.parquet"
USERS_FILE = "users.parquet"
TRAINING_FILE = "training_set.parquet"
CREDITS_FILE = "credits.parquet"
MAP_FILE = "film_map.parquet"

_USER_VIEW = "user_features"
_ITEM_VIEWS = ("movie_features", "movie_content")


@dataclass(frozen=True)
class TrainingData:
    """All interactions of the edition with their features. Row i of ``items`` is item index i, likewise ``users``.

    ``user_history`` are the users' features through time, keyed by user index.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    interactions: Interactions
    features: TrainingFeatures
    user_history: FeatureHistory

    @property
    def user_keys(self) -> NDArray[np.int64]:
        """int64[n_users]: the key of each user index."""
        return self.users["user_key"].to_numpy().astype(np.int64)

    def latest_item_features(self) -> NDArray[np.float32]:
        """float32[n_items, Fi]: each film's features as of the last interaction of all, which is what is served."""
        return self.features.items_as_of(np.arange(len(self.items)), np.full(len(self.items), self.snapshot_time))

    @property
    def snapshot_time(self) -> int:
        """Epoch seconds at which every interaction has entered the histories: midnight after the last one's day."""
        return (int(self.interactions.timestamps.max(initial=0)) // 86_400 + 1) * 86_400


def training_snapshot(folder: Path) -> dict[str, str]:
    """Return the tables that the training set is made of, each with its content's version, as the file records it."""
    metadata = pl.read_parquet_metadata(folder / TRAINING_FILE)
    return {name: version for name, version in sorted(metadata.items()) if name != "ARROW:schema"}


def _epoch(frame: pl.DataFrame, column: str) -> NDArray[np.int64]:
    return frame[column].dt.epoch("s").to_numpy().astype(np.int64)


def _history(folder: Path, view: str, known: pl.DataFrame, key: str) -> FeatureHistory:
    index = known.select(key).with_row_index("index")
    rows = pl.read_parquet(folder / f"{view}.parquet", glob=False).join(index, on=key, how="inner")
    names = [name for name in rows.columns if name not in (key, "feature_timestamp", "index")]
    values = rows.select(pl.col(names).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    return FeatureHistory.of(
        rows["index"].to_numpy(), _epoch(rows, "feature_timestamp"), values, [f"{view}__{name}" for name in names]
    )


def item_content(items: pl.DataFrame) -> ItemContent:
    """Genres, decade and title: what holds whenever a film is asked for."""
    words = film_words(items.with_row_index("item"))
    return ItemContent.of(words, items["year"].cast(pl.Float32).fill_null(float("nan")).to_numpy())


def _in_order(history: FeatureHistory, names: Sequence[str]) -> FeatureHistory:
    """Return a history with its columns in another order."""
    places = [history.names.index(name) for name in names]
    return FeatureHistory(history.keys, history.times, history.values[:, places], tuple(names))


def load_training_data(folder: Path) -> TrainingData:
    """Read the files under ``$MARQUEE_HOME/features``. Raises ``ValueError`` for a rating of an unknown film."""
    items, users = (pl.read_parquet(folder / name, glob=False) for name in (ITEMS_FILE, USERS_FILE))
    rows = (
        pl.read_parquet(folder / TRAINING_FILE, glob=False)
        .join(items.select("movie_key").with_row_index("item"), on="movie_key", how="left")
        .join(users.select("user_key").with_row_index("user"), on="user_key", how="left")
        .sort("user", "rated_at", "item")
    )
    if rows["item"].null_count() or rows["user"].null_count():
        raise ValueError(f"{folder / TRAINING_FILE} has users or films that the catalogue lacks: rerun `catalogue`")
    interactions = Interactions.of(
        rows["user"].to_numpy(),
        rows["item"].to_numpy(),
        rows["rating"].to_numpy(),
        _epoch(rows, "rated_at"),
        n_users=len(users),
        n_items=len(items),
    )
    names = [name for name in rows.columns if name.startswith(f"{_USER_VIEW}__")]
    features = TrainingFeatures(
        user_values=rows.select(pl.col(names).cast(pl.Float32).fill_null(float("nan"))).to_numpy(),
        user_names=tuple(names),
        item_histories=tuple(_history(folder, view, items, "movie_key") for view in _ITEM_VIEWS),
        item_content=item_content(items),
    )
    user_history = _in_order(_history(folder, _USER_VIEW, users, "user_key"), names)
    return TrainingData(items, users, interactions, features, user_history)
