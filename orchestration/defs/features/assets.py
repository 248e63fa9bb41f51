"""The feature store: histories as Parquet, the training set joined as of each rating, and the online store."""

import hashlib
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import MODEL_OWNERS, ON_SETTLED_CHANGE
from orchestration.lib.metadata import materialized, place, table_metadata
from orchestration.storage.warehouse import connect, export_parquet, table_version
from orchestration.visualization import charts
from settings import Settings

TRAINING_SET = dg.AssetKey("training_set")
ONLINE_STORE = dg.AssetKey("online_store")
FCT_RATINGS = dg.AssetKey(["marts", "fct_ratings"])

#: The marts that are feature views, with the key that orders their files.
FEATURE_MARTS = {
    "user_features": "user_key",
    "movie_features": "movie_key",
    "movie_content": "movie_key",
    "movie_imdb": "movie_key",
}
#: IMDb's ratings have no past before the first dump, so the view `movie_imdb` is served and not trained on.
TRAINING_MARTS = ("user_features", "movie_features", "movie_content")
FEATURE_CODE = code_version("feature_repo", "orchestration/storage/warehouse.py")


def _frame_metadata(settings: Settings, frame: pl.DataFrame, path: Path) -> dict[str, Any]:
    schema = dg.TableSchema([dg.TableColumn(name, str(kind)) for name, kind in frame.schema.items()])
    return {
        "dagster/row_count": frame.height,
        "dagster/column_schema": schema,
        "file": place(settings, path),
        "bytes": path.stat().st_size,
    }


def _frame_digest(frame: pl.DataFrame) -> str:
    """Return a digest of a frame's content, independent of its row order."""
    return f"{frame.height}:{frame.select(sorted(frame.columns)).hash_rows(seed=0).sum()}"


def history_key(mart: str) -> dg.AssetKey:
    """Return the asset key of a feature mart's Parquet file."""
    return dg.AssetKey(["feature_histories", mart])


def history_file(settings: Settings, mart: str) -> Path:
    """Return the path of a feature mart's Parquet file."""
    return settings.features / f"{mart}.parquet"


def _history(mart: str, key: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=history_key(mart),
        deps=[dg.AssetKey(["marts", mart])],
        group_name="features",
        owners=MODEL_OWNERS,
        kinds={"parquet", "duckdb"},
        code_version=code_version("orchestration/storage/warehouse.py"),
        automation_condition=ON_SETTLED_CHANGE,
        description=(
            f"The mart `{mart}` as a Parquet file, which Feast reads: one row a {key} and day of change, computed from"
            " what happened strictly before its timestamp. Feast never opens the warehouse."
        ),
    )
    def history(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        upstream_checks: dg.ResourceParam[UpstreamChecks],
    ) -> dg.MaterializeResult:
        upstream_checks.require_passed(context)
        path = history_file(settings, mart)
        with connect(settings, tell=context.log.info) as con:
            version, metadata = table_metadata(con, f"marts.{mart}")
            export_parquet(con, f"marts.{mart}", path, order_by=f"{key}, feature_timestamp", version=version)
        return materialized(version, {**metadata, "file": place(settings, path), "bytes": path.stat().st_size})

    return history


feature_histories = [_history(mart, key) for mart, key in FEATURE_MARTS.items()]


@dg.asset(
    key=TRAINING_SET,
    deps=[*(history_key(mart) for mart in TRAINING_MARTS), FCT_RATINGS],
    group_name="features",
    owners=MODEL_OWNERS,
    kinds={"feast", "parquet"},
    code_version=FEATURE_CODE,
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "Every rating with the features of the service `recommender_v1` as they were known before it (Feast's"
        " point-in-time join): one row a user and film."
    ),
)
def training_set(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Join the ratings with the feature histories, correct in time."""
    from feature_repo.store import apply, build_training_set, open_store

    upstream_checks.require_passed(context)
    with connect(settings, tell=context.log.info) as con:
        version = table_version(con, "marts.fct_ratings")
        ratings = con.sql(
            "SELECT user_key, movie_key, rated_at, rating::FLOAT AS rating FROM marts.fct_ratings"
            " WHERE edition != 'streaming' ORDER BY user_key, rated_at, movie_key"
        ).pl()
    store = open_store(settings.feast, settings.features, redis=settings.has_redis)
    service_hash = apply(store)
    context.log.info(f"joining {ratings.height:,} ratings with their features")
    frame = build_training_set(store, ratings)
    path = settings.features / "training_set.parquet"
    aside = path.with_name(f".{path.name}.part")
    histories = {mart: pl.read_parquet_metadata(history_file(settings, mart))["version"] for mart in TRAINING_MARTS}
    # The file says which tables it is made of; the bundle, and so every answer, says it on.
    frame.write_parquet(aside, metadata={"fct_ratings": version.digest, **histories})
    aside.replace(path)

    known = frame.select(pl.col("^.*__.*$").is_not_null().mean()).unpivot(variable_name="feature", value_name="known")
    digest = hashlib.sha256(f"{version.digest}|{service_hash}|{_frame_digest(frame)}".encode()).hexdigest()[:16]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata={
            **_frame_metadata(settings, frame, path),
            "feature_service": "recommender_v1",
            "feature_service_hash": service_hash,
            "share_of_rows_with_a_value": dg.MetadataValue.md(
                charts.markdown_table(known.with_columns(pl.col("known").round(3)), max_rows=100)
            ),
        },
    )


@dg.asset(
    key=ONLINE_STORE,
    deps=[history_key(mart) for mart in FEATURE_MARTS],
    group_name="features",
    owners=MODEL_OWNERS,
    kinds={"feast", "sqlite"},
    code_version=FEATURE_CODE,
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "Feast's online store (SQLite, or the Redis of `MARQUEE_ONLINE_STORE`): the latest row of every user and film,"
        " which the bento reads at each request."
    ),
)
def online_store(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Apply the definitions and make the online store hold each key's latest values."""
    from feature_repo.store import apply, materialize, open_store

    upstream_checks.require_passed(context)
    store = open_store(settings.feast, settings.features, redis=settings.has_redis)
    service_hash = apply(store)
    counts = materialize(store)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(_online_digest(settings, service_hash)),
        metadata={
            "dagster/row_count": sum(counts.values()),
            "feature_service_hash": service_hash,
            "keys": dg.MetadataValue.md(
                "| feature view | keys |\n|---|---:|\n" + "\n".join(f"| {n} | {c:,} |" for n, c in counts.items())
            ),
            "file": place(settings, online_file(settings)),
        },
    )


def online_file(settings: Settings) -> Path:
    """Return the file that stands for the online store: its own, or the note that a Redis was filled."""
    from feature_repo.store import REDIS_FILLED

    return settings.feast / (REDIS_FILLED if settings.has_redis else "online_store.db")


def _online_digest(settings: Settings, service_hash: str) -> str:
    """Return the online store's version: a digest of the service's hash and of the last row of each key."""
    digest = hashlib.sha256(service_hash.encode())
    for mart, key in FEATURE_MARTS.items():
        history = pl.scan_parquet(history_file(settings, mart), glob=False)
        latest = history.sort("feature_timestamp").group_by(key, maintain_order=False).last().collect()
        digest.update(f"{mart}:{_frame_digest(latest)}".encode())
    return digest.hexdigest()[:16]
