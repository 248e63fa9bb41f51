"""MovieLens: an edition's files into the ``raw.ml_*`` tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import duckdb

from models.datasets import EDITIONS, ML_100K_GENRES, NO_GENRES, Edition, FileLayout
from orchestration.sources.files import file_digest
from orchestration.sources.load import FileLoad, Lines, good_rows_sql, load_file, load_nothing
from orchestration.sources.locate import EditionFiles
from orchestration.sources.report import LoadReport, SourceError
from orchestration.sources.tables import MOVIELENS_TABLES, RawTable

#: The raw tables of MovieLens in the order in which they are loaded.
TABLES: tuple[RawTable, ...] = MOVIELENS_TABLES


def ingest_movielens(
    con: duckdb.DuckDBPyConnection, files: EditionFiles, tables: Iterable[str] | None = None
) -> list[LoadReport]:
    """Load an edition, one transaction a table; ``tables`` (names without schema) restricts it, default all five.

    All files are checked before the first table is replaced, and the ratings come first, so that a refused edition
    leaves all earlier tables. A table whose file the edition does not have becomes
    empty. Raises ``SourceError``.
    """
    wanted = {table.name for table in TABLES} if tables is None else set(tables)
    if unknown := wanted - {table.name for table in TABLES}:
        raise ValueError(f"no such MovieLens table: {', '.join(sorted(unknown))}")
    loads = {table.name: file_load(files, table) for table in TABLES}
    for name, load in loads.items():
        # Whatever refers to movies is checked against the movies file.
        if load is not None and (name in wanted or name == "ml_movies"):
            load.check()
    _remember_movies(con, loads["ml_movies"])
    reports = []
    for table in TABLES:
        if table.name in wanted:
            load = loads[table.name]
            reports.append(load_nothing(con, table) if load is None else load_file(con, load))
    con.execute("DROP TABLE known_movies")
    return reports


def edition_digest(files: EditionFiles) -> str:
    """One sha256 over all files of an edition that are read, whatever folder they lie in.

    Raises ``SourceError`` when one is missing.
    """
    digest = hashlib.sha256(files.edition.encode())
    for layout in EDITIONS[files.edition].files:
        digest.update(f"\n{layout.file} {file_digest(files.folder / layout.file)}".encode())
    return digest.hexdigest()


def file_load(files: EditionFiles, table: RawTable) -> FileLoad | None:
    """How a table is loaded from an edition's files; None where the edition has no such file."""
    edition = EDITIONS[files.edition]
    layout = _layout(edition, table.name)
    if layout is None:
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
        known={column: "known_movies" for column, _ in layout.references},
        may_be_empty=table.name not in ("ml_ratings", "ml_movies"),
    )


def _layout(edition: Edition, table: str) -> FileLayout | None:
    return {
        "ml_movies": edition.movies,
        "ml_ratings": edition.ratings,
        "ml_links": edition.links,
        "ml_tags": edition.tags,
        "ml_users": edition.users,
    }[table]


def _genres_sql(layout: FileLayout) -> str:
    """The movie's genres as ``A|B``: the field itself, or of ml-100k the names of the flags that are set."""
    if "genres" in layout.names:
        return f"coalesce(genres, '{NO_GENRES}')"
    named = ", ".join(
        f"""CASE WHEN "{genre}" THEN '{genre.replace("'", "''")}' END"""
        for genre in ML_100K_GENRES
        if genre != "unknown"
    )
    return f"coalesce(nullif(concat_ws('|', {named}), ''), '{NO_GENRES}')"


def _remember_movies(con: duckdb.DuckDBPyConnection, load: FileLoad | None) -> None:
    if load is None:
        raise SourceError("an edition without movies cannot be loaded")
    with Lines(con, load) as lines:
        movies = f'SELECT DISTINCT "movieId" FROM ({good_rows_sql(load, lines)})'
        con.execute(f"CREATE OR REPLACE TEMP TABLE known_movies AS {movies}")
    if con.execute("SELECT 1 FROM known_movies LIMIT 1").fetchone() is None:
        raise SourceError(f"{load.path}: none of its {load.data_lines} rows can be loaded. {load.remedy}")
