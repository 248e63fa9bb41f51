"""The stages of the pipeline, each in a process of its own: what the assets do, without Dagster's event log.

``checked_marts`` is the first four of them once more, in one process as in a run, and what the script is held against.

``python -m benchmarks.pipeline.stages STAGE --input FOLDER --result FILE`` runs one on the home that the ``MARQUEE_``
variables name and writes what it did as JSON: parts with their rows and seconds.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from orchestration.publishing.duckdb_copy import publish
from orchestration.storage.warehouse import connect, exclusive, export_parquet, open_database, table_version, tables_of
from settings import IMDB_DUMPS, Settings

HERE = Path(__file__).resolve().parent
BY_HAND = HERE / "by_hand.sql"
#: dbt's tag of the marts that analysts ask beside the core. ``by_hand.sql`` does not make them, and so they are a stage
#: of their own: the ratio holds the same work against the same work.
ANALYSTS = "analysts"
#: How often each analysis is asked; the median is told.
ANALYSIS_TIMES = 5
#: The raw table and the mart that hold every rating.
RATINGS_TABLES = ("raw.ml_ratings", "marts.fct_ratings")


@dataclass(frozen=True)
class Part:
    """One part of a stage: rows handled (0 where rows mean nothing) and seconds."""

    name: str
    rows: int
    seconds: float


class _Parts:
    """Collects the parts as they are done, and tells of each."""

    def __init__(self) -> None:
        self.done: list[Part] = []

    @contextmanager
    def part(self, name: str) -> Iterator[list[int]]:
        """Time a block; it appends its rows to the list that it is given."""
        rows: list[int] = []
        started = time.monotonic()
        yield rows
        self.add(name, sum(rows), time.monotonic() - started)

    def add(self, name: str, rows: int, seconds: float) -> None:
        """Record a part that was timed elsewhere."""
        part = Part(name, rows, seconds)
        self.done.append(part)
        print(f"{part.name:<40}{part.rows:>14,}{part.seconds:>9.2f} s", flush=True)


def ingest(settings: Settings, files: Path, parts: _Parts) -> None:
    """Files to raw tables with the version of each, the versions of the upstream files taken before."""
    from orchestration.ingestion import app_store as app
    from orchestration.ingestion import imdb, movielens, streaming
    from orchestration.ingestion.file_inspection import file_digest
    from orchestration.ingestion.imdb_diff import Thresholds, take_look
    from orchestration.ingestion.raw_tables import APP_TABLES
    from orchestration.ingestion.source_resolver import EditionFiles

    edition = EditionFiles("sample", files / "sample", "generated for the bench")
    dumps = {dump: files / "imdb" / f"{dump}.tsv.gz" for dump in IMDB_DUMPS}
    with parts.part("observe"):
        movielens.edition_digest(edition)
        for path in dumps.values():
            file_digest(path)
    with parts.part("movielens") as rows, connect(settings) as con:
        for report in movielens.ingest_movielens(con, edition):
            rows.append(table_version(con, f"raw.{report.table}").rows)
    with connect(settings) as con:
        # None is asked for, as without MARQUEE_STREAMING_DIR: the tables are there and empty.
        streaming.ingest_streaming(con, None)
    for dump, path in dumps.items():
        with parts.part(dump) as rows, connect(settings) as con:
            report = imdb.ingest_imdb(con, dump, path)
            rows.append(table_version(con, f"raw.{report.table}").rows)
    with parts.part("app") as rows, connect(settings) as con:
        app.ingest_app(con, settings.app_store, "sample")
        rows.extend(table_version(con, f"raw.{table.name}").rows for table in APP_TABLES)
    with parts.part("imdb_changes") as rows, connect(settings) as con:
        take_look(con, Thresholds(settings.changes_rating_step, settings.changes_min_votes))
        rows.append(table_version(con, "raw.imdb_changes").rows)
    with parts.part("ledgers") as rows, connect(settings) as con:
        rows.extend(table_version(con, f"raw.{name}").rows for name in ("quarantine", "loads"))


def dbt(settings: Settings, files: Path, parts: _Parts) -> None:
    """``dbt build`` of the core as the assets ask for it, with all its tests, and the version of each table it made."""
    from orchestration.lib.dbt_project import MartTranslator, dbt_project
    from orchestration.lib.dbt_runner import Dbt, failures

    with parts.part("parse"):
        project, parsed = dbt_project(settings)
        warehouse = Dbt(project, json.loads(project.manifest_path.read_text()), MartTranslator(), parsed)
    with exclusive(settings):
        with parts.part("build"):
            done = warehouse.invoke(["--exclude", f"tag:{ANALYSTS}"], lambda _: None)
            if not done.success:
                raise RuntimeError(failures(done))
        con = open_database(settings, settings.warehouse)
        with parts.part("versions") as rows:
            for schema in ("intermediate", "marts"):
                rows.extend(table_version(con, f"{schema}.{name}").rows for name in tables_of(con, schema))
        con.close()


def _judge(settings: Settings, parts: _Parts, name: str, wanted: Callable[[str], bool]) -> None:
    from orchestration.quality.runner import run_suites
    from orchestration.quality.suites import SUITES

    with parts.part(name) as rows, connect(settings) as con:
        made = {f"{schema}.{table}" for schema in ("raw", "marts") for table in tables_of(con, schema)}
        suites = [suite for table, suite in SUITES.items() if table in made and wanted(table)]
        for result in run_suites(con, suites):
            rows.append(result.rows)
            if result.blocking_failed:
                broken = [outcome for outcome in result.outcomes if not outcome.passed]
                raise RuntimeError(f"{result.table}: {broken[:3]}")


def ratings_judged(settings: Settings, files: Path, parts: _Parts) -> None:
    """Great Expectations over all ratings as they were loaded."""
    _judge(settings, parts, "raw.ml_ratings", lambda table: table == "raw.ml_ratings")


def quality(settings: Settings, files: Path, parts: _Parts) -> None:
    """Great Expectations over all other raw tables and all marts that are made."""
    _judge(settings, parts, "raw", lambda table: table.startswith("raw.") and table != "raw.ml_ratings")
    _judge(settings, parts, "marts", lambda table: table.startswith("marts."))


def checked_marts(settings: Settings, files: Path, parts: _Parts) -> None:
    """From raw files to checked marts in one process and a home of its own, in the order in which a run does it."""
    own = checked_home(settings)
    shutil.rmtree(own.home, ignore_errors=True)
    own.home.mkdir(parents=True)
    ingest(own, files, parts)
    _judge(own, parts, "expectations of raw tables", lambda table: table.startswith("raw."))
    dbt(own, files, parts)
    _judge(own, parts, "expectations of marts", lambda table: table.startswith("marts."))


def checked_home(settings: Settings) -> Settings:
    """Return the settings of the home that ``checked_marts`` makes."""
    return settings.model_copy(update={"home": settings.home / "checked-marts"})


def analysts(settings: Settings, files: Path, parts: _Parts) -> None:
    """Build and test the marts for analysts and the user segments, without the ratings of the catalogues.

    Those would add rows to ``fct_ratings``, which is compared with the script's.
    """
    from orchestration.analytics.python_marts import USER_SEGMENTS
    from orchestration.analytics.user_segments import segment_users
    from orchestration.ingestion.streaming import catalogue_files, ingest_streaming
    from orchestration.lib.dbt_project import MartTranslator, dbt_project
    from orchestration.lib.dbt_runner import Dbt, failures

    with TemporaryDirectory(dir=settings.home) as beside:
        for path in catalogue_files(files / "streaming").values():
            (Path(beside) / path.name).symlink_to(path.absolute())
        with parts.part("streaming catalogues") as rows, connect(settings) as con:
            rows.extend(report.loaded_rows for report in ingest_streaming(con, Path(beside)))
    project, parsed = dbt_project(settings)
    warehouse = Dbt(project, json.loads(project.manifest_path.read_text()), MartTranslator(), parsed)
    with exclusive(settings):
        done = warehouse.invoke(["--select", f"tag:{ANALYSTS}"], lambda _: None)
        if not done.success:
            raise RuntimeError(failures(done))
        for result in getattr(done.result, "results", []):
            if result.node.resource_type == "model":
                parts.add(result.node.name, 0, result.execution_time)
    with parts.part(USER_SEGMENTS.name) as rows, connect(settings) as con:
        found = segment_users(con.sql("FROM marts.user_habits").pl(), settings.seed)
        con.register("found_segments", found.users.to_arrow())
        USER_SEGMENTS.replace(con, "SELECT * FROM found_segments ORDER BY user_key")
        rows.append(len(found.users))


def published(settings: Settings, files: Path, parts: _Parts) -> None:
    """Write the copy that analysts open, laid out as the marts declare, and its Parquet files."""
    from orchestration.defs.warehouse.dbt_assets import mart_comments, mart_layouts
    from orchestration.lib.dbt_project import dbt_project

    project, _ = dbt_project(settings)
    manifest = json.loads(project.manifest_path.read_text())
    with parts.part("copy") as rows, connect(settings) as con:
        made = publish(con, settings, comments=mart_comments(manifest), layouts=mart_layouts(manifest))
        rows.extend(version.rows for version in made.tables.values())


def analyses(settings: Settings, files: Path, parts: _Parts) -> None:
    """Each question of ``dbt_project/analyses`` as it is asked of the published copy: the median of some times."""
    from orchestration.queries.analyses import analyses as questions
    from orchestration.queries.analyses import timed

    with duckdb.connect(str(settings.published), read_only=True, config={"threads": settings.threads}) as con:
        for question in questions():
            parts.add(question.name, 0, timed(con, question, ANALYSIS_TIMES))


def features(settings: Settings, files: Path, parts: _Parts) -> None:
    """Export the feature histories as Parquet, with the version of each."""
    from orchestration.defs.features.assets import FEATURE_MARTS, history_file

    with connect(settings) as con:
        for mart, key in FEATURE_MARTS.items():
            with parts.part(mart) as rows:
                version = table_version(con, f"marts.{mart}")
                path = history_file(settings, mart)
                export_parquet(con, f"marts.{mart}", path, order_by=f"{key}, feature_timestamp", version=version)
                rows.append(version.rows)


def online(settings: Settings, files: Path, parts: _Parts) -> None:
    """Feast's online store, filled with the latest row of each key."""
    from feature_repo.store import apply, materialize, open_store

    with parts.part("apply"):
        store = open_store(settings.feast, settings.features)
        apply(store)
    with parts.part("materialize") as rows:
        rows.extend(materialize(store).values())


