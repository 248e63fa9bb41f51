"""The published copy: one DuckDB file with the marts, replaced whole; the last few are kept under their versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import duckdb

from orchestration.publication import parquet
from orchestration.publication.manifest import (
    Layout,
    Publication,
    copy_of,
    current_parquet,
    note_of,
    parquet_of,
    read_manifest,
    write_manifest,
    write_note,
)
from orchestration.questions import analyses
from orchestration.questions.catalogue import Question, questions
from orchestration.warehouse import columns_of, quote, remove_database, replace_durably, table_version, tables_of
from settings import Settings

#: The oldest file format that DuckDB 2.0 can still write: other people's tools are older than ours.
STORAGE_VERSION = "v1.0.0"


def publish(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    *,
    schema: str = "marts",
    comments: Mapping[str, Mapping[str, str]],
    layouts: Mapping[str, Layout] | None = None,
) -> Publication:
    """Replace the published copy by the marts, and the questions asked of them, as they are now, in one rename.

    ``comments`` maps a table to its column comments; the key ``""`` holds the table's own. The copy is written aside,
    checkpointed and synced, so that a reader finds either the old file or the new one, and never a ``.wal``. Older
    copies stay under their versions, as many as the settings keep. The caller holds the warehouse.
    """
    layouts = layouts or {}
    wanted = _describe(con, settings, schema, comments, layouts)
    before = read_manifest(settings)
    if before is not None and before.version == wanted.version and settings.published.exists():
        return _complete(con, settings, before, wanted, schema, layouts)

    folder = settings.published.parent
    folder.mkdir(parents=True, exist_ok=True)
    # Room for the new copy first: while it is written there are no more copies than will be kept.
    kept = [version for version in (before.kept if before is not None else ()) if version != wanted.version]
    kept = [version for version in kept if copy_of(settings, version).exists()][: settings.keep_publications - 1]
    remove_others(settings, kept)
    aside = folder / ".marquee.duckdb.part"
    remove_database(aside)
    publication = replace(wanted, kept=(wanted.version, *kept), changed=True)
    try:
        _write_copy(con, aside, publication, schema, comments, layouts)
        replace_durably(aside, copy_of(settings, publication.version))
        write_note(settings, publication)
        former = before if before is not None and parquet.is_whole(settings, before) else None
        parquet.write_parquet(con, settings, publication, schema=schema, layouts=layouts, before=former)
    except BaseException:
        # Half a file beside the published one would take the room that a full disk lacks.
        remove_database(aside)
        remove_others(settings, before.kept if before is not None else ())
        raise
    _turn(settings, publication)
    return publication


def remove_others(settings: Settings, kept: Collection[str]) -> list[Path]:
    """Remove the kept publications that are not among these versions, also what a kill left of one; returns which.

    ``marquee.duckdb`` and the folder that ``parquet`` leads to stay, whatever their version.
    """
    removed = others(settings, kept)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def others(settings: Settings, kept: Collection[str]) -> list[Path]:
    """Files and folders of publications other than these versions."""
    folder = settings.published.parent
    stays = {place(settings, version) for version in kept for place in (copy_of, note_of, parquet_of)}
    link = current_parquet(settings)
    if link.is_symlink():
        stays.add(folder / link.readlink())
    found = [*folder.glob("marquee-*.duckdb"), *folder.glob("marquee-*.json"), *folder.glob("parquet-*")]
    found += folder.glob(".parquet-*.part")
    return sorted(path for path in found if path not in stays)


def settle(settings: Settings) -> None:
    """Make one kept publication of a copy and its manifest alone, as a backup holds them, and forget all others."""
    publication = read_manifest(settings)
    if publication is None or not settings.published.exists():
        return
    alone = replace(publication, kept=(publication.version,))
    _link_newest(settings, alone)
    write_note(settings, alone)
    write_manifest(settings, alone)
    link = current_parquet(settings)
    if link.is_symlink() and link.readlink().name != parquet_of(settings, alone.version).name:
        link.unlink()
    remove_others(settings, alone.kept)


def _describe(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    schema: str,
    comments: Mapping[str, Mapping[str, str]],
    layouts: Mapping[str, Layout],
) -> Publication:
    """What is to be published: its version, without a file written."""
    versions = {name: table_version(con, f"{schema}.{name}") for name in tables_of(con, schema)}
    said = {
        "comments": comments,
        "edition": settings.movielens,
        "questions": [one.create("publication") for one in _asked(versions)],
        "layouts": {name: asdict(layout) for name, layout in layouts.items()},
    }
    spoken = json.dumps(said, sort_keys=True)
    content = json.dumps([{name: asdict(v) for name, v in versions.items()}, spoken], sort_keys=True)
    files = {
        name: parquet.file_digest(con, f"{schema}.{name}", version, layouts.get(name, Layout()))
        for name, version in versions.items()
    }
    return Publication(hashlib.sha256(content.encode()).hexdigest()[:12], settings.movielens, versions, files)


def _asked(tables: Collection[str]) -> list[Question | analyses.Analysis]:
    """The macros and views whose marts are there."""
    found: list[Question | analyses.Analysis] = [*questions(), *analyses.analyses()]
    return [question for question in found if question.tables <= {*tables}]


def _complete(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    before: Publication,
    wanted: Publication,
    schema: str,
    layouts: Mapping[str, Layout],
) -> Publication:
    """The copy is the one that is wanted: see that it has its own name and Parquet files, and nothing else is there."""
    kept = (before.version, *(v for v in before.kept if v != before.version and copy_of(settings, v).exists()))
    publication = replace(wanted, kept=kept[: settings.keep_publications])
    if not copy_of(settings, before.version).exists():
        _link_newest(settings, publication)
    write_note(settings, publication)
    if before.files != publication.files or not parquet.is_whole(settings, publication):
        parquet.write_parquet(con, settings, publication, schema=schema, layouts=layouts, before=None)
    parquet.point_to(settings, publication.version)
    if replace(before, changed=False) != publication:
        write_manifest(settings, publication)
    remove_others(settings, publication.kept)
    return publication


def _turn(settings: Settings, publication: Publication) -> None:
    """Give the new copy the name that readers open; from then on it is what is published."""
    _link_newest(settings, publication)
    parquet.point_to(settings, publication.version)
    write_manifest(settings, publication)
    remove_others(settings, publication.kept)


def _link_newest(settings: Settings, publication: Publication) -> None:
    """One file under two names, whichever of the two is there."""
    named = copy_of(settings, publication.version)
    source, target = (named, settings.published) if publication.changed else (settings.published, named)
    aside = target.with_name(f".{target.name}.link.part")
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
    except OSError:
        # A file system without hard links: the room of one more copy.
        shutil.copyfile(source, aside)
    replace_durably(aside, target)


def _write_copy(
    con: duckdb.DuckDBPyConnection,
    file: Path,
    publication: Publication,
    schema: str,
    comments: Mapping[str, Mapping[str, str]],
    layouts: Mapping[str, Layout],
) -> None:
    literal = str(file).replace("'", "''")
    con.execute(f"ATTACH '{literal}' AS publication (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        con.execute(f"CREATE SCHEMA publication.{quote(schema)}")
        for name in publication.tables:
            source, target = f"{schema}.{name}", f"publication.{schema}.{name}"
            order = parquet.sorting(con, source, layouts.get(name, Layout()))
            con.execute(f"CREATE TABLE {quote(target)} AS SELECT * FROM {quote(source)} ORDER BY {order}")
            _comment(con, target, comments.get(name, {}), {column for column, _ in columns_of(con, source)})
        con.execute(f"CREATE SCHEMA publication.{quote(analyses.SCHEMA)}")
        for question in _asked(publication.tables):
            for statement in question.create("publication"):
                con.execute(statement)
        con.execute("CHECKPOINT publication")
    finally:
        con.execute("DETACH publication")


def _comment(con: duckdb.DuckDBPyConnection, target: str, comments: Mapping[str, str], columns: set[str]) -> None:
    for column, text in comments.items():
        literal = text.replace("'", "''")
        if column == "":
            con.execute(f"COMMENT ON TABLE {quote(target)} IS '{literal}'")
        elif column in columns:
            con.execute(f"COMMENT ON COLUMN {quote(target)}.{quote(column)} IS '{literal}'")
