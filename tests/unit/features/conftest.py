"""Feature histories of made-up ratings and values, and applied stores over them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pytest

from feature_repo import store as feature_store
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from feast import FeatureStore

# Spelled out here, so that the builder does not take the order from what it tests (and importing this needs no feast).
GENRES = (
    *("action", "adventure", "animation", "children", "comedy", "crime", "documentary", "drama", "fantasy"),
    *("film_noir", "horror", "musical", "mystery", "romance", "sci_fi", "thriller", "war", "western"),
)
#: Columns of the histories whose values mean nothing here: what the marts make them of is tested where dbt builds them.
MOVIE_VALUES = ("rating_mean", "rating_stddev", "positive_share")
USER_VALUES = (*MOVIE_VALUES, "mean_release_year", *(f"genre_share_{genre}" for genre in GENRES))


def write_ratings(
    seed: int, users: int, movies: int, ratings: int, days: int = 400
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings, each pair of user and film once and a twentieth at midnight sharp, and films with year and genres."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * movies, size=ratings, replace=False)
    seconds = rng.integers(0, days * 86_400, size=ratings)
    seconds[: ratings // 20] -= seconds[: ratings // 20] % 86_400
    start = np.datetime64("2015-03-01T00:00:00", "us")
    interactions = pl.DataFrame(
        {
            "user_key": pairs // movies + 1,
            "movie_key": pairs % movies + 1,
            "rating": rng.integers(1, 11, size=ratings) / 2,
            "rated_at": start + seconds.astype("timedelta64[s]"),
        }
    )
    flags = rng.random((movies, len(GENRES))) < 0.15
    films = pl.DataFrame(
        {
            "movie_key": np.arange(1, movies + 1),
            "year": rng.integers(1930, 2016, size=movies).astype(np.int32),
            "runtime_minutes": pl.Series(rng.integers(60, 200, size=movies), dtype=pl.Int32).set(
                pl.Series(rng.random(movies) < 0.3), None
            ),
            "genres": [[genre for genre, on in zip(GENRES, row, strict=True) if on] for row in flags],
        }
    )
    return interactions, films


def write_histories(folder: Path, interactions: pl.DataFrame, films: pl.DataFrame) -> None:
    """Write four Parquet files in the form of the marts: a row a key and day of change, dated the midnight after.

    ``rating_count`` is the count of the ratings so far, the other features are values that each row has to itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect()
    con.register("interactions", interactions.to_arrow())
    con.register("films", films.to_arrow())
    for key, names in (("user_key", USER_VALUES), ("movie_key", MOVIE_VALUES)):
        values = ", ".join(f"(hash({key}, day, '{name}') % 1000000) / 1000000 AS {name}" for name in names)
        con.execute(
            f"""
            CREATE TABLE {key}_days AS
            WITH days AS (
                SELECT {key}, rated_at::DATE AS day, count(*) AS n FROM interactions GROUP BY ALL
            )
            SELECT {key}, (day + 1)::TIMESTAMP AS feature_timestamp, (sum(n) OVER so_far)::INTEGER AS rating_count,
                   (row_number() OVER so_far)::INTEGER AS active_days,
                   (hash({key}, day) % 1000)::INTEGER AS days_since_first, {values}
            FROM days WINDOW so_far AS (PARTITION BY {key} ORDER BY day)
            """
        )
    content = ", ".join(f"list_contains(genres, '{genre}')::INTEGER AS is_{genre}" for genre in GENRES)
    for name, query in {
        "user_features": "FROM user_key_days",
        "movie_features": "SELECT * EXCLUDE (active_days) FROM movie_key_days",
        "movie_content": "SELECT movie_key, TIMESTAMP '1900-01-01' AS feature_timestamp, year AS release_year, "
        f"runtime_minutes, {content} FROM films",
        "movie_imdb": "SELECT movie_key, TIMESTAMP '2019-05-01 07:00:00' AS feature_timestamp, "
        "(5 + movie_key % 40 / 10)::DECIMAL(3, 1) AS imdb_rating, (movie_key * 10)::INTEGER AS imdb_votes FROM films",
    }.items():
        con.execute(f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet)")
    con.close()


@dataclass(frozen=True)
class Home:
    """A folder with histories and an applied store over them."""

    folder: Path
    store: FeatureStore
    interactions: pl.DataFrame
    films: pl.DataFrame
    redis: bool = False

    def reopened(self) -> FeatureStore:
        """Open the same store a second time."""
        return feature_store.open_store(self.feast, redis=self.redis)

    @property
    def features(self) -> Path:
        return self.folder / "features"

    @property
    def feast(self) -> Path:
        return self.folder / "feast"

    def set_user_history(self, user_key: int, counts: dict[datetime, int]) -> None:
        """Replace a user's history by rows whose rating count is given by timestamp."""
        path = self.features / "user_features.parquet"
        old = pl.read_parquet(path)
        new = pl.DataFrame(
            {"user_key": [user_key] * len(counts), "feature_timestamp": counts.keys(), "rating_count": counts.values()},
            schema={name: old.schema[name] for name in ("user_key", "feature_timestamp", "rating_count")},
        )
        pl.concat([old.filter(pl.col("user_key") != user_key), new], how="diagonal").write_parquet(path)


def make_home(folder: Path, interactions: pl.DataFrame, films: pl.DataFrame, *, redis: bool = False) -> Home:
    write_histories(folder / "features", interactions, films)
    store = feature_store.open_store(folder / "feast", folder / "features", redis=redis)
    feature_store.apply(store)
    return Home(folder, store, interactions, films, redis)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Create a store that tests do not change: 5,000 ratings of 80 users and 150 movies."""
    return make_home(tmp_path_factory.mktemp("home"), *write_ratings(7, users=80, movies=150, ratings=5_000))


@pytest.fixture(scope="session")
def training(home: Home) -> pl.DataFrame:
    """Return the training set of all ratings of ``home``."""
    return feature_store.build_training_set(home.store, home.interactions)


@pytest.fixture
def small(tmp_path: Path) -> Home:
    """Create a separate store for a test that changes it: 20 ratings of 3 users."""
    return make_home(tmp_path / "home", *write_ratings(3, users=3, movies=10, ratings=20))


@pytest.fixture(scope="session")
def redis_address() -> Iterator[str]:
    with running_redis() as (address, _):
        yield address


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Create a separate store for each test, its online values in a file or in an emptied Redis."""
    if request.param == "redis":
        address: str = request.getfixturevalue("redis_address")
        monkeypatch.setenv("MARQUEE_ONLINE_STORE", f"{address},db=0")
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(16).startswith(b"+OK")
    made = write_ratings(5, users=20, movies=40, ratings=400)
    return make_home(tmp_path / "home", *made, redis=request.param == "redis")
