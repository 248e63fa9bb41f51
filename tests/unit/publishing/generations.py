"""Marts that all say of which generation they are, and the processes that read them while others are published."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from orchestration.publishing.duckdb_copy import publish
from orchestration.publishing.manifest import Publication, copy_of
from orchestration.storage.warehouse import connect
from settings import Settings

#: Enough that a reader has not seen all blocks of a table when the next one is published.
ROWS = 100_000
COUNTED = """
    SELECT * FROM (
        SELECT 'films', min(generation), max(generation), count(*), sum(film) FROM marts.films
        UNION ALL SELECT 'ratings', min(generation), max(generation), count(*), sum(film) FROM marts.ratings
    ) ORDER BY 1
"""
#: Answers each line of its input by what it sees: in its one long transaction, by connecting anew, by another name.
LONG_READER = """
import duckdb, json, sys
path, counted = sys.argv[1:]
con = duckdb.connect(path, read_only=True)
con.execute("BEGIN TRANSACTION")
con.execute("SELECT count(*) FROM marts.films").fetchall()
print("open", flush=True)
for line in sys.stdin:
    word, _, other = line.strip().partition(" ")
    if word == "look":
        seen = con.execute(counted).fetchall()
    elif word == "connect":
        with duckdb.connect(other, read_only=True) as second:
            seen = second.execute(counted).fetchall()
    elif word == "close":
        con.close()
        seen = []
    print(json.dumps(seen), flush=True)
"""
#: Opens the copy again and again until its input ends, and tells how often and what it saw.
OPENER = """
import duckdb, json, select, sys
path, counted = sys.argv[1:]
seen, failures = [], []
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with duckdb.connect(path, read_only=True) as con:
            seen.append(con.execute(counted).fetchall())
    except Exception as error:
        failures.append(repr(error))
    if len(seen) + len(failures) == 1:
        print("reading", flush=True)
print(json.dumps([seen, failures]), flush=True)
"""


def publish_generation(settings: Settings, generation: int) -> Publication:
    """Publish two marts whose every row says the generation."""
    with connect(settings) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        for table, rows in (("films", ROWS), ("ratings", 2 * ROWS)):
            con.execute(
                f"CREATE OR REPLACE TABLE marts.{table} AS SELECT range AS film, {generation} AS generation,"
                f" 'row ' || range || ' of {generation}' AS words FROM range({rows})"
            )
        return publish(con, settings, comments={})


def expected(generation: int) -> list[list[Any]]:
    """Return what a reader must see of a generation: all of it, and nothing else."""
    return [[name, generation, generation, rows, rows * (rows - 1) // 2] for name, rows in (("films", ROWS), ("ratings", 2 * ROWS))]  # fmt: skip # noqa: E501


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that reads, once it is ready; kill it if it is left early."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path), COUNTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            started.stdout.readline()
            yield started
        finally:
            started.kill()


def ask(reader: subprocess.Popen[str], word: str) -> list[list[Any]]:
    """One question to the long reader."""
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(word + "\n")
    reader.stdin.flush()
    answer: list[list[Any]] = json.loads(reader.stdout.readline())
    return answer


def look_anew(settings: Settings) -> list[list[Any]]:
    """Return what a process that opens the copy now sees."""
    script = "import duckdb, json, sys; print(json.dumps(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall()))"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", script, settings.published, COUNTED], capture_output=True, text=True, check=True
    )
    seen: list[list[Any]] = json.loads(done.stdout)
    return seen


def read_through(settings: Settings, publications: int) -> dict[str, int]:
    """Publish so often under a long read transaction and a process that opens the copy all the time.

    Fails where a reader meets an error, a mixed state, or another generation than it should. Returns the counts.
    """
    publish_generation(settings, 0)
    with process(LONG_READER, settings.published) as reader, process(OPENER, settings.published) as opener:
        for generation in range(1, publications + 1):
            publication = publish_generation(settings, generation)
            assert ask(reader, "look") == expected(0)
            assert look_anew(settings) == expected(generation)
        # Who still holds the old file gets it again under the same name, and the new one under its version.
        assert ask(reader, f"connect {settings.published}") == expected(0)
        assert ask(reader, f"connect {copy_of(settings, publication.version)}") == expected(publications)
        assert ask(reader, "look") == expected(0)
        ask(reader, "close")
        assert ask(reader, f"connect {settings.published}") == expected(publications)
        output, _ = opener.communicate("end\n")
    seen, failures = json.loads(output.splitlines()[-1])
    assert failures == []
    generations = [counted[0][1] for counted in seen]
    assert all(counted == expected(generation) for counted, generation in zip(seen, generations, strict=True))
    assert generations == sorted(generations)
    return {"publications": publications, "opened": len(seen), "failed": len(failures), "seen": len(set(generations))}


def tables_in(file: Path) -> list[str]:
    """Names of the tables of a published copy."""
    with closing(duckdb.connect(str(file), read_only=True)) as con:
        return [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
