"""The marts as Parquet beside the published copy, for tools that read no DuckDB: one file a mart, or one a year.

Each publication has a folder of its own and ``parquet`` is a link to the newest, changed in one rename, so that all
tables of a folder are of one moment. A table that is as it was is a hard link to the files before, and not written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import duckdb

from orchestration.publication.manifest import (
    Layout,
    Publication,
    current_parquet,
    parquet_of,
)
from orchestration.warehouse import TableVersion, columns_of, quote, replace_durably
from settings import Settings

#: Part of every file's digest: another way of writing has all files written anew.
FORMAT = 1


def sorting(con: duckdb.DuckDBPyConnection, relation: str, layout: Layout) -> str:
    """The columns that a table is sorted by, as SQL: those of its layout, else the first two."""
    columns = layout.sorted_by or tuple(name for name, _ in columns_of(con, relation)[:2])
    return ", ".join(quote(column) for column in columns)


def file_digest(con: duckdb.DuckDBPyConnection, relation: str, version: TableVersion, layout: Layout) -> str:
    """What decides the Parquet files of a table: its content, the order of its columns, its layout."""
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
) -> list[str]:
    """Make the folder of a publication; returns the tables that had to be written. ``point_to`` makes it the newest."""
    folder = parquet_of(settings, publication.version)
    former = parquet_of(settings, before.version) if before is not None else None
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    written = []
    for name, digest in publication.files.items():
        there = _place(former, name) if former is not None and before is not None else None
        if there is not None and before is not None and before.files.get(name) == digest:
            _link(there, aside / there.name)
        else:
            _write(con, f"{schema}.{name}", aside, publication.tables[name], layouts.get(name, Layout()))
            written.append(name)
    if folder.exists():
        shutil.rmtree(folder)
    aside.replace(folder)
    return written


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
    """Whether every file or folder of a publication's Parquet export is there."""
    folder = parquet_of(settings, publication.version)
    return all(_place(folder, name) is not None for name in publication.files)


def _place(folder: Path, name: str) -> Path | None:
    """A table's file, or its folder where it is partitioned."""
    for place in (folder / f"{name}.parquet", folder / name):
        if place.exists():
            return place
    return None


def _link(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link) if source.is_dir() else os.link(source, target)


def _write(con: duckdb.DuckDBPyConnection, relation: str, folder: Path, version: TableVersion, layout: Layout) -> None:
    name = relation.split(".")[-1]
    order = sorting(con, relation, layout)
    if layout.by_year_of is None:
        _copy(con, f"SELECT * FROM {quote(relation)} ORDER BY {order}", folder / f"{name}.parquet", version)
        return
    (folder / name).mkdir()
    year = f"year({quote(layout.by_year_of)})"
    # A file a year, one statement each: a partitioned COPY writes a file a thread, sorted within none.
    for (value,) in con.execute(f"SELECT DISTINCT {year} FROM {quote(relation)} ORDER BY 1").fetchall():
        place = folder / name / f"year={'__HIVE_DEFAULT_PARTITION__' if value is None else value}"
        place.mkdir()
        chosen = f"{year} IS NULL" if value is None else f"{year} = {value}"
        query = f"SELECT * FROM {quote(relation)} WHERE {chosen} ORDER BY {order}"
        _copy(con, query, place / f"{name}.parquet", version)


def _copy(con: duckdb.DuckDBPyConnection, query: str, file: Path, version: TableVersion) -> None:
    literal = str(file).replace("'", "''")
    con.execute(
        f"COPY ({query}) TO '{literal}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{version: '{version.digest}'}})"
    )
