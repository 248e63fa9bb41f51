"""Ratings files of any MovieLens layout, read into interactions for the protocols on given files."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.datasets import EDITIONS, FileLayout
from models.interactions import Interactions


class RatingsFileError(ValueError):
    """A ratings file that cannot be read; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class RatingsFile:
    """The rated pairs of a file. Indices are ids in ascending order; of two ratings of a pair the later one is kept.

    ``users_left_out`` counts users with a row whose time is unknown: who was last cannot be said of them.
    """

    interactions: Interactions
    users_left_out: int


def read_ratings(path: Path) -> RatingsFile:
    """Read a ratings file whose layout its first line shows (tab, ``::`` or comma; a header or none; gzip or plain).

    Raises ``RatingsFileError`` for a missing or empty file, an unknown layout, or a row that is not a rating.
    """
    if not path.is_file():
        raise RatingsFileError(f"{path}: there is no such file")
    with gzip.open(path, "rt", encoding="latin-1") if path.suffix == ".gz" else path.open(encoding="latin-1") as lines:
        first = lines.readline().rstrip("\r\n")
    layout = _layout(path, first)
    # A separator of two characters is one of one with an empty field between any two.
    width = len(layout.separator)
    try:
        raw = pl.read_csv(
            path,
            separator=layout.separator[0],
            has_header=False,
            skip_lines=int(first.startswith(layout.names[0])),
            infer_schema=False,
            quote_char='"' if layout.quoted else None,
            null_values=["\\N", ""],
        )
    except pl.exceptions.NoDataError as error:
        raise RatingsFileError(f"{path}: no ratings in it") from error
    if len(raw.columns) != len(layout.names) * width - (width - 1):
        raise RatingsFileError(f"{path}: {len(raw.columns)} fields in a row, expected {', '.join(layout.names)}")
    rows = raw.select(
        pl.col(column).cast(kind, strict=False).alias(name)
        for column, name, kind in zip(
            raw.columns[::width], layout.names, (pl.Int64, pl.Int64, pl.Float32, pl.Int64), strict=True
        )
    )
    users, movies, stars, times = layout.names
    bad = rows.with_row_index("line", 1).filter(pl.any_horizontal(pl.col(users, movies, stars).is_null()))
    if len(bad):
        raise RatingsFileError(f"{path}: {len(bad)} rows are no ratings, the first one is row {bad['line'][0]}")
    timeless = rows.filter(pl.col(times).is_null())[users].unique()
    kept = (
        rows.filter(~pl.col(users).is_in(timeless.implode()))
        .sort(users, movies, times)
        .unique([users, movies], keep="last", maintain_order=True)
    )
    if len(kept) == 0:
        raise RatingsFileError(f"{path}: no user whose ratings all have a time")
    return RatingsFile(
        Interactions.of(
            (kept[users].rank("dense") - 1).to_numpy(),
            (kept[movies].rank("dense") - 1).to_numpy(),
            kept[stars].to_numpy(),
            kept[times].to_numpy(),
        ),
        len(timeless),
    )


def _layout(path: Path, first: str) -> FileLayout:
    """The layout of an edition whose separator cuts the first line into its columns."""
    if not first.strip():
        raise RatingsFileError(f"{path}: no ratings in it")
    for layout in {edition.ratings.separator: edition.ratings for edition in EDITIONS.values()}.values():
        if len(first.split(layout.separator)) == len(layout.names):
            return layout
    raise RatingsFileError(f"{path}: the first line is of no MovieLens layout: {first[:80]!r}")
