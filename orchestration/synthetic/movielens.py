"""The tags of the sample: what users write on films that they have rated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.synthetic.people import Credits, People
from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.rating_simulator import RatingChunk
from orchestration.synthetic.titles import GENRES, Catalogue, gather
from orchestration.synthetic.word_lists import MOODS

#: The share of users who ever tag.
TAGGERS = 0.1


@dataclass(frozen=True, slots=True)
class TagPlan:
    """Which ratings are tagged: rows of the whole ratings table, ascending; a row may come more than once."""

    rows: npt.NDArray[np.int64]

    def part(self, start: int, end: int) -> npt.NDArray[np.int64]:
        """Give the tagged rows from ``start`` up to, not including, ``end``, counted from ``start``."""
        low, high = np.searchsorted(self.rows, (start, end))
        return self.rows[low:high] - start


def plan_tags(tags: int, counts: npt.NDArray[np.int64], seed: int) -> TagPlan:
    """Choose the ratings that get a tag: few users write nearly all."""
    rng = stream(seed, Purpose.TAGS)
    taggers = rng.choice(len(counts), max(1, round(TAGGERS * len(counts))), replace=False)
    zeal = counts[taggers] * rng.lognormal(0, 1, len(taggers))
    user = taggers[np.searchsorted(np.cumsum(zeal) / zeal.sum(), rng.random(tags)).clip(0, len(taggers) - 1)]
    starts = np.cumsum(counts) - counts
    return TagPlan(np.sort(starts[user] + (rng.random(tags) * counts[user]).astype(np.int64)))


def write_tags(
    plan: TagPlan, chunk: RatingChunk, start: int, catalogue: Catalogue, people: People, made: Credits, seed: int
) -> pl.DataFrame:
    """Write the tags of one chunk of ratings: (userId, movieId, tag, timestamp), one row a tag.

    ``start`` is the row of the whole table at which the chunk starts. A tag is a mood, a genre of the film, or
    its director's name.
    """
    at = plan.part(start, start + len(chunk.users))
    rng = stream(seed, Purpose.TAGS, 1, start)
    n = len(at)
    title = catalogue.rows[chunk.movies[at]]
    moods = pl.Series(MOODS).gather((len(MOODS) * rng.random(n) ** 2).astype(np.uint32))
    genres = gather(pl.Series(GENRES).str.to_lowercase(), catalogue.genres[title, rng.integers(0, 2, n)])
    directors = gather(people.names.str.to_lowercase(), made.directors[title, 0])
    kind = rng.choice(3, n, p=(0.6, 0.25, 0.15))
    words = pl.DataFrame({"mood": moods, "genre": genres, "director": directors, "kind": kind}).select(
        pl.when(pl.col("kind") == 1)
        .then("genre")
        .when(pl.col("kind") == 2)
        .then("director")
        .fill_null(pl.col("mood"))
        .alias("tag")
    )
    ids = catalogue.movies["movieId"].to_numpy()
    return (
        pl.DataFrame(
            {
                "userId": chunk.users[at] + 1,
                "movieId": ids[chunk.movies[at]],
                "tag": words["tag"],
                "timestamp": chunk.timestamps[at] + rng.integers(5, 600, n),
            }
        )
        .unique(subset=["userId", "movieId", "tag"], keep="first", maintain_order=True)
        .sort("userId", "movieId", pl.col("tag").str.to_lowercase(), "timestamp")
    )
