"""Jobs, schedules and sensors: the whole graph at once, the look upstream, and the wave that follows it."""

import warnings
from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from orchestration.defs.ingestion.assets import UPSTREAM_APP, UPSTREAM_MOVIELENS, upstream_dump
from orchestration.defs.ingestion.streaming import UPSTREAM_STREAMING
from orchestration.ingestion.app_store import app_progress, ratings_since
from settings import IMDB_DUMPS, Settings

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("upstream"),
    description="Materialize every asset and run every check, whether anything changed or not.",
)

observe_upstream = dg.define_asset_job(
    "observe_upstream",
    selection=dg.AssetSelection.assets(
        UPSTREAM_MOVIELENS, UPSTREAM_STREAMING, UPSTREAM_APP, *(upstream_dump(dump) for dump in IMDB_DUMPS)
    ),
    description="Take the versions of all upstream files and of the app's store.",
)

observe_ratings = dg.define_asset_job(
    "observe_ratings",
    selection=dg.AssetSelection.assets(upstream_dump("title.ratings")),
    description="Take the version of IMDb's `title.ratings`, the one small dump whose values move every day.",
)

observe_app = dg.define_asset_job(
    "observe_app",
    selection=dg.AssetSelection.assets(UPSTREAM_APP),
    description="Take the version of the app's store.",
)


@dg.sensor(
    job=observe_app,
    minimum_interval_seconds=60,
    description=(
        "Looks at the app's store and has `rebuild_changed` bring it in, training included, once"
        " `MARQUEE_RETRAIN_AFTER` ratings have come, or somebody has asked to be forgotten."
    ),
)
def app_has_written(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.RunRequest | dg.SkipReason:
    """One run for each time that enough has come; the cursor is what the last one was started for."""
    event, forgotten = map(int, (context.cursor or "0-0").split("-"))
    now_event, now_forgotten = app_progress(settings.app_store)
    come = ratings_since(settings.app_store, event)
    if now_forgotten <= forgotten and come < settings.retrain_after:
        return dg.SkipReason(f"{come} of {settings.retrain_after} ratings have come")
    version = f"{now_event}-{now_forgotten}"
    context.update_cursor(version)
    return dg.RunRequest(run_key=version)


daily_ratings = dg.ScheduleDefinition(
    name="daily_ratings",
    job=observe_ratings,
    cron_schedule="0 5 * * 2-7",
    execution_timezone="UTC",
    description="Every day but Monday 05:00 UTC: ask for IMDb's ratings and votes.",
)

weekly_upstream = dg.ScheduleDefinition(
    name="weekly_upstream",
    job=observe_upstream,
    cron_schedule="0 4 * * 1",
    execution_timezone="UTC",
    description=(
        "Monday 04:00 UTC: ask for all upstream files, whatever their age; `rebuild_changed` rebuilds what a change"
        " reaches."
    ),
)

rebuild_changed = dg.AutomationConditionSensorDefinition(
    "rebuild_changed",
    target=dg.AssetSelection.all(),
    description=(
        "Rebuilds what depends on changed data, asset by asset, and stops where an output stayed equal or a blocking"
        " check failed. What failed or was killed is tried again after a cool-down."
    ),
    # The conditions of orchestration/lib/automation_conditions.py are not known to the daemon's own process.
    use_user_code_server=True,
)


def _look(dumps: Sequence[dg.AssetKey], within: timedelta) -> Sequence[dg.AssetChecksDefinition]:
    return dg.build_last_update_freshness_checks(
        assets=list(dumps), lower_bound_delta=within, severity=dg.AssetCheckSeverity.WARN
    )


with warnings.catch_warnings():
    # Their successor, a freshness policy, counts materializations alone, and an upstream file is only ever observed.
    warnings.simplefilter("ignore", dg.SupersessionWarning)
    #: A file that nobody has looked at for longer than its schedule, with a day to spare, is warned of. Files that were
    #: looked at and are as they were are fresh: IMDb decides when they change.
    FRESHNESS = [
        *_look([upstream_dump("title.ratings")], timedelta(days=2)),
        *_look(
            [
                UPSTREAM_MOVIELENS,
                UPSTREAM_STREAMING,
                *(upstream_dump(dump) for dump in IMDB_DUMPS if dump != "title.ratings"),
            ],
            timedelta(days=8),
        ),
    ]
    look_for_neglect = dg.build_sensor_for_freshness_checks(
        name="look_for_neglect", freshness_checks=FRESHNESS, minimum_interval_seconds=3_600
    )

JOBS = [everything, observe_upstream, observe_ratings, observe_app]
SCHEDULES = [daily_ratings, weekly_upstream]
SENSORS = [rebuild_changed, look_for_neglect, app_has_written]
