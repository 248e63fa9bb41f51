"""A small home to serve from: feature histories, a filled feature store, fitted recommenders, bundles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from feature_repo import store as feature_store
from feature_repo.features import GENRES
from models.algorithms.content_scores import fit_content
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.base import Recommender
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent, film_words
from models.registry import recommender_class
from models.serving.bundle import CREDITS, FeatureSet, write_bundle
from settings import Settings

#: Ids of the edition start here and keys there, so that a mix-up of id, key and index cannot pass unnoticed.
FIRST_USER_ID, FIRST_USER_KEY = 1, 5_001
FIRST_MOVIE_ID, FIRST_MOVIE_KEY = 1, 9_001
START = datetime(2020, 1, 1)
_EPOCH_S = int((START - datetime(1970, 1, 1)).total_seconds())


@dataclass(frozen=True, slots=True)
class ServedHome:
    """What was made. ``seen[u]`` are movie ids of user index u; user 0 likes even films, user 1 odd ones, and so on.

    ``featureless_user_id`` is in the bundle and not in the online store. ``versions`` are bundles by recommender.
    """

    settings: Settings
    versions: dict[str, str]
    seen: list[set[int]]
    n_items: int
    featureless_user_id: int

    def bundle_path(self, recommender: str) -> Path:
        """Return the folder of a recommender's bundle."""
        return self.settings.models / self.versions[recommender]


def make_home(
    home: Path,
    *,
    users: int = 40,
    movies: int = 60,
    recommenders: tuple[str, ...] = ("neumf", "ease"),
    redis: bool = False,
) -> ServedHome:
    """Make the home; the last user gets no features. ``redis``: online values in that of ``MARQUEE_ONLINE_STORE``."""
    settings = Settings(home=home)
    rng = np.random.default_rng(0)
    liked = (np.arange(users)[:, None] + np.arange(movies)[None]) % 2 == 0
    met = rng.random((users, movies)) < np.where(liked, 0.4, 0.05)
    user_index, item_index = np.nonzero(met)
    stars = np.where(liked[user_index, item_index], 4.5, 2.0).astype(np.float32)
    times = _EPOCH_S + rng.integers(0, 86_400 * 90, size=len(user_index))
    interactions = Interactions.of(user_index, item_index, stars, times, n_users=users, n_items=movies)
    histories = _write_histories(settings.features, users, movies, rng)
    store = feature_store.open_store(settings.feast, settings.features, redis=redis)
    digest = feature_store.apply(store)
    feature_store.materialize(store)
    schema = feature_store.service_schema(store)
    user_history = _history(histories["user_features"], "user_key", FIRST_USER_KEY, schema["user"])
    item_histories = tuple(
        _history(
            histories[view], "movie_key", FIRST_MOVIE_KEY, [n for n in schema["item"] if n.startswith(f"{view}__")]
        )
        for view in ("movie_features", "movie_content")
    )
    features = TrainingFeatures(user_history.as_of(user_index, times), user_history.names, item_histories)
    now = np.int64(times.max() + 86_400)
    items = _items(movies, met.sum(axis=0))
    words = film_words(items.with_row_index("item"))
    common = {
        "items": items,
        "users": pl.DataFrame(
            {
                "user_id": np.arange(users, dtype=np.int32) + FIRST_USER_ID,
                "user_key": np.arange(users, dtype=np.int64) + FIRST_USER_KEY,
            }
        ),
        "interactions": interactions,
        "item_features": features.items_as_of(np.arange(movies), np.full(movies, now)),
        "features": FeatureSet(
            "recommender_v1", digest, tuple(schema["user"]), tuple(schema["item"]), "2020-04-01T00:00:00Z"
        ),
        "data_snapshot": {"edition": "made-up"},
        "credits": pl.DataFrame(
            [("nm0000001", "Jo Carr", 1950, None, FIRST_MOVIE_KEY + film, "director") for film in range(3)],
            schema=CREDITS,
            orient="row",
        ),
        "rating": fit_rating_head(interactions, seed=1),
        "content": fit_content(interactions, ItemContent.of(words, np.full(movies, np.nan, dtype=np.float32))),
        "film_map": pl.DataFrame(
            {
                "movie_key": np.arange(movies) + FIRST_MOVIE_KEY,
                "x": np.linspace(-1, 1, movies),
                "y": np.linspace(1, -1, movies),
            }
        ),
    }
    popularity = Popularity().fit(interactions)
    versions = {
        name: write_bundle(
            settings.models, recommender=_fit(name, interactions, features), popularity=popularity, **common
        )
        for name in recommenders
    }
    seen = [set((np.flatnonzero(row) + FIRST_MOVIE_ID).tolist()) for row in met]
    return ServedHome(settings, versions, seen, movies, users - 1 + FIRST_USER_ID)


