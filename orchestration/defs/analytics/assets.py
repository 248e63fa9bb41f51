"""Marts that Python makes: segments of users, the model's lists, what the marts hold, and why to trust them."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.analytics.batch_recommendations import write_suggestions
from orchestration.analytics.column_profile import profile_marts
from orchestration.analytics.python_marts import (
    ASSET_LINEAGE,
    CHECK_RESULTS,
    MADE_MARTS,
    MART_CORRELATIONS,
    MART_PROFILE,
    RECOMMENDATIONS,
    RUN_HISTORY,
    USER_SEGMENTS,
    MadeMart,
)
from orchestration.analytics.user_segments import segment_users
from orchestration.defs.serving.assets import PROMOTED_MODEL
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import MODEL_OWNERS, ON_CHANGE, ON_SETTLED_CHANGE, OWNERS
from orchestration.lib.metadata import materialized, picture, table_metadata
from orchestration.storage.warehouse import connect, quote
from orchestration.visualization import charts
from settings import Settings

#: Runs that are told of.
RUNS = 1_000
#: Films that are shown as those recommended most.
MOST_RECOMMENDED = 15

_TABLES = "orchestration/analytics/python_marts.py"


def made_key(mart: MadeMart) -> dg.AssetKey:
    """Return the asset key of a mart that Python makes."""
    return dg.AssetKey(["marts", mart.name])


MADE_KEYS = [made_key(mart) for mart in MADE_MARTS.values()]


@dg.asset(
    key=made_key(USER_SEGMENTS),
    deps=[dg.AssetKey(["marts", "user_habits"])],
    group_name="marts",
    owners=OWNERS,
    kinds={"duckdb", "scikitlearn"},
    code_version=code_version("orchestration/analytics/user_segments.py", _TABLES),
    automation_condition=ON_CHANGE,
    description=USER_SEGMENTS.description,
)
def user_segments(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Cluster the users' habits and write the segment of each."""
    with connect(settings, tell=context.log.info) as con:
        found = segment_users(con.sql("FROM marts.user_habits").pl(), settings.seed)
        con.register("found_segments", found.users.to_arrow())
        USER_SEGMENTS.replace(con, "SELECT * FROM found_segments ORDER BY user_key")
        version, metadata = table_metadata(con, USER_SEGMENTS.relation, descriptions=USER_SEGMENTS.spoken)
    if found.users.is_empty():
        return materialized(version, metadata)
    shown = found.segments.select(
        "segment", "segment_name", "users", "rating_count", "active_days", "days_since_last", "rating_mean"
    )
    return materialized(
        version,
        {
            **metadata,
            "segments": dg.MetadataValue.md(charts.markdown_table(shown)),
            "sizes": picture(charts.bars(shown.select("segment_name", "users"), f"{len(found.users):,} users")),
        },
    )


