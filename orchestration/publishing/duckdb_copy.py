"""The published copy: one DuckDB file with the marts, replaced whole; the last few are kept under their versions."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import duckdb

from bento.catalog.published_copy import FileRecord
from orchestration.publishing import parquet_export as parquet
from orchestration.publishing.manifest import (
    MANIFEST,
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
from orchestration.publishing.sealed_files import (
    duplicate,
    is_as_recorded,
    logs_in,
    put_in_place,
    remove_logs,
    seal,
    separate,
)
from orchestration.queries import analyses
from orchestration.queries.table_macros import Question, questions
from orchestration.storage.warehouse import columns_of, quote, remove_database, table_version, tables_of
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
    copies stay under their versions, as many as the settings keep, unless another tool has written to them. The caller
    holds the warehouse.
    """
    layouts = layouts or {}
    wanted = _describe(con, settings, schema, comments, layouts)
    before = read_manifest(settings)
    folder = settings.published.parent
    folder.mkdir(parents=True, exist_ok=True)
    for log in logs_in(folder):
        log.unlink(missing_ok=True)
    older = [version for version in (before.kept if before is not None else ()) if version != wanted.version]
    older = [version for version in older if _is_still_published(settings, version)][: settings.keep_publications - 1]
    wanted = replace(wanted, kept=(wanted.version, *older))
    if before is not None and before.version == wanted.version:
        whole = whole_copy(settings, before)
        if whole is not None:
            return _complete(con, settings, before, wanted, whole, schema, layouts)

    # Room for the new copy first: while it is written there are no more older ones than will be kept.
    remove_others(settings, older)
    aside, second = folder / ".marquee.duckdb.part", folder / ".marquee.duckdb.second.part"
    remove_database(aside)
    publication = replace(wanted, changed=True)
    versioned = copy_of(settings, publication.version)
    try:
        _write_copy(con, aside, publication, schema, comments, layouts)
        stored = {versioned.name: seal(aside)}
        put_in_place(aside, versioned)
        stored |= parquet.write_parquet(con, settings, publication, schema=schema, layouts=layouts, before=before)
        publication = replace(publication, stored=stored)
        write_note(settings, publication)
        duplicate(versioned, second)
    except BaseException:
        # Half a file beside the published one would take the room that a full disk lacks.
        remove_database(aside)
        second.unlink(missing_ok=True)
        remove_others(settings, before.kept if before is not None else ())
        raise
    _turn(settings, publication, second)
    return publication


def differences(settings: Settings) -> list[str]:
    """Names in ``published/`` of what is not as it was published: files changed or lost, logs of other tools."""
    folder = settings.published.parent
    found = [log.name for log in logs_in(folder)]
    publication = read_manifest(settings)
    if publication is None:
        return [*found, MANIFEST]
    if not publication.stored or _is_changed(settings.published, record_of(settings, publication)):
        found.append(settings.published.name)
    link = current_parquet(settings)
    if not link.is_symlink() or link.readlink().name != parquet_of(settings, publication.version).name:
        found.append(link.name)
    for version in publication.kept:
        note = read_manifest(settings, version)
        if note is None:
            found.append(note_of(settings, version).name)
        else:
            found += [path for path, record in note.stored.items() if _is_changed(folder / path, record)]
    return found


def remove_others(settings: Settings, kept: Collection[str]) -> list[Path]:
    """Remove the kept publications that are not among these versions, also what a kill left of one; returns which.

    With them go the logs of other tools. ``marquee.duckdb`` and the folder that ``parquet`` leads to stay, whatever
    their version.
    """
    removed = others(settings, kept)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def others(settings: Settings, kept: Collection[str]) -> list[Path]:
    """Files and folders of publications other than these versions, and logs that other tools wrote."""
    folder = settings.published.parent
    stays = {place(settings, version) for version in kept for place in (copy_of, note_of, parquet_of)}
    link = current_parquet(settings)
    if link.is_symlink():
        stays.add(folder / link.readlink())
    found = [*folder.glob("marquee-*.duckdb"), *folder.glob("marquee-*.json"), *folder.glob("parquet-*")]
    found += [*folder.glob(".parquet-*.part"), *folder.glob(".marquee*.second.part"), *logs_in(folder)]
    return sorted(path for path in found if path not in stays)


