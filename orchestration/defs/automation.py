"""Jobs and schedules: the whole graph at once, the look at what was published upstream, and the wave behind it."""

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

observe_imdb = dg.define_asset_job(
    "observe_imdb",
    selection=dg.AssetSelection.assets(*(upstream_dump(dump) for dump in IMDB_DUMPS)),
    description="Take the versions of IMDb's dumps, fetching those that are older than MARQUEE_IMDB_MAX_AGE_DAYS.",
)

weekly_imdb = dg.ScheduleDefinition(
    name="weekly_imdb",
    job=observe_imdb,
    cron_schedule="0 4 * * 1",
    execution_timezone="UTC",
    description="Monday 04:00 UTC: look at IMDb's dumps; `rebuild_changed` rebuilds what depends on a changed one.",
)

rebuild_changed = dg.AutomationConditionSensorDefinition(
    "rebuild_changed",
    target=dg.AssetSelection.all(),
    description="Rebuilds what depends on changed data, asset by asset, and stops where an output stayed equal.",
)

JOBS = [everything, observe_upstream, observe_imdb]
SCHEDULES = [weekly_imdb]
SENSORS = [rebuild_changed]
