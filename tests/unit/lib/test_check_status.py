"""Data that failed a check are found out whoever runs what: real assets and checks on a real instance in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from orchestration.lib.check_status import UpstreamChecks

RATINGS, TRAINING, GATE, SERVED = (dg.AssetKey(key) for key in (["marts", "fct_ratings"], "training", "gate", "served"))
HISTORY, ONLINE = dg.AssetKey("history"), dg.AssetKey("online")


@dataclass
class World:
    """marts/fct_ratings (with a blocking check) -> training -> gate (with a blocking check) -> served.

    Beside it, marts/fct_ratings -> history -> online, which refuse what has not passed, and have no check of their own.
    """

    good: bool = True
    version: str = "1"
    trained_on: str = "1"
    refused: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def definitions(self) -> dg.Definitions:
        @dg.asset(key=RATINGS)
        def ratings() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(self.version))

        @dg.asset_check(asset=RATINGS, blocking=True)
        def expectations() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.good)

        @dg.asset_check(asset=RATINGS)
        def remarks() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

        @dg.asset(deps=[RATINGS])
        def training() -> None:
            self.trained_on = self.version

        @dg.asset(deps=[TRAINING])
        def gate(context: dg.AssetExecutionContext, upstream_checks: dg.ResourceParam[UpstreamChecks]) -> None:
            trained_on = {"fct_ratings": self.trained_on}
            self.refused = upstream_checks.faults(GATE, context.instance, trained_on=trained_on)

        @dg.asset(deps=[RATINGS])
        def history(context: dg.AssetExecutionContext, upstream_checks: dg.ResourceParam[UpstreamChecks]) -> None:
            upstream_checks.require_passed(context)
            self.left.append(f"history {self.version}")

        @dg.asset(deps=[HISTORY])
        def online(context: dg.AssetExecutionContext, upstream_checks: dg.ResourceParam[UpstreamChecks]) -> None:
            upstream_checks.require_passed(context)
            self.left.append(f"online {self.version}")

        @dg.asset_check(asset=GATE, blocking=True)
        def trained_on_checked_data() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=not self.refused)

        @dg.asset(deps=[GATE])
        def served() -> None:
            self.promoted.append(self.trained_on)

        assets = [ratings, training, gate, served, history, online]
        checks = [expectations, remarks, trained_on_checked_data]
        return dg.Definitions(
            assets=assets,
            asset_checks=checks,
            resources={"upstream_checks": UpstreamChecks.of([*assets, *checks])},
            executor=dg.in_process_executor,
        )

    def run(self, instance: dg.DagsterInstance, *keys: dg.AssetKey) -> bool:
        """Materialize some assets with their checks, or all of them; whether the run succeeded."""
        job = self.definitions().resolve_implicit_global_asset_job_def()
        chosen: dict[str, Any] = {"asset_selection": list(keys)} if keys else {}
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return job.execute_in_process(instance=instance, run_config=quiet, raise_on_error=False, **chosen).success


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_data_that_passed_are_let_through_in_one_run_and_in_several(instance: dg.DagsterInstance) -> None:
    world = World()
    assert world.run(instance)
    assert world.run(instance, GATE, SERVED)
    assert (world.refused, world.promoted) == ([], ["1", "1"])


def test_failed_data_stop_the_training(instance: dg.DagsterInstance) -> None:
    world = World(good=False, trained_on="nothing")
    assert not world.run(instance)
    assert (world.trained_on, world.promoted) == ("nothing", [])


def test_a_model_trained_by_hand_on_failed_data_is_refused_and_not_served(instance: dg.DagsterInstance) -> None:
    world = World(good=False)
    world.run(instance)
    assert world.run(instance, TRAINING)
    world.run(instance, GATE, SERVED)
    assert world.refused == ["marts/fct_ratings: its check expectations failed"]
    assert world.promoted == []


def test_a_model_trained_between_a_failure_and_its_repair_is_refused(instance: dg.DagsterInstance) -> None:
    world = World()
    world.run(instance)
    world.good, world.version = False, "2"
    world.run(instance, RATINGS)
    world.run(instance, TRAINING)
    world.good, world.version = True, "3"
    world.run(instance, RATINGS)
    world.run(instance, GATE, SERVED)
    assert world.refused == [
        "marts/fct_ratings: the training set holds another version of it than the one that was checked"
    ]
    assert world.promoted == ["1"]


def test_data_that_no_check_has_looked_at_yet_are_refused(instance: dg.DagsterInstance) -> None:
    world = World()
    world.run(instance)
    instance.report_runless_asset_event(dg.AssetMaterialization(RATINGS, tags={"dagster/data_version": "1"}))
    world.run(instance, TRAINING, GATE, SERVED)
    assert world.refused == ["marts/fct_ratings: its check expectations has not judged this version"]


def refusal(world: World, instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """Launch one asset alone and return the message of its refusal; None where it is built."""
    job = world.definitions().resolve_implicit_global_asset_job_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    run = job.execute_in_process(instance=instance, run_config=quiet, raise_on_error=False, asset_selection=[key])
    [*failures] = [event.step_failure_data for event in run.all_events if event.is_step_failure]
    if not failures:
        return None
    assert failures[0].user_failure_data is not None
    return failures[0].user_failure_data.description


def test_an_asset_launched_alone_refuses_data_that_failed_however_far_ahead(instance: dg.DagsterInstance) -> None:
    world = World()
    world.run(instance)
    world.good, world.version = False, "2"
    world.run(instance, RATINGS)
    remedy = "Mend the data or the rule and rebuild what failed (`make update`); this follows then."
    said = f"is not built: marts/fct_ratings: its check expectations failed. {remedy}"
    assert refusal(world, instance, HISTORY) == f"history {said}"
    assert refusal(world, instance, ONLINE) == f"online {said}"
    assert world.left == ["history 1", "online 1"]


def test_an_asset_launched_alone_refuses_a_version_that_nothing_has_judged(instance: dg.DagsterInstance) -> None:
    world = World()
    world.run(instance)
    instance.report_runless_asset_event(dg.AssetMaterialization(RATINGS, tags={"dagster/data_version": "2"}))
    said = refusal(world, instance, ONLINE)
    assert said is not None
    assert "marts/fct_ratings: its check expectations has not judged this version" in said


def test_after_the_repair_an_asset_launched_alone_is_built(instance: dg.DagsterInstance) -> None:
    world = World(good=False)
    world.run(instance, RATINGS)
    world.good, world.version = True, "2"
    world.run(instance, RATINGS)
    assert refusal(world, instance, HISTORY) is None
    assert world.left == ["history 2"]


def test_a_check_that_a_queued_run_has_planned_takes_back_no_judgment(instance: dg.DagsterInstance) -> None:
    world = World()
    world.run(instance)
    job = world.definitions().resolve_implicit_global_asset_job_def().get_subset(asset_selection={RATINGS})
    instance.create_run_for_job(job)
    [planned] = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(RATINGS, "expectations")]
    ).values()
    assert planned.event is None or planned.event.asset_check_evaluation is None
    assert refusal(world, instance, HISTORY) is None