@dg.asset(
    key=made_key(RECOMMENDATIONS),
    deps=[PROMOTED_MODEL, dg.AssetKey(["marts", "dim_users"])],
    group_name="marts",
    owners=MODEL_OWNERS,
    kinds={"duckdb", "parquet"},
    code_version=code_version("orchestration/analytics/batch_recommendations.py", "models", _TABLES),
    automation_condition=ON_SETTLED_CHANGE,
    description=RECOMMENDATIONS.description,
)
def recommendations(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Score all users with the promoted bundle in parts, then put the lists into the warehouse at once."""
    from models.serving.bundle import load_bundle, read_pointer

    upstream_checks.require_passed(context)
    bundle = load_bundle(settings.models / read_pointer(settings.serving_pointer))
    with connect(settings, tell=context.log.info) as con:
        users = con.sql("SELECT user_key FROM marts.dim_users ORDER BY user_key").pl()["user_key"].to_numpy()
    # The scoring takes long where there are many users, and does not hold the warehouse meanwhile.
    aside = settings.home / ".recommendations.parquet.part"
    try:
        count = write_suggestions(bundle, _newest_features(settings.features), users, aside)
        with connect(settings, tell=context.log.info) as con:
            con.register("film_titles", bundle.items.select("movie_key", "title").to_arrow())
            RECOMMENDATIONS.replace(con, _spoken_lists(aside, bundle.version))
            version, metadata = table_metadata(con, RECOMMENDATIONS.relation, descriptions=RECOMMENDATIONS.spoken)
            most = con.sql(
                "SELECT title, count(*) AS users, round(avg(rank), 1) AS mean_rank"
                f" FROM {RECOMMENDATIONS.relation} JOIN film_titles USING (movie_key) WHERE rank <= 10"
                f" GROUP BY movie_key, title ORDER BY users DESC, movie_key LIMIT {MOST_RECOMMENDED}"
            ).pl()
            kinds = con.sql(
                "SELECT reason_kind, count(*) AS films, count(DISTINCT movie_key) AS different_films"
                f" FROM {RECOMMENDATIONS.relation} GROUP BY ALL ORDER BY ALL"
            ).pl()
    finally:
        aside.unlink(missing_ok=True)
    shown = {
        "model_version": bundle.version,
        "users": count,
        "reasons": dg.MetadataValue.md(charts.markdown_table(kinds)),
        "most_recommended": dg.MetadataValue.md(charts.markdown_table(most)),
    }
    if not most.is_empty():
        shown["in_the_first_ten"] = picture(
            charts.bars(most.select("title", "users"), f"Films most often among the first ten of {count:,} users")
        )
    return materialized(version, {**metadata, **shown})


def _newest_features(folder: Path) -> pl.DataFrame | None:
    """user_key and the newest features of each user; None where the histories were not exported."""
    file = folder / "user_features.parquet"
    if not file.exists():
        return None
    history = pl.scan_parquet(file, glob=False).sort("feature_timestamp")
    return history.group_by("user_key").last().collect()


def _spoken_lists(file: Path, version: str) -> str:
    """Return the query of the lists in ``file``, with their reasons in words and the model's version."""
    literal, said = (text.replace("'", "''") for text in (glob.escape(str(file)), version))
    return f"""
        SELECT
            lists.*,
            CASE reason_kind
                WHEN 'like_film' THEN 'Because you liked ' || film_titles.title || '.'
                WHEN 'popular' THEN 'Among the films that most people rated.'
                ELSE 'From all that you rated together; no single film stands out.'
            END AS reason,
            '{said}' AS model_version
        FROM read_parquet('{literal}') AS lists
        LEFT JOIN film_titles ON lists.reason_movie_key = film_titles.movie_key
        ORDER BY user_key, {quote("rank")}
    """


def _specs(marts: Sequence[MadeMart], deps: Sequence[dg.AssetKey], code: str) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            made_key(mart),
            deps=deps,
            group_name="marts",
            owners=OWNERS,
            kinds={"duckdb"},
            code_version=code,
            automation_condition=ON_CHANGE,
            description=mart.description,
        )
        for mart in marts
    ]


