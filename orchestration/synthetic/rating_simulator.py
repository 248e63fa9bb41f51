"""Who rates what, when and how: users with a taste that drifts, one block of users at a time.

A film is a vector of what it is (genres, world, era, director, cast, and a residue that no metadata explains); a user
has two such vectors, the taste at the first visit and at the last, and moves from one to the other. Which films a user
rates follows popularity plus the mean of both tastes (a Gumbel top-k, that is sampling without replacement); when a
film is rated follows the difference of both; the stars follow the taste at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from orchestration.synthetic.people import Credits, People
from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.titles import ARCHETYPES, FIRST_YEAR, GENRES, LAST_YEAR, Catalogue

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

DAY: Final = 86_400
#: Users join and rate between these moments.
OPENED: Final = int(datetime(2009, 1, 1, tzinfo=UTC).timestamp())
CLOSED: Final = int(datetime(2019, 1, 1, tzinfo=UTC).timestamp())
MIN_RATINGS: Final = 20
PEOPLE_FACTORS: Final = 8
RESIDUAL_FACTORS: Final = 4
DECADES: Final = np.arange(FIRST_YEAR // 10 * 10, LAST_YEAR + 1, 10) + 5
#: How much each part of a film's vector adds to the spread of a user's liking.
WEIGHTS: Final = {"genre": 0.7, "world": 1.0, "era": 1.0, "director": 0.5, "cast": 0.4, "residual": 1.1}
#: How strongly popularity (of spread 1.4) and liking (of spread 2.0) decide what is rated. Chosen so that, leaving the
#: last rating out against 99 sampled negatives, popularity has HR@10 of about .45 and EASE .7, as on real MovieLens.
POPULARITY: Final = 1.3
CHOICE: Final = 1.35
#: What the stars follow. Chosen so that users' and movies' means spread as on MovieLens (.5 and .4 stars), and that
#: what a user gives a genre above others recurs: a correlation of .25 between two halves of the ratings (there .4).
STARS: Final = {"liking": 0.9, "quality": 0.75, "habit": 0.45, "chance": 0.75}
#: Correlation of a user's first and last taste.
STEADINESS: Final = 0.8
#: The shares of 0.5, 1.0, ... 5.0 stars, about those of MovieLens.
STAR_SHARES: Final = (0.013, 0.027, 0.018, 0.073, 0.057, 0.195, 0.135, 0.265, 0.088, 0.129)
USERS_A_CHUNK: Final = 4096
USERS_A_BLOCK: Final = 128


@dataclass(frozen=True, slots=True)
class Users:
    """The plan of all users, before what they rate is drawn: arrays of [U].

    ``counts`` ratings, ``joined`` epoch seconds of midnight of the first day, ``span`` days from the first to the last
    visit, ``visits`` days with ratings.
    """

    counts: Longs
    joined: Longs
    span: Longs
    visits: Longs


@dataclass(frozen=True, slots=True)
class Films:
    """What the draw needs of the movies.

    ``vectors`` f32[M, K], ``prominence`` and ``quality`` f32[M], ``releases`` int64[M] epoch seconds.
    """

    vectors: Floats
    prominence: Floats
    quality: Floats
    releases: Longs


@dataclass(frozen=True, slots=True)
class RatingChunk:
    """The ratings of consecutive users, by user and movie (both as row numbers): stars, epoch seconds; arrays [N]."""

    users: npt.NDArray[np.int32]
    movies: npt.NDArray[np.int32]
    stars: Floats
    timestamps: Longs


def release_times(catalogue: Catalogue, seed: int) -> Longs:
    """Give each movie's release: a day of its year, epoch seconds [M]."""
    rng = stream(seed, Purpose.POPULARITY, 1)
    start = (
        (catalogue.movie_years.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[s]").astype(np.int64)
    )
    return start + rng.integers(0, 330, len(start)) * DAY


def describe_films(catalogue: Catalogue, people: People, credits_: Credits, seed: int) -> Films:
    """Give each movie its vector; a user of N(0, 1) weights likes each part of it with a spread of ``WEIGHTS``."""
    rng = stream(seed, Purpose.TASTE)
    rows = catalogue.rows
    codes = catalogue.genres[rows]
    genre = (codes[:, :, None] == np.arange(len(GENRES))).any(axis=1).astype(np.float32)
    genre /= np.sqrt(np.maximum(genre.sum(axis=1, keepdims=True), 1))
    world = (catalogue.archetypes[rows][:, None] == np.arange(len(ARCHETYPES))).astype(np.float32)
    era = np.exp(-0.5 * ((catalogue.years[rows][:, None] - DECADES) / 7.0) ** 2)
    era /= np.sqrt((era**2).sum(axis=1, keepdims=True))
    factors = rng.standard_normal((len(people.births) + 1, PEOPLE_FACTORS)) / np.sqrt(PEOPLE_FACTORS)
    factors[-1] = 0.0
    director = factors[credits_.directors[rows, 0]]
    cast = factors[credits_.cast[rows]].sum(axis=1)
    cast /= np.sqrt(np.maximum((credits_.cast[rows] >= 0).sum(axis=1, keepdims=True), 1))
    # By title, so that a film listed twice is the same film.
    residual = (rng.standard_normal((len(catalogue.years), RESIDUAL_FACTORS)) / np.sqrt(RESIDUAL_FACTORS))[rows]
    parts = {"genre": genre, "world": world, "era": era, "director": director, "cast": cast, "residual": residual}
    vectors = np.concatenate([WEIGHTS[name] * part for name, part in parts.items()], axis=1).astype(np.float32)
    return Films(vectors, catalogue.prominence[rows], catalogue.quality[rows], release_times(catalogue, seed))


def plan_users(users: int, ratings: int, releases: Longs, seed: int) -> Users:
    """Plan who joins when and rates how much: a power law from 20 up, exactly ``ratings`` in all.

    Raises ``ValueError`` where so many ratings do not fit the users and movies.
    """
    rng = stream(seed, Purpose.USERS)
    days = (CLOSED - OPENED) // DAY
    day = (days - 60) * rng.beta(1.3, 1.0, users)
    span = np.minimum(np.maximum(rng.exponential(500, users), 3), days - 1 - day).astype(np.int64)
    joined = OPENED + day.astype(np.int64) * DAY
    available = np.searchsorted(np.sort(releases), joined + span * DAY)
    ceiling = np.maximum((0.6 * available).astype(np.int64), 1)
    floor = np.minimum(min(MIN_RATINGS, ratings // users), ceiling)
    if ratings > ceiling.sum() or ratings < users:
        raise ValueError(
            f"{ratings:,} ratings do not fit {users:,} users and {len(releases):,} movies: "
            f"ask for {users:,} to {ceiling.sum():,} ratings, or for more users or movies"
        )
    weight = rng.pareto(1.5, users) + 0.02
    low, high = 0.0, float(ratings) / weight.min()
    for _ in range(80):
        middle = (low + high) / 2
        if np.minimum(floor + middle * weight, ceiling).sum() < ratings:
            low = middle
        else:
            high = middle
    exact = np.minimum(floor + high * weight, ceiling)
    counts = np.floor(exact).astype(np.int64)
    # The remainder goes to the largest fractions that still have room.
    missing = ratings - int(counts.sum())
    order = np.argsort(-np.where(counts < ceiling, exact - counts, -1.0), kind="stable")
    counts[order[: max(missing, 0)]] += 1
    surplus = np.flatnonzero(counts > 1)[: max(-missing, 0)]
    counts[surplus] -= 1
    a_visit = rng.gamma(4.0, 3.5, users) + 2
    visits = np.minimum(np.clip(np.round(counts / a_visit), 2, span + 1).astype(np.int64), counts)
    return Users(counts, joined, np.where(visits > 1, span, 0), visits)


def _visit_days(plan: Users, rng: np.random.Generator) -> tuple[Longs, Longs]:
    """Draw the days of all visits: (offsets [U+1], days since joining [sum of visits]), ascending and distinct a user.

    The first visit is on the day of joining, the last at the end of the span.
    """
    offsets = np.concatenate([[0], np.cumsum(plan.visits)])
    user = np.repeat(np.arange(len(plan.visits)), plan.visits)
    at = np.arange(offsets[-1]) - offsets[user]
    drawn = rng.random(offsets[-1]) ** 1.4
    drawn[at == 0] = 0.0
    last = at == plan.visits[user] - 1
    drawn[last & (at > 0)] = 1.0
    drawn = drawn[np.lexsort((drawn, user))]
    slack = plan.span - (plan.visits - 1)
    return offsets, at + (drawn * slack[user]).astype(np.int64)


def _tastes(users: int, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Draw first and last tastes, both f32[users, K]."""
    first = rng.standard_normal((users, size), dtype=np.float32)
    other = rng.standard_normal((users, size), dtype=np.float32)
    return first, np.float32(STEADINESS) * first + np.float32(np.sqrt(1 - STEADINESS**2)) * other


def _choose(
    films: Films, first: Floats, last: Floats, counts: Longs, until: Longs, rng: np.random.Generator
) -> tuple[Longs, Longs, Floats, Floats]:
    """Choose each user's movies: (row in the block, movie, liking at first, liking at last), one row a rating."""
    likings = np.concatenate([first, last]) @ films.vectors.T
    early, late = likings[: len(first)], likings[len(first) :]
    # The smallest of E / exp(score) over exponential E are a sample without replacement with weights exp(score).
    keys = rng.random(early.shape, dtype=np.float32)
    np.log1p(-keys, out=keys)
    np.negative(keys, out=keys)
    np.maximum(keys, 1e-30, out=keys)
    np.log(keys, out=keys)
    keys -= POPULARITY * films.prominence
    keys -= (0.5 * CHOICE) * early
    keys -= (0.5 * CHOICE) * late
    keys[films.releases[None, :] > until[:, None]] = np.inf
    most = int(counts.max())
    near = np.argpartition(keys, most - 1, axis=1)[:, :most]
    order = np.argsort(np.take_along_axis(keys, near, axis=1), axis=1)
    best = np.take_along_axis(near, order, axis=1)
    row, place = np.nonzero(np.arange(most)[None, :] < counts[:, None])
    movie = best[row, place]
    return row, movie, early[row, movie], late[row, movie]


def _rate_chunk(
    films: Films, plan: Users, start: int, seed: int, chunk: int, cuts: Floats | None
) -> tuple[RatingChunk, Floats]:
    """Draw one chunk of users; ``cuts`` are the limits between stars, taken from the first chunk."""
    rng = stream(seed, Purpose.RATINGS, chunk)
    users = len(plan.counts)
    offsets, days = _visit_days(plan, rng)
    first, last = _tastes(users, rng, films.vectors.shape[1])
    until = plan.joined + plan.span * DAY
    # Blocks of users with about as many ratings each, so that the top-k of a block is no larger than needed.
    by_count = np.argsort(plan.counts, kind="stable")
    parts = []
    for at in range(0, users, USERS_A_BLOCK):
        block = by_count[at : at + USERS_A_BLOCK]
        row, *rest = _choose(films, first[block], last[block], plan.counts[block], until[block], rng)
        parts.append((block[row], *rest))
    user, movie, early, late = (np.concatenate(part) for part in zip(*parts, strict=True))

    # When: films nearer to the last taste come later, none before its release.
    n = len(user)
    moved = late - early
    wish = moved / np.float32(moved.std() + 1e-6) + rng.standard_normal(n, dtype=np.float32)
    order = np.lexsort((wish, user))
    user, movie, early, late = user[order], movie[order], early[order], late[order]
    starts = np.concatenate([[0], np.cumsum(plan.counts)])
    place = np.arange(n) - starts[user]
    fraction = (place + rng.random(n)) / plan.counts[user]
    visit = offsets[user] + np.minimum((fraction * plan.visits[user]).astype(np.int64), plan.visits[user] - 1)
    owner = np.repeat(np.arange(users), plan.visits)
    midnight = plan.joined[owner] + days * DAY
    # One ascending axis for all users: a user's visits never reach the next user's.
    axis = np.int64(2) * CLOSED
    possible = np.searchsorted(owner * axis + midnight, user * axis + films.releases[movie])
    visit = np.maximum(visit, possible)
    order = np.lexsort((rng.random(n), visit))
    user, movie, early, late, visit = user[order], movie[order], early[order], late[order], visit[order]
    opening = np.concatenate([[True], visit[1:] != visit[:-1]])
    evening = rng.normal(19.0, 2.0, len(days)).clip(8, 22) * 3600
    gap = np.where(opening, 0, np.minimum(rng.exponential(28, n), 300).astype(np.int64))
    running = np.cumsum(gap)
    running -= running[np.flatnonzero(opening)][np.cumsum(opening) - 1]
    timestamps = midnight[visit] + evening[visit].astype(np.int64) + running

    # Stars: the taste of that moment, the film's quality, the user's habit.
    progress = (days[visit] / np.maximum(plan.span[user], 1)).astype(np.float32)
    liking = early + progress * (late - early)
    habit = rng.standard_normal(users, dtype=np.float32)[user]
    chance = rng.standard_normal(n, dtype=np.float32)
    latent = STARS["liking"] * liking + STARS["quality"] * films.quality[movie]
    latent += STARS["habit"] * habit + STARS["chance"] * chance
    if cuts is None:
        cuts = np.quantile(latent, np.cumsum(STAR_SHARES)[:-1]).astype(np.float32)
    stars = (np.searchsorted(cuts, latent) + 1).astype(np.float32) / 2
    order = np.lexsort((movie, user))
    return RatingChunk(
        (user[order] + start).astype(np.int32), movie[order].astype(np.int32), stars[order], timestamps[order]
    ), cuts


def rate(films: Films, users: Users, seed: int) -> Iterator[RatingChunk]:
    """Yield all ratings, a few thousand users at a time; memory is bounded by the chunk, not by the edition."""
    cuts: Floats | None = None
    for chunk, start in enumerate(range(0, len(users.counts), USERS_A_CHUNK)):
        part = slice(start, start + USERS_A_CHUNK)
        plan = Users(users.counts[part], users.joined[part], users.span[part], users.visits[part])
        ratings, cuts = _rate_chunk(films, plan, start, seed, chunk, cuts)
        yield ratings
