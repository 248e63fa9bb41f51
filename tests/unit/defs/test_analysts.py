"""What the marts about the pipeline itself say of a graph that ran."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from orchestration.defs.analytics.assets import check_rows, run_rows
from orchestration.lib.dagster_instance import REASON_TAG
from orchestration.visualization.mart_charts import PLOTS, TABLES


@dg.asset
def films() -> None:
    pass


@dg.asset_check(asset=films, blocking=True, description="There are films.")
def there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=films)
def odd() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=films)
def not_yet() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset
def broken() -> None:
    raise ValueError("no")


SPECS = [spec for check in (there, odd, not_yet) for spec in check.check_specs]


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def test_checks_say_what_their_newest_run_said_and_those_that_never_ran_say_so(instance: dg.DagsterInstance) -> None:
    dg.materialize([films, there, odd], instance=instance)
    found: dict[Any, tuple[Any, ...]] = {row[1]: row for row in check_rows(SPECS, instance)}
    assert list(found) == ["not_yet", "odd", "there"]
    assert found["there"][:6] == ("films", "there", True, "passed", "error", "There are films.")
    assert found["odd"][2:5] == (False, "failed", "warn")
    assert found["not_yet"][3:] == ("never", None, None, None, None)
    [run] = instance.get_runs()
    assert {found[name][7] for name in ("there", "odd")} == {run.run_id}
    assert found["there"][6].year > 2000


def test_runs_are_told_with_their_reason_and_end(instance: dg.DagsterInstance) -> None:
    dg.materialize([films], instance=instance, tags={REASON_TAG: "title.ratings changed"})
    dg.materialize([broken], instance=instance, raise_on_error=False)
    last, first = run_rows(instance)
    assert (first[2], first[3], last[3]) == ("title.ratings changed", "SUCCESS", "FAILURE")
    assert first[4] <= first[5]  # type: ignore[operator]
    assert first[6] >= 0  # type: ignore[operator]
    assert (last[2], len({first[0], last[0]})) == (None, 2)


def test_pictures_and_tables_are_of_marts_that_are_there() -> None:
    from settings import PROJECT_ROOT

    marts = {path.stem for path in (PROJECT_ROOT / "dbt_project" / "models" / "marts").rglob("*.sql")}
    assert set(PLOTS) == marts
    assert set(TABLES) <= marts
