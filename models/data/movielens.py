"""Every MovieLens edition as data: files, separators, encodings, columns, and the counts that GroupLens publishes.

The one description that readers share: ingest into DuckDB, and the evaluation of given files. Nothing here opens
a file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

#: What the text of a field must be.
#: ``text`` anything; ``integer``/``bigint`` digits; ``decimal`` a plain number; ``real`` one that may have an exponent;
#: ``rating`` a step of the edition's scale; ``timestamp`` seconds since 1970 UTC; ``boolean`` and ``flag`` 0 or 1 (a
#: flag is never missing); ``code`` a key of ``codes``.
Kind = Literal["text", "integer", "bigint", "decimal", "real", "rating", "timestamp", "boolean", "flag", "code"]


@dataclass(frozen=True)
class Column:
    """One field of a file, in file order.

    ``key``: part of what identifies the row, so it is never missing. ``required``: never missing either, but not a key.
    ``minimum``/``maximum``/``step``: bounds of a number, inclusive, and the distance between allowed values.
    """

    name: str
    kind: Kind = "text"
    key: bool = False
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    codes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class FileLayout:
    """How one file is written.

    ``quoted``: fields may be in double quotes, doubled inside (RFC 4180), and then hold separators and line ends; where
    it is False a quote is a character like any other. ``null``: the text that stands for a missing value besides the
    empty one. ``unique``: the columns of which no two rows may share the values. ``references``: (column, file) pairs:
    the value must be a key of that file.
    """

    file: str
    separator: str
    columns: tuple[Column, ...]
    header: bool
    quoted: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    null: str | None = None
    unique: tuple[str, ...] = ()
    references: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in file order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class PublishedCounts:
    """What GroupLens states about an edition: rows of its files and distinct raters.

    From each README, but for what it does not give: the raters of ml-10m (its 71,567 users count those who only
    tagged) and the rows of the genome, which are those of the files in the zip with the MD5 below.
    """

    ratings: int
    users: int
    movies: int
    tags: int | None = None
    genome_scores: int | None = None
    genome_tags: int | None = None


@dataclass(frozen=True)
class Edition:
    """One MovieLens release.

    ``folders``: names its folder has had, in the zip or in a mirror. ``optional``: files that some zips of the edition
    lack. ``md5``: of the zip, for a release that does not change any more.
    ``published`` is None for an edition that grows (``ml-latest``) or is made here (``sample``).
    """

    name: str
    folders: tuple[str, ...]
    ratings: FileLayout
    movies: FileLayout
    links: FileLayout | None = None
    tags: FileLayout | None = None
    users: FileLayout | None = None
    genome_scores: FileLayout | None = None
    genome_tags: FileLayout | None = None
    optional: tuple[str, ...] = ()
    published: PublishedCounts | None = None
    md5: str | None = None

    @property
    def files(self) -> tuple[FileLayout, ...]:
        """The layouts of all files of the edition that are read, movies first."""
        named = (self.movies, self.ratings, self.links, self.tags, self.users, self.genome_scores, self.genome_tags)
        return tuple(layout for layout in named if layout is not None)

    def lacks(self, present: Collection[str]) -> list[str]:
        """Return the required files of the edition that are not among ``present``."""
        wanted = (layout.file for layout in self.files if layout.file not in self.optional)
        return [file for file in wanted if file not in present]


#: ml-100k's ``u.item`` ends with one 0/1 field for each of these, in this order (``u.genre``).
ML_100K_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)

#: How the CSV editions write that a movie has no genre.
NO_GENRES = "(no genres listed)"

#: ml-1m's ``users.dat``: occupation code to name.
ML_1M_OCCUPATIONS = (
    (0, "other"),
    (1, "academic/educator"),
    (2, "artist"),
    (3, "clerical/admin"),
    (4, "college/grad student"),
    (5, "customer service"),
    (6, "doctor/health care"),
    (7, "executive/managerial"),
    (8, "farmer"),
    (9, "homemaker"),
    (10, "K-12 student"),
    (11, "lawyer"),
    (12, "programmer"),
    (13, "retired"),
    (14, "sales/marketing"),
    (15, "scientist"),
    (16, "self-employed"),
    (17, "technician/engineer"),
    (18, "tradesman/craftsman"),
    (19, "unemployed"),
    (20, "writer"),
)

#: ml-1m's ``users.dat``: the age in the file is the lower bound of a band.
ML_1M_AGES = (
    (1, "Under 18"),
    (18, "18-24"),
    (25, "25-34"),
    (35, "35-44"),
    (45, "45-49"),
    (50, "50-55"),
    (56, "56+"),
)

_USER = Column("userId", "integer", key=True, minimum=1)
_MOVIE = Column("movieId", "integer", key=True, minimum=1)
_TIME = Column("timestamp", "timestamp", required=True)
_TITLE = Column("title", required=True)
_WHOLE_STARS = Column("rating", "rating", required=True, minimum=1.0, maximum=5.0, step=1.0)
_HALF_STARS = Column("rating", "rating", required=True, minimum=0.5, maximum=5.0, step=0.5)
_RATING_KEY = ("userId", "movieId")


def _csv(file: str, *columns: Column, unique: tuple[str, ...] = (), of_movies: bool = True) -> FileLayout:
    references = (("movieId", "movies.csv"),) if of_movies else ()
    return FileLayout(file, ",", columns, header=True, quoted=True, unique=unique, references=references)


def _dat(
    file: str,
    *columns: Column,
    encoding: Literal["utf-8", "latin-1"],
    unique: tuple[str, ...] = (),
    of_movies: bool = True,
) -> FileLayout:
    references = (("movieId", "movies.dat"),) if of_movies else ()
    return FileLayout(file, "::", columns, header=False, encoding=encoding, unique=unique, references=references)


#: The tag genome: how much each tag says of each film that it covers.
_GENOME_SCORES = FileLayout(
    "genome-scores.csv",
    ",",
    (
        _MOVIE,
        Column("tagId", "integer", key=True, minimum=1),
        Column("relevance", "real", required=True, minimum=0.0, maximum=1.0),
    ),
    header=True,
    quoted=True,
    unique=("movieId", "tagId"),
    references=(("movieId", "movies.csv"), ("tagId", "genome-tags.csv")),
)
_GENOME_TAGS = FileLayout(
    "genome-tags.csv",
    ",",
    (Column("tagId", "integer", key=True, minimum=1), Column("tag", required=True)),
    header=True,
    quoted=True,
    unique=("tagId",),
)


def _csv_edition(
    name: str,
    published: PublishedCounts | None = None,
    md5: str | None = None,
    genome: Literal["none", "some", "always"] = "none",
) -> Edition:
    return Edition(
        name,
        (name,),
        ratings=_csv("ratings.csv", _USER, _MOVIE, _HALF_STARS, _TIME, unique=_RATING_KEY),
        movies=_csv("movies.csv", _MOVIE, _TITLE, Column("genres"), unique=("movieId",), of_movies=False),
        links=_csv("links.csv", _MOVIE, Column("imdbId"), Column("tmdbId", "bigint"), unique=("movieId",)),
        tags=_csv("tags.csv", _USER, _MOVIE, Column("tag", required=True), _TIME),
        genome_scores=None if genome == "none" else _GENOME_SCORES,
        genome_tags=None if genome == "none" else _GENOME_TAGS,
        optional=(_GENOME_SCORES.file, _GENOME_TAGS.file) if genome == "some" else (),
        published=published,
        md5=md5,
    )


_ML_100K = Edition(
    "ml-100k",
    ("ml-100k",),
    ratings=FileLayout(
        "u.data",
        "\t",
        (_USER, _MOVIE, _WHOLE_STARS, _TIME),
        header=False,
        encoding="latin-1",
        unique=_RATING_KEY,
        references=(("movieId", "u.item"),),
    ),
    movies=FileLayout(
        "u.item",
        "|",
        (
            _MOVIE,
            _TITLE,
            Column("releaseDate"),
            Column("videoReleaseDate"),
            Column("url"),
            *(Column(genre, "flag") for genre in ML_100K_GENRES),
        ),
        header=False,
        encoding="latin-1",
        unique=("movieId",),
    ),
    users=FileLayout(
        "u.user",
        "|",
        (_USER, Column("age", "integer", minimum=0), Column("gender"), Column("occupation"), Column("zipCode")),
        header=False,
        encoding="latin-1",
        unique=("userId",),
    ),
    published=PublishedCounts(ratings=100_000, users=943, movies=1_682),
    md5="0e33842e24a9c977be4e0107933c0723",
)

_ML_1M = Edition(
    "ml-1m",
    ("ml-1m",),
    ratings=_dat("ratings.dat", _USER, _MOVIE, _WHOLE_STARS, _TIME, encoding="latin-1", unique=_RATING_KEY),
    movies=_dat(
        "movies.dat", _MOVIE, _TITLE, Column("genres"), encoding="latin-1", unique=("movieId",), of_movies=False
    ),
    users=_dat(
        "users.dat",
        _USER,
        Column("gender"),
        Column("age", "integer", minimum=0),
        Column("occupation", "code", codes=ML_1M_OCCUPATIONS),
        Column("zipCode"),
        encoding="latin-1",
        unique=("userId",),
        of_movies=False,
    ),
    published=PublishedCounts(ratings=1_000_209, users=6_040, movies=3_883),
    md5="c4d9eecfca2ab87c1945afe126590906",
)

_ML_10M = Edition(
    "ml-10m",
    ("ml-10m", "ml-10M100K"),
    ratings=_dat("ratings.dat", _USER, _MOVIE, _HALF_STARS, _TIME, encoding="utf-8", unique=_RATING_KEY),
    movies=_dat("movies.dat", _MOVIE, _TITLE, Column("genres"), encoding="utf-8", unique=("movieId",), of_movies=False),
    tags=_dat("tags.dat", _USER, _MOVIE, Column("tag", required=True), _TIME, encoding="utf-8"),
    published=PublishedCounts(ratings=10_000_054, users=69_878, movies=10_681, tags=95_580),
    md5="ce571fd55effeba0271552578f2648bd",
)

#: Every edition by name. ``sample`` is made here, in the layout of the CSV editions.
EDITIONS: dict[str, Edition] = {
    edition.name: edition
    for edition in (
        _csv_edition("sample", genome="always"),
        _ML_100K,
        _ML_1M,
        _ML_10M,
        _csv_edition(
            "ml-20m",
            PublishedCounts(
                ratings=20_000_263,
                users=138_493,
                movies=27_278,
                tags=465_564,
                genome_scores=11_709_768,
                genome_tags=1_128,
            ),
            md5="cd245b17a1ae2cc31bb14903e1204af3",
            genome="always",
        ),
        _csv_edition(
            "ml-25m",
            PublishedCounts(
                ratings=25_000_095,
                users=162_541,
                movies=62_423,
                tags=1_093_360,
                genome_scores=15_584_448,
                genome_tags=1_128,
            ),
            md5="6b51fb2759a8657d3bfcbfc42b592ada",
            genome="always",
        ),
        _csv_edition(
            "ml-32m",
            PublishedCounts(ratings=32_000_204, users=200_948, movies=87_585, tags=2_000_072),
            md5="d472be332d4daa821edc399621853b57",
        ),
        _csv_edition("ml-latest-small", PublishedCounts(ratings=100_836, users=610, movies=9_742, tags=3_683)),
        _csv_edition("ml-latest", genome="some"),
    )
}
