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

from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.word_lists import join_article, make_foreign, make_titles, move_article

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
#: Those of IMDb itself, whose titles are episodes for the most part.
IMDB_TYPE_SHARES: Final = (0.06, 0.093, 0.025, 0.77, 0.013, 0.026, 0.005, 0.003, 0.005, 0.0)
FILM_TYPE_SHARES: Final = (0.93, 0.01, 0.0, 0.0, 0.02, 0.015, 0.005, 0.0, 0.0, 0.02)
FIRST_YEAR: Final = 1923
LAST_YEAR: Final = 2018
FIRST_TELEVISION: Final = 1950
#: Beyond IMDb's own numbers, so that no fictional film's link opens a real one's page.
FIRST_TCONST: Final = 90_000_001
FIRST_NCONST: Final = 90_000_001
#: What makes a movie awkward to match: no link; no link, and IMDb knows it by the name that MovieLens gives second, or
#: does not give; no link, and a year off; no link, and a lesser title of the same name and year; not in IMDb, without a
#: link or with one; listed twice; without a year.
KINDS: Final = (
    "plain", "alias", "alias_hidden", "near_year", "namesake", "missing", "missing_link", "twice", "undated",
)  # fmt: skip
UNLINKED: Final = KINDS[:6]

Rows = npt.NDArray[np.integer]


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