def mart_profiles(dbt_marts: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """Define the assets that profile each mart; ``dbt_marts`` are those that dbt makes."""
    marts = [*dbt_marts, made_key(USER_SEGMENTS), made_key(RECOMMENDATIONS)]
    code = code_version("orchestration/analytics/column_profile.py", _TABLES)

    @dg.multi_asset(name="mart_profiles", specs=_specs((MART_PROFILE, MART_CORRELATIONS), marts, code))
    def profiles(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.MaterializeResult]:
        """Look at the marts that changed since the last time."""
        with connect(settings, tell=context.log.info) as con:
            looked = profile_marts(con, sorted(key.path[-1] for key in marts), code)
            made = {
                mart: table_metadata(con, mart.relation, descriptions=mart.spoken)
                for mart in (MART_PROFILE, MART_CORRELATIONS)
            }
            gaps = con.sql(
                "SELECT mart || '.' || column_name AS column_name, missing / row_count AS share_missing"
                f" FROM {MART_PROFILE.relation} WHERE missing > 0 ORDER BY share_missing DESC, 1 LIMIT 20"
            ).pl()
            strong = con.sql(
                "SELECT mart || ': ' || column_a || ', ' || column_b AS pair, correlation"
                f" FROM {MART_CORRELATIONS.relation} WHERE abs(correlation) < 1"
                " ORDER BY abs(correlation) DESC, 1 LIMIT 15"
            ).pl()
        shown: dict[MadeMart, dict[str, object]] = {MART_PROFILE: {"marts_looked_at": looked}, MART_CORRELATIONS: {}}
        for mart, frame, title in (
            (MART_PROFILE, gaps, "Columns by the share of rows in which they are missing"),
            (MART_CORRELATIONS, strong, "The strongest correlations"),
        ):
            if not frame.is_empty():
                shown[mart]["picture"] = picture(charts.bars(frame, title))
        for mart, (version, metadata) in made.items():
            yield materialized(version, {**metadata, **shown[mart]}, made_key(mart))

    return profiles


def trust(
    dbt_marts: Sequence[dg.AssetKey], definitions: Sequence[dg.AssetsDefinition], checks: Sequence[object]
) -> dg.AssetsDefinition:
    """Define the assets on checks, runs and lineage; ``definitions`` and ``checks`` are those of the whole graph."""
    of_runs = (CHECK_RESULTS, RUN_HISTORY, ASSET_LINEAGE)
    known = [made_key(mart) for mart in MADE_MARTS.values() if mart not in of_runs]
    deps = [*dbt_marts, *known]
    groups = {spec.key: spec.group_name for one in definitions for spec in one.specs}
    groups |= {made_key(mart): "marts" for mart in of_runs}
    pairs = {(dep.asset_key, spec.key) for one in definitions for spec in one.specs for dep in spec.deps}
    pairs |= {(dep, made_key(mart)) for dep in deps for mart in of_runs}
    edges = [
        (up.to_user_string(), down.to_user_string(), groups.get(up), groups.get(down)) for up, down in sorted(pairs)
    ]
    specs = [
        spec
        for one in (*definitions, *checks)
        if isinstance(one, dg.AssetsDefinition)
        for spec in one.check_specs
        if spec.asset_key not in {made_key(mart) for mart in of_runs}
    ]
    code = code_version(__name__.replace(".", "/") + ".py", _TABLES)

    @dg.multi_asset(name="trust", specs=_specs(of_runs, deps, code))
    def told(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Iterator[dg.MaterializeResult]:
        """Read the event log and the graph, and write both as tables."""
        rows: dict[MadeMart, list[Any]] = {
            CHECK_RESULTS: check_rows(specs, context.instance),
            RUN_HISTORY: run_rows(context.instance),
            ASSET_LINEAGE: edges,
        }
        frames = {mart: pl.DataFrame(of, schema=mart.polars_schema, orient="row") for mart, of in rows.items()}
        with connect(settings, tell=context.log.info) as con:
            made = {}
            for mart, frame in frames.items():
                con.register("told_rows", frame.to_arrow())
                mart.replace(con, "SELECT * FROM told_rows ORDER BY ALL")
                con.unregister("told_rows")
                made[mart] = table_metadata(con, mart.relation, descriptions=mart.spoken)
        shown: dict[MadeMart, tuple[str, pl.DataFrame]] = {
            CHECK_RESULTS: ("Checks by what they said last", _counted(frames[CHECK_RESULTS], "status")),
            RUN_HISTORY: (
                "The newest runs by their seconds",
                frames[RUN_HISTORY]
                .drop_nulls("seconds")
                .head(15)
                .select(pl.format("{} {}", pl.col("started_at").dt.strftime("%m-%d %H:%M"), "job"), "seconds"),
            ),
            ASSET_LINEAGE: ("Edges by the group of what is made", _counted(frames[ASSET_LINEAGE], "downstream_group")),
        }
        for mart, (version, metadata) in made.items():
            title, frame = shown[mart]
            drawn = {} if frame.is_empty() else {"picture": picture(charts.bars(frame, title))}
            yield materialized(version, {**metadata, **drawn}, made_key(mart))

    return told


def _counted(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame.group_by(pl.col(column).fill_null("none")).len().sort("len", column, descending=[True, False])


def check_rows(specs: Iterable[dg.AssetCheckSpec], instance: dg.DagsterInstance) -> list[tuple[object, ...]]:
    """One row a check, in the columns of ``check_results``."""
    checks = {spec.key: spec for spec in specs}
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    return [
        (
            key.asset_key.to_user_string(),
            key.name,
            spec.blocking,
            *_said(records.get(key)),
            *(spec.description, *_when(records.get(key))),
        )
        for key, spec in sorted(checks.items(), key=lambda item: (item[0].asset_key.to_user_string(), item[0].name))
    ]


def _said(record: AssetCheckExecutionRecord | None) -> tuple[str, str | None]:
    """Status and severity."""
    evaluation = None if record is None or record.event is None else record.event.asset_check_evaluation
    if record is None or evaluation is None:
        return "never", None
    passed = record.status == AssetCheckExecutionRecordStatus.SUCCEEDED
    return "passed" if passed else "failed", evaluation.severity.value.lower()


def _when(record: AssetCheckExecutionRecord | None) -> tuple[datetime | None, str | None]:
    """Time and run."""
    if record is None:
        return None, None
    return _time(record.create_timestamp), record.run_id


def run_rows(instance: dg.DagsterInstance) -> list[tuple[object, ...]]:
    """One row a run, the newest first, in the columns of ``run_history``."""
    from orchestration.lib.dagster_instance import REASON_TAG

    rows: list[tuple[object, ...]] = []
    for record in instance.get_run_records(limit=RUNS):
        run, start, end = record.dagster_run, record.start_time, record.end_time
        seconds = None if start is None or end is None else round(end - start, 3)
        asked = len(run.asset_selection) if run.asset_selection else None
        reason = run.tags.get(REASON_TAG)
        rows.append((run.run_id, run.job_name, reason, run.status.value, _time(start), _time(end), seconds, asked))
    return rows


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
