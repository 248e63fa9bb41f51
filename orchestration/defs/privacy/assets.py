"""People who asked to be forgotten, taken out of what the rebuild before left behind."""

import dagster as dg

from orchestration.defs.features.assets import ONLINE_STORE
from orchestration.defs.ingestion.assets import UPSTREAM_APP
from orchestration.defs.serving.assets import BENTO
from orchestration.defs.warehouse.dbt_assets import PUBLISHED_COPY
from orchestration.ingestion.app_store import forgotten_people
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import OWNERS
from orchestration.privacy.erasure import erase
from settings import Settings

ERASURES = dg.AssetKey("erasures")


@dg.asset(
    key=ERASURES,
    deps=[UPSTREAM_APP, PUBLISHED_COPY, ONLINE_STORE, BENTO],
    group_name="serving",
    owners=OWNERS,
    kinds={"duckdb", "sqlite"},
    code_version=code_version("orchestration/privacy/erasure.py", "orchestration/publishing"),
    automation_condition=dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress(),
    description=(
        "What is left of people who asked to be forgotten, once the tables, features and models without them are there:"
        " older bundles, bentos and publications, and deleted rows in the free blocks of files."
    ),
)
def erasures(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Remove it, where anybody has asked since the last time."""
    people = forgotten_people(settings.app_store)
    done = erase(settings, people)
    if done.still_served is not None:
        context.log.warning(f"{done.still_served} is served and knows somebody who is forgotten: nothing newer came")
    if done.still_published is not None:
        context.log.warning(f"publication {done.still_published} holds somebody who is forgotten: nothing newer came")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(
            f"{len(people)}-{done.still_served or 'nobody'}-{done.still_published or 'nobody'}"
        ),
        metadata={
            "people": len(people),
            "bundles_removed": ", ".join(done.removed) or "none",
            "still_served": done.still_served or "none",
            "publications_removed": ", ".join(done.unpublished) or "none",
            "still_published": done.still_published or "none",
        },
    )
