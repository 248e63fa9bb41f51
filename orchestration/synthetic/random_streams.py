"""Random streams of the sample: one a purpose, so that a change in one table leaves the others' bytes alone."""

from __future__ import annotations

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What a stream is for. Never renumber: the numbers are part of the seed."""

    YEARS = 1
    TITLES = 2
    GENRES = 3
    PEOPLE = 4
    CREDITS = 5
    POPULARITY = 6
    LISTS = 7
    USERS = 8
    TASTE = 9
    RATINGS = 10
    TAGS = 11
    IMDB = 12
    BROKEN = 13
    GENOME = 14
    STREAMING = 15


def stream(seed: int, purpose: Purpose, *parts: int) -> np.random.Generator:
    """Give the generator of a purpose, and of a part of it (a chunk's number, say)."""
    return np.random.default_rng([seed, int(purpose), *parts])
