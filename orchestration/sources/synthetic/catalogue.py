"""The titles of the sample: what MovieLens lists, what IMDb knows, and how the two differ.

A title is one row of ``Catalogue``; a MovieLens movie points to one. Most movies are easy to match; a known few are not
(no link, another title, a year off, a namesake, a film listed twice, a film that IMDb lacks); ``matching`` names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.sources.synthetic.streams import Purpose, stream
from orchestration.sources.synthetic.words import join_article, make_foreign, make_titles, move_article

GENRES: Final = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
GENRE_SHARES: Final = (18, 13, 6, 7, 38, 12, 4.5, 45, 8, 1, 10, 3.5, 6, 16, 10, 19, 4, 2)
#: Genres that go together; a title belongs to one of these worlds, and so do the people who make it.
ARCHETYPES: Final = (
    ("Action", "Adventure", "Sci-Fi"),
    ("Animation", "Children", "Fantasy", "Musical"),
    ("Crime", "Thriller", "Mystery", "Film-Noir"),
    ("Drama", "Romance"),
    ("Horror", "Thriller"),
    ("Comedy", "Romance"),
    ("Documentary", "War", "Drama"),
    ("Comedy", "Western", "Adventure"),
)
ARCHETYPE_SHARES: Final = (0.17, 0.09, 0.16, 0.22, 0.10, 0.17, 0.05, 0.04)
#: The last one is IMDb's `\\N`.
TYPES: Final = (
    "movie",
    "short",
    "tvSeries",
    "tvEpisode",
    "tvMovie",
    "video",
    "tvMiniSeries",
    "videoGame",
    "tvSpecial",
    None,
)
TYPE_SHARES: Final = (0.33, 0.20, 0.08, 0.26, 0.05, 0.04, 0.02, 0.01, 0.01, 0.0)
FILM_TYPE_SHARES: Final = (0.93, 0.01, 0.0, 0.0, 0.02, 0.015, 0.005, 0.0, 0.0, 0.02)
FIRST_YEAR: Final = 1923
LAST_YEAR: Final = 2018
FIRST_TELEVISION: Final = 1950
#: Beyond IMDb's own numbers, so that no fictional film's link opens a real one's page.
FIRST_TCONST: Final = 90_000_001
FIRST_NCONST: Final = 90_000_001


@dataclass(frozen=True, slots=True)
class Matching:
    """One movie whose match with IMDb is not a plain link: its kind, and the tconst it should find, if any."""

    movie_id: int
    kind: str
    tconst: str | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All titles and the movies that point to them.

    ``titles``: one row a title, in order of tconst: tconst, in_imdb, title_type, primary_title, original_title,
    other_title (another name, or null), region and language of the original, is_film.
    ``years`` int16[T], ``genres`` int8[T, 3] codes of ``GENRES`` ascending (-1 = none), ``archetypes`` int8[T].
    ``movies``: one row a movie, in order of movieId: movieId, title, genres, imdbId, tmdbId (null where links lack
    it). ``rows`` int32[M] the movie's title, ``movie_years`` int16[M] the year that MovieLens gives, ``prominence``
    float32[T] log popularity (films of MovieLens stand out), ``quality`` float32[T] about N(0, 1).
    """

    titles: pl.DataFrame
    years: npt.NDArray[np.int16]
    genres: npt.NDArray[np.int8]
    archetypes: npt.NDArray[np.int8]
    movies: pl.DataFrame
    rows: npt.NDArray[np.int32]
    movie_years: npt.NDArray[np.int16]
    prominence: npt.NDArray[np.float32]
    quality: npt.NDArray[np.float32]
    matching: tuple[Matching, ...]


def _draw_genres(
    archetypes: npt.NDArray[np.int8], rng: np.random.Generator, block: int = 500_000
) -> npt.NDArray[np.int8]:
    """Draw one to three genres a title, without replacement, near its archetype: int8[T, 3] ascending, -1 last."""
    bonus = np.array([[2.2 if genre in world else 0.0 for genre in GENRES] for world in ARCHETYPES], dtype=np.float32)
    logits = np.log(np.array(GENRE_SHARES, dtype=np.float32))[None, :] + bonus
    blocks = []
    for at in range(0, len(archetypes), block):
        part = archetypes[at : at + block]
        scores = logits[part] + rng.gumbel(size=(len(part), len(GENRES))).astype(np.float32)
        best = np.argsort(-scores, axis=1)[:, :3].astype(np.int8)
        wanted = rng.choice(3, len(part), p=(0.3, 0.4, 0.3)) + 1
        best[np.arange(3)[None, :] >= wanted[:, None]] = len(GENRES)
        best = np.sort(best, axis=1)
        blocks.append(np.where(best == len(GENRES), -1, best).astype(np.int8))
    return np.concatenate(blocks)