@dataclass(frozen=True, slots=True)
class _Casting:
    """Which films are awkward, and how: rows of titles, disjoint but for ``aliases``.

    ``kinds``: kind -> films. ``remade``: two films a row, the later has the earlier's title. ``pair``: two films of
    one title and year. ``foreign``: films with an English and an original title. ``aliases``: films with two names,
    those of the kinds alias and alias_hidden among them. ``doubles``: titles that are no films of MovieLens, the
    namesakes of the kind namesake, in its order.
    """

    kinds: dict[str, Rows]
    remade: Rows
    pair: Rows
    foreign: Rows
    aliases: Rows
    doubles: Rows


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of the titles: indices into ``phrases`` (name as spoken, and as MovieLens files it).

    ``first`` int64[T], ``second`` int64[T] (-1 = none); ``abroad`` int64[T] row of ``originals`` (region, language), -1
    for a film that is not foreign; ``swapped`` bool[T] where IMDb knows the title by its second name.
    """

    phrases: pl.DataFrame
    originals: pl.DataFrame
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    abroad: npt.NDArray[np.int64]
    swapped: npt.NDArray[np.bool_]


def few_of(movies: int) -> int:
    """Give how many movies of each awkward kind there are."""
    return max(1, movies // 300)


def make_catalogue(movies: int, imdb_titles: int, seed: int, type_shares: tuple[float, ...] = TYPE_SHARES) -> Catalogue:
    """Make ``movies`` MovieLens movies and ``imdb_titles`` titles, most movies' own among them.

    ``type_shares``: how the titles that are no films of MovieLens are spread over ``TYPES``.
    """
    n = imdb_titles
    rng = stream(seed, Purpose.YEARS)
    drawn = FIRST_YEAR + (LAST_YEAR + 1 - FIRST_YEAR) * rng.beta(4, 1, n)
    years = drawn[np.argsort(drawn + rng.normal(0, 1.5, n))].astype(np.int16)
    gap = max(1, min(3, 9_000_000 // n))
    numbers = FIRST_TCONST + np.cumsum(rng.integers(1, gap + 1, n))
    films = np.sort(rng.choice(n, movies - few_of(movies), replace=False)).astype(np.int32)
    is_film = np.isin(np.arange(n), films)
    casting = _cast(films, np.flatnonzero(~is_film), movies, seed)
    # Namesakes share the year; and a year off needs a year after.
    years[casting.pair[1:]] = years[casting.pair[:1]]
    years[casting.doubles] = years[casting.kinds["namesake"]]
    years[casting.kinds["near_year"]] = np.minimum(years[casting.kinds["near_year"]], LAST_YEAR - 1)

    rng = stream(seed, Purpose.GENRES)
    archetypes = rng.choice(len(ARCHETYPES), n, p=ARCHETYPE_SHARES).astype(np.int8)
    genres = _draw_genres(archetypes, rng)

    rng = stream(seed, Purpose.POPULARITY)
    quality = rng.standard_normal(n).astype(np.float32)
    prominence = (1.35 * rng.standard_normal(n) + 0.25 * quality - 3.0).astype(np.float32)
    prominence[films] += 3.0
    prominence[casting.doubles] = prominence[casting.kinds["namesake"]] - 4.0

    names = _name(n, casting, seed)
    in_imdb = np.ones(n, dtype=bool)
    in_imdb[casting.kinds["missing"]] = False
    in_imdb[casting.kinds["missing_link"]] = False
    named = pl.DataFrame(
        {
            "name": gather(names.phrases["name"], names.first),
            "other": gather(names.phrases["name"], names.second),
            "swapped": names.swapped,
        }
    )
    titles = named.select(
        ("tt" + pl.Series("tconst", numbers).cast(pl.String)).alias("tconst"),
        pl.Series("in_imdb", in_imdb),
        gather(pl.Series(TYPES), _draw_types(years, films, casting, seed, type_shares)).alias("title_type"),
        pl.when("swapped").then("other").otherwise("name").alias("primary_title"),
        pl.when("swapped").then("name").otherwise("other").alias("other_title"),
        gather(names.originals["region"], names.abroad).alias("region"),
        gather(names.originals["language"], names.abroad).alias("language"),
        pl.Series("is_film", is_film),
    ).with_columns(
        pl.when(pl.col("region").is_not_null()).then("other_title").otherwise("primary_title").alias("original_title")
    )
    movie_list, rows, movie_years, matching = _list_movies(titles, years, genres, films, casting, names, seed)
    return Catalogue(titles, years, genres, archetypes, movie_list, rows, movie_years, prominence, quality, matching)


def _cast(films: Rows, others: Rows, movies: int, seed: int) -> _Casting:
    """Choose the awkward films: disjoint slices of one permutation."""
    few = few_of(movies)
    shuffled = films[stream(seed, Purpose.LISTS).permutation(len(films))]
    kinds = {kind: shuffled[i * few : (i + 1) * few] for i, kind in enumerate(KINDS)}
    rest = shuffled[len(KINDS) * few :]
    pairs = max(1, min(movies // 150, len(rest) // 5))
    # Titles are in order of year, so the later half are remakes of the earlier one.
    remade = np.sort(rest[: 2 * pairs]).reshape(2, pairs).T
    pair, usual = rest[2 * pairs : 2 * pairs + 2], rest[2 * pairs + 2 :]
    foreign, usual = np.split(usual, [max(1, len(films) // 16)])
    aliases = np.concatenate([kinds["alias"], kinds["alias_hidden"], usual[: len(films) // 30]])
    # The last two others are a series and an episode, whatever the size.
    doubles = others[stream(seed, Purpose.LISTS, 1).permutation(len(others) - 2)[:few]]
    return _Casting(kinds, remade, pair, foreign, aliases, doubles)


def _name(n: int, casting: _Casting, seed: int) -> _Names:
    """Name the titles; sharing a name is sharing an index."""
    rng = stream(seed, Purpose.TITLES)
    words = make_titles(n + len(casting.aliases), rng)
    foreign = make_foreign(len(casting.foreign), rng)
    english = foreign.select(pl.col("en_article").alias("article"), pl.col("en_body").alias("body"))
    phrases = pl.concat([words, english, foreign.select("article", "body")]).select(
        join_article("article", "body").alias("name"), move_article("article", "body").alias("filed")
    )
    first, second, abroad = np.arange(n), np.full(n, -1), np.full(n, -1)
    second[casting.aliases] = n + np.arange(len(casting.aliases))
    abroad[casting.foreign] = np.arange(foreign.height)
    first[casting.foreign] = words.height + np.arange(foreign.height)
    second[casting.foreign] = words.height + foreign.height + np.arange(foreign.height)
    first[casting.remade[:, 1]] = first[casting.remade[:, 0]]
    first[casting.pair[1:]] = first[casting.pair[:1]]
    first[casting.doubles] = first[casting.kinds["namesake"]]
    # IMDb knows half of the films with two names by the one that MovieLens gives second, and the awkward ones always.
    swapped = np.zeros(n, dtype=bool)
    swapped[casting.aliases[rng.random(len(casting.aliases)) < 0.5]] = True
    swapped[casting.kinds["alias"]] = True
    swapped[casting.kinds["alias_hidden"]] = True
    return _Names(phrases, foreign.select("region", "language"), first, second, abroad, swapped)


def _draw_types(
    years: npt.NDArray[np.int16], films: Rows, casting: _Casting, seed: int, shares: tuple[float, ...]
) -> npt.NDArray[np.int8]:
    """Draw the type of each title, as a code of ``TYPES``; the awkward films are plain movies in this."""
    rng = stream(seed, Purpose.LISTS, 2)
    movie, short, series, episode = (TYPES.index(name) for name in ("movie", "short", "tvSeries", "tvEpisode"))
    types = rng.choice(len(TYPES), len(years), p=shares).astype(np.int8)
    types[np.isin(types, (series, episode)) & (years < FIRST_TELEVISION)] = short
    others = np.setdiff1d(np.arange(len(years)), films)
    types[others[-2:]] = series, episode
    types[films] = rng.choice(len(TYPES), len(films), p=FILM_TYPE_SHARES).astype(np.int8)
    types[np.concatenate([*casting.kinds.values(), casting.doubles])] = movie
    return types


def _list_movies(
    titles: pl.DataFrame,
    years: npt.NDArray[np.int16],
    genres: npt.NDArray[np.int8],
    films: Rows,
    casting: _Casting,
    names: _Names,
    seed: int,
) -> tuple[pl.DataFrame, npt.NDArray[np.int32], npt.NDArray[np.int16], tuple[Matching, ...]]:
    """List the movies of MovieLens, a few films twice: (movies, rows, movie_years, matching) of the catalogue."""
    rng = stream(seed, Purpose.LISTS, 3)
    rows = np.concatenate([films, casting.kinds["twice"]])
    rows = rows[np.argsort(years[rows] + rng.normal(0, 6, len(rows)), kind="stable")]
    n = len(rows)
    kind_at = np.full(titles.height, -1)
    for code, name in enumerate(KINDS):
        kind_at[casting.kinds[name]] = code
    kind = gather(pl.Series(KINDS), kind_at[rows])
    gaps = rng.choice((1, 1, 1, 2, 3, 9), n)
    # Examples ask for movie 1.
    gaps[0] = 1
    movie_id = np.cumsum(gaps).astype(np.int32)
    movie_years = years[rows] + (kind_at[rows] == KINDS.index("near_year")).astype(np.int16)
    listed = pl.DataFrame(
        {
            "movieId": movie_id,
            "kind": kind,
            "filed": gather(names.phrases["filed"], names.first[rows]),
            "other": gather(names.phrases["filed"], names.second[rows]),
            "foreign": names.abroad[rows] >= 0,
            "year": movie_years,
            "tconst": gather(titles["tconst"], rows),
            "in_imdb": titles["in_imdb"].gather(rows.astype(np.uint32)),
            "tmdbId": 9_000_000 + movie_id.astype(np.int64) * 7,
            "has_tmdb": rng.random(n) > 0.005,
            "genres": join_genres(genres[rows], GENRES, "|"),
            "imax": (rng.random(n) < 0.03) & (movie_years >= 2002),
            "no_genre": rng.random(n) < 0.008,
        }
    ).with_columns(pl.col("kind").fill_null(""))
    second = pl.when("foreign").then("other").otherwise(pl.lit("a.k.a. ") + pl.col("other"))
    shown = pl.col("other").is_not_null() & (pl.col("kind") != "alias_hidden")
    year = pl.lit(" (") + pl.col("year").cast(pl.String) + ")"
    nothing = pl.lit("")
    movies = listed.select(
        "movieId",
        (
            pl.col("filed")
            + pl.when(shown).then(pl.lit(" (") + second + ")").otherwise(nothing)
            + pl.when(pl.col("kind") != "undated").then(year).otherwise(nothing)
        ).alias("title"),
        pl.when("no_genre")
        .then(pl.lit("(no genres listed)"))
        .otherwise(pl.col("genres") + pl.when("imax").then(pl.lit("|IMAX")).otherwise(nothing))
        .alias("genres"),
        pl.when(~pl.col("kind").is_in(UNLINKED)).then(pl.col("tconst").str.slice(2)).alias("imdbId"),
        pl.when("has_tmdb").then("tmdbId").alias("tmdbId"),
    )
    awkward = listed.filter(pl.col("kind") != "").select(
        "movieId", "kind", pl.when("in_imdb").then("tconst").alias("tconst")
    )
    matching = tuple(Matching(*row) for row in awkward.rows())
    return movies, rows.astype(np.int32), movie_years, matching
