"""Opening the newest publication for ``make shell``, ``make report`` and other commands of this home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from bento.published_copy import CopyUnusable, LogBeside, opened
from orchestration.publication.copies import record_of
from orchestration.publication.files import remove_logs
from orchestration.publication.manifest import Publication, copy_of
from settings import Settings


@contextmanager
def newest(
    settings: Settings, publication: Publication, tell: Callable[[str], None]
) -> Iterator[tuple[str, duckdb.DuckDBPyConnection]]:
    """Open the newest publication read-only; yields the path of its file and the connection.

    The file is the one under its version: whoever holds ``marquee.duckdb`` locks nobody out of it, and nothing is
    published under its name meanwhile. A log that another tool has left beside it is removed and told. Raises
    ``CopyUnusable``.
    """
    versioned = copy_of(settings, publication.version)
    record = record_of(settings, publication)
    # A home of before publications were kept has the one name alone.
    file = versioned if versioned.exists() else settings.published
    try:
        with opened(file, record if file == versioned else None):
            pass
    except LogBeside:
        try:
            remove_logs(file)
        except OSError as error:
            raise CopyUnusable(
                f"{file} has a log of another tool's changes next to it, which cannot be removed ({error.strerror}).",
                "Have its owner run `make clean-up`.",
            ) from error
        tell(f"removed the log of another tool's changes next to {file}: the copy is as it was published")
    with opened(file, record if file == versioned else None, threads=settings.threads) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield str(file), con
