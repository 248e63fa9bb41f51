"""Long proof: the real daemon follows a changed dump to the end of its cone, stops at failed data, survives a kill."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from environment import process_environment
from settings import PROJECT_ROOT, Settings
from tests.graph.conftest import GraphHome, make_graph_home
from tests.prove.strict_definitions import MOST_VOTES

DAGSTER = str(Path(sys.executable).with_name("dagster"))

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


OURS = PROJECT_ROOT / "workspace.yaml"

#: What failed data would do harm in.
HARMED = {"published_copy", "catalogue", "film_credits", "promoted_model", "marts/recommendations"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> GraphHome:
    """Build a home on a tiny mirror once with the real command."""
    made = make_graph_home(tmp_path_factory.mktemp("daemon"))
    assert made.run("--no-recommend").status == 0
    return made


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """Write a workspace of the real graph with the stricter rule of strict_definitions.py."""
    made = tmp_path / "workspace.yaml"
    module = {"module_name": "tests.prove.strict_definitions", "working_directory": str(PROJECT_ROOT)}
    made.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    return made


@contextmanager
def daemon(home: GraphHome, workspace: Path = OURS, **variables: str) -> Iterator[Commands]:
    """`make ui` on the home, with the sensor switched on; on another workspace, the command that `make ui` starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = process_environment(home.settings, home.environment(MARQUEE_UI_PORT=str(port), **variables))
    by_hand = [DAGSTER, "dev", "-w", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
    log = (home.folder.parent / "ui.log").open("ab")
    with subprocess.Popen(
        [sys.executable, "-m", "orchestration.ui"] if workspace == OURS else by_hand,
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as page:
        commands = Commands(environment, workspace)
        try:
            commands("sensor", "start", "rebuild_changed")
            # Its first look only takes note of what is there.
            time.sleep(90)
            yield commands
        finally:
            # `dagster dev` stops its servers on SIGINT alone.
            page.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                page.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(page.pid, signal.SIGKILL)
            log.close()


@dataclass(frozen=True)
class Commands:
    """Dagster's own command line on a home and a workspace."""

    environment: dict[str, str]
    workspace: Path

    def __call__(self, *arguments: str) -> None:
        subprocess.run(
            [DAGSTER, *arguments, "-w", str(self.workspace)],
            cwd=PROJECT_ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )

    def click(self, asset: str) -> str:
        """Materialize one asset alone in a process of its own; returns what it says where it fails, else nothing."""
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", asset]
        done = subprocess.run(
            [*command, "-m", "tests.prove.strict_definitions"],
            cwd=PROJECT_ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


def built_since(instance: dg.DagsterInstance, start: float) -> set[str]:
    """Return the assets that were materialized after a point in time."""
    records = instance.get_asset_records()
    return {
        record.asset_entry.asset_key.to_user_string()
        for record in records
        if record.asset_entry.last_materialization is not None
        and record.asset_entry.last_materialization.timestamp > start
    }


def vote(home: GraphHome, tconst: str, votes: int) -> None:
    """Publish a dump of ratings upstream that gives one movie other votes, a day younger than the last one."""
    dump = home.mirror / "imdb" / "title.ratings.tsv.gz"
    before = dump.read_bytes()
    written_at = int.from_bytes(before[4:8], "little")
    lines = gzip.decompress(before).decode().splitlines(keepends=True)
    changed = [f"{tconst}\t9.9\t{votes}\n" if line.startswith(f"{tconst}\t") else line for line in lines]
    dump.write_bytes(gzip.compress("".join(changed).encode(), mtime=written_at + 86_400))


def known_movie(home: GraphHome) -> str:
    """Return the tconst of a movie in the marts that IMDb rates."""
    with duckdb.connect(str(home.settings.published), read_only=True) as con:
        [(tconst,)] = con.execute(
            "SELECT tconst FROM marts.dim_movies WHERE imdb_votes > 0 ORDER BY 1 LIMIT 1"
        ).fetchall()
    return str(tconst)


def votes_published(home: GraphHome, tconst: str) -> object:
    with duckdb.connect(str(home.settings.published), read_only=True) as con:
        [(votes,)] = con.execute("SELECT imdb_votes FROM marts.dim_movies WHERE tconst = ?", [tconst]).fetchall()
    return votes


def wait_for_quiet(instance: dg.DagsterInstance) -> float:
    """Wait until no run has been asked for in a while; returns the moment of the last one."""
    start = last_seen = time.time()
    while time.time() - last_seen < QUIET_S and time.time() - start < LIMIT_S:
        time.sleep(5)
        [newest] = instance.get_run_records(limit=1)
        if not newest.dagster_run.is_finished:
            last_seen = time.time()
    return last_seen


def kill_next_run(instance: dg.DagsterInstance, building: str) -> str:
    """SIGKILL the process of the daemon's next run that is to build an asset, as soon as it is at work."""
    start = time.time()
    while time.time() - start < LIMIT_S:
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            if dg.AssetKey(building.split("/")) in (run.asset_selection or ()):
                events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
                for told in re.findall(r"Executing steps in process \(pid: (\d+)\)", " ".join(map(str, events))):
                    os.kill(int(told), signal.SIGKILL)
                    return run.run_id
        time.sleep(0.2)
    raise AssertionError(f"no run came to build {building}")


def report(name: str, figures: dict[str, object]) -> None:
    """Keep the figures of a proof as JSON, and print them."""
    path = Settings().reports / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))
    print(path.read_text())


def failed_runs(instance: dg.DagsterInstance) -> list[str]:
    return [run.run_id for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))]


