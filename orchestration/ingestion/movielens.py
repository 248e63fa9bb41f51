"""MovieLens: an edition's files into the ``raw.ml_*`` tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import duckdb

from models.data.movielens import EDITIONS, ML_100K_GENRES, NO_GENRES, Edition, FileLayout
from orchestration.errors import Reason, SourceError
from orchestration.ingestion.file_inspection import file_digest
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.loader import (
    FileLoad,
    Known,
    Lines,
    empty_table,
    good_rows_sql,
    refuse_retyped,
    replace_table,
    transaction,
)
from orchestration.ingestion.raw_tables import MOVIELENS_TABLES, RawTable
from orchestration.ingestion.source_resolver import EditionFiles

#: The raw tables of MovieLens in the order in which they are loaded.
TABLES: tuple[RawTable, ...] = MOVIELENS_TABLES


#: What other files refer to: the column, the raw table that has its values, and why a row with another one is refused.
_REFERRED = {
    "movieId": ("ml_movies", Known("known_movies", Reason.REFERENCE)),
    "tagId": ("ml_genome_tags", Known("known_tags", Reason.TAG)),
}


def ingest_movielens(
    con: duckdb.DuckDBPyConnection, files: EditionFiles, tables: Iterable[str] | None = None
) -> list[LoadReport]:
    """Load an edition in one transaction; ``tables`` (names without schema) restricts it, default all seven.

    A table whose file the edition does not have becomes empty. Raises ``SourceError``; all tables are then as they
    were.
    """
    wanted = {table.name for table in TABLES} if tables is None else set(tables)
    if unknown := wanted - {table.name for table in TABLES}:
        raise ValueError(f"no such MovieLens table: {', '.join(sorted(unknown))}")
    loads = {table.name: file_load(files, table) for table in TABLES}
    for name, load in loads.items():
        # Before the first long load: whatever can be said of the other files without reading their rows.
        if load is not None and (name in wanted or name == "ml_movies"):
            load.check()
    referred = {column for name in wanted if (load := loads[name]) is not None for column in load.known}
    reports = []
    with transaction(con):
        for column in referred:
            of_table, known = _REFERRED[column]
            _remember(con, loads[of_table], column, known.table)
        for table in TABLES:
            if table.name in wanted:
                load = loads[table.name]
                reports.append(empty_table(con, table) if load is None else replace_table(con, load))
        for column in referred:
            con.execute(f"DROP TABLE {_REFERRED[column][1].table}")
    return reports


def edition_digest(files: EditionFiles) -> str:
    """One sha256 over all files of an edition that are read, whatever folder they lie in.

    Raises ``SourceError`` when one is missing that every zip of the edition has.
    """
    digest = hashlib.sha256(files.edition.encode())
    edition = EDITIONS[files.edition]
    for layout in edition.files:
        if _is_there(edition, layout.file, files.folder):
            digest.update(f"\n{layout.file} {file_digest(files.folder / layout.file)}".encode())
    return digest.hexdigest()


def file_load(files: EditionFiles, table: RawTable) -> FileLoad | None:
    """How a table is loaded from an edition's files; None where the edition has no such file."""
    edition = EDITIONS[files.edition]
    layout = _layout(edition, table.name)
    if layout is None or not _is_there(edition, layout.file, files.folder):
        return None
    values = {"edition": f"'{edition.name}'"}
    if table.name == "ml_movies":
        values["genres"] = _genres_sql(layout)
    return FileLoad(
        source="movielens",
        table=table,
        layout=layout,
        path=files.folder / layout.file,
        remedy=f"Check that it is the file of {edition.name}, or delete {files.folder} and get the edition again.",
        values=values,
        known={
            column: _REFERRED[column][1] for column, file in layout.references if _is_there(edition, file, files.folder)
        },
        may_be_empty=table.name not in ("ml_ratings", "ml_movies"),
    )


def _is_there(edition: Edition, file: str, folder: Path) -> bool:
    """Whether a file is to be read: one that every zip of the edition has is, and its absence is an error."""
    return file not in edition.optional or (folder / file).is_file()


def _layout(edition: Edition, table: str) -> FileLayout | None:
    return {
        "ml_movies": edition.movies,
        "ml_ratings": edition.ratings,
        "ml_links": edition.links,
        "ml_tags": edition.tags,
        "ml_users": edition.users,
        "ml_genome_scores": edition.genome_scores,
        "ml_genome_tags": edition.genome_tags,
    }[table]


def _genres_sql(layout: FileLayout) -> str:
    """Return SQL for a movie's genres as ``A|B``: the field itself, or for ml-100k the names of the set flags."""
    if "genres" in layout.names:
        return f"coalesce(genres, '{NO_GENRES}')"
    named = ", ".join(
        f"""CASE WHEN "{genre}" THEN '{genre.replace("'", "''")}' END"""
        for genre in ML_100K_GENRES
        if genre != "unknown"
    )
    return f"coalesce(nullif(concat_ws('|', {named}), ''), '{NO_GENRES}')"


def _remember(con: duckdb.DuckDBPyConnection, load: FileLoad | None, column: str, known: str) -> None:
    """Make the temporary table of the keys of a file's sound rows. Raises ``SourceError``."""
    if load is None:
        raise SourceError(f"an edition whose files name a {column} needs the file that defines it")
    with Lines(con, load) as lines:
        keys = f'SELECT DISTINCT "{column}" FROM ({good_rows_sql(load, lines)})'
        con.execute(f"CREATE OR REPLACE TEMP TABLE {known} AS {keys}")
        [(found,)] = con.execute(f"SELECT count(*) FROM {known}").fetchall()
        if found < lines.rows:
            # Else every row that refers to it would be refused in its place.
            refuse_retyped(con, load, lines)
    if not found and not load.may_be_empty:
        raise SourceError(f"{load.path}: none of its {load.data_lines} rows can be loaded. {load.remedy}")
