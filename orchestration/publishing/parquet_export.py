"""The marts as Parquet beside the published copy, for tools that read no DuckDB: one file a mart, or one a year.

Each publication has a folder of its own and ``parquet`` is a link to the newest, changed in one rename, so that all
tables of a folder are of one moment. A table that is as it was is copied from the files before, and not written again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import duckdb

from bento.catalog.published_copy import FileRecord
from orchestration.publishing.manifest import (
    Layout,
    Publication,
    current_parquet,
    parquet_of,
)
from orchestration.publishing.sealed_files import duplicate, is_as_recorded, seal
from orchestration.storage.warehouse import TableVersion, columns_of, quote, replace_durably
from settings import Settings

#: Part of every file's digest: another way of writing has all files written anew.
FORMAT = 1


def sorting(con: duckdb.DuckDBPyConnection, relation: str, layout: Layout) -> str:
    """Return the columns that a table is sorted by, as SQL: those of its layout, else the first two."""
    columns = layout.sorted_by or tuple(name for name, _ in columns_of(con, relation)[:2])
    return ", ".join(quote(column) for column in columns)


def file_digest(con: duckdb.DuckDBPyConnection, relation: str, version: TableVersion, layout: Layout) -> str:
    """Return a digest of what decides a table's Parquet files: its content, the order of its columns, its layout."""
    said = [FORMAT, version.digest, columns_of(con, relation), asdict(layout)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def write_parquet(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    publication: Publication,
    *,
    schema: str,
    layouts: Mapping[str, Layout],
    before: Publication | None,
) -> dict[str, FileRecord]:
    """Make the folder of a publication, and return the records of its files. ``point_to`` makes it the newest.

    ``before``: the publication whose files are copied for tables that have not changed.
    """
    folder = parquet_of(settings, publication.version)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    stored: dict[str, FileRecord] = {}
    for name, digest in publication.files.items():
        is_same = before is not None and before.files.get(name) == digest
        former = _former_files(settings, before, name) if before is not None and is_same else {}
        for path, record in former.items():
            target = aside.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            duplicate(folder.parent / path, target)
            stored[_stored_path(folder, aside, target)] = record
        if not former:
            for file in _write(con, f"{schema}.{name}", aside, publication.tables[name], layouts.get(name, Layout())):
                stored[_stored_path(folder, aside, file)] = seal(file)
    if folder.exists():
        shutil.rmtree(folder)
    aside.replace(folder)
    return stored


def point_to(settings: Settings, version: str) -> None:
    """Turn the link ``parquet`` to the folder of a version, in one rename."""
    link = current_parquet(settings)
    if link.is_dir() and not link.is_symlink():
        # Whoever copied the home has made a folder of the link.
        shutil.rmtree(link)
    aside = link.with_name(f".{link.name}.part")
    aside.unlink(missing_ok=True)
    aside.symlink_to(parquet_of(settings, version).name, target_is_directory=True)
    replace_durably(aside, link)


def is_whole(settings: Settings, publication: Publication) -> bool:
    """Whether every file of a publication's Parquet export is there as it was written."""
    folder = parquet_of(settings, publication.version)
    return all(_exists(folder, name) for name in publication.files) and all(
        is_as_recorded(folder.parent / path, record) for path, record in records(publication).items()
    )


def records(publication: Publication) -> dict[str, FileRecord]:
    """Return the records of a publication's Parquet files."""
    return {path: record for path, record in publication.stored.items() if path.endswith(".parquet")}


def _exists(folder: Path, name: str) -> bool:
    """Whether a table's file is there, or its folder where it is partitioned."""
    return (folder / f"{name}.parquet").exists() or (folder / name).exists()


def _former_files(settings: Settings, before: Publication, name: str) -> dict[Path, FileRecord]:
    """Return a table's files in the publication before; empty unless all are as they were written."""
    found = {Path(path): record for path, record in records(before).items()}
    found = {path: record for path, record in found.items() if path.stem == name}
    folder = settings.published.parent
    return found if all(is_as_recorded(folder / path, record) for path, record in found.items()) else {}


def _stored_path(folder: Path, aside: Path, file: Path) -> str:
    return (Path(folder.name) / file.relative_to(aside)).as_posix()


def _write(
    con: duckdb.DuckDBPyConnection, relation: str, folder: Path, version: TableVersion, layout: Layout
) -> list[Path]:
    """Write a table's file, or one a year, and return them."""
    name = relation.split(".")[-1]
    order = sorting(con, relation, layout)
    if layout.by_year_of is None:
        file = folder / f"{name}.parquet"
        _copy(con, f"SELECT * FROM {quote(relation)} ORDER BY {order}", file, version)
        return [file]
    (folder / name).mkdir()
    files = []
    year = f"year({quote(layout.by_year_of)})"
    # A file a year, one statement each: a partitioned COPY writes a file a thread, sorted within none.
    for (value,) in con.execute(f"SELECT DISTINCT {year} FROM {quote(relation)} ORDER BY 1").fetchall():
        place = folder / name / f"year={'__HIVE_DEFAULT_PARTITION__' if value is None else value}"
        place.mkdir()
        chosen = f"{year} IS NULL" if value is None else f"{year} = {value}"
        query = f"SELECT * FROM {quote(relation)} WHERE {chosen} ORDER BY {order}"
        files.append(place / f"{name}.parquet")
        _copy(con, query, files[-1], version)
    return files


def _copy(con: duckdb.DuckDBPyConnection, query: str, file: Path, version: TableVersion) -> None:
    literal = str(file).replace("'", "''")
    con.execute(
        f"COPY ({query}) TO '{literal}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{version: '{version.digest}'}})"
    )
