"""Processes that open a published copy for writing, as other people's tools do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.publishing.generations import ask

#: Says what it is told to its connection for writing, until it is told to close it or to die with its log unwritten.
WRITER = """
import duckdb, json, os, sys
con = duckdb.connect(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    if line.strip() == "die":
        os._exit(9)
    if line.strip() == "close":
        con.close()
    else:
        con.execute(line)
    print(json.dumps([]), flush=True)
"""


@contextmanager
def writer(copy: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process with the copy open for writing, whatever its mode was; kill it if it is left early."""
    mode = copy.stat().st_mode
    copy.chmod(0o644)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "open\n"
            copy.chmod(mode)
            yield started
        finally:
            started.kill()


def die(process: subprocess.Popen[str]) -> None:
    """End a writer as a kill does, with what it wrote in its log."""
    assert process.stdin is not None
    process.stdin.write("die\n")
    process.stdin.flush()
    assert process.wait() == 9


def write(copy: Path, statement: str, *, killed: bool = False) -> None:
    """Have a process change a copy and close it in order, or die with the change in its log alone."""
    with writer(copy) as process:
        ask(process, statement)
        if killed:
            die(process)
        else:
            ask(process, "close")