def _fit(name: str, interactions: Interactions, features: TrainingFeatures) -> Recommender:
    kind = recommender_class(name)
    if name != "neumf":
        return kind().fit(interactions)
    return kind(kind.config_class(epochs=3, batch_size=256)).fit(interactions, features, seed=1)


def _write_histories(folder: Path, users: int, movies: int, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Two rows a key: the first day and the sixtieth. The last user has none."""
    folder.mkdir(parents=True, exist_ok=True)

    def keyed(key: str, first: int, count: int, columns: dict[str, pl.Series]) -> pl.DataFrame:
        days = np.repeat(np.array([0, 60]), count)
        frame = pl.DataFrame({key: np.tile(np.arange(count) + first, 2), "_day": days, **columns})
        stamp = pl.lit(START) + pl.duration(days=pl.col("_day"))
        return frame.select(key, stamp.cast(pl.Datetime("us")).alias("feature_timestamp"), *columns)

    def numbers(count: int, low: float, high: float) -> pl.Series:
        return pl.Series(np.round(rng.uniform(low, high, size=2 * count), 6))

    def counts(count: int) -> pl.Series:
        return pl.Series(rng.integers(1, 200, size=2 * count).astype(np.int32))

    with_features = users - 1
    ratings = {
        "rating_count": lambda n: counts(n),
        "rating_mean": lambda n: numbers(n, 1, 5),
        "rating_stddev": lambda n: numbers(n, 0, 2),
        "positive_share": lambda n: numbers(n, 0, 1),
    }
    frames = {
        "user_features": keyed(
            "user_key",
            FIRST_USER_KEY,
            with_features,
            {
                **{name: make(with_features) for name, make in ratings.items()},
                "active_days": counts(with_features),
                "days_since_first": counts(with_features),
                "mean_release_year": numbers(with_features, 1940, 2020),
                **{f"genre_share_{genre}": numbers(with_features, 0, 1) for genre in GENRES},
            },
        ),
        "movie_features": keyed(
            "movie_key",
            FIRST_MOVIE_KEY,
            movies,
            {**{name: make(movies) for name, make in ratings.items()}, "days_since_first": counts(movies)},
        ),
        "movie_content": pl.DataFrame(
            {
                "movie_key": np.arange(movies) + FIRST_MOVIE_KEY,
                "feature_timestamp": pl.Series([datetime(1900, 1, 1)] * movies, dtype=pl.Datetime("us")),
                "release_year": rng.integers(1930, 2020, size=movies).astype(np.int32),
                "runtime_minutes": pl.Series([None, *rng.integers(60, 200, size=movies - 1).tolist()], dtype=pl.Int32),
                **{f"is_{genre}": rng.integers(0, 2, size=movies).astype(np.int32) for genre in GENRES},
            }
        ),
        "movie_imdb": pl.DataFrame(
            {
                "movie_key": np.arange(movies) + FIRST_MOVIE_KEY,
                "feature_timestamp": pl.Series([START] * movies, dtype=pl.Datetime("us")),
                "imdb_rating": np.round(rng.uniform(1, 10, size=movies), 1),
                "imdb_votes": rng.integers(1, 10_000, size=movies).astype(np.int32),
            }
        ),
    }
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return frames


def _history(frame: pl.DataFrame, key: str, first: int, names: list[str]) -> FeatureHistory:
    values = frame.select(name.split("__")[1] for name in names).cast(pl.Float32).to_numpy()
    return FeatureHistory.of(
        frame[key].to_numpy() - first, frame["feature_timestamp"].dt.epoch("s").to_numpy(), values, names
    )


def _items(movies: int, rating_counts: np.ndarray) -> pl.DataFrame:
    index = np.arange(movies)
    matched = index % 5 != 0
    return pl.DataFrame(
        {
            "movie_key": index + FIRST_MOVIE_KEY,
            "movie_id": (index + FIRST_MOVIE_ID).astype(np.int32),
            "title": [f"Film [{i}]" for i in index],
            "year": pl.Series([None if i == 3 else 1950 + i for i in index.tolist()], dtype=pl.Int32),
            "genres": [["Drama"] if i % 2 else ["Comedy", "Crime"] for i in index.tolist()],
            "imdb_id": [f"tt{i:07d}" if ok else None for i, ok in zip(index.tolist(), matched.tolist(), strict=True)],
            "link_url": [
                f"https://www.imdb.com/title/tt{i:07d}/" if ok else f"https://www.imdb.com/find/?q=Film+{i}"
                for i, ok in zip(index.tolist(), matched.tolist(), strict=True)
            ],
            "link_kind": ["imdb_title" if ok else "imdb_search" for ok in matched.tolist()],
            "rating_count": rating_counts.astype(np.int32),
        }
    )
