"""The feature store of one home: registry, training sets as of a time, and the online store.

Feast is imported inside the functions: it takes ten seconds, which a process that only names this module should not
pay.

Layout. ``$MARQUEE_HOME/feast`` holds ``feature_store.yaml``, ``registry.db``, ``online_store.db`` and a copy of
``features.py``; ``$MARQUEE_HOME/features`` beside it holds the Parquet histories. All paths in them are relative, so
``FeatureStore(repo_path=<home>/feast)`` opens the store with nothing but feast installed (the bento does), also after
the home was moved, and feast's own command line works there: ``cd "$MARQUEE_HOME/feast" && feast feature-views list``.

Feast 0.67's DuckDB store validates a relative path against that folder but reads it against the working directory. A
training set is therefore joined through a throwaway copy of the registry whose paths are absolute; nothing here changes
the working directory.

Atomicity. The registry is written aside and renamed. The online values are written by feast into a fresh SQLite file,
and what differs from the live one is then moved in one transaction in WAL mode: a reader that has the file open, such
as a running bento, sees all of the old values or all of the new, never waits, and need not reopen it; a kill leaves the
old ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView, FileSource
    from feast.types import FeastType

SERVICE_NAME = "recommender_v1"
CONFIG = "feature_store.yaml"
DEFINITIONS = "features.py"
_HERE = Path(__file__).resolve().parent
#: Rows that feast turns into protobuf messages at a time: 20,000 rows of 25 features take about 300 MB.
_WRITE_ROWS = 20_000
_ROW = "__row"


def open_store(feast_dir: Path, features_dir: Path | None = None) -> FeatureStore:
    """The feature store in ``feast_dir``; its configuration is written there when it is missing or differs.

    ``features_dir``, where given, must be the folder ``features`` beside it, which is what the relative paths mean:
    else ``ValueError``.
    """
    from feast import FeatureStore

    feast_dir = Path(feast_dir).absolute()
    beside = feast_dir.parent / "features"
    if features_dir is not None and Path(features_dir).absolute() != beside:
        raise ValueError(f"the feature histories must be in {beside}, beside {feast_dir}, not in {features_dir}")
    feast_dir.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, DEFINITIONS):
        _copy_if_changed(_HERE / name, feast_dir / name)
    return FeatureStore(repo_path=str(feast_dir))


def apply(store: FeatureStore) -> str:
    """Registers the definitions of ``features.py`` and makes the online tables; returns the service's hash.

    Views that are no longer defined stay registered and filled, so that a bento with an older bundle goes on answering
    until the serving pointer has moved. Nothing is written when nothing has changed.
    """
    from feature_repo import features

    live = _registry_path(store)
    with tempfile.TemporaryDirectory(dir=live.parent, prefix=".registry-") as folder:
        aside = Path(folder) / live.name
        if live.exists():
            shutil.copyfile(live, aside)
        scratch = _variant(store, registry=aside)
        before = _definitions(scratch) if live.exists() else None
        scratch.apply([features.project, *features.ENTITIES, *features.VIEWS, features.SERVICE])
        if _definitions(scratch) != before:
            aside.replace(live)
    store.registry.refresh(store.project)
    return service_hash(store)


def build_training_set(store: FeatureStore, interactions: pl.DataFrame | pa.Table) -> pl.DataFrame:
    """Interactions with every feature of the service as known at ``rated_at``: one row an input row, in its order.

    ``interactions`` has ``user_key``, ``movie_key``, ``rated_at`` (UTC) and any further columns, which pass through. A
    history row holds from its own timestamp on. Feature columns are named ``<view>__<feature>`` and are null where a
    key had no history yet. Raises ``ValueError`` for missing or clashing columns, and if rows were lost or multiplied.
    """
    frame = interactions if isinstance(interactions, pl.DataFrame) else pl.from_arrow(interactions)
    assert isinstance(frame, pl.DataFrame)
    missing = {"user_key", "movie_key", "rated_at"} - set(frame.columns)
    if missing:
        raise ValueError(f"the interactions lack {', '.join(sorted(missing))}")
    service = store.get_feature_service(SERVICE_NAME)
    types = _full_types(service)
    clashing = {*types, "event_timestamp", _ROW} & set(frame.columns)
    if clashing:
        raise ValueError(f"the interactions have columns of the feature service's names: {', '.join(sorted(clashing))}")
    if frame.is_empty():
        return frame.with_columns(*(pl.lit(None, dtype).alias(name) for name, dtype in types.items()))

    rated_at = frame.schema["rated_at"]
    utc = (
        pl.col("rated_at").dt.replace_time_zone("UTC")
        if getattr(rated_at, "time_zone", None) is None
        else pl.col("rated_at")
    )
    entities = frame.select("user_key", "movie_key", event_timestamp=utc.cast(pl.Datetime("us", "UTC"))).with_row_index(
        _ROW
    )
    with tempfile.TemporaryDirectory(prefix="marquee-training-") as folder:
        rooted = _rooted_store(store, Path(folder))
        job = rooted.get_historical_features(
            entities.to_pandas(), features=rooted.get_feature_service(SERVICE_NAME), full_feature_names=True
        )
        joined = pl.from_arrow(job.to_arrow())
    assert isinstance(joined, pl.DataFrame)
    joined = joined.sort(_ROW)
    if joined.height != frame.height or not joined[_ROW].to_numpy().tolist() == list(range(frame.height)):
        raise ValueError(f"the join returned {joined.height} rows for {frame.height} interactions")
    return frame.hstack(joined.select(pl.col(name).cast(dtype) for name, dtype in types.items()))


def materialize(store: FeatureStore) -> dict[str, int]:
    """Makes the online store hold exactly each key's latest row of every view; returns the keys by view.

    Keys that have vanished from the histories vanish from the online store, and values that went back go back.
    Idempotent. Raises ``ValueError`` when a history has two rows of one key and timestamp, ``FileNotFoundError`` when
    one is missing.
    """
    live = _online_path(store)
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=live.parent, prefix=".online-") as folder:
        aside = Path(folder) / live.name
        scratch = _variant(store, online=aside)
        views = [scratch.get_feature_view(view.name) for view in _views()]
        provider = scratch._get_provider()
        provider.update_infra(store.project, [], views, [], scratch.list_entities(), partial=True)
        for view in views:
            latest = _latest_rows(store, view)
            counts[view.name] = latest.height
            for start in range(0, latest.height, _WRITE_ROWS):
                # One chunk an Arrow column: feast writes the first chunk only.
                part = latest.slice(start, _WRITE_ROWS).rechunk()
                scratch.write_to_online_store(view.name, part.to_pandas(use_pyarrow_extension_array=True))
        _close_online(scratch)
        _replace_rows(
            live, aside, {f"{store.project}_{view.name}": counts[view.name] * len(view.features) for view in views}
        )
    return counts


def online_user_features(store: FeatureStore, user_keys: Sequence[int]) -> pl.DataFrame:
    """The service's user features from the online store: one row a key, in the order asked.

    Columns: ``user_key``, the features by full name (null for an unknown user), and ``event_timestamp`` (UTC, null
    likewise).
    """
    service = store.get_feature_service(SERVICE_NAME)
    types = {name: dtype for name, dtype in _full_types(service).items() if name in service_schema(store)["user"]}
    refs = [name.replace("__", ":", 1) for name in types]
    answer = store.get_online_features(
        features=refs, entity_rows=[{"user_key": int(key)} for key in user_keys], full_feature_names=True
    ).to_dict(include_event_timestamps=True)
    seconds = pl.Series("event_timestamp", answer[f"{next(iter(types))}__ts"], pl.Int64)
    return pl.DataFrame(
        {
            "user_key": pl.Series(user_keys, dtype=pl.Int64),
            **{name: pl.Series(answer[name], dtype=types[name]) for name in types},
        }
    ).with_columns(
        pl.when(seconds > 0)
        .then(seconds.cast(pl.Int64) * 1_000_000)
        .cast(pl.Datetime("us", "UTC"))
        .alias("event_timestamp")
    )


def service_schema(store: FeatureStore | None = None) -> dict[str, list[str]]:
    """Full feature names of the service, ``{"user": [...], "item": [...]}``, in the order of every feature matrix.

    Read from the definitions, or from the registry of ``store``.
    """
    return {
        side: [
            f"{projection.name}__{feature.name}"
            for projection, keys in _projections(store)
            if keys == [key]
            for feature in projection.features
        ]
        for side, key in (("user", "user_key"), ("item", "movie_key"))
    }


def service_hash(store: FeatureStore | None = None) -> str:
    """SHA-256 over what the service means (views, keys, sources, feature names and types); the same in every home.

    Read from the definitions, or from the registry of ``store``. Descriptions, tags and owners do not count.
    """
    meaning = [
        {
            "view": projection.name,
            "keys": keys,
            "ttl": 0.0 if view.ttl is None else view.ttl.total_seconds(),
            "source": _source(view).path,
            "timestamp": _source(view).timestamp_field,
            "features": [[feature.name, str(feature.dtype)] for feature in projection.features],
        }
        for (projection, keys), view in zip(_projections(store), _service_views(store), strict=True)
    ]
    return hashlib.sha256(json.dumps([SERVICE_NAME, meaning], sort_keys=True).encode()).hexdigest()


def _views() -> tuple[FeatureView, ...]:
    from feature_repo.features import VIEWS

    return VIEWS


def _service(store: FeatureStore | None) -> FeatureService:
    from feature_repo.features import SERVICE

    return SERVICE if store is None else store.get_feature_service(SERVICE_NAME)


def _service_views(store: FeatureStore | None) -> list[FeatureView]:
    defined = {view.name: view for view in _views()}
    return [
        defined[projection.name] if store is None else store.get_feature_view(projection.name)
        for projection in _service(store).feature_view_projections
    ]


def _projections(store: FeatureStore | None) -> list[tuple[Any, list[str]]]:
    """The service's projections with the join keys of their views."""
    return [
        (projection, [column.name for column in view.entity_columns] or _declared_keys(view))
        for projection, view in zip(_service(store).feature_view_projections, _service_views(store), strict=True)
    ]


