"""The folder that files are written to: whether there is room, who else writes there, and errors of a full disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.errors import SourceError

#: What must stay free beside what is written: Dagster's and the app's databases are on the same disk as a rule.
MARGIN = 256 << 20

_REMEDY = "Make room there, or name another folder in MARQUEE_DOWNLOAD_DIR, and start again."
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoRoom(SourceError):
    """The disk is full, or would be. Never answered by using an older file: what comes next needs the room, too."""


def check_room(folder: Path, needed: int, what: str) -> None:
    """See that ``needed`` bytes and the margin fit on the disk of ``folder``. Raises ``NoRoom``."""
    free = shutil.disk_usage(folder).free
    if needed and free < needed + MARGIN:
        raise NoRoom(
            f"{folder} has no room for {what}: {readable(needed)} and a margin of {readable(MARGIN)} are needed,"
            f" {readable(free)} are free. {_REMEDY}"
        )


def is_full(error: OSError) -> bool:
    """Whether the disk or the quota is used up, so that what was written should go."""
    return error.errno in _FULL


def unwritten(target: Path, error: OSError) -> SourceError:
    """Return the error for a file that could not be written: because of a full disk, of a limit, or of rights."""
    reason = error.strerror or str(error)
    if error.errno in (*_FULL, errno.EFBIG):
        there = next(folder for folder in target.parents if folder.exists())
        free = readable(shutil.disk_usage(there).free)
        return NoRoom(
            f"{target.name} cannot be written to {target.parent} ({reason}; {free} are free); what was there before is"
            f" as it was. {_REMEDY}"
        )
    return SourceError(f"{target} cannot be written ({reason}). Check disk and rights.")


@contextmanager
def alone_in(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Be the only one who fetches or unpacks into a folder, waiting for whoever does, and telling so.

    The lock is on the folder itself, so no file is left behind, and the kernel frees it when the process dies.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another process that writes into {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole or not at all. For one writer at a time: see ``alone_in``."""
    aside = path.with_name(f"{path.name}.new")
    with aside.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)


def keep_renames(folder: Path) -> None:
    """Have the folder's renames outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def readable(size: float) -> str:
    """Format a number of bytes for display, in the powers of ten that disks and servers are sold by."""
    for unit in ("B", "kB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:,.1f} GB"
