"""The wave: which assets are out of date and why, and their rebuilding layer by layer until nothing is.

Dagster's own stale status decides, so the reasons printed here are those that the UI shows. After each layer the status
is taken anew: an asset whose upstream came out with the same data version is no longer out of date, and is spared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import DATA_VERSION_TAG, CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from orchestration.lib.check_status import NOT_JUDGED, WAITS_FOR_JUDGMENT, built_versions, unchecked
from orchestration.lib.dagster_instance import PID_TAG, REASON_TAG
from orchestration.lib.dbt_project import VIEW_TAG

#: Names the logger of the definitions; without it Dagster adds its own, which is far more talkative.
_LOGGERS: dict[str, Any] = {"loggers": {"console": {}}}

Tell = Callable[[str], None]

_WITH_SIBLINGS = "built with its siblings"

#: A reason names so many assets at most; the others are counted.
_NAMED = 3


@dataclass(frozen=True)
class Rebuilt:
    """Why an asset was built, and whether that made another version of it (its first one is another, too)."""

    reason: str
    changed: bool = True


@dataclass(frozen=True)
class Result:
    """What a wave did: what it rebuilt and why, what it spared and why, and the failure that ended it, if any."""

    rebuilt: dict[dg.AssetKey, Rebuilt] = field(default_factory=dict)
    spared: dict[dg.AssetKey, str] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Observed:
    """What a look upstream found: files that are new or other than last time, and those that are as they were."""

    changed: tuple[dg.AssetKey, ...] = ()
    unchanged: tuple[dg.AssetKey, ...] = ()
    failure: str | None = None


def observe(defs: dg.Definitions, instance: dg.DagsterInstance) -> Observed:
    """Take the versions of the upstream files and say which differ from the last look's."""
    job = defs.resolve_job_def("observe_upstream")
    keys = sorted(defs.resolve_asset_graph().observable_asset_keys)
    before = {key: _observed_version(instance, key) for key in keys}
    result = job.execute_in_process(
        instance=instance, run_config=_LOGGERS, tags=_tags("observe upstream files"), raise_on_error=False
    )
    if not result.success:
        return Observed(failure=_failure(result))
    changed = tuple(key for key in keys if _observed_version(instance, key) != before[key])
    return Observed(changed, tuple(key for key in keys if key not in changed))


def _observed_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    records = instance.fetch_observations(key, limit=1).records
    observation = records[0].asset_observation if records else None
    return None if observation is None else observation.tags.get(DATA_VERSION_TAG)


def out_of_date(
    defs: dg.Definitions, instance: dg.DagsterInstance, missing_artifact: Callable[[dg.AssetKey], bool]
) -> dict[dg.AssetKey, str]:
    """Each asset that is not current, with the reason in words.

    ``missing_artifact`` tells whether an asset's file or table is gone, or was changed, although Dagster remembers it.
    """
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    not_passed = unchecked([key for key in graph.asset_check_keys if graph.get(key).blocking], instance)
    reasons: dict[dg.AssetKey, str] = {}
    for key in graph.materializable_asset_keys:
        status = resolver.get_status(key)
        if status == StaleStatus.MISSING:
            reasons[key] = "never built"
        elif missing_artifact(key):
            reasons[key] = "its file or table is gone or was changed"
        elif status == StaleStatus.STALE:
            causes = resolver.get_stale_causes(key)
            reasons[key] = "; ".join(
                dict.fromkeys(
                    cause.reason
                    if cause.dependency is None
                    else f"{cause.dependency.asset_key.to_user_string()} changed"
                    for cause in causes
                )
            )
        elif key in not_passed:
            reasons[key] = not_passed[key]
    # A view has no content of its own to come out equal: what reads it changes with it, and need not wait a layer.
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if key in reasons and VIEW_TAG in node.tags:
            for child in node.child_keys:
                reasons.setdefault(child, f"{key.to_user_string()} changed")
    return reasons


