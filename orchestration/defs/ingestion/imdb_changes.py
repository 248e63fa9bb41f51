"""What changed from one IMDb dump to the next, title by title, kept as a history."""

import dagster as dg

from orchestration.defs.ingestion.assets import raw_key
from orchestration.ingestion.imdb_diff import WATCHED, Thresholds, take_look
from orchestration.ingestion.raw_tables import IMDB_CHANGES
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import ON_CHANGE, OWNERS
from orchestration.lib.metadata import materialized, picture, table_metadata
from orchestration.storage.warehouse import connect
from orchestration.visualization import charts
from settings import Settings

#: Looks and titles shown on the asset's page.
LATEST_LOOKS, MOST_VOTED = 12, 15


@dg.asset(
    key=raw_key(IMDB_CHANGES.name),
    deps=[raw_key(table) for table in WATCHED.values()],
    group_name="raw",
    owners=OWNERS,
    kinds={"duckdb"},
    code_version=code_version("orchestration/ingestion/imdb_diff.py"),
    automation_condition=ON_CHANGE,
    description=(
        "What each update of IMDb's dumps changed: titles added, removed, retitled, redated, first rated, no longer"
        " rated, and re-rated beyond a threshold. One row a look, a title and a change; rows are only added. The first"
        " look at a dump is the baseline."
    ),
)
def imdb_changes(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Compare the loaded dumps with the last snapshot and append what is different."""
    thresholds = Thresholds(settings.changes_rating_step, settings.changes_min_votes)
    with connect(settings, tell=context.log.info) as con:
        look = take_look(con, thresholds)
        version, metadata = table_metadata(
            con, "raw.imdb_changes", descriptions={column.name: column.description for column in IMDB_CHANGES.columns}
        )
        by_look = con.sql(
            "SELECT look, dump, change, count(*) AS titles, max(snapshot_at) AS snapshot_at FROM raw.imdb_changes"
            f" WHERE look > (SELECT max(look) - {LATEST_LOOKS} FROM raw.imdb_changes) GROUP BY look, dump, change"
            " ORDER BY look DESC, dump, change"
        ).pl()
        moved = con.sql(
            "SELECT tconst, former_rating, rating, former_votes, votes FROM raw.imdb_changes WHERE change = 'rerated'"
            " AND look = (SELECT max(look) FROM raw.imdb_changes)"
            f" ORDER BY votes DESC, tconst LIMIT {MOST_VOTED}"
        ).pl()
        drift = con.sql("SELECT measure, step, titles FROM raw.imdb_drift ORDER BY measure, step").pl()
    context.log.info(f"compared {', '.join(look.compared) or 'nothing'}: {look.counts or 'no change'}")
    shown: dict[str, object] = {
        "compared": ", ".join(look.compared) or "nothing: no dump is new",
        "baseline_of": ", ".join(look.baselines) or "none",
        "found": sum(look.counts.values()),
        "changes_by_look": dg.MetadataValue.md(charts.markdown_table(by_look, 100)),
    }
    if not moved.is_empty():
        shown["most_voted_of_the_re_rated"] = dg.MetadataValue.md(charts.markdown_table(moved))
    if not drift.is_empty():
        shown["drift"] = picture(charts.rating_drift(drift, thresholds.rating_step))
    return materialized(version, {**shown, **metadata})
