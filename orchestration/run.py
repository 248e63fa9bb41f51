"""``make run`` and ``make update``: look upstream, rebuild what is out of date, and ask the built bento.

Exit status: 0 when everything is current, 1 when a step or a blocking check failed, 2 for a wrong setting or home.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from environment import PathError, adopt_environment, process_environment
from orchestration.storage.disk_errors import full_disk
from orchestration.storage.home import HomeError, heal, prepare, read_home, start_rebuild, swap
from orchestration.storage.warehouse import WarehouseBusy, hold
from settings import PROJECT_ROOT, Settings, command_settings

if TYPE_CHECKING:
    from orchestration.pipeline.incremental import Result


def say(line: str) -> None:
    """One line of the run's story, on standard error, so that standard output holds the result alone."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.run", description=__doc__)
    parser.add_argument("--no-recommend", action="store_true", help="end after the rebuild; do not start the bento")
    parser.add_argument("--user", type=int, default=1, help="the user to recommend to at the end (default 1)")
    parser.add_argument("-k", type=int, default=10, help="how many recommendations to print (default 10)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be fetched, and from where")
    options = parser.parse_args(arguments)
    settings = command_settings()
    if options.dry_run:
        return _dry_run(settings)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with hold(settings.run_lock, timeout_s=settings.lock_timeout_s, tell=say, what="this home"):
            if heal(settings.home):
                say("finished a change of edition, or a restoration, that was cut off")
            status = _bring_up_to_date(settings)
    except (HomeError, PathError, WarehouseBusy) as error:
        say(str(error))
        return 2
    except Exception as error:
        said = full_disk(error)
        if said is None:
            raise
        say(f"\n{settings.home} cannot be written: {said}. What was published and served before is untouched.")
        say("Make room (`make clean-up` says what may go) and run the same command again.")
        return 1
    if status == 0 and not options.no_recommend:
        status = _recommend(settings, options.user, options.k)
    return status


def _dry_run(settings: Settings) -> int:
    from orchestration.ingestion.fetch_plan import make_plan, plan_lines

    plan = make_plan(settings)
    for line in plan_lines(plan, settings):
        print(line)
    return 0 if plan.feasible else 1


def _bring_up_to_date(settings: Settings) -> int:
    home = read_home(settings.home)
    if home is not None and home.edition != settings.movielens:
        return _rebuild_aside(settings, home.edition)
    prepare(settings)
    return _rebuild_here(settings)


def _rebuild_aside(settings: Settings, former: str) -> int:
    """Another edition is asked for: build it in a home of its own, then put it in this one's place."""
    aside = start_rebuild(settings, settings.movielens)
    say(f"{settings.home} holds {former}; building {settings.movielens} aside in {aside}")
    environment = {
        **process_environment(settings.model_copy(update={"home": aside})),
        "MARQUEE_HOME": str(aside),
        "MARQUEE_MOVIELENS": settings.movielens,
        "MARQUEE_DOWNLOAD_DIR": str(settings.downloads),
        # The app's people go on whatever the edition.
        "MARQUEE_STORE_URL": settings.app_store,
    }
    built = subprocess.run(
        [sys.executable, "-m", "orchestration.run", "--no-recommend"], cwd=PROJECT_ROOT, env=environment, check=False
    )
    if built.returncode != 0:
        say(f"{former} stays in place: {settings.movielens} could not be built.")
        return built.returncode
    swap(settings)
    say(f"{settings.home} now holds {settings.movielens}")
    return 0


