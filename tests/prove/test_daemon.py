"""Long proof: the real daemon follows a changed dump by itself, to the end of its cone and no further."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import duckdb

from environment import process_environment
from settings import PROJECT_ROOT, Settings
from tests.graph.conftest import GraphHome, make_graph_home

#: The wave is over when no run has been asked for in this many seconds: the daemon looks every thirty.
QUIET_S = 100.0
LIMIT_S = 1_800.0

#: What a changed vote of a film that we hold reaches.
CONE = {
    *("raw/imdb_title_ratings", "raw/loads", "raw/quarantine", "staging/stg_imdb__ratings"),
    *("intermediate/int_movie_candidates", "marts/dim_movies", "marts/movie_imdb", "published_copy"),
    *("feature_histories/movie_imdb", "online_store", "promoted_model"),
}
#: What must be left alone: nothing that it follows changed.
SPARED = {
    *("raw/ml_ratings", "raw/imdb_title_basics", "intermediate/int_user_keys", "marts/fct_ratings"),
    *("training_set", "candidates/neumf", "comparison", "fitted_model", "model_bundle", "bento"),
}


@contextmanager
def daemon(home: GraphHome) -> Iterator[dict[str, str]]:
    """`make ui` on the home: web page and daemon, with the sensor switched on. Yields the commands' environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = home.environment(MARQUEE_UI_PORT=str(port))
    log = (home.folder.parent / "ui.log").open("wb")
    page = subprocess.Popen(
        [sys.executable, "-m", "orchestration.ui"],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        environment = process_environment(home.settings, environment)
        dagster(environment, "sensor", "start", "rebuild_changed")
        yield environment
    finally:
        os.killpg(page.pid, signal.SIGTERM)
        page.wait(60)
        log.close()


def dagster(environment: dict[str, str], *arguments: str) -> None:
    """Dagster's own command line on the project's workspace."""
    subprocess.run(
        [Path(sys.executable).with_name("dagster"), *arguments, "-w", "workspace.yaml"],
        cwd=PROJECT_ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )


def built_since(instance: dg.DagsterInstance, start: float) -> set[str]:
    """The assets that were materialized after a moment."""
    records = instance.get_asset_records()
    return {
        record.asset_entry.asset_key.to_user_string()
        for record in records
        if record.asset_entry.last_materialization is not None
        and record.asset_entry.last_materialization.timestamp > start
    }


def test_the_daemon_rebuilds_the_cone_of_a_changed_dump_and_stops(tmp_path: Path) -> None:
    home = make_graph_home(tmp_path)
    assert home.run("--no-recommend").status == 0
    with duckdb.connect(str(home.settings.published), read_only=True) as con:
        [(tconst,)] = con.execute(
            "SELECT tconst FROM marts.dim_movies WHERE imdb_votes > 0 ORDER BY 1 LIMIT 1"
        ).fetchall()
    with daemon(home) as environment, dg.DagsterInstance.from_config(str(home.settings.dagster)) as instance:
        # The daemon's first look only takes note of what is there.
        time.sleep(90)
        dump = home.mirror / "imdb" / "title.ratings.tsv.gz"
        before = dump.read_bytes()
        written_at = int.from_bytes(before[4:8], "little")
        lines = gzip.decompress(before).decode().splitlines(keepends=True)
        changed = [f"{tconst}\t9.9\t987654\n" if line.startswith(f"{tconst}\t") else line for line in lines]
        dump.write_bytes(gzip.compress("".join(changed).encode(), mtime=written_at + 86_400))
        start = time.time()
        dagster(environment, "job", "launch", "-j", "observe_upstream")
        last_seen = start
        while time.time() - last_seen < QUIET_S and time.time() - start < LIMIT_S:
            time.sleep(5)
            [newest] = instance.get_run_records(limit=1)
            if not newest.dagster_run.is_finished:
                last_seen = time.time()
        built = built_since(instance, start)
        failed = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    took = last_seen - start
    report = Settings().reports / "daemon.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"seconds": round(took), "rebuilt": sorted(built), "failed_runs": len(failed)}))
    print(report.read_text())
    assert failed == []
    assert built >= CONE
    assert not built & SPARED
    with duckdb.connect(str(home.settings.published), read_only=True) as con:
        votes = con.execute("SELECT imdb_votes FROM marts.dim_movies WHERE tconst = ?", [tconst]).fetchall()
    assert votes == [(987654,)]
