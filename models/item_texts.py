"""The words of a film, read from the files beside a ratings file: genres, decade, title and tags."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.datasets import EDITIONS, FileLayout

#: Words of each kind are kept apart: the tag "war" is not the title's.
_GENRE, _DECADE, _TITLE, _TAG = "g:", "d:", "t:", "#"


def read_item_texts(folder: Path, item_ids: NDArray[np.int64]) -> tuple[str, ...] | None:
    """One text an item, its words separated by spaces; None when no edition's file of movies is in the folder."""
    for edition in EDITIONS.values():
        if (folder / edition.movies.file).is_file():
            texts = _movie_words(_read(folder, edition.movies))
            if edition.tags is not None and (folder / edition.tags.file).is_file():
                texts = pl.concat([texts, _tag_words(_read(folder, edition.tags))])
            words = texts.group_by("movieId").agg(pl.col("words").str.join(" "))
            wanted = pl.DataFrame({"movieId": item_ids}).join(words, on="movieId", how="left", maintain_order="left")
            return tuple(wanted["words"].fill_null("").to_list())
    return None


def _movie_words(movies: pl.DataFrame) -> pl.DataFrame:
    """Columns ``movieId`` and ``words``: genres, decade and the title's words."""
    title = pl.col("title").fill_null("")
    words = [
        pl.col("genres").fill_null("").str.split("|").list.eval(pl.lit(_GENRE) + pl.element()).list.join(" "),
        pl.lit(_DECADE) + title.str.extract(r"\((\d{3})\d\)\s*$").fill_null(""),
        title.str.replace(r"\(\d{4}\)\s*$", "")
        .str.to_lowercase()
        .str.extract_all(r"[\p{L}\p{N}]{3,}")
        .list.eval(_TITLE + pl.element())
        .list.join(" "),
    ]
    return movies.select("movieId", words=pl.concat_str(words, separator=" "))


def _tag_words(tags: pl.DataFrame) -> pl.DataFrame:
    """Columns ``movieId`` and ``words``: a tag is one word, once for each time it was given."""
    word = pl.lit(_TAG) + pl.col("tag").str.strip_chars().str.to_lowercase().str.replace_all(r"\s+", "_")
    return tags.select("movieId", words=word)


def _read(folder: Path, layout: FileLayout) -> pl.DataFrame:
    """The columns of a film's file; ml-100k's flags become the ``genres`` of the other editions."""
    text = (folder / layout.file).read_text(encoding=layout.encoding)
    if layout.quoted:
        table = pl.read_csv(io.StringIO(text), infer_schema=False).rename(str.strip)
    else:
        # The separator may stand in a title once, and has two characters in some editions: split by whole text.
        lines = pl.Series(text.splitlines()).str.split_exact(layout.separator, len(layout.columns) - 1)
        table = lines.struct.unnest()
        table.columns = list(layout.names)
    flags = [column.name for column in layout.columns if column.kind == "flag"]
    if flags:
        named = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in flags]
        table = table.with_columns(genres=pl.concat_str(named, separator="|", ignore_nulls=True))
    return table.with_columns(pl.col("movieId").cast(pl.Int64))
