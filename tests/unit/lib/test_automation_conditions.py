"""The daemon's conditions on a small graph: failed data wait, and failed builds are tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from orchestration.lib.automation_conditions import LONGEST_COOL_DOWN, cool_down
from orchestration.lib.dbt_project import ON_CHANGE, ON_SETTLED_CHANGE

RAW, MART, HISTORY, STORE, OTHER = (dg.AssetKey(name) for name in ("raw", "mart", "history", "store", "other"))


@dataclass
class World:
    """raw -> mart (with a blocking check) -> history -> store, and other -> store."""

    instance: dg.DagsterInstance
    version: str = "1"
    others: str = "1"
    good: bool = True
    broken: bool = False
    before_the_check: Callable[[], None] = lambda: None
    cursor: Any = None

    def definitions(self) -> dg.Definitions:
        def table(key: dg.AssetKey, deps: list[dg.AssetKey], version: Callable[[], str]) -> dg.AssetsDefinition:
            condition = {MART: ON_CHANGE, HISTORY: ON_SETTLED_CHANGE, STORE: ON_SETTLED_CHANGE}.get(key)

            @dg.asset(key=key, deps=deps, automation_condition=condition)
            def made() -> dg.MaterializeResult:
                if self.broken:
                    raise RuntimeError("the disk is full")
                return dg.MaterializeResult(data_version=dg.DataVersion(version()))

            return made

        @dg.asset_check(asset=MART, blocking=True)
        def expectations() -> dg.AssetCheckResult:
            self.before_the_check()
            return dg.AssetCheckResult(passed=self.good)

        return dg.Definitions(
            assets=[
                table(RAW, [], lambda: self.version),
                table(MART, [RAW], lambda: self.version),
                table(HISTORY, [MART], lambda: self.version),
                table(OTHER, [], lambda: self.others),
                table(STORE, [HISTORY, OTHER], lambda: self.version + self.others),
            ],
            asset_checks=[expectations],
            executor=dg.in_process_executor,
        )

    def build(self, *keys: dg.AssetKey) -> bool:
        """Materialize some assets with their checks, or all; whether the run succeeded."""
        job = self.definitions().resolve_implicit_global_asset_job_def()
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        chosen: dict[str, Any] = {"asset_selection": list(keys)} if keys else {}
        return job.execute_in_process(instance=self.instance, run_config=quiet, raise_on_error=False, **chosen).success

    def look(self, *, later_by: timedelta = timedelta()) -> set[dg.AssetKey]:
        """One look of the sensor, now or later; what it asks for."""
        found = dg.evaluate_automation_conditions(
            self.definitions(), self.instance, cursor=self.cursor, evaluation_time=datetime.now(UTC) + later_by
        )
        self.cursor = found.cursor
        return {key for key in (RAW, MART, HISTORY, STORE, OTHER) if found.get_num_requested(key)}

    def wave(self) -> list[set[dg.AssetKey]]:
        """Look and build what is asked for, as the daemon does, until nothing is; what each look asked for."""
        steps = []
        while asked := self.look():
            steps.append(asked)
            self.build(*asked)
        return steps


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("MARQUEE_RETRY_COOLDOWN_S", "600")
    with dg.DagsterInstance.ephemeral() as instance:
        made = World(instance)
        made.build()
        made.look()
        yield made


def test_changed_data_reach_the_end_layer_by_layer(world: World) -> None:
    world.version = "2"
    world.build(RAW)
    assert world.wave() == [{MART}, {HISTORY}, {STORE}]


def test_the_wave_stops_at_data_that_failed_and_goes_on_once_they_are_mended(world: World) -> None:
    world.version, world.good = "2", False
    world.build(RAW)
    assert world.wave() == [{MART}]
    world.version, world.good = "3", True
    world.build(RAW)
    assert world.wave() == [{MART}, {HISTORY}, {STORE}]


def test_a_change_elsewhere_does_not_carry_failed_data_past_an_unchecked_asset(world: World) -> None:
    world.version, world.good = "2", False
    world.build(RAW)
    world.wave()
    world.others = "2"
    world.build(OTHER)
    assert world.wave() == []
    world.version, world.good = "3", True
    world.build(RAW)
    assert world.wave() == [{MART}, {HISTORY}, {STORE}]


def test_an_asset_waits_while_anything_upstream_of_it_is_asked_for(world: World) -> None:
    world.version, world.others = "2", "2"
    world.build(RAW, OTHER)
    assert world.wave() == [{MART}, {HISTORY}, {STORE}]


def test_a_failed_build_is_tried_again_once_its_cool_down_is_over(world: World) -> None:
    world.version = "2"
    world.build(RAW)
    world.broken = True
    assert world.wave() == [{MART}]
    world.broken = False
    assert world.look(later_by=timedelta(seconds=300)) == set()
    assert world.look(later_by=timedelta(seconds=700)) == {MART}
    world.build(MART)
    assert world.wave() == [{HISTORY}, {STORE}]


def test_a_build_that_goes_on_failing_is_tried_less_and_less_often(world: World) -> None:
    world.version = "2"
    world.build(RAW)
    world.broken = True
    world.wave()
    world.build(MART)
    world.build(MART)
    assert world.look(later_by=timedelta(seconds=3 * 600)) == set()
    assert world.look(later_by=timedelta(seconds=4 * 600 + 60)) == {MART}


def test_data_that_no_check_has_judged_are_built_and_judged_again(world: World) -> None:
    def killed() -> None:
        raise RuntimeError("killed")

    world.version = "2"
    world.build(RAW)
    world.before_the_check = killed
    assert world.look() == {MART}
    world.build(MART)
    world.before_the_check = lambda: None
    assert world.look() == set()
    assert world.look(later_by=timedelta(seconds=700)) == {MART}
    world.build(MART)
    assert world.wave() == [{HISTORY}, {STORE}]


def test_a_failed_check_is_no_reason_to_build_the_same_data_again(world: World) -> None:
    world.version, world.good = "2", False
    world.build(RAW)
    world.wave()
    assert world.look(later_by=timedelta(days=2)) == set()


def test_a_build_that_somebody_canceled_is_left_alone(world: World) -> None:
    world.version, world.broken = "2", True
    world.build(RAW)
    world.wave()
    [run] = world.instance.get_runs(limit=1)
    world.instance.report_run_canceled(run)
    assert world.look(later_by=timedelta(days=2)) == set()


def test_the_cool_down_doubles_up_to_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_RETRY_COOLDOWN_S", "60")
    assert [cool_down(failures).total_seconds() for failures in (0, 1, 2, 5)] == [60, 60, 120, 960]
    assert cool_down(500) == LONGEST_COOL_DOWN
