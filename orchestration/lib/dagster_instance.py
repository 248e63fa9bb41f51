"""Dagster's instance of a home, and the tags that its runs carry."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from environment import dagster_home
from orchestration.storage.home import DAGSTER_EXTRA, HomeError
from settings import Settings

PID_TAG = "marquee/pid"
REASON_TAG = "marquee/reason"


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Open the Dagster of a home, a context manager. Raises ``HomeError`` where its settings are wrong."""
    try:
        return dg.DagsterInstance.from_config(str(dagster_home(settings)))
    except dg.DagsterError as error:
        raise HomeError(
            f"Dagster cannot start with {settings.dagster / 'dagster.yaml'}: {' '.join(str(error).split())}"
            f" Mend it there or in {settings.home / DAGSTER_EXTRA}."
        ) from error


def free_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs as failed whose process is gone (a SIGKILL leaves them running for ever). Returns how many."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    freed = 0
    for run in instance.get_runs(filters=unfinished):
        pid = run.tags.get(PID_TAG)
        if pid is not None and not Path(f"/proc/{pid}").exists():
            instance.report_run_failed(run, message="The process of this run is gone.")
            freed += 1
    return freed
