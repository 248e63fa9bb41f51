"""Opening the newest publication for ``make shell``, ``make report`` and other commands of this home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import duckdb

from bento.catalog.published_copy import ForeignLog, opened
from orchestration.publishing.duckdb_copy import record_of
from orchestration.publishing.manifest import Publication, copy_of
from orchestration.publishing.sealed_files import logs_in
from settings import Settings


@contextmanager
def newest(
    settings: Settings, publication: Publication, tell: Callable[[str], None]
) -> Iterator[tuple[str, duckdb.DuckDBPyConnection]]:
    """Open the newest publication read-only; yields the path of its file and the connection.

    The file is the one under its version: a tool that holds ``marquee.duckdb`` locks nobody out of it, and nothing is
    published under its name meanwhile. Logs that other tools have left next to either are removed and told, where this
    user may do so. Raises ``CopyUnusable``.
    """
    versioned = copy_of(settings, publication.version)
    # A home of before publications were kept has the one name alone.
    file, record = (versioned, record_of(settings, publication)) if versioned.exists() else (settings.published, None)
    # One that is locked says so before anything is removed.
    with suppress(ForeignLog), opened(file, record):
        pass
    for log in logs_in(file.parent):
        with suppress(OSError):
            log.unlink(missing_ok=True)
            tell(f"removed {log}, a log of another tool's changes: the copy is as it was published")
    with opened(file, record, threads=settings.threads) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield str(file), con
