"""What films are, whoever met them: their words (genres, decade, title, tags) as a matrix, and their years."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

#: Words of each kind are kept apart: the tag "war" is not the title's.
GENRE, DECADE, TITLE, TAG = "genre", "decade", "title", "tag"

#: How the editions write that a film has no genre.
_NO_GENRE = ("", "(no genres listed)", "unknown")


@dataclass(frozen=True, slots=True)
class ItemContent:
    """The words of all items of an index space, the same at every time.

    ``names``: F words in order, each with its kind before a colon (``genre:Drama``, ``decade:1990``, ``title:war``,
    ``tag:slow burn``). ``counts`` csr float32[n_items, F]: how often an item has the word, which is more than once for
    tags alone. ``years`` float32[n_items]: of release, NaN = unknown.
    """

    names: tuple[str, ...]
    counts: csr_array
    years: NDArray[np.float32]

    @classmethod
    def of(cls, words: pl.DataFrame, years: NDArray[np.float32]) -> ItemContent:
        """From rows of ``item`` (index) and ``word``, in any order, one for each time that the item has the word."""
        names = words["word"].unique().sort()
        places = pl.DataFrame({"word": names}).with_row_index("column")
        cells = words.join(places, on="word", how="inner").group_by("item", "column").len()
        counts = csr_array(
            (cells["len"].cast(pl.Float32).to_numpy(), (cells["item"].to_numpy(), cells["column"].to_numpy())),
            shape=(len(years), len(names)),
        )
        counts.sort_indices()
        return cls(tuple(names.to_list()), counts, years)

    def take(self, items: NDArray[np.int64]) -> ItemContent:
        """Return the content of items in the given order; an index of -1 has no content."""
        n_items = len(self.years)
        blank = np.append(self.counts.indptr, self.counts.indptr[-1])
        counts = csr_array((self.counts.data, self.counts.indices, blank), shape=(n_items + 1, len(self.names)))
        places = np.where(items < 0, n_items, items)
        return ItemContent(self.names, csr_array(counts[places]), np.append(self.years, np.float32(np.nan))[places])

    def kinds(self, wanted: Collection[str]) -> ItemContent:
        """Return only the words of some kinds, such as ``{"genre", "decade"}``."""
        kept = np.array([name.partition(":")[0] in wanted for name in self.names], dtype=bool)
        names = tuple(name for name, stays in zip(self.names, kept, strict=True) if stays)
        return ItemContent(names, csr_array(self.counts[:, np.flatnonzero(kept)]), self.years)


def film_words(films: pl.DataFrame) -> pl.DataFrame:
    """Columns ``item`` and ``word`` of films with the columns ``item``, ``title`` (with no year), ``genres``, ``year``.

    ``genres`` is a list of names. The words of a title are those of three letters or digits and more.
    """
    parts = {
        GENRE: pl.col("genres").list.eval(pl.element().filter(~pl.element().is_in(_NO_GENRE))),
        DECADE: pl.concat_list((pl.col("year").cast(pl.Int64) // 10 * 10).cast(pl.String)),
        TITLE: pl.col("title").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]{3,}").list.unique(),
    }
    return pl.concat(
        films.select("item", word=words)
        .explode("word")
        .drop_nulls()
        .with_columns(word=pl.lit(f"{kind}:") + pl.col("word"))
        for kind, words in parts.items()
    )
