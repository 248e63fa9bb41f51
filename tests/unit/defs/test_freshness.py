"""Freshness checks of the upstream files, run by Dagster after a look at tiny files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.test_utils import freeze_time

from orchestration.defs import automation
from orchestration.defs.ingestion import assets as raw
from orchestration.defs.ingestion import streaming
from settings import Settings
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import write_dump

LOOKS = [raw.movielens_files, raw.imdb_files, raw.app_store, streaming.streaming_files]


def definitions(tmp_path: Path) -> dg.Definitions:
    editions.csv_edition(tmp_path / "mirror" / "ml-latest-small", "ml-latest-small")
    write_dump(tmp_path / "mirror" / "imdb", "title.ratings", "tt0000001 5.0 10")
    settings = Settings(
        home=tmp_path / "home", raw_dir=tmp_path / "mirror", movielens="ml-latest-small", imdb_dumps=("title.ratings",)
    )
    return dg.Definitions(
        assets=LOOKS,
        asset_checks=automation.FRESHNESS,
        jobs=[
            automation.observe_upstream,
            dg.define_asset_job("judge", selection=dg.AssetSelection.all_asset_checks()),
        ],
        resources={"settings": settings},
        executor=dg.in_process_executor,
    )


def judged(defs: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, bool]:
    """Run every freshness check; whether each passed, by the last part of its asset's key."""
    done = defs.resolve_job_def("judge").execute_in_process(instance=instance)
    return {check.asset_key.path[-1]: check.passed for check in done.get_asset_check_evaluations()}


def test_freshness_checks_pass_after_a_look_and_warn_after_nine_days(tmp_path: Path) -> None:
    defs = definitions(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not any(judged(defs, instance).values())
        assert defs.resolve_job_def("observe_upstream").execute_in_process(instance=instance).success
        fresh = judged(defs, instance)
        assert len(fresh) == 9
        assert all(fresh.values()), fresh
        with freeze_time(datetime.now(UTC) + timedelta(days=9)):
            assert not any(judged(defs, instance).values())


def test_every_observation_says_when_the_look_was(tmp_path: Path) -> None:
    defs = definitions(tmp_path)
    began = datetime.now(UTC).timestamp()
    with dg.DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("observe_upstream").execute_in_process(instance=instance)
    looks = [event.asset_observation_data.asset_observation for event in done.get_asset_observation_events()]
    assert {look.asset_key.path[-1] for look in looks} >= {"movielens", "streaming", "app_store"}
    for look in looks:
        assert began <= look.metadata["dagster/last_updated_timestamp"].value
