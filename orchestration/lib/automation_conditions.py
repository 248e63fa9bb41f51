"""Conditions of the daemon that Dagster has no stock ones for: data that passed their checks, and another try.

They are classes of ours, so the sensor that asks them evaluates them in the code server (``use_user_code_server``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord

from orchestration.lib.check_status import NOT_JUDGED, unchecked
from settings import Settings

#: However often a build has failed, it is tried again after this long at the latest.
LONGEST_COOL_DOWN = timedelta(days=1)

#: So many failed runs are looked at to tell how often a build has failed in a row.
_RUNS_LOOKED_AT = 50


class UpstreamChecked(dg.AutomationCondition[dg.AssetKey]):
    """True while each blocking check of all that an asset is made from has passed on the present version.

    Dagster's own ``all_deps_blocking_checks_passed`` looks at direct dependencies only. A file of features has no check
    of its own, and would be let through while the mart that it was made from is judged bad, or not judged yet.
    """

    @property
    def description(self) -> str:
        """Say it in the UI."""
        return "The blocking checks of everything upstream have passed"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Evaluate it; the event log is read only where all that stands before it in the conjunction is true."""
        held = context.candidate_subset
        if not held.is_empty:
            graph = context.asset_graph
            ahead = graph.get_ancestor_asset_keys(context.key)
            checks = [key for asset in ahead for key in graph.get(asset).check_keys if graph.get(key).blocking]
            if unchecked(checks, context.asset_graph_view.instance):
                held = context.get_empty_subset()
        return dg.AutomationResult(context, held)


class UpstreamSettled(dg.AutomationCondition[dg.AssetKey]):
    """True while nothing that an asset is made from, directly or not, is being built or about to be.

    For what leaves the warehouse: in one run with a far ancestor it would come before that one's check, and be refused.
    """

    @property
    def description(self) -> str:
        """Say it in the UI."""
        return "Nothing upstream is being built or about to be"

    async def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Evaluate it; a look takes assets in the order of the graph, so that its requests upstream are known."""
        view, held = context.asset_graph_view, context.candidate_subset
        for asset in () if held.is_empty else context.asset_graph.get_ancestor_asset_keys(context.key):
            asked = context.request_subsets_by_key.get(asset)
            whole = view.get_full_subset(key=asset)
            under_way = await view.compute_run_in_progress_subset(key=asset, from_subset=whole)
            if not under_way.is_empty or (asked is not None and not asked.is_empty):
                return dg.AutomationResult(context, context.get_empty_subset())
        return dg.AutomationResult(context, held)


class RetryDue(dg.AutomationCondition[dg.AssetKey]):
    """True for an asset whose last build failed or was killed, or whose check was, once a cool-down is over.

    The cool-down is ``MARQUEE_RETRY_COOLDOWN_S`` after the first failure and doubles with each further one, up to a
    day: a kill is mended within minutes, a file that stays broken does not fill the list of runs. A check that has
    judged and failed is no reason: the same data would be judged the same. Neither is a run that somebody canceled.
    """

    @property
    def description(self) -> str:
        """The sentence that the UI shows."""
        return "The last build failed or was not judged, and its cool-down is over"

    async def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Evaluate it."""
        view = context.asset_graph_view
        due = context.candidate_subset
        if due.is_empty:
            return dg.AutomationResult(context, due)
        failed = await view.compute_execution_failed_subset(key=context.key, from_subset=due)
        if failed.is_empty and not _lacks_judgment(context):
            return dg.AutomationResult(context, context.get_empty_subset())
        last_run = _last_run(view.instance, context.key)
        failures = 0 if failed.is_empty else _failures_in_a_row(view.instance, context.key)
        if last_run is None or context.evaluation_time < _ended(last_run) + cool_down(failures):
            due = context.get_empty_subset()
        return dg.AutomationResult(context, due)


def cool_down(failures: int) -> timedelta:
    """Return how long to wait after the last of so many failures in a row.

    >>> [cool_down(failures) / cool_down(1) for failures in (0, 1, 2, 3)]
    [1.0, 1.0, 2.0, 4.0]
    """
    first = timedelta(seconds=Settings().retry_cooldown_s)
    doublings = min(max(failures - 1, 0), 20)
    return min(first * 2**doublings, max(first, LONGEST_COOL_DOWN))


#: The assets that lack a judgment, by the view of one look: all are found at once, for a look asks about every asset.
_UNJUDGED: WeakKeyDictionary[object, frozenset[dg.AssetKey]] = WeakKeyDictionary()


def _lacks_judgment(context: dg.AutomationContext[dg.AssetKey]) -> bool:
    """Tell whether a blocking check of the asset has not judged its present version (a kill came in between)."""
    view, graph = context.asset_graph_view, context.asset_graph
    if view not in _UNJUDGED:
        checks = [key for key in graph.asset_check_keys if graph.get(key).blocking]
        reasons = unchecked(checks, view.instance)
        _UNJUDGED[view] = frozenset(asset for asset, why in reasons.items() if why.endswith(NOT_JUDGED))
    return context.key in _UNJUDGED[view]


def _last_run(instance: dg.DagsterInstance, key: dg.AssetKey) -> RunRecord | None:
    """Return the run that was last to build the asset; None while it is under way, or where there was none."""
    planned = instance.event_log_storage.get_latest_planned_materialization_info(key)
    record = None if planned is None else instance.get_run_record_by_id(planned.run_id)
    return record if record is not None and record.dagster_run.is_finished else None


def _ended(run: RunRecord) -> datetime:
    # A run that was killed before it started has no end of its own.
    return (
        run.update_timestamp.replace(tzinfo=UTC) if run.end_time is None else datetime.fromtimestamp(run.end_time, UTC)
    )


def _failures_in_a_row(instance: dg.DagsterInstance, key: dg.AssetKey) -> int:
    """Count the failed runs that were to build the asset since it was built last."""
    [*found] = instance.get_asset_records([key])
    built = found[0].asset_entry.last_materialization if found else None
    since = None if built is None else datetime.fromtimestamp(built.timestamp, UTC)
    failed = instance.get_run_records(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=since), limit=_RUNS_LOOKED_AT
    )
    return sum(
        record.dagster_run.asset_selection is None or key in record.dagster_run.asset_selection for record in failed
    )