def settle(settings: Settings) -> None:
    """Make one kept publication of a copy and its manifest alone, as a backup holds them, and forget all others."""
    publication = read_manifest(settings)
    if publication is None or not settings.published.exists():
        return
    remove_logs(settings.published)
    record = record_of(settings, publication)
    versioned = copy_of(settings, publication.version)
    # A copy that is not the one that was published has no record, and the next run writes it again.
    stored = {versioned.name: record} if record is not None and is_as_recorded(settings.published, record) else {}
    alone = replace(publication, kept=(publication.version,), stored=stored)
    separate(settings.published)
    _put_copy(settings.published, versioned)
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
    """Describe what is to be published, with its version, without writing a file."""
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
    """Return the macros and views whose marts exist."""
    found: list[Question | analyses.Analysis] = [*questions(), *analyses.analyses()]
    return [question for question in found if question.tables <= {*tables}]


def _complete(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    before: Publication,
    wanted: Publication,
    whole: Path,
    schema: str,
    layouts: Mapping[str, Layout],
) -> Publication:
    """One of the two newest copies is the one that is wanted: mend the other, the Parquet files and the manifests."""
    record = record_of(settings, before)
    assert record is not None
    versioned = copy_of(settings, before.version)
    for copy in (versioned, settings.published):
        if copy != whole and (not is_as_recorded(copy, record) or copy.samefile(whole)):
            _put_copy(whole, copy)
    stored = {versioned.name: record, **parquet.records(before)}
    if before.files != wanted.files or not parquet.is_whole(settings, before):
        written = parquet.write_parquet(con, settings, wanted, schema=schema, layouts=layouts, before=before)
        stored = {versioned.name: record, **written}
    publication = replace(wanted, stored=stored)
    write_note(settings, publication)
    parquet.point_to(settings, publication.version)
    if replace(before, changed=False) != publication:
        write_manifest(settings, publication)
    remove_others(settings, publication.kept)
    return publication


def _turn(settings: Settings, publication: Publication, second: Path) -> None:
    """Give the second file of the new copy the name that readers open; from then on it is what is published."""
    put_in_place(second, settings.published)
    parquet.point_to(settings, publication.version)
    write_manifest(settings, publication)
    remove_others(settings, publication.kept)


def _put_copy(source: Path, target: Path) -> None:
    """Put a second file of a copy under its name."""
    aside = target.with_name(f".{target.name}.second.part")
    duplicate(source, aside)
    put_in_place(aside, target)


def record_of(settings: Settings, publication: Publication) -> FileRecord | None:
    """Return the record of a publication's DuckDB file; None in a manifest from before there were any."""
    return publication.stored.get(copy_of(settings, publication.version).name)


def _is_changed(file: Path, record: FileRecord | None) -> bool:
    return record is None or not is_as_recorded(file, record)


def whole_copy(settings: Settings, publication: Publication) -> Path | None:
    """One of the newest publication's two files that is as it was written; None where both are lost or changed."""
    copies = (copy_of(settings, publication.version), settings.published)
    record = record_of(settings, publication)
    return next((copy for copy in copies if not _is_changed(copy, record)), None)


def _is_still_published(settings: Settings, version: str) -> bool:
    """Whether an older publication is what it was: one that another tool has changed cannot be made again."""
    note = read_manifest(settings, version)
    if note is None:
        return False
    if not note.stored:
        return _record_older(settings, note)
    return all(is_as_recorded(settings.published.parent / path, record) for path, record in note.stored.items())


def _record_older(settings: Settings, note: Publication) -> bool:
    """Record the files of a publication of before there were records, if its tables are still what its manifest says.

    Its files may be writable, and hard links of other versions' files.
    """
    copy, folder = copy_of(settings, note.version), parquet_of(settings, note.version)
    try:
        with closing(duckdb.connect(str(copy), read_only=True, config={"threads": settings.threads})) as con:
            con.execute("SET TimeZone = 'UTC'")
            if {name: table_version(con, f"marts.{name}") for name in tables_of(con, "marts")} != note.tables:
                return False
    except duckdb.Error:
        return False
    files = [copy, *sorted(folder.rglob("*.parquet"))]
    for file in files:
        separate(file)
    stored = {file.relative_to(folder.parent).as_posix(): seal(file) for file in files}
    write_note(settings, replace(note, stored=stored))
    return True


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
