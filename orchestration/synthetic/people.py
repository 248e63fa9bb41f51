"""Fictional people and who made which title: era and genre decide, and a few people are stars.

People are kept in four pools (cast, directors, writers, crew), each sorted by birth, so that whoever fits a title's
year is a window of indices: no join.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.word_lists import make_people

Ints = npt.NDArray[np.int32]

#: Pools in the order of their rows, with their share of all people.
POOLS: Final = {"cast": 0.62, "director": 0.14, "writer": 0.12, "crew": 0.12}
CAST_SIZE: Final = 4
#: Every group of this many neighbours in a pool has one member of each archetype.
ARCHETYPES: Final = 8


@dataclass(frozen=True, slots=True)
class People:
    """Everyone in the sample, row = person, pools one after the other and sorted by birth in each.

    ``names`` [P], ``births`` [P] years, ``starts`` the first row of each pool and the end of the last.
    """

    names: pl.Series
    births: npt.NDArray[np.int16]
    starts: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Credits:
    """Who made a title, as rows of ``People``; -1 where there is no second one.

    ``directors`` int32[T, 2], ``cast`` int32[T, 4] in billing order, ``writers`` int32[T, 2], ``crew`` int32[T].
    """

    directors: Ints
    cast: Ints
    writers: Ints
    crew: Ints


def make_cast_pools(people: int, years: npt.NDArray[np.int16], seed: int) -> People:
    """Make the people who can have made titles of these years: about 35 years old at the time."""
    rng = stream(seed, Purpose.PEOPLE)
    sizes = [max(ARCHETYPES, round(people * share)) for share in POOLS.values()]
    births: list[npt.NDArray[np.int16]] = []
    starts: dict[str, tuple[int, int]] = {}
    at = 0
    for pool, size in zip(POOLS, sizes, strict=True):
        births.append(np.sort(rng.choice(years, size) - rng.normal(35, 9, size).clip(16, 70)).astype(np.int16))
        starts[pool] = (at, at + size)
        at += size
    return People(make_people(at, rng), np.concatenate(births), starts)


def _pick(
    people: People,
    pool: str,
    years: npt.NDArray[np.int16],
    archetypes: npt.NDArray[np.int8],
    fidelity: float,
    rng: np.random.Generator,
) -> Ints:
    """Pick one person of a pool a title: of the right age, and often a star.

    ``fidelity`` is the probability that the person is of the title's archetype.
    """
    first, end = people.starts[pool]
    births = people.births[first:end]
    n = len(years)
    at = np.searchsorted(births, years - rng.normal(37, 9, n).clip(18, 75)) + rng.integers(0, 2 * ARCHETYPES, n)
    group, member = np.divmod(at, ARCHETYPES)
    # Every fourth group holds the stars, who make more than half of all titles.
    star = rng.random(n) < 0.55
    group = np.where(star, group - group % 4, group)
    faithful = rng.random(n) < fidelity
    member = np.where(faithful, archetypes, member)
    picked: Ints = (first + (group * ARCHETYPES + member) % (end - first)).astype(np.int32)
    return picked


def make_credits(people: People, years: npt.NDArray[np.int16], archetypes: npt.NDArray[np.int8], seed: int) -> Credits:
    """Credit every title: arrays of [T] rows. A person appears at most once in a title's cast."""
    rng = stream(seed, Purpose.CREDITS)
    n = len(years)

    def pick(pool: str, fidelity: float) -> Ints:
        return _pick(people, pool, years, archetypes, fidelity, rng)

    directors = np.stack([pick("director", 0.85), pick("director", 0.85)], axis=1)
    directors[(rng.random(n) > 0.08) | (directors[:, 0] == directors[:, 1]), 1] = -1
    cast = np.stack([pick("cast", 0.5) for _ in range(CAST_SIZE)], axis=1)
    for later in range(1, CAST_SIZE):
        repeated = (cast[:, :later] == cast[:, later : later + 1]).any(axis=1)
        cast[repeated, later] = -1
    writers = np.stack([pick("writer", 0.6), pick("writer", 0.6)], axis=1)
    own = rng.random(n) < 0.25
    writers[own, 0] = directors[own, 0]
    writers[(rng.random(n) > 0.4) | (writers[:, 0] == writers[:, 1]), 1] = -1
    return Credits(directors, cast, writers, pick("crew", 0.0))
