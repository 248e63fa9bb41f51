"""Marts that Python makes: the segments of users, and what the promoted model recommends to all of them."""

from pathlib import Path

import dagster as dg
import polars as pl

from orchestration import charts
from orchestration.analysts.segments import segment_users
from orchestration.analysts.suggestions import write_suggestions
from orchestration.analysts.tables import MADE_MARTS, RECOMMENDATIONS, USER_SEGMENTS, MadeMart
from orchestration.defs.metadata import materialized, picture, table_metadata
from orchestration.defs.resources import MODEL_OWNERS, ON_CHANGE, OWNERS, source_digest
from orchestration.defs.serving import PROMOTED_MODEL
from orchestration.warehouse import connect, quote
from settings import Settings

#: Films that are shown as those recommended most.
MOST_RECOMMENDED = 15

_TABLES = "orchestration/analysts/tables.py"


def made_key(mart: MadeMart) -> dg.AssetKey:
    """The asset key of a mart that Python makes."""
    return dg.AssetKey(["marts", mart.name])


MADE_KEYS = [made_key(mart) for mart in MADE_MARTS.values()]


@dg.asset(
    key=made_key(USER_SEGMENTS),
    deps=[dg.AssetKey(["marts", "user_habits"])],
    group_name="marts",
    owners=OWNERS,
    kinds={"duckdb", "scikitlearn"},
    code_version=source_digest("orchestration/analysts/segments.py", _TABLES),
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
    code_version=source_digest("orchestration/analysts/suggestions.py", "models", _TABLES),
    automation_condition=ON_CHANGE,
    description=RECOMMENDATIONS.description,
)
def recommendations(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Score all users with the promoted bundle in parts, then put the lists into the warehouse at once."""
    from models.bundle import load_bundle, read_pointer

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
    history = pl.scan_parquet(file).sort("feature_timestamp")
    return history.group_by("user_key").last().collect()


def _spoken_lists(file: Path, version: str) -> str:
    """The query of the lists in ``file`` with their reasons in words and the model's version."""
    literal, said = (text.replace("'", "''") for text in (str(file), version))
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