def layer(graph: AssetGraph, stale: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return the out-of-date assets that can be built now, in one run: those without an undecided ancestor.

    An asset is undecided if it is current today but follows one that is not: it may have to be built, or may be
    skipped.
    """
    undecided = {
        key
        for key in graph.materializable_asset_keys
        if key not in stale and any(ancestor in stale for ancestor in graph.get_ancestor_asset_keys(key))
    }
    chosen = {key for key in stale if undecided.isdisjoint(graph.get_ancestor_asset_keys(key))}
    # An operation that makes several tables at once makes all of them.
    return {member for key in chosen for member in graph.get(key).execution_set_asset_keys}


def rebuild(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    missing_artifact: Callable[[dg.AssetKey], bool],
    tell: Tell,
) -> Result:
    """Rebuild what is out of date, layer by layer, until nothing is or a step fails.

    Where a layer takes some of dbt's models in two steps, Dagster may put a test that reads two of them into the first
    step and its model into the second: it judges the version before. Such a model is built once more, by itself, and
    what refused to be built on it follows.
    """
    graph = defs.resolve_asset_graph()
    job = defs.resolve_implicit_global_asset_job_def()
    done: dict[dg.AssetKey, Rebuilt] = {}
    twice: set[dg.AssetKey] = set()
    while True:
        stale = out_of_date(defs, instance, missing_artifact if not done else lambda _: False)
        repeated = [key for key in stale if key in twice or (key in done and not stale[key].endswith(NOT_JUDGED))]
        if repeated:
            return Result(done, failure=_still_stale(stale, repeated))
        if not stale:
            result = Result(done, {key: _spared(graph, key, done) for key in graph.materializable_asset_keys - {*done}})
            _note_reasons(instance, result)
            return result
        chosen = layer(graph, stale)
        twice |= chosen & done.keys()
        for line in _spoken(chosen, stale):
            tell(line)
        before = built_versions(instance, chosen)
        run = job.execute_in_process(
            instance=instance,
            run_config=_LOGGERS,
            asset_selection=sorted(chosen),
            tags=_tags("; ".join(sorted({stale.get(key, _WITH_SIBLINGS) for key in chosen}))),
            raise_on_error=False,
        )
        waiting = _refused_for_want_of_judgment(run)
        if waiting:
            chosen &= {event.asset_key for event in run.get_asset_materialization_events()}
        after = built_versions(instance, chosen)
        for key in sorted(chosen):
            version = after.get(key)
            changed = version is None or version != before.get(key)
            first = done.get(key, Rebuilt(stale.get(key, _WITH_SIBLINGS), changed))
            done[key] = Rebuilt(first.reason, first.changed or changed)
        if not run.success and not waiting:
            return Result(done, failure=_failure(run))
        failed = _failed_blocking_checks(run)
        if failed:
            return Result(done, failure=failed)


def _spared(graph: AssetGraph, key: dg.AssetKey, done: Mapping[dg.AssetKey, Rebuilt]) -> str:
    """Why an asset was not rebuilt: the nearest of what it follows that was built and came out as it had been."""
    found: set[dg.AssetKey] = set()
    met: set[dg.AssetKey] = set()
    ahead = set(graph.get(key).parent_keys)
    while ahead:
        met |= ahead
        found |= {parent for parent in ahead if parent in done}
        ahead = {far for near in ahead if near not in done for far in graph.get(near).parent_keys} - met
    if not found:
        return "nothing that it follows changed"
    names = [key.to_user_string() for key in sorted(found)]
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
    return f"{', '.join(names)} came out the same"


def _note_reasons(instance: dg.DagsterInstance, result: Result) -> None:
    """Put the reasons on the assets, where the UI shows them among their events; a first build needs none."""
    if not result.rebuilt or not result.spared:
        return
    for key, rebuilt in result.rebuilt.items():
        outcome = "changed" if rebuilt.changed else "came out the same"
        _note(instance, key, {"wave": f"rebuilt: {rebuilt.reason}", "outcome": outcome})
    for key, reason in result.spared.items():
        _note(instance, key, {"wave": f"spared: {reason}"})


def _note(instance: dg.DagsterInstance, key: dg.AssetKey, metadata: dict[str, str]) -> None:
    instance.report_runless_asset_event(dg.AssetObservation(asset_key=key, metadata=metadata))


def _spoken(chosen: Iterable[dg.AssetKey], stale: dict[dg.AssetKey, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for key in sorted(chosen):
        by_reason.setdefault(stale.get(key, _WITH_SIBLINGS), []).append(key.to_user_string())
    return [
        f"{why}: {', '.join(names)}" if len(names) <= 6 else f"{why}: {len(names)} assets"
        for why, names in by_reason.items()
    ]


def _tags(reason: str) -> dict[str, str]:
    return {PID_TAG: str(os.getpid()), REASON_TAG: reason[:250]}


def _still_stale(stale: dict[dg.AssetKey, str], keys: list[dg.AssetKey]) -> str:
    return "still out of date after its rebuild: " + "; ".join(f"{k.to_user_string()} ({stale[k]})" for k in keys)


def _failed_blocking_checks(result: dg.ExecuteInProcessResult) -> str:
    failed = [
        f"{check.asset_key.to_user_string()}: {check.check_name}"
        + (f" ({check.description})" if check.description else "")
        for check in result.get_asset_check_evaluations()
        if check.blocking and not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]
    return "" if not failed else "blocking checks failed: " + "; ".join(failed)


def _refused_for_want_of_judgment(result: dg.ExecuteInProcessResult) -> bool:
    """Whether all that failed in a run is steps that wait for a check of what they are made from."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    refusals = [one.user_failure_data.metadata for one in failures if one.user_failure_data is not None]
    return (
        bool(failures)
        and len(refusals) == len(failures)
        and all(WAITS_FOR_JUDGMENT in said and said[WAITS_FOR_JUDGMENT].value for said in refusals)
    )


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the innermost message of the first step that failed, without the stack."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            error = data.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None and error.cls_name == "DagsterAssetCheckFailedError":
                break
            if error is not None:
                return f"{event.step_key}: {error.message.strip()}"
    return _failed_blocking_checks(result) or "the run failed; see the events in the UI (make ui)"
