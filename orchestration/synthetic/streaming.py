"""The sample's streaming catalogues: four files and two of ratings, in the bytes and with the habits of the real ones.

Most titles are films of the catalogue, some of them on several platforms; the rest are series. The habits: a byte order
mark, durations that slipped into the rating, empty ratings, blanks before dates, stray commas, a lost character, a
description over two lines.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.synthetic.file_writers import SampleFile
from orchestration.synthetic.people import Credits, People
from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.rating_simulator import CLOSED, DAY
from orchestration.synthetic.titles import GENRES, Catalogue, gather, join_genres

#: Each platform's file, the letter of its ids, its share of the films, whether it starts with a byte order mark, and
#: whether it says who made its titles.
CATALOGUES: Final = (
    ("netflix_titles.csv", "n", 0.16, True, True),
    ("amazon_prime_titles.csv", "a", 0.18, True, True),
    ("disney_plus_titles.csv", "d", 0.05, False, True),
    ("hulu_titles.csv", "h", 0.08, True, False),
)
RATING_FILES: Final = ("1.csv", "2.csv")
COLUMNS: Final = (
    "show_id", "type", "title", "director", "cast", "country", "date_added", "release_year", "rating", "duration",
    "listed_in", "description",
)  # fmt: skip
AGES: Final = ("TV-MA", "TV-14", "PG-13", "R", "PG", "G", "18+", "ALL")
COUNTRIES: Final = ("United States", "India", "United Kingdom", "France", "Japan", "Spain")
_FIRST_ADDED: Final = date(2015, 1, 1)
#: Users of the platforms, as a share of the titles, and ratings a user.
USERS_A_TITLE: Final = 0.3
RATINGS_A_USER: Final = 12


@dataclass(frozen=True, slots=True)
class _Platform:
    """One platform's titles: rows of ``Catalogue``, and whether each is a series."""

    frame: pl.DataFrame
    rows: npt.NDArray[np.int64]


def write_streaming(
    folder: Path, catalogue: Catalogue, people: People, made: Credits, seed: int
) -> tuple[SampleFile, ...]:
    """Write the four catalogues into ``folder`` and the ratings into ``folder/ratings``; no row is broken."""
    (folder / "ratings").mkdir(parents=True)
    files, ids, qualities = [], [], []
    for number, (file, letter, share, mark, credited) in enumerate(CATALOGUES):
        platform = _make(catalogue, people, made, number, share, credited, stream(seed, Purpose.STREAMING, number))
        files.append(_write(folder / file, platform.frame, mark))
        ids.append(letter + platform.frame["show_id"])
        qualities.append(catalogue.quality[platform.rows])
    return (*files, *_write_ratings(folder / "ratings", pl.concat(ids), np.concatenate(qualities), seed))


