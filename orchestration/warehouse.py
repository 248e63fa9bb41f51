"""The warehouse: the one guarded way to the writer's DuckDB file, content versions, and the published copy.

DuckDB lets one process write and then lets no other open the file, not even to read. So whoever opens it first takes
an operating-system lock, which the kernel frees when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from orchestration.questions.catalogue import Question, questions
from settings import Settings

#: The oldest file format that DuckDB 2.0 can still write: other people's tools are older than ours.
PUBLISHED_STORAGE_VERSION = "v1.0.0"


class WarehouseBusy(RuntimeError):
    """Another process holds the warehouse and did not let go in time; the message names it."""


@dataclass(frozen=True)
class TableVersion:
    """What a table holds: its row count and a digest of columns, types and rows, whatever the row order."""

    rows: int
    digest: str


@dataclass(frozen=True)
class Publication:
    """One published copy: its version (a digest of its tables) and what is in it."""

    version: str
    edition: str
    tables: dict[str, TableVersion]
    changed: bool


def _holder(lock: Path) -> str:
    with suppress(OSError, ValueError):
        note = json.loads(lock.read_text())
        return f"process {note['pid']} ({note['command']})"
    return "another process"


@contextmanager
def hold(lock: Path, *, timeout_s: float, what: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold an operating-system lock on a file; the kernel frees it when the process dies.

    Waits up to ``timeout_s`` seconds, telling once whom it waits for; then raises ``WarehouseBusy``.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    told = False
    with lock.open("a+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WarehouseBusy(
                        f"{what} is held by {_holder(lock)} for more than {timeout_s:.0f} s ({lock})."
                        " Wait for it to end, stop it, or raise MARQUEE_LOCK_TIMEOUT_S."
                    ) from None
                if not told and tell is not None:
                    tell(f"waiting for {what}, held by {_holder(lock)}")
                    told = True
                time.sleep(0.1)
        handle.truncate(0)
        handle.write(json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)[:200]}))
        handle.flush()
        yield


def exclusive(settings: Settings, *, tell: Callable[[str], None] | None = None) -> AbstractContextManager[None]:
    """Hold the warehouse: at most one process at a time does."""
    return hold(settings.warehouse_lock, timeout_s=settings.lock_timeout_s, what="the warehouse", tell=tell)


def open_database(settings: Settings, path: Path | str) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the project's limits: threads, memory, and UTC as the time zone."""
    con = duckdb.connect(str(path), config={"threads": settings.threads, "memory_limit": settings.duckdb_memory})
    con.execute("SET enable_progress_bar = false; LOAD icu; SET TimeZone = 'UTC'")
    # Else a checkpoint writes a new table's rows once more, only to fill its row groups to the brim.
    con.execute("SET max_vacuum_tasks = 0")
    return con


@contextmanager
def connect(settings: Settings, *, tell: Callable[[str], None] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A short connection to the warehouse, under the lock. Closes the file before it lets go of the lock."""
    with exclusive(settings, tell=tell):
        con = open_database(settings, settings.warehouse)
        try:
            yield con
        finally:
            con.close()


def quote(relation: str) -> str:
    """``schema.table`` as quoted identifiers."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in relation.split("."))


def columns_of(con: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, str]]:
    """Names and types of a relation's columns, in their order."""
    return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {quote(relation)}").fetchall()]


def table_version(con: duckdb.DuckDBPyConnection, relation: str) -> TableVersion:
    """The version of a table's content: equal for equal rows in any order, different when a duplicate is added."""
    columns = sorted(columns_of(con, relation))
    row = ", ".join(quote(name) for name, _ in columns)
    # All rows are fetched, for DuckDB refuses other work on a connection whose last result is not read to its end.
    [(rows, total)] = con.execute(
        f"SELECT count(*), coalesce(sum(hash({row})), 0)::VARCHAR FROM {quote(relation)}"
    ).fetchall()
    digest = hashlib.sha256(json.dumps([columns, rows, total]).encode()).hexdigest()[:16]
    return TableVersion(rows=rows, digest=digest)


def tables_of(con: duckdb.DuckDBPyConnection, schema: str) -> list[str]:
    """The tables (not views) of a schema, sorted by name."""
    found = con.execute(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = ? AND table_type = 'BASE TABLE' AND table_catalog = current_catalog() ORDER BY 1",
        [schema],
    )
    return [row[0] for row in found.fetchall()]


