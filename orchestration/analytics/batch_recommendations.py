"""The lists of all users at once: a bundle's best films for each, with a reason, written in parts of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.algorithms.popularity import Popularity
from models.data.batch import UserBatch
from models.serving.bundle import Bundle

#: Films a user.
TOP = 50
#: Films that count as like a film, the best first.
ALIKE = 100
#: From so many stars on, a film is one that the user liked.
LIKED = 4.0
#: Scores that are made at a time: 16 MB of them, and about ten times that while the best are chosen.
_CELLS = 4_000_000

LIKE_FILM, POPULAR, OVERALL = "like_film", "popular", "overall"

_SCHEMA = {
    "user_key": pl.Int64,
    "rank": pl.Int32,
    "movie_key": pl.Int64,
    "score": pl.Float64,
    "reason_kind": pl.String,
    "reason_movie_key": pl.Int64,
}


def write_suggestions(
    bundle: Bundle,
    user_features: pl.DataFrame | None,
    known: NDArray[np.int64],
    path: Path,
    *,
    top: int = TOP,
    cells: int = _CELLS,
) -> int:
    """Write one row a user and rank to a Parquet file; returns how many users have a list.

    ``known`` are the keys of the users who are there today: a bundle may be older than somebody's wish to be forgotten.
    ``user_features`` has ``user_key`` and the newest features of each, for a recommender that uses them. At most
    ``cells`` scores are there at a time, whatever the number of users.
    """
    users = np.flatnonzero(bundle.users["user_key"].is_in(known.tolist()).to_numpy())
    users = users[np.argsort(bundle.users["user_key"].to_numpy()[users], kind="stable")]
    alike = _alike(bundle, cells)
    step = max(1, min(1024, cells // max(1, len(bundle.items))))
    with pq.ParquetWriter(path, pl.DataFrame(schema=_SCHEMA).to_arrow().schema, compression="zstd") as writer:
        for start in range(0, len(users), step):
            part = users[start : start + step]
            writer.write_table(_lists(bundle, part, _batch(bundle, part, user_features), alike, top).to_arrow())
    return len(users)


def _batch(bundle: Bundle, users: NDArray[np.int64], features: pl.DataFrame | None) -> UserBatch:
    if features is None or not bundle.recommender.uses_features:
        return bundle.batch(users.tolist())
    names = [name.removeprefix("user_features__") for name in bundle.features.user_names]
    rows = bundle.users[users].join(features, on="user_key", how="left", maintain_order="left")
    return bundle.batch(users.tolist(), rows.select(pl.col(names).cast(pl.Float32).fill_null(float("nan"))).to_numpy())


def _alike(bundle: Bundle, cells: int) -> NDArray[np.int64] | None:
    """int64[n_items, ALIKE]: the films that the model holds for like each, best first, -1 where there are no more.

    None for a model that knows no likeness.
    """
    if isinstance(bundle.recommender, Popularity):
        return None
    n_items = len(bundle.items)
    parts = []
    for start in _starts(n_items, max(1, cells // max(1, n_items))):
        items, scores = bundle.recommender.similar(start, ALIKE)
        parts.append(np.where(scores > 0, items, -1))
    return np.concatenate(parts)


def _starts(n: int, step: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n, step):
        yield np.arange(start, min(start + step, n), dtype=np.int64)


def _lists(
    bundle: Bundle, users: NDArray[np.int64], batch: UserBatch, alike: NDArray[np.int64] | None, top: int
) -> pl.DataFrame:
    """Return the lists of some users, in the order of ``users`` and of the rank."""
    items, scores = bundle.recommender.recommend(batch, top)
    movie_keys = bundle.items["movie_key"].to_numpy().astype(np.int64)
    rows = pl.DataFrame(
        {
            "user_key": np.repeat(bundle.users["user_key"].to_numpy().astype(np.int64)[users], items.shape[1]),
            "rank": np.tile(np.arange(1, items.shape[1] + 1, dtype=np.int32), len(users)),
            "movie_key": movie_keys[items].ravel(),
            "score": scores.astype(np.float64).round(6).ravel(),
            "there": (items >= 0).ravel(),
        }
    )
    if alike is None:
        told = rows.with_columns(reason_kind=pl.lit(POPULAR), reason_movie_key=pl.lit(None, dtype=pl.Int64))
    else:
        because = because_of(items, alike, batch)
        keys = pl.Series(np.where(because >= 0, movie_keys[because], -1).ravel())
        told = rows.with_columns(reason_movie_key=keys).with_columns(
            reason_kind=pl.when(pl.col("reason_movie_key") >= 0).then(pl.lit(LIKE_FILM)).otherwise(pl.lit(OVERALL)),
            reason_movie_key=pl.when(pl.col("reason_movie_key") >= 0).then(pl.col("reason_movie_key")),
        )
    return told.filter("there").select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())


def because_of(items: NDArray[np.int64], alike: NDArray[np.int64], batch: UserBatch) -> NDArray[np.int64]:
    """int64[B, k]: of the films that the user liked the one most like each of ``items`` int64[B, k]; -1 without one.

    The films alike come best first, so the first one that was liked is the answer.
    """
    n_users, n_items = batch.history.shape
    liked = np.zeros((n_users, n_items + 1), dtype=bool)  # the last column stands for the -1 of no film
    rows = np.repeat(np.arange(n_users), np.diff(batch.history.indptr))
    good = batch.history.data >= LIKED
    liked[rows[good], batch.history.indices[good]] = True
    near = alike[items]
    hits = liked[np.arange(n_users)[:, None, None], near]
    first = hits.argmax(axis=2)[:, :, None]
    found = np.take_along_axis(near, first, axis=2)[:, :, 0]
    return np.where(hits.any(axis=2) & (items >= 0), found, -1)
