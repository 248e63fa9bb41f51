"""Experiments are found again by MLflow's own API, with parameters, curves, figures and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.training.mlflow_tracking import add_figures, log_fit, tracking_uri
from settings import Settings


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[str]]:
    """Log two runs of one experiment to a home."""
    # By a name that has to be written otherwise in a URL or a configuration file.
    settings = Settings(home=tmp_path_factory.mktemp("state") / "it's [2024] 100% c#")
    settings.home.mkdir()
    file = settings.home / "recommender.json"
    file.write_text("{}")
    runs = [
        log_fit(
            settings,
            "leave-last-out",
            "neumf",
            parameters={"epochs": epochs, "layers": (32, 16)},
            curve=[{"epoch": float(epoch), "loss": 1.0 / epoch} for epoch in range(1, epochs + 1)],
            figures={"fit_seconds": 1.5},
            tags={"recipe": f"digest-{epochs}"},
            files=[file],
        )
        for epochs in (3, 700)
    ]
    add_figures(settings, {runs[1]: {"ndcg_10": 0.4}, "0" * 32: {"ndcg_10": 0.1}})
    return settings, runs


def test_runs_can_be_compared_by_parameters_and_figures(logged: tuple[Settings, list[str]]) -> None:
    from mlflow.tracking import MlflowClient

    settings, runs = logged
    client = MlflowClient(tracking_uri(settings))
    experiment = client.get_experiment_by_name("leave-last-out")
    assert experiment is not None
    found = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == set(runs)
    assert [found[run].data.params["epochs"] for run in runs] == ["3", "700"]
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id], "metrics.ndcg_10 > 0.3")] == [
        runs[1]
    ]
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found[runs[0]].data.tags["recipe"] == "digest-3"


def test_the_whole_curve_is_there_in_order(logged: tuple[Settings, list[str]]) -> None:
    from mlflow.tracking import MlflowClient

    settings, runs = logged
    history = MlflowClient(tracking_uri(settings)).get_metric_history(runs[1], "loss")
    assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(1, 701))


def test_files_lie_in_the_home_and_nothing_outside_it(
    logged: tuple[Settings, list[str]],
) -> None:
    from mlflow.tracking import MlflowClient

    settings, runs = logged
    assert [file.path for file in MlflowClient(tracking_uri(settings)).list_artifacts(runs[0])] == ["recommender.json"]
    assert sorted(path.name for path in settings.mlflow.iterdir()) == ["artifacts", "mlflow.db"]
    assert not (Path.cwd() / "mlruns").exists()


def test_a_database_that_a_kill_left_half_made_is_made_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.mlflow.mkdir()
    (settings.mlflow / ".mlflow.db.part").write_bytes(b"half")
    run = log_fit(settings, "served", "ease", parameters={}, curve=[], figures={}, tags={})
    assert len(run) == 32
    assert sorted(path.name for path in settings.mlflow.iterdir()) == ["mlflow.db"]
