"""What can be asked of the films of a bundle beside their scores: as arrays, row i is item i, made once a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.serving.bundle import Bundle

DAY_S = 86_400
#: Days before the newest rating of the bundle; None is all time.
WINDOWS: dict[str, int | None] = {"week": 7, "month": 30, "year": 365, "all": None}


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """``genres`` bool[n_items, len(genre_names)]; ``years`` and ``runtimes`` int64, 0 where unknown; ``adult`` bool.

    ``votes`` int64: ratings that the model was trained on; ``means`` float32 their mean, ``weighted`` drawn towards the
    mean of all films where they are few. ``met`` by window: int64 ratings in it.
    """

    genre_names: tuple[str, ...]
    genres: NDArray[np.bool_]
    years: NDArray[np.int64]
    runtimes: NDArray[np.int64]
    adult: NDArray[np.bool_]
    votes: NDArray[np.int64]
    means: NDArray[np.float32]
    weighted: NDArray[np.float32]
    met: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, bundle: Bundle) -> FilmFacts:
        """Read them off a bundle; what an older one does not say is unknown, and no film of it is for adults."""
        items = bundle.items
        listed = items["genres"].to_list()
        names = tuple(sorted({genre for film in listed for genre in film or ()}))
        place = {genre: column for column, genre in enumerate(names)}
        genres = np.zeros((len(items), len(names)), dtype=bool)
        pairs = [(row, place[genre]) for row, film in enumerate(listed) for genre in film or ()]
        if pairs:
            genres[tuple(np.array(pairs).T)] = True
        history = bundle.history
        votes = np.bincount(history.indices, minlength=len(items)).astype(np.int64)
        stars = np.bincount(history.indices, weights=history.data, minlength=len(items))
        overall = float(stars.sum() / max(votes.sum(), 1))
        weight = max(float(np.median(votes)), 1.0)
        newest = int(bundle.history_times.max(initial=0))
        met = {
            name: votes
            if days is None
            else np.bincount(
                history.indices[bundle.history_times > newest - days * DAY_S], minlength=len(items)
            ).astype(np.int64)
            for name, days in WINDOWS.items()
        }
        return cls(
            genre_names=names,
            genres=genres,
            years=_numbers(items, "year"),
            runtimes=_numbers(items, "runtime_minutes"),
            adult=_numbers(items, "is_adult").astype(bool),
            votes=votes,
            means=(stars / np.maximum(votes, 1)).astype(np.float32),
            weighted=((stars + weight * overall) / (votes + weight)).astype(np.float32),
            met=met,
        )

    def genre_columns(self, asked: Sequence[str]) -> NDArray[np.int64]:
        """Return the columns of genres, ignoring case; raise ``KeyError`` with the first genre that no movie has."""
        place = {genre.casefold(): column for column, genre in enumerate(self.genre_names)}
        for genre in asked:
            if genre.casefold() not in place:
                raise KeyError(genre)
        return np.array([place[genre.casefold()] for genre in asked], dtype=np.int64)


def _numbers(items: pl.DataFrame, column: str) -> NDArray[np.int64]:
    if column not in items.columns:
        return np.zeros(len(items), dtype=np.int64)
    values: Any = items[column].cast(pl.Int64).fill_null(0).to_numpy()
    return np.asarray(values, dtype=np.int64)
