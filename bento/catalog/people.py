"""The people who made the films of a bundle: by id, in the order of their ids, and by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bento.catalog.title_search import TitleIndex

#: What the digits of IMDb's id of a person stand behind.
PREFIX = "nm"


@dataclass(frozen=True, slots=True)
class Makers:
    """Row p of each is person p; rows ``bounds[p]`` to ``bounds[p + 1]`` of ``items`` and ``categories`` are his films.

    ``numbers`` int64, ascending: the digits of the ids, and ``ids`` the whole ones; years are 0 where unknown.
    """

    ids: tuple[str, ...]
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    births: NDArray[np.int64]
    deaths: NDArray[np.int64]
    bounds: NDArray[np.int64]
    items: NDArray[np.int64]
    categories: tuple[str, ...]
    index: TitleIndex

    @classmethod
    def of(cls, credits: pl.DataFrame, by_key: Mapping[int, int]) -> Makers:
        """Those with a film among ``by_key`` (movie_key: item); rows whose id is none of IMDb's are left out."""
        items = pl.DataFrame(
            {"movie_key": list(by_key), "item": list(by_key.values())},
            schema={"movie_key": pl.Int64, "item": pl.Int64},
        )
        rows = (
            credits.with_columns(number=pl.col("nconst").str.extract(rf"^{PREFIX}(\d{{1,18}})$", 1).cast(pl.Int64))
            .drop_nulls(["number", "name"])
            .join(items, on="movie_key", how="inner")
            .sort("number", "nconst", "item", "category")
            .unique(["number", "item", "category"], keep="first", maintain_order=True)
        )
        people = rows.group_by("number", maintain_order=True).agg(
            pl.col("nconst", "name", "birth_year", "death_year").first(), pl.col("item").n_unique().alias("films"),
            pl.len().alias("credits"),
        )  # fmt: skip
        names = tuple(people["name"].to_list())
        return cls(
            ids=tuple(people["nconst"].to_list()),
            numbers=people["number"].to_numpy().astype(np.int64),
            names=names,
            births=people["birth_year"].fill_null(0).to_numpy().astype(np.int64),
            deaths=people["death_year"].fill_null(0).to_numpy().astype(np.int64),
            bounds=np.concatenate([[0], np.cumsum(people["credits"].to_numpy())]).astype(np.int64),
            items=rows["item"].to_numpy().astype(np.int64),
            categories=tuple(rows["category"].to_list()),
            index=TitleIndex(names, [None] * len(names), people["films"].to_list()),
        )

    def find(self, person_id: str) -> int | None:
        """Return the row of a person; None for an unknown id."""
        digits = person_id.removeprefix(PREFIX)
        if digits == person_id or not digits.isdecimal() or len(digits) > 18:
            return None
        row = int(np.searchsorted(self.numbers, int(digits)))
        return row if row < len(self.ids) and self.ids[row] == person_id else None

    def person(self, row: int) -> dict[str, Any]:
        """One person, with how many films there are of him and what he did in them."""
        mine = slice(int(self.bounds[row]), int(self.bounds[row + 1]))
        return {
            "person_id": self.ids[row],
            "name": self.names[row],
            "birth_year": int(self.births[row]) or None,
            "death_year": int(self.deaths[row]) or None,
            "film_count": len(np.unique(self.items[mine])),
            "categories": sorted(set(self.categories[mine])),
        }

    def films(self, row: int) -> dict[int, list[str]]:
        """Return the items of a person's movies, each with what they did in it."""
        made: dict[int, list[str]] = {}
        for place in range(int(self.bounds[row]), int(self.bounds[row + 1])):
            made.setdefault(int(self.items[place]), []).append(self.categories[place])
        return made
