"""What the files beside a ratings file say of its films and users, and what of it a fit may know."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import TAG, ItemContent, film_words
from models.data.movielens import EDITIONS, Edition, FileLayout
from models.evaluation.protocols.base import RankingTask


@dataclass(frozen=True, slots=True)
class EditionFacts:
    """The facts of an edition over the index spaces of its ratings.

    ``words``: rows of ``item`` and ``word`` that hold from the start; ``tags``: rows of ``user``, ``item``, ``time``
    and ``word``; ``years`` float32[n_items], NaN = unknown. ``users`` float32[n_users, Fu] are who the users are (age
    in years as the edition gives it, the lower bound of a band in ml-1m; a column each of 0 and 1 for female and for
    each occupation; NaN = unknown), named by ``user_names``; without columns where an edition does not say. ``files``
    are those that say all this.
    """

    words: pl.DataFrame
    tags: pl.DataFrame
    years: NDArray[np.float32]
    users: NDArray[np.float32]
    user_names: tuple[str, ...]
    files: tuple[Path, ...]

    def tell(self, task: RankingTask) -> RankingTask:
        """Return the task with the facts for its fit and for the users that it asks for."""
        asked = self.users[task.identities] if self.user_names and task.identities is not None else None
        return replace(task, features=self.known_to(task.fit), user_features=asked, facts=self)

    def known_to(self, fit: Interactions) -> TrainingFeatures:
        """Return the features known with ``fit``: a user's tags count only for movies they have in ``fit``.

        A user who tags a movie has seen it, so the tag of a held-out pair would give the pair away. No tag is later
        than the last row of ``fit``, so that a cut in time applies to the tags too.
        """
        tags = self.tags.filter(pl.col("time") <= int(fit.timestamps.max(initial=0)))
        codes = tags["user"].to_numpy().astype(np.int64) * fit.n_items + tags["item"].to_numpy()
        learnt = tags.filter(pl.Series(np.isin(codes, fit.codes()), dtype=pl.Boolean))
        content = ItemContent.of(pl.concat([self.words, learnt.select("item", "word")]), self.years)
        return TrainingFeatures(self.users[fit.users], self.user_names, (), content)


def read_edition_facts(folder: Path, user_ids: NDArray[np.int64], item_ids: NDArray[np.int64]) -> EditionFacts | None:
    """Read the facts for ratings with these ids; None if the folder has no edition's file of movies."""
    edition = next((one for one in EDITIONS.values() if (folder / one.movies.file).is_file()), None)
    if edition is None:
        return None
    items = pl.DataFrame({"movieId": item_ids}).with_row_index("item")
    users = pl.DataFrame({"userId": user_ids}).with_row_index("user")
    films = items.join(_films(folder, edition.movies), on="movieId", how="left", maintain_order="left")
    values, names = _demographics(folder, edition, users)
    return EditionFacts(
        film_words(films),
        _tags(folder, edition, users, items),
        films["year"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
        values,
        names,
        tuple(
            folder / one.file
            for one in (edition.movies, edition.tags, edition.users)
            if one is not None and _has(folder, one)
        ),
    )


def _has(folder: Path, layout: FileLayout | None) -> bool:
    return layout is not None and (folder / layout.file).is_file()


def _films(folder: Path, layout: FileLayout) -> pl.DataFrame:
    """Columns ``movieId``, ``title`` without its year, ``genres`` (a list) and ``year``, null where unknown."""
    table = _read(folder, layout)
    flags = [column.name for column in layout.columns if column.kind == "flag"]
    if flags:
        # ml-100k has a flag for each genre.
        named = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in flags]
        table = table.with_columns(genres=pl.concat_str(named, separator="|", ignore_nulls=True))
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$")
    if "releaseDate" in table.columns:
        year = year.fill_null(pl.col("releaseDate").str.extract(r"(\d{4})\s*$"))
    return table.select(
        pl.col("movieId").cast(pl.Int64),
        title=pl.col("title").fill_null("").str.replace(r"\(\d{4}\)\s*$", ""),
        genres=pl.col("genres").fill_null("").str.split("|"),
        year=year.cast(pl.Int64),
    )


def _tags(folder: Path, edition: Edition, users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Columns ``user``, ``item``, ``time`` and ``word``: a tag is one word, once for each time that it was given."""
    if edition.tags is None or not _has(folder, edition.tags):
        return pl.DataFrame(schema={"user": pl.UInt32, "item": pl.UInt32, "time": pl.Int64, "word": pl.String})
    word = pl.lit(f"{TAG}:") + pl.col("tag").str.strip_chars().str.to_lowercase().str.replace_all(r"\s+", " ")
    table = _read(folder, edition.tags).select(
        pl.col("userId", "movieId").cast(pl.Int64), time=pl.col("timestamp").cast(pl.Int64), word=word
    )
    found = table.drop_nulls().join(users, on="userId", how="inner").join(items, on="movieId", how="inner")
    return found.select("user", "item", "time", "word")


def _demographics(folder: Path, edition: Edition, users: pl.DataFrame) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """float32[n_users, Fu] and its names; no column where the edition has no file of users."""
    if edition.users is None or not _has(folder, edition.users):
        return np.empty((len(users), 0), dtype=np.float32), ()
    table = _read(folder, edition.users).with_columns(pl.col("userId").cast(pl.Int64))
    known = users.join(table, on="userId", how="left", maintain_order="left")
    codes = {str(code): name for column in edition.users.columns for code, name in column.codes}
    occupation = known["occupation"].replace(codes) if codes else known["occupation"]
    jobs = sorted(occupation.drop_nulls().unique().to_list())
    columns = known.select(
        age=pl.col("age").cast(pl.Float32),
        female=(pl.col("gender") == "F").cast(pl.Float32),
    ).with_columns((occupation == job).cast(pl.Float32).alias(f"occupation:{job}") for job in jobs)
    return columns.fill_null(float("nan")).to_numpy().astype(np.float32), tuple(columns.columns)


def _read(folder: Path, layout: FileLayout) -> pl.DataFrame:
    """Read the columns of a file as text."""
    text = (folder / layout.file).read_text(encoding=layout.encoding)
    if layout.quoted:
        return pl.read_csv(io.StringIO(text), infer_schema=False).rename(str.strip)
    # The separator may stand in a title once, and has two characters in some editions: split by whole text.
    table = pl.Series(text.splitlines()).str.split_exact(layout.separator, len(layout.columns) - 1).struct.unnest()
    table.columns = list(layout.names)
    return table
