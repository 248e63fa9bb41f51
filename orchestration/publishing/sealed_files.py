"""Files of a publication: read-only, each with an inode of its own, and no log of another tool next to them.

Mode 0444 has every tool but root's open them read-only or not at all. Root's may write, so no two names share a file:
a writer reaches the one that it has opened, never a kept version nor what is published later.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from bento.catalog.published_copy import LOG_SUFFIXES, FileRecord
from orchestration.storage.warehouse import replace_durably

READ_ONLY = 0o444


def seal(file: Path) -> FileRecord:
    """Make a finished file read-only and record it."""
    file.chmod(READ_ONLY)
    return FileRecord.of(file)


def duplicate(source: Path, target: Path) -> None:
    """Copy a file into an inode of its own, with its time of the last change, read-only."""
    target.unlink(missing_ok=True)
    try:
        _copy_content(source, target)
    except BaseException:
        # Half a file would take the room that a full disk lacks.
        target.unlink(missing_ok=True)
        raise
    shutil.copystat(source, target)
    target.chmod(READ_ONLY)


def _copy_content(source: Path, target: Path) -> None:
    try:
        # Within the kernel: a file system that can (Btrfs, XFS) shares the blocks until one of the two is written to.
        with source.open("rb") as read, target.open("xb") as write:
            while os.copy_file_range(read.fileno(), write.fileno(), 1 << 30):
                pass
    except (OSError, AttributeError):
        # Another file system's, or no Linux.
        shutil.copyfile(source, target)


def separate(file: Path) -> None:
    """Give a file that other names share an inode of its own, and make it read-only."""
    if file.stat().st_nlink > 1:
        aside = file.with_name(f".{file.name}.part")
        duplicate(file, aside)
        replace_durably(aside, file)
    file.chmod(READ_ONLY)


def put_in_place(aside: Path, target: Path) -> None:
    """Give a finished DuckDB file its name.

    A log under that name belongs to a former file, and would be replayed onto this one. A tool that has the former file
    open may write one until the rename is done.
    """
    remove_logs(target)
    replace_durably(aside, target)
    remove_logs(target)


def remove_logs(copy: Path) -> None:
    """Remove DuckDB's logs next to a file."""
    for suffix in LOG_SUFFIXES:
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def logs_in(folder: Path) -> list[Path]:
    """Return the logs next to any published copy in a folder."""
    return sorted(log for suffix in LOG_SUFFIXES for log in folder.glob(f"marquee*.duckdb{suffix}"))


def is_as_recorded(file: Path, record: FileRecord) -> bool:
    """Whether a file holds what was recorded; if so it gets the recorded time again, which spares the next digest."""
    if not record.fits(file):
        return False
    if file.stat().st_mtime_ns != record.mtime_ns:
        with suppress(OSError):
            os.utime(file, ns=(record.mtime_ns, record.mtime_ns))
    return True
