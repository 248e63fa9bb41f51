"""The seven IMDb dumps as frames: a slice of titles at a time, in the columns and the order of the official files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.synthetic.people import POOLS, Credits, People
from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.titles import FIRST_NCONST, GENRES, Catalogue, gather, join_genres
from orchestration.synthetic.word_lists import FEMALE, MALE, draw, join_article, make_foreign, make_katakana

TITLES_A_CHUNK: Final = 200_000
SNAPSHOT_YEAR: Final = 2019
_IMDB_NAMES: Final = ["Family" if genre == "Children" else genre for genre in GENRES]
IMDB_GENRES: Final = tuple(sorted(_IMDB_NAMES))
#: MovieLens's code -> IMDb's, where they are in alphabetical order; the last entry is that of -1.
_RECODED: Final = np.array([*(IMDB_GENRES.index(name) for name in _IMDB_NAMES), -1], dtype=np.int8)
CREW_CATEGORIES: Final = ("producer", "composer", "cinematographer", "editor")
EPISODES_A_SEASON: Final = 10
#: As in IMDb's own dumps: one title in seven has votes, and a title has four or five names.
IMDB_RATED: Final = 0.14
IMDB_REGIONS: Final = ("FR", "DE", "IN")


@dataclass(frozen=True, slots=True)
class World:
    """All that the dumps are written from.

    ``rated``: the share of titles with votes, films of MovieLens apart. ``regional``: regions in most of which every
    title has a name of its own.
    """

    catalogue: Catalogue
    people: People
    credits: Credits
    seed: int
    rated: float = 0.6
    regional: tuple[str, ...] = ()

    def slices(self, table: int) -> Iterator[tuple[npt.NDArray[np.int64], np.random.Generator]]:
        """Yield the rows of the titles that IMDb has, a chunk at a time, each with its own random stream."""
        rows = np.flatnonzero(self.catalogue.titles["in_imdb"].to_numpy())
        for chunk, at in enumerate(range(0, len(rows), TITLES_A_CHUNK)):
            yield rows[at : at + TITLES_A_CHUNK], stream(self.seed, Purpose.IMDB, table, chunk)

    def titles(self, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
        """Give the titles of these rows."""
        return self.catalogue.titles[rows]


def person_ids(rows: npt.NDArray[np.int32]) -> pl.Series:
    """Give the nconst of these people, null at -1."""
    numbers = pl.Series(FIRST_NCONST + rows.astype(np.int64)).cast(pl.String)
    return ("nm" + numbers).set(pl.Series(rows < 0), None)


def title_basics(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.basics: one row a title."""
    for rows, rng in world.slices(1):
        n = len(rows)
        titles = world.titles(rows)
        kind = titles["title_type"].to_numpy()
        series, short = np.isin(kind, ("tvSeries", "tvMiniSeries")), np.isin(kind, ("short",))
        episode = np.isin(kind, ("tvEpisode",))
        minutes = rng.normal(106, 18, n).clip(61, 230)
        minutes = np.where(short, rng.integers(2, 40, n), np.where(episode, rng.choice((22, 30, 45, 60), n), minutes))
        years = world.catalogue.years[rows].astype(np.int64)
        genres = join_genres(np.sort(_RECODED[world.catalogue.genres[rows]], axis=1), IMDB_GENRES, ",")
        frame = titles.select(
            "tconst", pl.col("title_type").alias("titleType"), "primary_title", "original_title"
        ).with_columns(
            isAdult=pl.Series((rng.random(n) < 0.01) & ~titles["is_film"].to_numpy()).cast(pl.Int8),
            startYear=pl.Series(years).set(pl.Series(~titles["is_film"].to_numpy() & (rng.random(n) < 0.02)), None),
            endYear=pl.Series(np.minimum(years + rng.geometric(0.3, n), SNAPSHOT_YEAR - 1)).set(
                pl.Series(~series | (rng.random(n) < 0.4)), None
            ),
            runtimeMinutes=pl.Series(minutes.astype(np.int64)).set(pl.Series((rng.random(n) < 0.07) | series), None),
            genres=genres.set(pl.Series(rng.random(n) < 0.01), None),
        )
        unknown = pl.col("titleType").is_null()
        yield frame.rename({"primary_title": "primaryTitle", "original_title": "originalTitle"}).with_columns(
            pl.when(~unknown).then("isAdult").alias("isAdult"), pl.when(~unknown).then("endYear").alias("endYear")
        )


