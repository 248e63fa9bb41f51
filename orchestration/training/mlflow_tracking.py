"""Experiments in MLflow: one run a fit, with its parameters, curve and figures, in a SQLite file of the home.

MLflow is imported when a run is logged: that takes seconds, which reading a candidate's files need not pay.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings import Settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: The longest value of a parameter that is kept whole.
_LONGEST = 500


def tracking_uri(settings: Settings) -> str:
    """Return the URI that `mlflow.set_tracking_uri` takes to look at this home's runs."""
    return f"sqlite:///{settings.mlflow / 'mlflow.db'}"


def log_fit(
    settings: Settings,
    experiment: str,
    name: str,
    *,
    parameters: Mapping[str, Any],
    curve: Sequence[Mapping[str, float]],
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    files: Sequence[Path] = (),
) -> str:
    """Log a finished fit as a run of an experiment; returns the run's id.

    The curve's columns are logged by its ``epoch``; ``files`` are copied beside the run.
    """
    from mlflow.entities import Metric, Param, RunTag

    client = _client(settings)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        number = client.create_experiment(experiment, artifact_location=(settings.mlflow / "artifacts").as_uri())
    else:
        number = found.experiment_id
    run = client.create_run(number, run_name=name)
    started = run.info.start_time
    metrics = [
        Metric(key, float(value), started, int(row.get("epoch", step)))
        for step, row in enumerate(curve, start=1)
        for key, value in row.items()
        if key != "epoch"
    ]
    metrics += [Metric(key, float(value), started, 0) for key, value in figures.items()]
    for first in range(0, max(len(metrics), 1), 500):
        client.log_batch(
            run.info.run_id,
            metrics=metrics[first : first + 500],
            params=[Param(key, str(value)[:_LONGEST]) for key, value in parameters.items()] if first == 0 else [],
            tags=[RunTag(key, str(value)) for key, value in tags.items()] if first == 0 else [],
        )
    for file in files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def add_figures(settings: Settings, runs: Mapping[str, Mapping[str, float]]) -> None:
    """Add figures that were measured after the fit to runs by id; a run that is gone is passed over."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    client = _client(settings)
    for run, figures in runs.items():
        try:
            started = client.get_run(run).info.start_time
        except MlflowException:
            continue
        client.log_batch(run, metrics=[Metric(key, float(value), started, 0) for key, value in figures.items()])


def _client(settings: Settings) -> MlflowClient:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    database = settings.mlflow / "mlflow.db"
    if not database.exists():
        _make(database)
    return MlflowClient(tracking_uri(settings))


def _make(database: Path) -> None:
    """Make the tables aside: a kill in the middle of it must not leave half of them under the real name."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database.parent.mkdir(parents=True, exist_ok=True)
    aside = database.with_name(f".{database.name}.part")
    aside.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{aside}", (database.parent / "artifacts").as_uri())
    store.engine.dispose()
    aside.replace(database)