def test_the_daemon_rebuilds_the_cone_of_a_changed_dump_and_stops(home: GraphHome) -> None:
    tconst = known_movie(home)
    with daemon(home) as dagster, dg.DagsterInstance.from_config(str(home.settings.dagster)) as instance:
        vote(home, tconst, 800_001)
        start = time.time()
        dagster("job", "launch", "-j", "observe_upstream")
        took = wait_for_quiet(instance) - start
        built = built_since(instance, start)
        failed = failed_runs(instance)
    report("daemon", {"seconds": round(took), "rebuilt": sorted(built), "failed_runs": len(failed)})
    assert failed == []
    assert built >= CONE
    assert not built & SPARED
    assert votes_published(home, tconst) == 800_001


def test_failed_data_go_nowhere_and_a_killed_build_is_tried_again(home: GraphHome, strict: Path) -> None:
    tconst = known_movie(home)
    before = votes_published(home, tconst)
    with (
        daemon(home, strict, MARQUEE_RETRY_COOLDOWN_S="5") as dagster,
        dg.DagsterInstance.from_config(str(home.settings.dagster)) as instance,
    ):
        vote(home, tconst, MOST_VOTES + 1)
        start = time.time()
        dagster("job", "launch", "-j", "observe_upstream")
        wait_for_quiet(instance)
        built = built_since(instance, start)
        refused = failed_runs(instance)
        assert "marts/dim_movies" in built
        assert not built & HARMED
        assert len(refused) == 1
        for asset in sorted(HARMED):
            assert "marts/dim_movies: its check expectations failed" in dagster.click(asset)
        assert not built_since(instance, start) & HARMED
        assert votes_published(home, tconst) == before

        known = set(failed_runs(instance))
        vote(home, tconst, 700_001)
        mended = time.time()
        dagster("job", "launch", "-j", "observe_upstream")
        killed = kill_next_run(instance, "marts/dim_movies")
        took = wait_for_quiet(instance) - mended
        built = built_since(instance, mended)
        failed = [run for run in failed_runs(instance) if run not in known]
    report("daemon_failures", {"seconds_from_kill_to_current": round(took), "rebuilt": sorted(built)})
    assert failed == [killed]
    assert built >= CONE
    assert votes_published(home, tconst) == 700_001
