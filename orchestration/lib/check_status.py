"""Which assets stand on data that has not passed its blocking checks, and the refusal to build on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

#: Ends the reason of an asset that only waits for a check.
NOT_JUDGED = "has not judged this version"

#: The metadata of a refusal that say whether it is for want of judgment alone, and not for a failed check.
WAITS_FOR_JUDGMENT = "waits_for_judgment"


def blocking_checks(definitions: Iterable[object]) -> list[dg.AssetCheckKey]:
    """Return the blocking checks among the assets and checks of a graph."""
    return [
        spec.key
        for definition in definitions
        if isinstance(definition, dg.AssetsDefinition)
        for spec in definition.check_specs
        if spec.blocking
    ]


def unchecked(checks: Collection[dg.AssetCheckKey], instance: dg.DagsterInstance) -> dict[dg.AssetKey, str]:
    """Assets whose present version has not passed one of the checks: it failed, or a kill came before it."""
    if not checks:
        return {}
    judgments = _latest_judgments(checks, instance)
    built = _built_at(instance, {check.asset_key for check in checks})
    found: dict[dg.AssetKey, str] = {}
    for check in checks:
        asset = check.asset_key
        if asset not in built:
            continue
        evaluation = judgments.get(check)
        judged = evaluation.target_materialization_data if evaluation is not None else None
        if evaluation is None or judged is None or judged.timestamp < built[asset]:
            found[asset] = f"its check {check.name} {NOT_JUDGED}"
        elif not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            found[asset] = f"its check {check.name} failed"
    return found


def _latest_judgments(
    checks: Iterable[dg.AssetCheckKey], instance: dg.DagsterInstance
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """Return the latest evaluation of each check; checks that were never evaluated are left out.

    The latest record of a check may be one that a queued run has only planned: then the evaluation before it still
    holds.
    """
    storage = instance.event_log_storage
    said = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    found = {}
    for check, latest in storage.get_latest_asset_check_execution_by_key(list(checks)).items():
        [*records] = (
            [latest] if latest.status in said else storage.get_asset_check_execution_history(check, 1, status=said)
        )
        for record in records:
            if record.event is not None and record.event.asset_check_evaluation is not None:
                found[check] = record.event.asset_check_evaluation
    return found


def _built_at(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, float]:
    """Return when each asset was last materialized, in seconds since the epoch; those that never were are left out."""
    events = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization
        for record in instance.get_asset_records(list(keys))
    }
    return {key: event.timestamp for key, event in events.items() if event is not None}


@dataclass(frozen=True)
class UpstreamChecks:
    """The blocking checks ahead of each asset of a graph: what must have passed before the asset may be built.

    Dagster holds an asset back where a check fails in the same run. This holds it back in every other run, too: of the
    daemon, of a click on the asset alone, of ``make``. A run of one asset knows neither the rest of the graph nor its
    checks, so both are told here.
    """

    parents: Mapping[dg.AssetKey, frozenset[dg.AssetKey]]
    checks: tuple[dg.AssetCheckKey, ...]

    @classmethod
    def of(cls, definitions: Iterable[object]) -> UpstreamChecks:
        """Those of a graph's assets and checks."""
        made = [definition for definition in definitions if isinstance(definition, dg.AssetsDefinition)]
        return cls(
            {spec.key: frozenset(dep.asset_key for dep in spec.deps) for one in made for spec in one.specs},
            tuple(blocking_checks(made)),
        )

    def ahead_of(self, key: dg.AssetKey) -> set[dg.AssetKey]:
        """All that an asset is made from, directly or not."""
        found: set[dg.AssetKey] = set()
        ahead = set(self.parents[key])
        while ahead:
            found |= ahead
            ahead = {far for near in ahead for far in self.parents.get(near, ())} - found
        return found

    def faults(
        self, key: dg.AssetKey, instance: dg.DagsterInstance, *, trained_on: Mapping[str, str] | None = None
    ) -> list[str]:
        """Why an asset may not be built now, by asset and check; empty where it may.

        ``trained_on``: the marts of the training set with the version that each had then (see ``not_passed``).
        """
        return not_passed(self.checks, self.ahead_of(key), instance, trained_on or {})

    def require_passed(self, context: dg.AssetExecutionContext) -> None:
        """Raise ``dg.Failure`` where a check ahead of the assets of this step has failed or is still to come."""
        for key in sorted(context.selected_asset_keys):
            faults = self.faults(key, context.instance)
            if faults:
                raise dg.Failure(
                    f"{key.to_user_string()} is not built: {'; '.join(faults)}."
                    " Mend the data or the rule and rebuild what failed (`make update`); this follows then.",
                    metadata={WAITS_FOR_JUDGMENT: all(fault.endswith(NOT_JUDGED) for fault in faults)},
                    allow_retries=False,
                )


def built_versions(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, str | None]:
    """Return the data version of each asset's latest materialization."""
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
