"""Reading of the published copy: the record that tells whether a file is as published, and opening it read-only.

A published copy is complete in its one file. A log next to it was written by another tool, and DuckDB would replay it
onto whatever file has the name by then. So nothing is read with such a log there, nor from a file that another process
has open for writing, nor from one that is not what was published: each is one clear ``CopyUnusable``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bento.errors import RequestRefused

if TYPE_CHECKING:
    import duckdb

#: Ends of the names of DuckDB's logs; the last two exist while one is being checkpointed or replayed.
LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")


class CopyUnusable(RequestRefused):
    """The published copy cannot be read as published; message and remedy are one line for a terminal."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, message, remedy)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"


class ForeignLog(CopyUnusable):
    """Another tool's log lies next to the copy."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes, time of the last change in nanoseconds, and SHA-256 of a published file."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> FileRecord:
        """Read a file whole and record it."""
        found = file.stat()
        return cls(found.st_size, found.st_mtime_ns, _sha256(file))

    def fits(self, file: Path) -> bool:
        """Whether a file holds what was recorded.

        SHA-256 takes 0.6 s a GB, which each of several copies would cost at each `make update`. A write always moves
        the time of the last change, so the digest is taken only where that differs and the size does not: of a home
        that was copied or restored.
        """
        try:
            found = file.stat()
        except FileNotFoundError:
            return False
        if found.st_size != self.bytes:
            return False
        return found.st_mtime_ns == self.mtime_ns or _known_sha256(file, found.st_ino, found.st_mtime_ns) == self.sha256


def logs_of(copy: Path) -> list[Path]:
    """DuckDB's logs next to a file."""
    return [log for suffix in LOG_SUFFIXES if (log := copy.with_name(copy.name + suffix)).exists()]


@contextmanager
def opened(copy: Path, record: FileRecord | None = None, **config: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a published copy read-only; ``record`` is its manifest's, None where there is none to hold it against.

    Raises ``CopyUnusable``, also where reading the copy finds damage.
    """
    import duckdb

    if record is not None and not record.fits(copy):
        raise CopyUnusable(f"{_name(copy)} is not the file that was published.", _REWRITE)
    with _damage_as_unusable(copy, record), closing(duckdb.connect(str(copy), read_only=True, config=config)) as con:
        if logs_of(copy):
            raise _foreign_log(copy)
        yield con


_REWRITE = "`make update` rewrites it."


@contextmanager
def _damage_as_unusable(copy: Path, record: FileRecord | None) -> Iterator[None]:
    import duckdb

    try:
        yield
    except (
        duckdb.IOException,
        duckdb.SerializationException,
        duckdb.InternalException,
        duckdb.FatalException,
    ) as error:
        if "Could not set lock" in str(error):
            holder = re.search(r"\(PID (\d+)\)", str(error))
            who = f"process {holder[1]}" if holder else "another process"
            raise CopyUnusable(
                f"{_name(copy)} is locked: {who} has it open for writing.", "Close it there, or open it read-only."
            ) from error
        if logs_of(copy):
            raise _foreign_log(copy) from error
        if record is not None and copy.stat().st_mtime_ns == record.mtime_ns:
            # A failing disk changes a file without its time: a new time has the next run look at the digest.
            with suppress(OSError):
                os.utime(copy)
        raise CopyUnusable(f"{_name(copy)} is damaged, or cannot be read.", _REWRITE) from error


def _foreign_log(copy: Path) -> ForeignLog:
    return ForeignLog(
        f"{_name(copy)} has a log of another tool's changes next to it ({logs_of(copy)[0].name}).",
        "`make clean-up` or `make update` removes it.",
    )


def _name(copy: Path) -> str:
    """Name without the home's path, which is not a remote caller's business."""
    return f"{copy.parent.name}/{copy.name}"


def record_in(manifest: Mapping[str, Any], copy: Path) -> FileRecord | None:
    """Return the record of a copy in its manifest; None if it has none, as in manifests older than records."""
    stored = manifest.get("stored", {}).get(copy.name)
    return None if stored is None else FileRecord(**stored)


@lru_cache(maxsize=64)
def _known_sha256(file: Path, inode: int, mtime_ns: int) -> str:
    """Return the digest of a file, computed once per state of the file: a service asks at every request."""
    return _sha256(file)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
