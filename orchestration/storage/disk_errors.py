"""A full disk, told from other errors: Dagster, dbt, DuckDB and SQLite each say it in their own words."""

from __future__ import annotations

import errno

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: What the kernel says of these numbers, and SQLite's words, who calls a limit on the size of files an I/O error.
_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "database or disk is full",
    "disk i/o error",
)


def full_disk(error: BaseException) -> str | None:
    """Return what an error, or one that led to it, says of a full disk; None when it is about something else.

    >>> full_disk(OSError(28, "No space left on device", "warehouse.duckdb"))
    'no space left on device (warehouse.duckdb)'
    >>> full_disk(ValueError("no such column")) is None
    True
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in _NUMBERS:
            place = f" ({link.filename})" if link.filename else ""
            return f"{(link.strerror or 'no space left on device').lower()}{place}"
        said = str(link).lower()
        for words in _WORDS:
            if words in said:
                return words
        link = link.__cause__ or link.__context__
    return None