def export_parquet(
    con: duckdb.DuckDBPyConnection, relation: str, path: Path, *, order_by: str, version: TableVersion
) -> None:
    """Write a table to one Parquet file, sorted, replaced whole, with the table's version in the file's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    literal = str(aside).replace("'", "''")
    con.execute(
        f"COPY (SELECT * FROM {quote(relation)} ORDER BY {order_by}) TO '{literal}'"
        f" (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{version: '{version.digest}'}})"
    )
    aside.replace(path)


def read_manifest(settings: Settings) -> Publication | None:
    """The manifest of the published copy, or None where there is none yet."""
    try:
        manifest = json.loads((settings.published.parent / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    tables = {name: TableVersion(**version) for name, version in manifest["tables"].items()}
    return Publication(manifest["version"], manifest["edition"], tables, changed=False)


def publish(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, schema: str = "marts", comments: dict[str, dict[str, str]]
) -> Publication:
    """Replace the published copy by the marts, and the questions asked of them, as they are now, in one rename.

    ``comments`` maps a table to its column comments; the key ``""`` holds the table's own. The copy is written aside,
    checkpointed and synced, so that a reader finds either the old file or the new one, and never a ``.wal``.
    """
    tables = tables_of(con, schema)
    versions = {name: table_version(con, f"{schema}.{name}") for name in tables}
    asked = [question for question in questions() if question.tables <= {*tables}]
    said = {"comments": comments, "edition": settings.movielens, "questions": [one.statement for one in asked]}
    spoken = json.dumps(said, sort_keys=True)
    content = json.dumps([{name: asdict(v) for name, v in versions.items()}, spoken], sort_keys=True)
    version = hashlib.sha256(content.encode()).hexdigest()[:12]
    before = read_manifest(settings)
    if before is not None and before.version == version and settings.published.exists():
        return before

    folder = settings.published.parent
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / ".marquee.duckdb.part"
    _remove_database(aside)
    try:
        _write_copy(con, aside, schema, tables, comments, asked)
        _replace(aside, settings.published)
    except BaseException:
        # Half a file beside the published one would take the room that a full disk lacks.
        _remove_database(aside)
        raise
    publication = Publication(version, settings.movielens, versions, changed=True)
    manifest = {
        "version": version,
        "edition": settings.movielens,
        "tables": {name: asdict(value) for name, value in versions.items()},
    }
    note = folder / ".manifest.json.part"
    note.write_text(json.dumps(manifest, indent=1))
    _replace(note, folder / "manifest.json")
    return publication


def rewrite(settings: Settings) -> None:
    """Write the warehouse anew, in one rename: a deleted row stands in a file's free blocks until they are used again.

    The caller holds the warehouse. Tables, views, their comments and constraints come along.
    """
    if not settings.warehouse.exists():
        return
    aside = settings.warehouse.with_name(".warehouse.duckdb.part")
    _remove_database(aside)
    try:
        with closing(open_database(settings, ":memory:")) as con:
            old, new = (str(path).replace("'", "''") for path in (settings.warehouse, aside))
            con.execute(f"ATTACH '{old}' AS old_warehouse")
            con.execute("CHECKPOINT old_warehouse")
            con.execute(f"ATTACH '{new}' AS new_warehouse")
            con.execute("COPY FROM DATABASE old_warehouse TO new_warehouse")
            con.execute("DETACH old_warehouse")
            con.execute("DETACH new_warehouse")
        _replace(aside, settings.warehouse)
    except BaseException:
        _remove_database(aside)
        raise


def _write_copy(
    con: duckdb.DuckDBPyConnection,
    file: Path,
    schema: str,
    tables: list[str],
    comments: dict[str, dict[str, str]],
    asked: list[Question],
) -> None:
    literal = str(file).replace("'", "''")
    con.execute(f"ATTACH '{literal}' AS publication (STORAGE_VERSION '{PUBLISHED_STORAGE_VERSION}')")
    try:
        con.execute(f"CREATE SCHEMA publication.{quote(schema)}")
        for name in tables:
            target = f"publication.{schema}.{name}"
            columns = [column for column, _ in columns_of(con, f"{schema}.{name}")]
            order = ", ".join(quote(column) for column in columns[:2])
            con.execute(f"CREATE TABLE {quote(target)} AS SELECT * FROM {quote(f'{schema}.{name}')} ORDER BY {order}")
            _comment(con, target, comments.get(name, {}), set(columns))
        for question in asked:
            for statement in question.create("publication"):
                con.execute(statement)
        con.execute("CHECKPOINT publication")
    finally:
        con.execute("DETACH publication")


def _remove_database(file: Path) -> None:
    for part in (file, file.with_name(file.name + ".wal")):
        part.unlink(missing_ok=True)


def _comment(con: duckdb.DuckDBPyConnection, target: str, comments: dict[str, str], columns: set[str]) -> None:
    for column, text in comments.items():
        literal = text.replace("'", "''")
        if column == "":
            con.execute(f"COMMENT ON TABLE {quote(target)} IS '{literal}'")
        elif column in columns:
            con.execute(f"COMMENT ON COLUMN {quote(target)}.{quote(column)} IS '{literal}'")


def _replace(aside: Path, target: Path) -> None:
    """Rename with both the file and its folder on disk, so that a power cut leaves the old or the new one."""
    with aside.open("rb") as handle:
        os.fsync(handle.fileno())
    aside.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
