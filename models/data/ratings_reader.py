"""Ratings files of any MovieLens layout, read into interactions for the protocols on given files."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.interactions import Interactions
from models.data.movielens import EDITIONS, FileLayout

_COLUMNS = ("user", "item", "stars", "time")


class RatingsFileError(ValueError):
    """A ratings file that cannot be read; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class RatingsFile:
    """The rated pairs of a file. Indices are ids in ascending order; of two ratings of a pair the later one is kept.

    ``users_left_out`` counts users with a row whose time is unknown: who was last cannot be said of them. They are in
    ``interactions`` only where they were asked for; ``known_times`` bool[n_users] is False for them. ``user_ids`` and
    ``item_ids`` int64: the file's id of each index.
    """

    interactions: Interactions
    users_left_out: int
    known_times: NDArray[np.bool_]
    user_ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]


def read_ratings(path: Path, *, keep_timeless: bool = False) -> RatingsFile:
    """Read a ratings file whose layout its first line shows (tab, ``::`` or comma; a header or none; gzip or plain).

    ``keep_timeless`` keeps the users with an unknown time too, with time 0 for the rows that have none. Raises
    ``RatingsFileError`` for a missing or empty file, an unknown layout, or a row that is not a rating.
    """
    return _indexed([_read_rows(path)], path, keep_timeless)[0]


def read_rating_parts(train: Path, test: Path) -> tuple[RatingsFile, RatingsFile]:
    """Two files of one data set, such as ``u1.base`` and ``u1.test``, over the same index spaces."""
    learnt, asked = _indexed([_read_rows(train), _read_rows(test)], train, True)
    return learnt, asked


def _read_rows(path: Path) -> pl.DataFrame:
    """Columns ``user``, ``item``, ``stars`` and ``time`` (null = unknown) as the file has them."""
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
            glob=False,
        )
    except pl.exceptions.NoDataError as error:
        raise RatingsFileError(f"{path}: no ratings in it") from error
    if len(raw.columns) != len(layout.names) * width - (width - 1):
        raise RatingsFileError(f"{path}: {len(raw.columns)} fields in a row, expected {', '.join(layout.names)}")
    rows = raw.select(
        pl.col(column).cast(kind, strict=False).alias(name)
        for column, name, kind in zip(
            raw.columns[::width], _COLUMNS, (pl.Int64, pl.Int64, pl.Float32, pl.Int64), strict=True
        )
    )
    bad = rows.with_row_index("line", 1).filter(pl.any_horizontal(pl.col("user", "item", "stars").is_null()))
    if len(bad):
        raise RatingsFileError(f"{path}: {len(bad)} rows are no ratings, the first one is row {bad['line'][0]}")
    return rows


def _indexed(parts: list[pl.DataFrame], path: Path, keep_timeless: bool) -> list[RatingsFile]:
    """Return the parts over index spaces that all of them share."""
    rows = pl.concat([part.with_columns(part=pl.lit(place)) for place, part in enumerate(parts)])
    timeless = rows.filter(pl.col("time").is_null())["user"].unique()
    if not keep_timeless:
        rows = rows.filter(~pl.col("user").is_in(timeless.implode()))
    kept = rows.sort("user", "item", "time").unique(["part", "user", "item"], keep="last", maintain_order=True)
    if len(kept) == 0:
        raise RatingsFileError(f"{path}: no user whose ratings all have a time")
    user_ids, item_ids = (np.unique(kept[column].to_numpy()) for column in ("user", "item"))
    known = ~np.isin(user_ids, timeless.to_numpy())
    return [
        RatingsFile(
            Interactions.of(
                np.searchsorted(user_ids, part["user"].to_numpy()),
                np.searchsorted(item_ids, part["item"].to_numpy()),
                part["stars"].to_numpy(),
                part["time"].fill_null(0).to_numpy(),
                n_users=len(user_ids),
                n_items=len(item_ids),
            ),
            len(timeless),
            known,
            user_ids,
            item_ids,
        )
        for part in (kept.filter(pl.col("part") == place) for place in range(len(parts)))
    ]


def _layout(path: Path, first: str) -> FileLayout:
    """Return the edition layout whose separator cuts the first line into its columns."""
    if not first.strip():
        raise RatingsFileError(f"{path}: no ratings in it")
    for layout in {edition.ratings.separator: edition.ratings for edition in EDITIONS.values()}.values():
        if len(first.split(layout.separator)) == len(layout.names):
            return layout
    raise RatingsFileError(f"{path}: the first line is of no MovieLens layout: {first[:80]!r}")
