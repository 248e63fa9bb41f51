"""Segments of users: a seeded k-means over habits, and names that say what sets each segment apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Few enough to be remembered, and to be told apart by how much, how lately and what.
SEGMENTS = 6
#: Starts of the clustering, of which the tightest stands.
_STARTS = 4

#: What the habits say, in blocks that weigh the same however many columns they have. Counts and days are taken as
#: logarithms, for a few users have a thousand times as many as most.
_FREQUENCY = ("rating_count", "active_days")
_RECENCY = ("days_since_last",)
_LOGARITHMS = {*_FREQUENCY, *_RECENCY, "film_rating_count"}
_GENRE = "genre_share_"

_HOW_MUCH = ("Rate little", "Rate a fair amount", "Rate a lot")
_HOW_LATELY = ("lately", "some time ago", "long ago")


@dataclass(frozen=True)
class Segmentation:
    """``users``: user_key, segment, segment_name, distance. ``segments``: one row a segment with its figures."""

    users: pl.DataFrame
    segments: pl.DataFrame


def segment_users(habits: pl.DataFrame, seed: int, n_segments: int = SEGMENTS) -> Segmentation:
    """Cluster the users of the mart ``user_habits``.

    ``n_segments`` is lowered to the number of users where there are fewer. The same rows in any order give the same
    segments.
    """
    ordered = habits.sort("user_key")
    wanted = min(n_segments, ordered.height)
    if wanted == 0:
        return Segmentation(_users(ordered, [], []), _figures(ordered.with_columns(segment=pl.lit(0))))
    matrix = _matrix(ordered)
    labels, distances = _cluster(matrix, wanted, seed)
    # Numbered by how much the users rate, so that a number means the same from one run to the next.
    counts = np.log1p(ordered["rating_count"].to_numpy())
    places = np.argsort([-counts[labels == label].mean() for label in np.unique(labels)], kind="stable")
    number = np.empty(len(places), dtype=np.int64)
    number[places] = np.arange(1, len(places) + 1)
    numbered = ordered.with_columns(segment=pl.Series(number[np.searchsorted(np.unique(labels), labels)]))
    figures = _figures(numbered)
    names = dict(zip(figures["segment"].to_list(), _names(figures, ordered), strict=True))
    figures = figures.with_columns(segment_name=pl.col("segment").replace_strict(names, return_dtype=pl.String))
    users = _users(numbered, numbered["segment"].to_list(), distances.round(4).tolist())
    users = users.with_columns(segment_name=pl.col("segment").replace_strict(names, return_dtype=pl.String))
    return Segmentation(users.select("user_key", "segment", "segment_name", "distance"), figures)


def _users(ordered: pl.DataFrame, segments: list[int], distances: list[float]) -> pl.DataFrame:
    return ordered.select("user_key").with_columns(
        segment=pl.Series(segments, dtype=pl.Int64),
        segment_name=pl.lit(None, dtype=pl.String),
        distance=pl.Series(distances, dtype=pl.Float64),
    )


def _genres(habits: pl.DataFrame) -> list[str]:
    return [name for name in habits.columns if name.startswith(_GENRE)]


def _matrix(habits: pl.DataFrame) -> NDArray[np.float64]:
    """float64[n_users, n_habits]: standardized; each block has the weight of one column."""
    blocks = [[*_FREQUENCY], [*_RECENCY], [*_genres(habits), "mean_release_year", "film_rating_count"]]
    parts = []
    for block in blocks:
        values = habits.select(
            (pl.col(name).log1p() if name in _LOGARITHMS else pl.col(name)).cast(pl.Float64) for name in block
        )
        # Who rated only films without a year is taken for average in that.
        filled = values.with_columns(pl.all().fill_null(pl.all().mean())).fill_null(0.0).to_numpy()
        spread = filled.std(axis=0)
        parts.append((filled - filled.mean(axis=0)) / np.where(spread > 0, spread, 1.0) / np.sqrt(len(block)))
    return np.concatenate(parts, axis=1)


def _cluster(matrix: NDArray[np.float64], n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cluster the rows; return each row's label int64[n_users] and its distance to the center float64[n_users]."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    n = min(n, len(np.unique(matrix, axis=0)))
    # Several threads add up in another order each time, which could move a user who stands between two centres.
    with threadpool_limits(limits=1):
        fitted = KMeans(n_clusters=n, n_init=_STARTS, random_state=seed).fit(matrix)
        labels = fitted.labels_.astype(np.int64)
    return labels, np.linalg.norm(matrix - fitted.cluster_centers_[labels], axis=1)


def _figures(numbered: pl.DataFrame) -> pl.DataFrame:
    """One row a segment: how many users, the medians of frequency and recency, the mean of each genre's share."""
    return (
        numbered.group_by("segment")
        .agg(
            users=pl.len(),
            rating_count=pl.col("rating_count").median(),
            active_days=pl.col("active_days").median(),
            days_since_last=pl.col("days_since_last").median(),
            rating_mean=pl.col("rating_mean").mean().round(3),
            **{name: pl.col(name).mean() for name in _genres(numbered)},
        )
        .sort("segment")
    )


def _names(figures: pl.DataFrame, habits: pl.DataFrame) -> list[str]:
    """Name each segment, no two alike, by the thirds of all users and the genre that stands out furthest."""
    genres = _genres(habits)
    thirds = {
        column: [float(habits[column].quantile(share) or 0.0) for share in (1 / 3, 2 / 3)]
        for column in ("rating_count", "days_since_last")
    }
    means = {name: float(habits[name].mean() or 0.0) for name in genres}  # type: ignore[arg-type]
    spreads = {name: float(habits[name].std() or 0.0) or 1.0 for name in genres}  # type: ignore[arg-type]
    names: list[str] = []
    for row in figures.iter_rows(named=True):
        much = _HOW_MUCH[sum(row["rating_count"] > bound for bound in thirds["rating_count"])]
        lately = _HOW_LATELY[sum(row["days_since_last"] > bound for bound in thirds["days_since_last"])]
        apart = sorted(genres, key=lambda name: (means[name] - row[name]) / spreads[name])
        tastes = [name.removeprefix(_GENRE).replace("_", "-").title() for name in apart if row[name] > means[name]]
        for count in range(1, len(tastes) + 2):
            taste = f", more {' and '.join(tastes[:count])}" if tastes else ""
            name = f"{much}, {lately}{taste}"
            if name not in names:
                break
        else:
            name = f"{name} ({row['segment']})"
        names.append(name)
    return names
