"""``make shell``: DuckDB's own shell on the published copy, after a welcome that lists what is in it.

It opens the copy read-only and takes no lock, so it works while a run writes. Exit status: that of the shell, or 1
where nothing is published yet, the copy is locked or damaged, or no shell is installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb

from bento.catalog.published_copy import CopyUnusable
from orchestration.publishing.manifest import read_manifest
from orchestration.publishing.newest_copy import newest
from settings import command_settings


def welcome(con: duckdb.DuckDBPyConnection, version: str, edition: str) -> Iterator[str]:
    """Yield the lines that say what a copy holds: its tables with their rows and first sentences, and its questions."""
    tables = con.execute(
        """
        SELECT table_name, estimated_size, coalesce(comment, '') FROM duckdb_tables()
        WHERE schema_name = 'marts' ORDER BY ALL
        """
    ).fetchall()
    questions = con.execute(
        """
        SELECT schema_name || '.' || view_name, comment FROM duckdb_views()
        WHERE NOT internal AND comment IS NOT NULL
        UNION ALL
        SELECT DISTINCT 'marts.' || function_name || '(…)', comment FROM duckdb_functions()
        WHERE schema_name = 'marts' AND comment IS NOT NULL ORDER BY ALL
        """
    ).fetchall()
    yield f"Marquee: {edition}, publication {version}, read-only"
    yield ""
    yield from _aligned([(name, f"{rows:,}", _sentence(comment)) for name, rows, comment in tables])
    if questions:
        yield "\nQuestions that have a name:\n"
        yield from _aligned([(name, "", _sentence(comment)) for name, comment in questions])
    yield "\nFROM dim_movies LIMIT 5;   DESCRIBE fct_ratings;   .help   .quit"
    yield ""


def _aligned(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    name_width = max((len(name) for name, _, _ in rows), default=0)
    count_width = max((len(count) for _, count, _ in rows), default=0)
    room = max(30, shutil.get_terminal_size((120, 20)).columns - name_width - count_width - 6)
    for name, count, text in rows:
        short = text if len(text) <= room else text[: room - 1].rstrip() + "…"
        yield f"  {name:<{name_width}}  {count:>{count_width}}  {short}"


def _sentence(text: str) -> str:
    """Return the first sentence of a comment, without the example that follows a colon."""
    return " ".join(text.split()).partition(". ")[0].partition(": FROM")[0].rstrip(".")


def main(arguments: list[str] | None = None) -> int:
    """Print the welcome and become the shell; further arguments are the shell's own, as ``-c "FROM dim_movies"``."""
    settings = command_settings()
    publication = read_manifest(settings)
    if publication is None or not settings.published.exists():
        print(f"Nothing is published in {settings.home} yet: `make run` does it.", file=sys.stderr)
        return 1
    beside = Path(sys.executable).with_name("duckdb")
    shell = str(beside) if beside.exists() else shutil.which("duckdb")
    if shell is None:
        print(f"DuckDB's shell is not installed. The copy is {settings.published}.", file=sys.stderr)
        return 1
    given = sys.argv[1:] if arguments is None else arguments
    try:
        # The shell opens the same file: it is asked first, for DuckDB's own words say no remedy.
        with newest(settings, publication, lambda line: print(line, file=sys.stderr)) as (file, con):
            lines = [] if given else list(welcome(con, publication.version, publication.edition))
    except CopyUnusable as error:
        print(error, file=sys.stderr)
        return 1
    for line in lines:
        print(line)
    sys.stdout.flush()
    os.execv(shell, [shell, "-readonly", "-cmd", "USE marts", file, *given])


if __name__ == "__main__":
    sys.exit(main())