def _declared_keys(view: FeatureView) -> list[str]:
    """Join keys of a view that was never applied: only an applied one knows its entities' columns."""
    from feature_repo.features import ENTITIES

    return [entity.join_key for name in view.entities for entity in ENTITIES if entity.name == name]


def _full_types(service: FeatureService) -> dict[str, Any]:
    """Full feature name -> polars type, in the service's order."""
    return {
        f"{projection.name}__{feature.name}": _polars_type(feature.dtype)
        for projection in service.feature_view_projections
        for feature in projection.features
    }


def _latest_rows(store: FeatureStore, view: FeatureView) -> pl.DataFrame:
    """The last row of each key of a view's history, in the view's own types."""
    keys = [column.name for column in view.entity_columns]
    source = _source(view)
    timestamp = source.timestamp_field
    history = pl.scan_parquet(store.repo_path / source.path)
    last = history.group_by(keys).agg(pl.col(timestamp).max())
    latest = (
        history.join(last, on=[*keys, timestamp], how="semi")
        .select(
            *keys, timestamp, *(pl.col(feature.name).cast(_polars_type(feature.dtype)) for feature in view.features)
        )
        .sort(keys)
        .collect(engine="streaming")
    )
    if latest.select(keys).is_duplicated().any():
        raise ValueError(f"{source.path} has two rows of one {keys[0]} and {timestamp}")
    return latest