def _rebuild_here(settings: Settings) -> int:
    started = time.monotonic()
    say(f"Marquee: {settings.movielens} in {settings.home}")
    import warnings

    import dagster as dg

    # Observable multi-assets and data versions of outputs are beta in the pinned version: nothing a reader can act on.
    warnings.simplefilter("ignore", dg.BetaWarning)
    # dbt's semaphores end with this process; what minds them would say so in two lines after the last one here.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    adopt_environment(settings)
    from orchestration.definitions import marquee
    from orchestration.lib.dagster_instance import free_dead_runs, open_instance
    from orchestration.lib.terminal_logger import progress_logger
    from orchestration.pipeline import incremental
    from orchestration.pipeline.summary import story

    with open_instance(settings) as instance, redirect_stdout(sys.stderr):
        free_dead_runs(instance)
        defs = dg.Definitions.merge(marquee(), dg.Definitions(loggers={"console": progress_logger}))
        say("looking at the upstream files")
        observed = incremental.observe(defs, instance)
        if observed.failure is not None:
            say(f"\n{observed.failure}\nNothing was rebuilt; what was there is untouched.")
            return 1
        result = incremental.rebuild(defs, instance, missing_artifact=_missing_artifacts(settings), tell=say)
    if result.failure is not None:
        say(f"\n{result.failure}\nWhat was published and served before is untouched.")
        return 1
    took = time.monotonic() - started
    for line in (*story(observed, result), *_comparison_lines(settings)):
        say(line)
    say(f"\n{_summary(result)} in {took:.0f} s; peak memory {_peak_memory_gb():.1f} GB")
    return 0


def _summary(result: Result) -> str:
    if not result.rebuilt:
        return f"Nothing has changed: all {len(result.spared)} assets reused"
    return f"{len(result.rebuilt)} assets built, {len(result.spared)} reused"


def _comparison_lines(settings: Settings) -> list[str]:
    """Return the candidates' figures as the asset `comparison` measured them, a line each, and the gate's decision."""
    from orchestration.defs.training.assets import METRICS, comparison_file
    from orchestration.promotion.decisions import spoken_decision

    rows = json.loads(comparison_file(settings).read_text())["rows"]
    heads = "".join(f"{title:>15}" for title in METRICS.values())
    lines = [f"\n{'last rating of each user':<26}{heads}{'fit':>9}"]
    for row in rows:
        figures = "".join(f"{row[name]:>15.4f}" for name in METRICS)
        lines.append(f"{row['recommender']:<26}{figures}{row['fit_seconds']:>7.1f} s")
    return [*lines, *spoken_decision(settings)]


def _peak_memory_gb() -> float:
    """Return the larger of this process's peak memory and that of its largest child (dbt, the bento's build), in GB."""
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes / 1_048_576


def _missing_artifacts(settings: Settings) -> Callable[[object], bool]:
    """Whether an asset's file or table is gone or changed, or the pointer was let go, so that it is built again."""
    import dagster as dg

    from orchestration.defs.asset_files import artifacts
    from orchestration.defs.serving.assets import PROMOTED_MODEL
    from orchestration.defs.warehouse.dbt_assets import PUBLISHED_COPY
    from orchestration.promotion.decisions import pointer_is_behind
    from orchestration.publishing.duckdb_copy import differences
    from orchestration.storage.warehouse import connect

    with connect(settings, tell=say) as con:
        found = con.execute("SELECT table_schema || '.' || table_name FROM information_schema.tables").fetchall()
    relations = {row[0] for row in found}
    files: dict[dg.AssetKey, Path] = artifacts(settings)

    def missing(key: object) -> bool:
        assert isinstance(key, dg.AssetKey)
        if key == PROMOTED_MODEL and pointer_is_behind(settings):
            return True
        if key == PUBLISHED_COPY:
            return bool(differences(settings))
        if key in files:
            return not files[key].exists()
        return len(key.path) == 2 and ".".join(key.path) not in relations

    return missing


def _recommend(settings: Settings, user: int, k: int) -> int:
    """Serve the newest bento for a moment and print what it recommends, over HTTP."""
    from bento.client import print_answer, serving
    from bento.errors import ServingError

    say("starting the bento")
    try:
        # On loopback, for these few seconds: whoever runs this need not log in to himself, and nobody was shown films.
        for_a_moment = {
            "MARQUEE_AUTH": "off",
            "MARQUEE_ENVIRONMENT": "development",
            "MARQUEE_ANSWER_LOG": "false",
            "MARQUEE_AB_MODE": "off",
            "MARQUEE_TRACES_URL": "",
        }
        with serving(settings, environment=for_a_moment) as client:
            print_answer(client.recommend(user, k))
    except ServingError as error:
        say(str(error))
        return 1
    say("\nServe it: make serve. Look at the graph: make ui. Query its tables: make shell")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # DuckDB 2.0 prints a page about its own leaked references when the interpreter takes itself apart.
    os._exit(status)
