"""The analyses: questions as SQL in ``dbt_project/analyses``, one a file, with their answers on the sample beside.

``python -m orchestration.queries.analyses`` asks all of the published copy and says how long each took;
``--write-answers`` replaces the answers by what the copy says.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bento.catalog.published_copy import CopyUnusable, opened
from settings import PROJECT_ROOT, command_settings

FOLDER = PROJECT_ROOT / "dbt_project" / "analyses"
#: The schema of the published copy in which each analysis is a view.
SCHEMA = "questions"
_REF = re.compile(r"\{\{\s*ref\('(\w+)'\)\s*\}\}")


@dataclass(frozen=True)
class Analysis:
    """One question. ``sql``: as it is asked of the published copy, where all tables are in the schema ``marts``."""

    name: str
    question: str
    sql: str

    @property
    def tables(self) -> frozenset[str]:
        """The marts that it reads."""
        return frozenset(re.findall(r"\bmarts\.(\w+)", self.sql))

    def create(self, catalog: str) -> list[str]:
        """Return the statements that make the view and its comment in the database attached as ``catalog``."""
        place = f'"{catalog}".{SCHEMA}."{self.name}"'
        spoken = self.question.replace("'", "''")
        return [f"CREATE VIEW {place} AS\n{self.sql}", f"COMMENT ON VIEW {place} IS '{spoken}'"]


def analyses(folder: Path = FOLDER) -> list[Analysis]:
    """Every analysis, by name. The first line of a file is the question."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        question, _, body = path.read_text(encoding="utf-8").partition("\n")
        found.append(Analysis(path.stem, question.removeprefix("-- "), _REF.sub(r"marts.\1", body).strip()))
    return found


def answer(con: duckdb.DuckDBPyConnection, analysis: Analysis) -> str:
    """Return the question and its answer as Markdown, in the order that the SQL gives."""
    cursor = con.execute(analysis.sql)
    names = [column[0] for column in cursor.description]
    numbers = [column[1] not in ("VARCHAR", "DATE", "TIMESTAMP") for column in _types(con, analysis)]
    lines = [
        f"# {analysis.question}",
        "",
        f"On the embedded sample; the SQL is [{analysis.name}.sql](../{analysis.name}.sql).",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---:" if number else "---" for number in numbers) + "|",
    ]
    lines += ["| " + " | ".join(_spoken(value) for value in row) + " |" for row in cursor.fetchall()]
    return "\n".join(lines) + "\n"


def answer_file(analysis: Analysis) -> Path:
    """Where the answer on the sample is kept."""
    return FOLDER / "answers" / f"{analysis.name}.md"


def _types(con: duckdb.DuckDBPyConnection, analysis: Analysis) -> list[tuple[str, str]]:
    with closing(con.cursor()) as other:
        return [(row[0], row[1]) for row in other.execute(f"DESCRIBE {analysis.sql}").fetchall()]


def _spoken(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


def timed(con: duckdb.DuckDBPyConnection, analysis: Analysis, times: int) -> float:
    """Return the median duration of some runs, in seconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        con.execute(analysis.sql).fetchall()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main(arguments: list[str] | None = None) -> int:
    """Ask every analysis of the published copy; returns the exit status, 1 where there is none that can be read."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.queries.analyses", description=__doc__)
    parser.add_argument("--write-answers", action="store_true", help="replace the answers by what the copy says")
    parser.add_argument("--times", type=int, default=7, help="runs of which the median is told (default 7)")
    options = parser.parse_args(arguments)
    settings = command_settings()
    if options.write_answers and settings.movielens != "sample":
        print("The answers are those on the sample: MARQUEE_MOVIELENS must be it.", file=sys.stderr)
        return 2
    if not settings.published.exists():
        print(f"Nothing is published in {settings.home} yet: `make run` does it.", file=sys.stderr)
        return 1
    told = {}
    try:
        with opened(settings.published, threads=settings.threads) as con:
            for analysis in analyses():
                told[analysis.name] = timed(con, analysis, options.times)
                print(f"{told[analysis.name] * 1000:>9.1f} ms  {analysis.name:<32}{analysis.question}")
                if options.write_answers:
                    answer_file(analysis).parent.mkdir(exist_ok=True)
                    answer_file(analysis).write_text(answer(con, analysis), encoding="utf-8")
    except CopyUnusable as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{max(told.values()) * 1000:>9.1f} ms  the slowest of {len(told)}")
    settings.reports.mkdir(parents=True, exist_ok=True)
    report = settings.reports / "analyses.json"
    report.write_text(json.dumps({"edition": settings.movielens, "threads": settings.threads, "seconds": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
