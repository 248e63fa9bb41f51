"""Jobs, schedules and sensors: the whole graph at once, the look upstream, and the wave that follows it."""

import warnings
from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from orchestration.defs.raw import UPSTREAM_MOVIELENS, upstream_dump
from settings import IMDB_DUMPS

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("upstream"),
    description="Materialize every asset and run every check, whether anything changed or not.",
)

observe_upstream = dg.define_asset_job(
    "observe_upstream",
    selection=dg.AssetSelection.assets(UPSTREAM_MOVIELENS, *(upstream_dump(dump) for dump in IMDB_DUMPS)),
    description="Take the versions of all upstream files.",
)

observe_ratings = dg.define_asset_job(
    "observe_ratings",
    selection=dg.AssetSelection.assets(upstream_dump("title.ratings")),
    description="Take the version of IMDb's `title.ratings`, the one small dump whose values move every day.",
)

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
    description="Rebuilds what depends on changed data, asset by asset, and stops where an output stayed equal.",
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
            [UPSTREAM_MOVIELENS, *(upstream_dump(dump) for dump in IMDB_DUMPS if dump != "title.ratings")],
            timedelta(days=8),
        ),
    ]
    look_for_neglect = dg.build_sensor_for_freshness_checks(
        name="look_for_neglect", freshness_checks=FRESHNESS, minimum_interval_seconds=3_600
    )

JOBS = [everything, observe_upstream, observe_ratings]
SCHEDULES = [daily_ratings, weekly_upstream]
SENSORS = [rebuild_changed, look_for_neglect]