def by_hand(settings: Settings, files: Path, parts: _Parts) -> None:
    """Run the hand-written script over the same files, into a database of its own."""
    database = by_hand_database(settings)
    database.unlink(missing_ok=True)
    con = open_database(settings, database)
    with parts.part("by_hand.sql") as rows:
        run_by_hand(con, files)
        [(count,)] = con.execute("SELECT count(*) FROM marts.fct_ratings").fetchall()
        rows.append(count)
    con.close()


def by_hand_database(settings: Settings) -> Path:
    """Where the hand-written script's marts are."""
    return settings.home / "by-hand.duckdb"


def run_by_hand(con: duckdb.DuckDBPyConnection, files: Path) -> None:
    """Run ``by_hand.sql`` on a folder of generated input."""
    from orchestration.synthetic.sample import SNAPSHOT

    con.execute("SET VARIABLE snapshot_at = epoch_ms(?::BIGINT)", [SNAPSHOT * 1000])
    folder = glob.escape(str(files))
    for name, value in {"movielens": f"{folder}/sample", "imdb": f"{folder}/imdb", "edition": "sample"}.items():
        con.execute(f"SET VARIABLE {name} = ?", [value])
    con.execute(BY_HAND.read_text())


#: Every stage by its name, in the pipeline's order; the last is what the others are held against.
STAGES: dict[str, Callable[[Settings, Path, _Parts], None]] = {
    "ingest": ingest,
    "ratings_judged": ratings_judged,
    "dbt": dbt,
    "quality": quality,
    "analysts": analysts,
    "published": published,
    "analyses": analyses,
    "features": features,
    "online": online,
    "checked_marts": checked_marts,
    "by_hand": by_hand,
}


def main(arguments: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.stages", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    parts = _Parts()
    STAGES[options.stage](Settings(), options.input, parts)
    options.result.write_text(json.dumps([asdict(part) for part in parts.done]))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    # DuckDB 2.0 prints a page about its own leaked references when the interpreter takes itself apart.
    os._exit(0)
