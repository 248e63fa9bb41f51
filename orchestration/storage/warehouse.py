"""The warehouse: the one guarded way to the writer's DuckDB file, and content versions.

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
from dataclasses import dataclass
from pathlib import Path

import duckdb

from settings import Settings


class WarehouseBusy(RuntimeError):
    """Another process holds the warehouse and did not let go in time; the message names it."""


@dataclass(frozen=True)
class TableVersion:
    """What a table holds: its row count and a digest of columns, types and rows, whatever the row order."""

    rows: int
    digest: str


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
    """Open a DuckDB connection with the project's limits: threads, memory, and UTC as the time zone."""
    con = duckdb.connect(str(path), config={"threads": settings.threads, "memory_limit": settings.duckdb_memory})
    con.execute("SET enable_progress_bar = false; LOAD icu; SET TimeZone = 'UTC'")
    # Else a checkpoint writes a new table's rows once more, only to fill its row groups to the brim.
    con.execute("SET max_vacuum_tasks = 0")
    return con


@contextmanager
def connect(settings: Settings, *, tell: Callable[[str], None] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a short connection to the warehouse under the lock; close the file before releasing the lock."""
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
    """Return the version of a table's content: equal for equal rows in any order, different if a duplicate is added."""
    columns = sorted(columns_of(con, relation))
    row = ", ".join(quote(name) for name, _ in columns)
    # All rows are fetched, for DuckDB refuses other work on a connection whose last result is not read to its end.
    [(rows, total)] = con.execute(
        f"SELECT count(*), coalesce(sum(hash({row})), 0)::VARCHAR FROM {quote(relation)}"
    ).fetchall()
    digest = hashlib.sha256(json.dumps([columns, rows, total]).encode()).hexdigest()[:16]
    return TableVersion(rows=rows, digest=digest)


def tables_of(con: duckdb.DuckDBPyConnection, schema: str) -> list[str]:
    """Return the tables (not views) of a schema, sorted by name."""
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


def rewrite(settings: Settings) -> None:
    """Write the warehouse anew, in one rename: a deleted row stands in a file's free blocks until they are used again.

    The caller holds the warehouse. Tables, views, their comments and constraints come along.
    """
    if not settings.warehouse.exists():
        return
    aside = settings.warehouse.with_name(".warehouse.duckdb.part")
    remove_database(aside)
    try:
        with closing(open_database(settings, ":memory:")) as con:
            old, new = (str(path).replace("'", "''") for path in (settings.warehouse, aside))
            con.execute(f"ATTACH '{old}' AS old_warehouse")
            con.execute("CHECKPOINT old_warehouse")
            con.execute(f"ATTACH '{new}' AS new_warehouse")
            con.execute("COPY FROM DATABASE old_warehouse TO new_warehouse")
            con.execute("DETACH old_warehouse")
            con.execute("DETACH new_warehouse")
        replace_durably(aside, settings.warehouse)
    except BaseException:
        remove_database(aside)
        raise


def remove_database(file: Path) -> None:
    """Remove a DuckDB file and its log."""
    for part in (file, file.with_name(file.name + ".wal")):
        part.unlink(missing_ok=True)


def replace_durably(aside: Path, target: Path) -> None:
    """Rename with both the file and its folder on disk, so that a power cut leaves the old or the new one."""
    if not aside.is_symlink():
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
    aside.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
