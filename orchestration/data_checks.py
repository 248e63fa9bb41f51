"""Which assets stand on data that has not passed its blocking checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

#: Ends the reason of an asset that only waits for a check.
NOT_JUDGED = "has not judged this version"


def blocking_checks(definitions: Iterable[object]) -> list[dg.AssetCheckKey]:
    """The blocking checks among the assets and checks of a graph."""
    return [
        spec.key
        for definition in definitions
        if isinstance(definition, dg.AssetsDefinition)
        for spec in definition.check_specs
        if spec.blocking
    ]


def unchecked(checks: Collection[dg.AssetCheckKey], instance: dg.DagsterInstance) -> dict[dg.AssetKey, str]:
    """Assets whose present version has not passed one of the checks: it failed, or a kill came before it."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    found: dict[dg.AssetKey, str] = {}
    for check in checks:
        asset = check.asset_key
        latest = instance.get_latest_materialization_event(asset)
        record = records.get(check)
        if latest is None:
            continue
        evaluation = None if record is None or record.event is None else record.event.asset_check_evaluation
        judged = evaluation.target_materialization_data if evaluation is not None else None
        if record is None or evaluation is None or judged is None or judged.timestamp < latest.timestamp:
            found[asset] = f"its check {check.name} {NOT_JUDGED}"
        elif record.status != AssetCheckExecutionRecordStatus.SUCCEEDED and (
            evaluation.severity == dg.AssetCheckSeverity.ERROR
        ):
            found[asset] = f"its check {check.name} failed"
    return found


def built_versions(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, str | None]:
    """The data version of each asset as it was materialized last."""
    found: dict[dg.AssetKey, str | None] = {}
    for record in instance.get_asset_records(list(keys)):
        event = record.asset_entry.last_materialization
        made = None if event is None else event.asset_materialization
        found[record.asset_entry.asset_key] = None if made is None else (made.tags or {}).get(DATA_VERSION_TAG)
    return found


def not_passed(
    checks: Iterable[dg.AssetCheckKey],
    ahead: Collection[dg.AssetKey],
    instance: dg.DagsterInstance,
    tables: Mapping[str, str],
) -> list[str]:
    """Why what lies ahead may not be used: failed or missing checks, and tables of another version than was checked.

    ``tables`` are the marts that went into a training set, each with the version of its content then. A set that was
    joined by hand between a failed build and its repair names versions that no check has passed.
    """
    judged = [check for check in checks if check.asset_key in ahead]
    faults = [f"{asset.to_user_string()}: {why}" for asset, why in unchecked(judged, instance).items()]
    marts = {dg.AssetKey(["marts", table]): version for table, version in tables.items()}
    present = built_versions(instance, marts)
    faults += [
        f"{asset.to_user_string()}: the training set holds another version of it than the one that was checked"
        for asset, version in marts.items()
        if asset in present and present[asset] is not None and present[asset] != version
    ]
    return sorted(faults)