def _make(
    catalogue: Catalogue,
    people: People,
    made: Credits,
    number: int,
    share: float,
    credited: bool,
    rng: np.random.Generator,
) -> _Platform:
    films = np.flatnonzero(catalogue.titles["is_film"].to_numpy())
    series = np.flatnonzero(catalogue.titles["title_type"].is_in(["tvSeries", "tvMiniSeries"]).to_numpy())
    rows = np.concatenate(
        [
            rng.choice(films, max(8, round(share * len(films))), replace=False),
            rng.choice(series, min(len(series), max(2, round(share * len(films) / 4))), replace=False),
        ]
    )
    rng.shuffle(rows)
    n = len(rows)
    is_series = np.isin(rows, series)
    years = catalogue.years[rows].astype(np.int64)
    # Some platforms give the year of the release at home.
    years = years + (rng.random(n) < 0.05)
    minutes = rng.normal(104, 20, n).clip(40, 220).astype(np.int64)
    seasons = rng.geometric(0.5, n)
    duration = np.where(
        is_series,
        np.char.add(seasons.astype(str), np.where(seasons == 1, " Season", " Seasons")),
        np.char.add(minutes.astype(str), " min"),
    )
    slipped = np.arange(n) % 97 == 5
    days = [_FIRST_ADDED + timedelta(days=int(day)) for day in rng.integers(0, 2_400, n)]
    added = [f"{day:%B} {day.day}, {day.year}" for day in days]
    countries = np.array(COUNTRIES)[rng.choice(len(COUNTRIES), (n, 2), p=(0.45, 0.15, 0.15, 0.1, 0.1, 0.05))]
    country = [first if first == second else f"{first}, {second}" for first, second in countries.tolist()]
    titles = catalogue.titles[rows]
    frame = pl.DataFrame(
        {
            "show_id": ("s" + pl.Series(np.arange(1, n + 1)).cast(pl.String)),
            "type": pl.Series(np.where(is_series, "TV Show", "Movie")),
            "title": titles["primary_title"],
            "director": _joined(people, made.directors[rows]).set(pl.Series(is_series | (not credited)), None),
            "cast": _joined(people, made.cast[rows]).set(pl.Series(np.full(n, not credited)), None),
            "country": pl.Series(country).set(pl.Series(rng.random(n) < 0.1), None),
            "date_added": pl.Series(added).set(pl.Series(rng.random(n) < 0.05), None),
            "release_year": years,
            "rating": pl.Series(np.where(slipped, duration, rng.choice(AGES, n))).set(
                pl.Series((rng.random(n) < 0.06) & ~slipped), None
            ),
            "duration": pl.Series(duration).set(pl.Series(slipped), None),
            "listed_in": join_genres(catalogue.genres[rows], GENRES, ", "),
            "description": pl.Series([f"Platform {number + 1} tells what happens in it." for _ in range(n)]),
        }
    )
    return _Platform(_with_habits(frame), rows)


def _with_habits(frame: pl.DataFrame) -> pl.DataFrame:
    """Give a few rows the quirks of the real files: which rows is fixed, so that every sample has each quirk."""
    at = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(at % 50 == 1).then(pl.lit(" ") + pl.col("date_added")).otherwise("date_added").alias("date_added"),
        pl.when(at % 60 == 2).then(pl.lit(", ") + pl.col("country")).otherwise("country").alias("country"),
        pl.when(at % 70 == 3)
        .then(pl.col("description") + pl.lit("\nAnd it says more."))
        .otherwise("description")
        .alias("description"),
        pl.when(at == 4).then(pl.col("cast") + pl.lit(", Jord\ufffd\ufffd Moll")).otherwise("cast").alias("cast"),
    )


def _joined(people: People, rows: npt.NDArray[np.int32]) -> pl.Series:
    """Join the names of these people [N, K] with commas; null where there is none."""
    columns = {f"p{i}": gather(people.names, rows[:, i]) for i in range(rows.shape[1])}
    return pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator=", ", ignore_nulls=True).alias("names"))[
        "names"
    ]


def _write(path: Path, frame: pl.DataFrame, mark: bool = False) -> SampleFile:
    out = io.BytesIO()
    frame.write_csv(out, line_terminator="\r\n", null_value="", quote_style="necessary", include_bom=mark)
    path.write_bytes(out.getvalue())
    return SampleFile(path.name, frame.height, 0, path.stat().st_size)


def _write_ratings(folder: Path, ids: pl.Series, quality: npt.NDArray[np.float32], seed: int) -> tuple[SampleFile, ...]:
    """Ratings by users of the platforms, spread over the files; good titles get more stars."""
    rng = stream(seed, Purpose.STREAMING, len(CATALOGUES))
    users = max(2, round(USERS_A_TITLE * len(ids)))
    user = np.repeat(np.arange(1, users + 1), RATINGS_A_USER)
    title = rng.integers(0, len(ids), len(user))
    stars = (np.round(2 * (3.4 + 0.6 * quality[title] + 0.8 * rng.standard_normal(len(user)))) / 2).clip(0.5, 5.0)
    frame = pl.DataFrame(
        {
            "userId": user,
            "rating": stars,
            "timestamp": CLOSED - rng.integers(1, 1_000 * DAY, len(user)),
            "movieId": ids.gather(title.astype(np.uint32)),
        }
    )
    half = (users // 2) * RATINGS_A_USER
    parts = (frame.head(half), frame.tail(frame.height - half))
    return tuple(_write(folder / file, part) for file, part in zip(RATING_FILES, parts, strict=True))