def _replace_rows(live: Path, aside: Path, expected: dict[str, int]) -> None:
    """Makes the tables of ``live`` equal to those of ``aside`` in one transaction, touching only rows that differ.

    ``expected``: rows by table; ``ValueError`` when the fresh file does not hold them.
    """
    with contextlib.closing(sqlite3.connect(live, isolation_level=None, timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("ATTACH ? AS fresh", (str(aside),))
        connection.execute("BEGIN IMMEDIATE")
        for table, rows in expected.items():
            (found,) = connection.execute(f'SELECT count(*) FROM fresh."{table}"').fetchone()
            if found != rows:
                raise ValueError(f"{found} values of {table} were written for {rows}")
            connection.execute(
                f"""
                DELETE FROM main."{table}" AS old WHERE NOT EXISTS (
                    SELECT 1 FROM fresh."{table}" AS new
                    WHERE new.entity_key = old.entity_key AND new.feature_name = old.feature_name
                )
                """
            )
            connection.execute(
                f"""
                INSERT OR REPLACE INTO main."{table}" SELECT new.* FROM fresh."{table}" AS new WHERE NOT EXISTS (
                    SELECT 1 FROM main."{table}" AS old
                    WHERE old.entity_key = new.entity_key AND old.feature_name = new.feature_name
                        AND old.value IS new.value AND old.event_ts IS new.event_ts
                )
                """
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _variant(store: FeatureStore, *, registry: Path | None = None, online: Path | None = None) -> FeatureStore:
    """The same store with another registry or online file."""
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    config = load_repo_config(store.repo_path, store.repo_path / CONFIG)
    config.registry_config = str(registry or _registry_path(store))
    config.online_config = {"type": "sqlite", "path": str(online or _online_path(store))}
    return FeatureStore(repo_path=str(store.repo_path), config=config)


def _rooted_store(store: FeatureStore, folder: Path) -> FeatureStore:
    """The store over a copy of its registry whose source paths are absolute, kept in ``folder``."""
    proto = store.registry.proto()
    rooted = type(proto)()
    rooted.CopyFrom(proto)
    sources = [*rooted.data_sources, *(view.spec.batch_source for view in rooted.feature_views)]
    for source in sources:
        source.file_options.uri = str((store.repo_path / source.file_options.uri).resolve())
    path = folder / "registry.db"
    path.write_bytes(rooted.SerializeToString())
    return _variant(store, registry=path)


def _definitions(store: FeatureStore) -> str:
    """What the registry defines, without its times and versions."""
    proto = store.registry.proto()
    return str(
        [[str(item.spec) for item in group] for group in (proto.entities, proto.feature_views, proto.feature_services)]
    )


def _registry_path(store: FeatureStore) -> Path:
    return Path(store.repo_path, store.config.registry.path)


def _online_path(store: FeatureStore) -> Path:
    return Path(store.repo_path, store.config.online_store.path)


def _source(view: FeatureView) -> FileSource:
    from feast import FileSource

    assert isinstance(view.batch_source, FileSource)
    return view.batch_source


def _polars_type(dtype: FeastType) -> type[pl.DataType]:
    """The polars type of a feature; ``KeyError`` for one that no view of ours has."""
    from feast.types import Float64, Int32, Int64

    types: dict[FeastType, type[pl.DataType]] = {Int32: pl.Int32, Int64: pl.Int64, Float64: pl.Float64}
    return types[dtype]


def _close_online(store: FeatureStore) -> None:
    """Feast keeps its SQLite connection open as long as the store lives."""
    connection: sqlite3.Connection | None = getattr(store._get_provider().online_store, "_conn", None)
    if connection is not None:
        connection.close()


def _copy_if_changed(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(target)