def gather(words: pl.Series, at: npt.NDArray[np.integer]) -> pl.Series:
    """Give the words at these indices, null at a negative one."""
    index = pl.Series(at).cast(pl.Int64)
    return words.gather(index.set(index < 0, None).cast(pl.UInt32))


def join_genres(codes: npt.NDArray[np.int8], names: tuple[str, ...], separator: str) -> pl.Series:
    """Join the names of genre codes [T, 3] in the order of the columns; null where there is none."""
    words = pl.Series(names, dtype=pl.String)
    columns = {f"g{i}": gather(words, codes[:, i]) for i in range(codes.shape[1])}
    joined = pl.DataFrame(columns).select(
        pl.concat_str(pl.all(), separator=separator, ignore_nulls=True).alias("genres")
    )
    return joined.select(pl.when(pl.col("genres") != "").then("genres"))["genres"]


def make_catalogue(movies: int, imdb_titles: int, seed: int) -> Catalogue:
    """Make ``movies`` MovieLens movies and ``imdb_titles`` titles, most movies' own among them."""
    # How many movies of each awkward kind there are.
    few = max(1, movies // 300)
    films = movies - few
    n = imdb_titles

    rng = stream(seed, Purpose.YEARS)
    drawn = FIRST_YEAR + (LAST_YEAR + 1 - FIRST_YEAR) * rng.beta(4, 1, n)
    order = np.argsort(drawn + rng.normal(0, 1.5, n))
    years = drawn[order].astype(np.int16)
    gap = max(1, min(3, 9_000_000 // n))
    tconst = FIRST_TCONST + np.cumsum(rng.integers(1, gap + 1, n))
    film_rows = np.sort(rng.choice(n, films, replace=False)).astype(np.int32)
    other_rows = np.setdiff1d(np.arange(n, dtype=np.int32), film_rows)

    rng = stream(seed, Purpose.GENRES)
    archetypes = rng.choice(len(ARCHETYPES), n, p=ARCHETYPE_SHARES).astype(np.int8)
    genres = _draw_genres(archetypes, rng)

    rng = stream(seed, Purpose.POPULARITY)
    quality = rng.standard_normal(n).astype(np.float32)
    prominence = (1.35 * rng.standard_normal(n) + 0.25 * quality - 3.0).astype(np.float32)
    prominence[film_rows] += 3.0

    # Awkward kinds: disjoint slices of one permutation of the films.
    shuffled = stream(seed, Purpose.LISTS).permutation(films)
    kinds = ("plain", "alias", "alias_hidden", "near_year", "namesake", "missing", "missing_link", "twice", "undated")
    groups = {kind: shuffled[i * few : (i + 1) * few] for i, kind in enumerate(kinds)}
    rest = shuffled[len(kinds) * few :]
    pairs = max(1, min(movies // 150, len(rest) // 5))
    remade = np.sort(rest[: 2 * pairs])
    same_year = rest[2 * pairs : 2 * pairs + 2]
    usual = rest[2 * pairs + 2 :]
    foreign = usual[: max(1, films // 16)] if len(usual) else usual
    alias = np.concatenate([groups["alias"], groups["alias_hidden"], usual[len(foreign) : len(foreign) + films // 30]])

    # Titles are indices into one list of (article, body): sharing a title is sharing an index.
    rng = stream(seed, Purpose.TITLES)
    words = make_titles(n + len(alias), rng)
    translated = make_foreign(len(foreign), rng)
    english = translated.select(pl.col("en_article").alias("article"), pl.col("en_body").alias("body"))
    phrases = pl.concat([words, english, translated.select("article", "body")]).select(
        join_article("article", "body").alias("name"), move_article("article", "body").alias("filed")
    )
    name_at = np.arange(n)
    other_at = np.full(n, -1)
    alias_rows, foreign_rows = film_rows[alias], film_rows[foreign]
    other_at[alias_rows] = n + np.arange(len(alias))
    name_at[foreign_rows] = words.height + np.arange(len(foreign))
    other_at[foreign_rows] = words.height + len(foreign) + np.arange(len(foreign))
    # A remake has an older film's title; namesakes share the year too, one pair in both worlds, some only in IMDb.
    name_at[film_rows[remade[pairs:]]] = name_at[film_rows[remade[:pairs]]]
    namesakes = film_rows[groups["namesake"]]
    doubles = other_rows[stream(seed, Purpose.LISTS, 1).permutation(len(other_rows) - 2)[: len(namesakes)]]
    for one, two in ((film_rows[same_year[:1]], film_rows[same_year[1:]]), (namesakes, doubles)):
        name_at[two], years[two] = name_at[one], years[one]

    rng = stream(seed, Purpose.LISTS, 2)
    is_film = np.zeros(n, dtype=bool)
    is_film[film_rows] = True
    types = rng.choice(len(TYPES), n, p=TYPE_SHARES).astype(np.int8)
    types[film_rows] = rng.choice(len(TYPES), films, p=FILM_TYPE_SHARES).astype(np.int8)
    types[doubles] = TYPES.index("movie")
    series, episode = TYPES.index("tvSeries"), TYPES.index("tvEpisode")
    types[np.isin(types, (series, episode)) & (years < FIRST_TELEVISION)] = TYPES.index("short")
    types[other_rows[-2:]] = series, episode
    prominence[doubles] = prominence[namesakes] - 4.0
    in_imdb = np.ones(n, dtype=bool)
    in_imdb[film_rows[groups["missing"]]] = False
    in_imdb[film_rows[groups["missing_link"]]] = False
    # IMDb knows half of the films with two names by the one that MovieLens gives second, and the hidden ones by it.
    swapped = np.zeros(n, dtype=bool)
    swapped[alias_rows[: len(groups["alias"]) + len(groups["alias_hidden"])]] = True
    swapped[alias_rows[rng.random(len(alias_rows)) < 0.5]] = True
    swapped[foreign_rows] = False
    home_at = np.full(n, -1)
    home_at[foreign_rows] = np.arange(len(foreign))
    named = pl.DataFrame(
        {
            "name": gather(phrases["name"], name_at),
            "other": gather(phrases["name"], other_at),
            "swapped": swapped,
        }
    )
    titles = named.select(
        ("tt" + pl.Series("tconst", tconst).cast(pl.String)).alias("tconst"),
        pl.Series("in_imdb", in_imdb),
        gather(pl.Series(TYPES), types).alias("title_type"),
        pl.when("swapped").then("other").otherwise("name").alias("primary_title"),
        pl.when("swapped").then("name").otherwise("other").alias("other_title"),
        gather(translated["region"], home_at).alias("region"),
        gather(translated["language"], home_at).alias("language"),
        pl.Series("is_film", is_film),
    ).with_columns(
        pl.when(pl.col("region").is_not_null()).then("other_title").otherwise("primary_title").alias("original_title")
    )

    # MovieLens: the films, and a few of them a second time.
    rows = np.concatenate([film_rows, film_rows[groups["twice"]]])
    kind_of = np.full(movies, "", dtype=object)
    for kind in kinds:
        kind_of[groups[kind]] = kind
    kind_of[films:] = "twice"
    rng = stream(seed, Purpose.LISTS, 3)
    order = np.argsort(years[rows] + rng.normal(0, 6, movies), kind="stable")
    rows, kind_of = rows[order].astype(np.int32), kind_of[order]
    movie_id = np.cumsum(rng.choice((1, 1, 1, 2, 3, 9), movies)).astype(np.int32)
    movie_years = years[rows] + ((kind_of == "near_year") & (years[rows] < LAST_YEAR)).astype(np.int16)
    shown_other = (kind_of != "alias_hidden") & (other_at[rows] >= 0)
    listed = pl.DataFrame(
        {
            "movieId": movie_id,
            "filed": gather(phrases["filed"], name_at[rows]),
            "other": gather(phrases["filed"], other_at[rows]),
            "foreign": home_at[rows] >= 0,
            "shown": shown_other,
            "year": movie_years,
            "dated": kind_of != "undated",
            "linked": ~np.isin(kind_of, ("plain", "alias", "alias_hidden", "near_year", "namesake", "missing")),
            "imdbId": tconst[rows],
            "tmdbId": 9_000_000 + movie_id.astype(np.int64) * 7,
            "has_tmdb": rng.random(movies) > 0.005,
            "genres": join_genres(genres[rows], GENRES, "|"),
            "imax": (rng.random(movies) < 0.03) & (movie_years >= 2002),
            "no_genre": rng.random(movies) < 0.008,
        }
    )
    second = pl.when(pl.col("foreign")).then("other").otherwise(pl.lit("a.k.a. ") + pl.col("other"))
    table = listed.select(
        "movieId",
        (
            pl.col("filed")
            + pl.when(pl.col("shown")).then(pl.lit(" (") + second + ")").otherwise(pl.lit(""))
            + pl.when(pl.col("dated")).then(pl.lit(" (") + pl.col("year").cast(pl.String) + ")").otherwise(pl.lit(""))
        ).alias("title"),
        pl.when("no_genre")
        .then(pl.lit("(no genres listed)"))
        .otherwise(pl.col("genres") + pl.when("imax").then(pl.lit("|IMAX")).otherwise(pl.lit("")))
        .alias("genres"),
        pl.when("linked").then(pl.col("imdbId").cast(pl.String).str.zfill(7)).alias("imdbId"),
        pl.when("has_tmdb").then("tmdbId").alias("tmdbId"),
    )
    awkward = np.flatnonzero(kind_of != "")
    found = np.where(in_imdb[rows], titles["tconst"].to_numpy()[rows], None)
    matching = tuple(
        Matching(int(i), str(kind), tt)
        for i, kind, tt in zip(movie_id[awkward].tolist(), kind_of[awkward], found[awkward], strict=True)
    )
    return Catalogue(titles, years, genres, archetypes, table, rows, movie_years, prominence, quality, matching)