def title_ratings(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.ratings: one row a title with at least five votes."""
    for rows, rng in world.slices(2):
        rated = world.catalogue.titles["is_film"].to_numpy()[rows] | (rng.random(len(rows)) < world.rated)
        rows = rows[rated]
        n = len(rows)
        prominence = world.catalogue.prominence[rows]
        votes = np.exp(8.5 + 1.05 * prominence + 0.4 * rng.standard_normal(n)).clip(5, 2_900_000)
        average = (6.5 + 0.95 * world.catalogue.quality[rows] + 0.3 * rng.standard_normal(n)).clip(1, 10)
        yield pl.DataFrame(
            {
                "tconst": world.titles(rows)["tconst"],
                "averageRating": average.round(1),
                "numVotes": votes.astype(np.int64),
            }
        )


def title_crew(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.crew: one row a title."""
    for rows, rng in world.slices(3):
        titles = world.titles(rows)
        directors = world.credits.directors[rows].copy()
        directors[titles["title_type"].is_in(["tvSeries", "videoGame"]).fill_null(False).to_numpy()] = -1
        writers = world.credits.writers[rows].copy()
        writers[rng.random(len(rows)) < 0.08] = -1

        def joined(ids: npt.NDArray[np.int32]) -> pl.Series:
            columns = pl.DataFrame({f"p{i}": person_ids(ids[:, i]) for i in range(ids.shape[1])})
            text = columns.select(pl.concat_str(pl.all(), separator=",", ignore_nulls=True).alias("ids"))
            return text.select(pl.when(pl.col("ids") != "").then("ids"))["ids"]

        yield titles.select("tconst", joined(directors).alias("directors"), joined(writers).alias("writers"))


def title_principals(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.principals: one row a title and principal, cast first."""
    for rows, rng in world.slices(4):
        made = world.credits
        people = np.concatenate(
            [made.cast[rows], made.directors[rows], made.writers[rows], made.crew[rows, None]], axis=1
        )
        cast, directors, writers = made.cast.shape[1], made.directors.shape[1], made.writers.shape[1]
        slots = np.repeat([0, 1, 2, 3], (cast, directors, writers, 1))
        known = people >= 0
        ordering = np.cumsum(known, axis=1)[known]
        title, slot = np.nonzero(known)
        person = people[known]
        role = slots[slot]
        # Names of a pool alternate between women and men.
        category = np.where(role == 0, person % 2, np.where(role == 3, 4 + person % 4, role + 1))
        names = pl.Series(("actress", "actor", "director", "writer", *CREW_CATEGORIES))
        n = len(person)
        character = pl.DataFrame({"f": draw(FEMALE, n, rng), "m": draw(MALE, n, rng)}).select(
            pl.when(pl.Series(person % 2 == 0)).then("f").otherwise("m").alias("c")
        )["c"]
        nicknamed = pl.Series(rng.random(n) < 0.02)
        played = pl.DataFrame({"c": character, "n": nicknamed, "cast": role == 0}).select(
            pl.when("cast").then(
                pl.lit('["')
                + pl.col("c")
                + pl.when("n").then(pl.lit(' \\"Ace\\" Hale')).otherwise(pl.lit(""))
                + pl.lit('"]')
            )
        )
        job = np.where(
            (role == 2) & (rng.random(n) < 0.4), 0, np.where(role == 3, np.where(person % 4 == 0, 1, -1), -1)
        )
        yield pl.DataFrame(
            {
                "tconst": gather(world.titles(rows)["tconst"], title),
                "ordering": ordering,
                "nconst": person_ids(person),
                "category": gather(names, category),
                "job": gather(pl.Series(("screenplay", "producer")), job),
                "characters": played.to_series(),
            }
        )


def title_episode(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.episode: one row an episode, numbered within its series in the order of release."""
    titles = world.catalogue.titles
    kind = titles["title_type"].fill_null("").to_numpy()
    here = titles["in_imdb"].to_numpy()
    # MovieLens holds a few mini-series, so that some episodes belong to what it has.
    series = np.flatnonzero(np.isin(kind, ("tvSeries", "tvMiniSeries")) & here)
    episodes = np.flatnonzero((kind == "tvEpisode") & here)
    rng = stream(world.seed, Purpose.IMDB, 5)
    n = len(episodes)
    # Few series have most of the episodes.
    parent = (len(series) * rng.random(n) ** 2).astype(np.int64)
    order = np.argsort(parent, kind="stable")
    sizes = np.bincount(parent, minlength=len(series))
    number = np.empty(n, dtype=np.int64)
    number[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    unnumbered = pl.Series(rng.random(n) < 0.05)
    yield pl.DataFrame(
        {
            "tconst": titles["tconst"].gather(episodes.astype(np.uint32)),
            "parentTconst": titles["tconst"].gather(series[parent].astype(np.uint32)),
            "seasonNumber": pl.Series(number // EPISODES_A_SEASON + 1).set(unnumbered, None),
            "episodeNumber": pl.Series(number % EPISODES_A_SEASON + 1).set(unnumbered, None),
        }
    )


def title_akas(world: World) -> Iterator[pl.DataFrame]:
    """Yield title.akas: one row a title and name; the original first, then regional ones."""
    for rows, rng in world.slices(6):
        n = len(rows)
        titles = world.titles(rows).select(
            "tconst", "primary_title", "other_title", "original_title", "region", "language"
        )
        foreign = make_foreign(n, rng).select(
            join_article("article", "body").alias("abroad"),
            pl.col("region").alias("there"),
            pl.col("language").alias("spoken"),
        )
        base = pl.concat([titles, foreign], how="horizontal").with_columns(
            row=pl.int_range(n),
            japanese=make_katakana(n, rng),
            u=pl.Series(rng.random(n)),
            v=pl.Series(rng.random(n)),
            w=pl.Series(rng.random(n)),
        )
        null = pl.lit(None, dtype=pl.String)

        def names(slot: int, where: pl.Expr | pl.Series, *values: pl.Expr, base: pl.DataFrame = base) -> pl.DataFrame:
            columns = ("title", "region", "language", "types", "attributes")
            return base.filter(where).select(
                "row", pl.lit(slot).alias("slot"), "tconst", *(v.alias(c) for v, c in zip(values, columns, strict=True))
            )

        text, shown = pl.lit, pl.lit("imdbDisplay")
        # Two types of one name are separated by a control character, as IMDb does.
        double = pl.when(pl.col("w") < 0.02).then(text("dvd\x02imdbDisplay")).otherwise(shown)
        frame = pl.concat(
            [
                names(0, pl.lit(True), pl.col("original_title"), null, null, text("original"), null),
                names(1, pl.col("u") < 0.7, pl.col("primary_title"), text("US"), null, shown, null),
                names(
                    2,
                    pl.col("other_title").is_not_null(),
                    pl.col("other_title"),
                    pl.col("region").fill_null("XWW"),
                    pl.col("language").fill_null("en"),
                    pl.when(pl.col("region").is_null()).then(text("alternative")).otherwise(shown),
                    null,
                ),
                names(3, pl.col("v") < 0.35, pl.col("abroad"), pl.col("there"), pl.col("spoken"), double, null),
                names(4, pl.col("w") < 0.25, pl.col("japanese"), text("JP"), text("ja"), shown, null),
                names(
                    5,
                    pl.col("u") > 0.93,
                    pl.col("primary_title"),
                    text("GB"),
                    null,
                    text("working"),
                    text("first script title"),
                ),
                *(
                    names(
                        6 + number,
                        pl.Series(rng.random(n) < 0.7),
                        pl.col("primary_title"),
                        text(region),
                        null,
                        shown,
                        null,
                    )
                    for number, region in enumerate(world.regional)
                ),
            ]
        ).sort("row", "slot")
        yield frame.select(
            pl.col("tconst").alias("titleId"),
            pl.int_range(1, pl.len() + 1).over("row").alias("ordering"),
            "title",
            "region",
            "language",
            "types",
            "attributes",
            (pl.col("slot") == 0).cast(pl.Int8).alias("isOriginalTitle"),
        )


def name_basics(world: World) -> Iterator[pl.DataFrame]:
    """Yield name.basics: one row a person, known for up to four titles with the most votes."""
    rng = stream(world.seed, Purpose.IMDB, 7)
    made, people = world.credits, world.people
    here = np.flatnonzero(world.catalogue.titles["in_imdb"].to_numpy()).astype(np.int32)
    slots = [made.cast[here], made.directors[here], made.writers[here, :1], made.crew[here, None]]
    person = np.concatenate([slot.ravel() for slot in slots])
    title = np.concatenate([np.repeat(here, slot.shape[1]) for slot in slots])
    pairs = pl.DataFrame({"person": person, "title": title}).filter(pl.col("person") >= 0).unique()
    known = (
        pairs.with_columns(fame=gather(pl.Series(world.catalogue.prominence), pairs["title"].to_numpy()))
        .sort("person", "fame", "title", descending=[False, True, False])
        .group_by("person", maintain_order=True)
        .agg(pl.col("title").head(4))
        .explode("title")
        .with_columns(tconst=pl.lit(None, dtype=pl.String))
    )
    known = known.with_columns(tconst=gather(world.catalogue.titles["tconst"], known["title"].to_numpy()))
    joined = known.group_by("person", maintain_order=True).agg(pl.col("tconst").str.join(","))
    n = len(people.births)
    rows = np.arange(n)
    births = people.births.astype(np.int64)
    deaths = births + rng.normal(79, 11, n).clip(55, 101).astype(np.int64)
    pool = np.repeat(np.arange(len(POOLS)), [end - start for start, end in people.starts.values()])
    profession = np.where(pool == 0, rows % 2, np.where(pool == 3, 4 + rows % 4, pool + 1))
    professions = pl.Series(
        (
            "actress",
            "actor",
            "director,writer",
            "writer",
            "producer",
            "composer,soundtrack",
            "cinematographer",
            "editor",
        )
    )
    frame = pl.DataFrame(
        {
            "person": rows.astype(np.int32),
            "nconst": person_ids(rows.astype(np.int32)),
            "primaryName": people.names,
            "birthYear": pl.Series(births).set(pl.Series(rng.random(n) < 0.3), None),
            "deathYear": pl.Series(deaths).set(pl.Series(deaths >= SNAPSHOT_YEAR), None),
            "primaryProfession": gather(professions, np.where(rng.random(n) < 0.02, -1, profession)),
        }
    )
    yield (
        frame.join(joined, on="person", how="left", maintain_order="left")
        .drop("person")
        .rename({"tconst": "knownForTitles"})
    )


#: File -> what yields its frames.
DUMPS: Final = {
    "title.basics.tsv.gz": title_basics,
    "title.ratings.tsv.gz": title_ratings,
    "title.crew.tsv.gz": title_crew,
    "title.principals.tsv.gz": title_principals,
    "title.episode.tsv.gz": title_episode,
    "title.akas.tsv.gz": title_akas,
    "name.basics.tsv.gz": name_basics,
}
