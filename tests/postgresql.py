"""A real PostgreSQL of the tests' own: a new cluster in a folder of its own, on loopback, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Set where the servers must be there (continuous integration): a missing one is then a failure, not a skip.
REQUIRED = "MARQUEE_REQUIRE_SERVERS"


def find_postgresql() -> Path | None:
    """Return the folder of ``initdb`` and ``pg_ctl``, if any; Debian keeps it off the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    if folders:
        return folders[-1]
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Yield the URL of a server that holds one empty database; skip with the reason where none can be started."""
    binaries = find_postgresql()
    if binaries is None:
        reason = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    # Not under pytest's folders, which another user may not enter; PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="marquee-postgresql-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", _free_port()

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(binaries / program), *arguments],
            user=user,
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=(folder / "out").open("ab"),
            stderr=subprocess.STDOUT,
        )

    try:
        call("initdb", "-D", str(data), "-U", "marquee", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        call("pg_ctl", "-D", str(data), "-o", options, "-w", "-t", "60", "start")
        try:
            yield f"postgresql://marquee@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
