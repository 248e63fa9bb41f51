r"""IMDb: the seven non-commercial dumps into the ``raw.imdb_*`` tables.

Their format (https://developer.imdb.com/non-commercial-datasets/): gzipped UTF-8, tab separated, a header, ``\N`` for
a missing value, and no quoting, so that a double quote is a character of the title.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from models.data.movielens import Column, FileLayout
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.loader import FileLoad, load_file, load_nothing
from orchestration.ingestion.raw_tables import IMDB_TABLES, RawTable

#: The raw tables of IMDb.
TABLES: tuple[RawTable, ...] = IMDB_TABLES

_TCONST = Column("tconst", key=True)
_ORDERING = Column("ordering", "integer", key=True, minimum=0)


def _dump(name: str, *columns: Column) -> FileLayout:
    return FileLayout(
        f"{name}.tsv.gz",
        "\t",
        columns,
        header=True,
        null="\\N",
        unique=tuple(column.name for column in columns if column.key),
    )


#: The layout of each dump by its name.
DUMPS: dict[str, FileLayout] = {
    "title.basics": _dump(
        "title.basics",
        _TCONST,
        Column("titleType"),
        Column("primaryTitle"),
        Column("originalTitle"),
        Column("isAdult", "boolean"),
        Column("startYear", "integer", minimum=0, maximum=9999),
        Column("endYear", "integer", minimum=0, maximum=9999),
        Column("runtimeMinutes", "integer", minimum=0),
        Column("genres"),
    ),
    "title.ratings": _dump(
        "title.ratings",
        _TCONST,
        Column("averageRating", "decimal", required=True, minimum=1.0, maximum=10.0, step=0.1),
        Column("numVotes", "integer", required=True, minimum=0),
    ),
    "title.crew": _dump("title.crew", _TCONST, Column("directors"), Column("writers")),
    "title.principals": _dump(
        "title.principals",
        _TCONST,
        _ORDERING,
        Column("nconst", required=True),
        Column("category"),
        Column("job"),
        Column("characters"),
    ),
    "title.episode": _dump(
        "title.episode",
        _TCONST,
        Column("parentTconst"),
        Column("seasonNumber", "integer", minimum=0),
        Column("episodeNumber", "integer", minimum=0),
    ),
    "title.akas": _dump(
        "title.akas",
        Column("titleId", key=True),
        _ORDERING,
        Column("title"),
        Column("region"),
        Column("language"),
        Column("types"),
        Column("attributes"),
        Column("isOriginalTitle", "boolean"),
    ),
    "name.basics": _dump(
        "name.basics",
        Column("nconst", key=True),
        Column("primaryName"),
        Column("birthYear", "integer", minimum=0, maximum=9999),
        Column("deathYear", "integer", minimum=0, maximum=9999),
        Column("primaryProfession"),
        Column("knownForTitles"),
    ),
}


def table_of(dump: str) -> RawTable:
    """Return the raw table that a dump fills: ``title.basics`` fills ``imdb_title_basics``."""
    name = "imdb_" + dump.replace(".", "_")
    return next(table for table in TABLES if table.name == name)


def ingest_imdb(con: duckdb.DuckDBPyConnection, dump: str, path: Path | None) -> LoadReport:
    """Load one dump in one transaction; ``path`` None (a dump that is not asked for) gives the empty table.

    Raises ``SourceError``.
    """
    if path is None:
        return load_nothing(con, table_of(dump))
    return load_file(con, _file_load(dump, path))


def check_dump(dump: str, path: Path) -> None:
    """See that a dump is there, sound, and has the columns that are expected, without loading it.

    Raises ``SourceError``.
    """
    _file_load(dump, path).check()


def _file_load(dump: str, path: Path) -> FileLoad:
    remedy = f"Get {dump} again from https://datasets.imdbws.com/, or leave it out of MARQUEE_IMDB_DUMPS."
    return FileLoad(source="imdb", table=table_of(dump), layout=DUMPS[dump], path=path, remedy=remedy)
