from __future__ import annotations

import doctest
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import orchestration.storage.disk_errors
from orchestration.storage.disk_errors import full_disk
from settings import PROJECT_ROOT

#: Each writes more than a process with this limit may.
LIMIT = 65_536
WRITERS = {
    "python": "open(path, 'wb').write(b'x' * 1_000_000)",
    "duckdb": "import duckdb; duckdb.connect(path).execute('CREATE TABLE t AS SELECT random() FROM range(1_000_000)')",
    "sqlite": (
        "import sqlite3; con = sqlite3.connect(path);"
        " con.execute('CREATE TABLE t (a)'); con.execute('INSERT INTO t VALUES (zeroblob(1000000))'); con.commit()"
    ),
}


def test_the_examples_of_the_docstring_hold() -> None:
    assert doctest.testmod(orchestration.storage.disk_errors).failed == 0


@pytest.mark.parametrize("writer", WRITERS)
def test_what_each_library_says_is_understood(tmp_path: Path, writer: str) -> None:
    code = f"""
import sys
from orchestration.storage.disk_errors import full_disk
path = sys.argv[1]
try:
    {WRITERS[writer]}
except Exception as error:
    print(full_disk(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
        check=True,
    )
    assert "file too large" in done.stdout or "disk i/o error" in done.stdout


def test_the_cause_of_an_error_is_looked_at_too() -> None:
    error = RuntimeError("the run could not be recorded")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert full_disk(error) == "database or disk is full"


def test_another_error_is_not_taken_for_a_full_disk() -> None:
    assert full_disk(PermissionError(13, "Permission denied")) is None
