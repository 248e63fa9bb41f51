"""Streaming catalogues: four platforms' titles and their users' ratings into the ``raw.streaming_*`` tables.

The files are those published on Kaggle, one layout for all (CSV, sometimes with a byte order mark, fields over several
lines in quotes). Ratings are optional: any number of files in the folder ``ratings`` beside the catalogues.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from models.data.movielens import Column, FileLayout
from orchestration.errors import Reason, SourceError
from orchestration.ingestion.file_inspection import file_digest
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.loader import FileLoad, Known, empty_table, replace_table, transaction
from orchestration.ingestion.raw_tables import STREAMING_RATINGS, STREAMING_TABLES, RawTable, create_ledgers

#: The folder of the rating files, beside the catalogues.
RATINGS_FOLDER = "ratings"


@dataclass(frozen=True)
class Platform:
    """One platform. ``letter``: what its show ids begin with to be ids of all platforms' titles."""

    name: str
    file: str

    @property
    def letter(self) -> str:
        """The first letter of the name."""
        return self.name[0]

    @property
    def table(self) -> RawTable:
        """The raw table of its catalogue."""
        return next(table for table in STREAMING_TABLES if table.name == f"streaming_{self.file.removesuffix('.csv')}")


PLATFORMS = (
    Platform("netflix", "netflix_titles.csv"),
    Platform("amazon", "amazon_prime_titles.csv"),
    Platform("disney", "disney_plus_titles.csv"),
    Platform("hulu", "hulu_titles.csv"),
)

_CATALOGUE_COLUMNS = (
    Column("show_id", key=True),
    Column("type"),
    Column("title", required=True),
    Column("director"),
    Column("cast"),
    Column("country"),
    Column("date_added"),
    Column("release_year", "integer", required=True, minimum=1870, maximum=2120),
    Column("rating"),
    Column("duration"),
    Column("listed_in"),
    Column("description"),
)
# A user may rate a title again, in the same file or the next: the latest counts, and no row is a fault.
_RATING_COLUMNS = (
    Column("userId", "integer", key=True, minimum=1),
    Column("rating", "rating", required=True, minimum=0.5, maximum=5.0, step=0.5),
    Column("timestamp", "timestamp", required=True),
    Column("movieId", key=True),
)


def catalogue_layout(platform: Platform) -> FileLayout:
    """How a platform's catalogue is written."""
    return FileLayout(platform.file, ",", _CATALOGUE_COLUMNS, header=True, quoted=True, unique=("show_id",))


def ratings_layout(file: str) -> FileLayout:
    """How a file of ratings is written."""
    return FileLayout(file, ",", _RATING_COLUMNS, header=True, quoted=True)


def rating_files(folder: Path) -> list[Path]:
    """Return the rating files next to the catalogs, sorted by name; empty where there are none."""
    return sorted((folder / RATINGS_FOLDER).glob("*.csv"))


def catalogue_files(folder: Path | None) -> dict[Platform, Path]:
    """Return the catalogs that a folder has, by platform."""
    if folder is None:
        return {}
    found = {platform: folder / platform.file for platform in PLATFORMS}
    return {platform: path for platform, path in found.items() if path.is_file()}


def absence(folder: Path | None) -> str | None:
    """Why there is no streaming catalogue at all, in words for people; None where there is one."""
    if folder is None:
        return "skipped: MARQUEE_STREAMING_DIR is not set"
    if not catalogue_files(folder):
        return f"skipped: none of {', '.join(platform.file for platform in PLATFORMS)} is in {folder}"
    return None


def streaming_digest(folder: Path | None) -> str:
    """One sha256 over the names and digests of all files that would be read; of none a version of its own."""
    digest = hashlib.sha256(b"streaming")
    if folder is not None and absence(folder) is None:
        for path in (*catalogue_files(folder).values(), *rating_files(folder)):
            digest.update(f"\n{path.name} {file_digest(path)}".encode())
    return digest.hexdigest()


def ingest_streaming(con: duckdb.DuckDBPyConnection, folder: Path | None) -> list[LoadReport]:
    """Load what a folder has in one transaction: a report a catalogue, then one a file of ratings.

    A table without a file becomes empty; ratings without any catalogue are not looked at. Raises ``SourceError``; all
    tables are then as they were.
    """
    files = catalogue_files(folder)
    loads = {platform: _catalogue_load(platform, path) for platform, path in files.items()}
    for load in loads.values():
        load.check()
    with transaction(con):
        reports = [
            replace_table(con, loads[platform]) if platform in loads else empty_table(con, platform.table)
            for platform in PLATFORMS
        ]
        if folder is None or not files:
            return [*reports, empty_table(con, STREAMING_RATINGS)]
        return [*reports, *_ingest_ratings(con, rating_files(folder))]


def _catalogue_load(platform: Platform, path: Path) -> FileLoad:
    return FileLoad(
        source="streaming",
        table=platform.table,
        layout=catalogue_layout(platform),
        path=path,
        remedy="Check that it is the catalogue as published, or take it out of the folder to go without.",
        values={"platform": f"'{platform.name}'"},
    )


def _ingest_ratings(con: duckdb.DuckDBPyConnection, paths: list[Path]) -> list[LoadReport]:
    """Each file by the loader of all files into a table of its own, then all into one; the ledgers name the file."""
    if twice := sorted({path.name for path in paths if [other.name for other in paths].count(path.name) > 1}):
        raise SourceError(f"two files of ratings are called {', '.join(twice)}. Rename one.")
    create_ledgers(con)
    name = STREAMING_RATINGS.name
    if not paths:
        return [empty_table(con, STREAMING_RATINGS)]
    for ledger in ("quarantine", "loads"):
        con.execute(f"DELETE FROM raw.{ledger} WHERE table_name = ?", [name])
    con.execute(f"CREATE OR REPLACE TABLE raw.{name} ({STREAMING_RATINGS.columns_sql})")
    known = " UNION ALL ".join(
        f"SELECT '{platform.letter}' || show_id AS \"movieId\" FROM raw.{platform.table.name}" for platform in PLATFORMS
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE known_titles AS {known}")
    part = replace(STREAMING_RATINGS, name=f"{name}_part")
    reports = []
    for path in paths:
        load = FileLoad(
            source="streaming",
            table=part,
            layout=ratings_layout(path.name),
            path=path,
            remedy="Check that it is a file of ratings, or take it out of the folder to go without.",
            values={"file": f"""'{path.name.replace("'", "''")}'"""},
            known={"movieId": Known("known_titles", Reason.REFERENCE)},
            may_be_empty=True,
        )
        report = replace_table(con, load)
        con.execute(f"INSERT INTO raw.{name} SELECT {_names(STREAMING_RATINGS)} FROM raw.{part.name}")
        for ledger in ("quarantine", "loads"):
            con.execute(f"UPDATE raw.{ledger} SET table_name = ? WHERE table_name = ?", [name, part.name])
        reports.append(replace(report, table=name))
    con.execute(f"DROP TABLE raw.{part.name}")
    con.execute("DROP TABLE known_titles")
    return reports


def _names(table: RawTable) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)
