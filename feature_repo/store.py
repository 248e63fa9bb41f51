"""The feature store of one home: registry, training sets as of a time, and the online store.

Feast is imported inside the functions: it takes ten seconds, which a process that only names this module should not
pay.

Layout. ``$MARQUEE_HOME/feast`` holds ``feature_store.yaml``, ``registry.db``, ``online_store.db`` and a copy of
``features.py``; ``$MARQUEE_HOME/features`` beside it holds the Parquet histories. All paths in them are relative, so
``FeatureStore(repo_path=<home>/feast)`` opens the store with nothing but feast installed (the bento does), also after
the home was moved, and feast's own command line works there: ``cd "$MARQUEE_HOME/feast" && feast feature-views list``.

Training sets. Feast 0.67's DuckDB store joins every entity row with all earlier rows of its key before it keeps the
last one: 1M ratings with a history row a film and day did not end in 8 minutes. ``build_training_set`` therefore hands
it histories cut into weeks: the join key stands for a key in a week, and its rows are those of that week and the last
one before it, so that an entity row meets 8 rows at most and the answer is the same. The store also reads a relative
path against the working directory (though it validates it against its own folder), so the cut histories are registered
by absolute path in a throwaway copy of the registry; nothing here changes the working directory.

Redis. Where the online store is a Redis, ``feature_store.yaml`` names the variable ``MARQUEE_ONLINE_STORE`` and not its
content, which may hold a password. The values of a key are written in one command each, so a reader sees a key as it
was or as it is; there is no transaction over all keys, and a kill leaves some new and some old: a rerun heals.

Atomicity. The registry is written aside and renamed. The online values are written by feast into a fresh SQLite file,
and what differs from the live one is then moved in one transaction in WAL mode: a reader that has the file open, such
as a running bento, sees all of the old values or all of the new, never waits, and need not reopen it; a kill leaves the
old ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView, FileSource
    from feast.types import FeastType

SERVICE_NAME = "recommender_v1"
CONFIG = "feature_store.yaml"
#: The configuration with a Redis in the place of the file.
REDIS_CONFIG = "feature_store_redis.yaml"
#: Lies in the store's folder while a Redis holds its values, so that a change of the setting is seen.
REDIS_FILLED = "online_store.redis"
DEFINITIONS = "features.py"
_HERE = Path(__file__).resolve().parent
#: Rows that feast turns into protobuf messages at a time: 20,000 rows of 25 features take about 300 MB.
_WRITE_ROWS = 20_000
_ROW = "__row"
_SCRATCH = ".scratch-"


def open_store(feast_dir: Path, features_dir: Path | None = None, *, redis: bool = False) -> FeatureStore:
    """Open the feature store in ``feast_dir``, writing its configuration there when it is missing or differs.

    With ``redis`` the online values are in the server that ``MARQUEE_ONLINE_STORE`` names (``host:port,db=0``).

    ``features_dir``, if given, must be the folder ``features`` next to ``feast_dir``, which the relative paths refer
    to; otherwise ``ValueError`` is raised.
    """
    from feast import FeatureStore

    feast_dir = Path(feast_dir).absolute()
    beside = feast_dir.parent / "features"
    if features_dir is not None and Path(features_dir).absolute() != beside:
        raise ValueError(f"the feature histories must be in {beside}, beside {feast_dir}, not in {features_dir}")
    feast_dir.mkdir(parents=True, exist_ok=True)
    for name, source in ((CONFIG, REDIS_CONFIG if redis else CONFIG), (DEFINITIONS, DEFINITIONS)):
        _copy_if_changed(_HERE / source, feast_dir / name)
    return FeatureStore(repo_path=str(feast_dir))


def apply(store: FeatureStore) -> str:
    """Register the definitions of ``features.py``, make the online tables and return the service's hash.

    Views that are no longer defined stay registered and filled, so that a bento with an older bundle goes on answering
    until the serving pointer has moved. Nothing is written when nothing has changed.
    """
    from feature_repo import features

    live = _registry_path(store)
    with _scratch(store) as folder:
        aside = folder / live.name
        if live.exists():
            shutil.copyfile(live, aside)
        scratch = _variant(store, registry=aside, online=folder / "none.db" if _is_redis(store) else None)
        before = _definitions(scratch) if live.exists() else None
        scratch.apply([features.project, *features.ENTITIES, *features.VIEWS, features.SERVICE])
        if _definitions(scratch) != before:
            aside.replace(live)
    store.registry.refresh(store.project)
    return service_hash(store)


def build_training_set(
    store: FeatureStore, interactions: pl.DataFrame | pa.Table, *, threads: int = 2, memory: str = "2GB"
) -> pl.DataFrame:
    """Interactions with every feature of the service as known at ``rated_at``: one row an input row, in its order.

    ``interactions`` has ``user_key``, ``movie_key``, ``rated_at`` (UTC) and any further columns, which pass through. A
    history row holds from its own timestamp on. Feature columns are named ``<view>__<feature>`` and are null where a
    key had no history yet. Raises ``ValueError`` for missing or clashing columns, for missing keys or times, and
    if rows were lost or multiplied. ``threads`` and ``memory`` bound DuckDB, which spills into the store's folder.
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
    nulls = frame.select("user_key", "movie_key", "rated_at").null_count().row(0)
    if any(nulls):
        raise ValueError(f"the interactions have {sum(nulls)} missing keys or times")
    if frame.is_empty():
        return frame.with_columns(*(pl.lit(None, dtype).alias(name) for name, dtype in types.items()))

    rated_at = pl.col("rated_at")
    if getattr(frame.schema["rated_at"], "time_zone", None) is not None:
        rated_at = rated_at.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    entities = frame.select(
        pl.col("user_key", "movie_key").cast(pl.Int64), event_timestamp=rated_at.cast(pl.Datetime("us"))
    ).with_row_index(_ROW)
    with _scratch(store) as folder:
        weekly, entities = _cut_into_weeks(store, entities, folder)
        with _bounded_duckdb(folder / "spill", threads, memory):
            job = weekly.get_historical_features(
                entities.with_columns(pl.col("event_timestamp").dt.replace_time_zone("UTC")).to_pandas(),
                features=weekly.get_feature_service(SERVICE_NAME),
                full_feature_names=True,
            )
            joined = pl.from_arrow(job.to_arrow())
    assert isinstance(joined, pl.DataFrame)
    joined = joined.sort(_ROW)
    if not joined[_ROW].equals(pl.Series(_ROW, range(frame.height), joined.schema[_ROW])):
        raise ValueError(f"the join returned {joined.height} rows for {frame.height} interactions")
    return frame.hstack(joined.select(pl.col(name).cast(dtype) for name, dtype in types.items()))


def materialize(store: FeatureStore) -> dict[str, int]:
    """Make the online store hold exactly each key's latest row of every view; return the number of keys by view.

    Keys that have vanished from the histories vanish from the online store, and values that went back go back.
    Idempotent. Raises ``ValueError`` when a history has two rows of one key and timestamp, ``FileNotFoundError`` when
    one is missing.
    """
    filled = Path(store.repo_path) / REDIS_FILLED
    if _is_redis(store):
        found = _fill_redis(store)
        # What the file held is no longer kept current, and people who leave would stay in it.
        for left in Path(store.repo_path).glob("online_store.db*"):
            left.unlink()
        filled.touch()
        return found
    filled.unlink(missing_ok=True)
    live = _online_path(store)
    counts: dict[str, int] = {}
    with _scratch(store) as folder:
        aside = folder / live.name
        scratch = _variant(store, online=aside)
        views = [scratch.get_feature_view(view.name) for view in _views()]
        provider = scratch._get_provider()
        provider.update_infra(store.project, [], views, [], scratch.list_entities(), partial=True)
        tables = [f"{store.project}_{view.name}" for view in views]
        _hasten(scratch, tables)
        for view in views:
            latest = _latest_rows(store, view)
            counts[view.name] = latest.height
            for start in range(0, latest.height, _WRITE_ROWS):
                # One chunk an Arrow column: feast writes the first chunk only.
                part = latest.slice(start, _WRITE_ROWS).rechunk()
                scratch.write_to_online_store(view.name, part.to_pandas(use_pyarrow_extension_array=True))
        _online_connection(scratch).close()
        values = [counts[view.name] * len(view.features) for view in views]
        _replace_rows(live, aside, dict(zip(tables, values, strict=True)))
    return counts


def _fill_redis(store: FeatureStore) -> dict[str, int]:
    """``materialize`` into a Redis: each key's latest row, and nothing of keys that are no longer there."""
    from feast.infra.key_encoding_utils import deserialize_entity_key
    from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix

    latest = {view.name: _latest_rows(store, view) for view in (store.get_feature_view(v.name) for v in _views())}
    provider: Any = store._get_provider()
    client = provider.online_store._get_client(store.config.online_store)
    for name, rows in latest.items():
        for start in range(0, rows.height, _WRITE_ROWS):
            part = rows.slice(start, _WRITE_ROWS).rechunk()
            store.write_to_online_store(name, part.to_pandas(use_pyarrow_extension_array=True))
    project, version = store.project.encode(), store.config.entity_key_serialization_version
    by_key: dict[str, list[FeatureView]] = {}
    for view in (store.get_feature_view(v.name) for v in _views()):
        by_key.setdefault(view.entity_columns[0].name, []).append(view)
    for key, views in by_key.items():
        there = {view.name: set(latest[view.name][key].to_list()) for view in views}
        # One step a key: Redis has no other way to say what it holds.
        with client.pipeline(transaction=False) as pipe:
            for place in client.scan_iter(_redis_key_prefix([key]) + b"*" + project, count=1_000):
                (value,) = deserialize_entity_key(place.removesuffix(project), version).entity_values
                gone = [view for view in views if value.int64_val not in there[view.name]]
                if len(gone) == len(views):
                    pipe.delete(place)
                elif gone:
                    names = [_mmh3(f"{view.name}:{feature.name}") for view in gone for feature in view.features]
                    pipe.hdel(place, *names, *(f"_ts:{view.name}" for view in gone))
            pipe.execute()
    return {name: rows.height for name, rows in latest.items()}


def online_user_features(store: FeatureStore, user_keys: Sequence[int]) -> pl.DataFrame:
    """Return the service's user features from the online store: one row per key, in the order asked.

    Columns: ``user_key``, the features by full name (null for an unknown user), and ``event_timestamp`` (UTC, null
    likewise).
    """
    names = service_schema(store)["user"]
    types = {name: dtype for name, dtype in _full_types(_service(store)).items() if name in names}
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


def pushed_columns() -> list[str]:
    """Return the features that a push to the view of the users has to give, as the definitions say."""
    from feature_repo.features import user_features

    return [feature.name for feature in user_features.features]


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
    """Return the service's projections with the join keys of their views."""
    return [
        (projection, [_join_key(view)])
        for projection, view in zip(_service(store).feature_view_projections, _service_views(store), strict=True)
    ]


def _join_key(view: FeatureView) -> str:
    """Return the single join key of one of our views; only an applied view knows it itself."""
    from feature_repo.features import ENTITIES

    (key,) = (entity.join_key for name in view.entities for entity in ENTITIES if entity.name == name)
    return key


def _full_types(service: FeatureService) -> dict[str, Any]:
    """Full feature name -> polars type, in the service's order."""
    return {
        f"{projection.name}__{feature.name}": _polars_type(feature.dtype)
        for projection in service.feature_view_projections
        for feature in projection.features
    }


def _latest_rows(store: FeatureStore, view: FeatureView) -> pl.DataFrame:
    """Return the last row of each key of a view's history, in the view's own types."""
    keys = [column.name for column in view.entity_columns]
    source = _source(view)
    timestamp = source.timestamp_field
    history = pl.scan_parquet(store.repo_path / source.path, glob=False)
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
    """Make the tables of ``live`` equal to those of ``aside`` in one transaction, touching only rows that differ.

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
    """Return the same store with another registry or online file."""
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    config = load_repo_config(store.repo_path, store.repo_path / CONFIG)
    config.registry_config = str(registry or _registry_path(store))
    config.online_config = {"type": "sqlite", "path": str(online or _online_path(store))}
    return FeatureStore(repo_path=str(store.repo_path), config=config)


def _cut_into_weeks(store: FeatureStore, entities: pl.DataFrame, folder: Path) -> tuple[FeatureStore, pl.DataFrame]:
    """Return a store whose histories, kept in ``folder``, are cut into weeks, and the entity rows with matching keys.

    A key's week gets a number of its own, which stands for the key on both sides.
    """
    proto = store.registry.proto()
    cut = type(proto)()
    cut.CopyFrom(proto)
    weeks: dict[str, pl.DataFrame] = {}
    for key in ("user_key", "movie_key"):
        weeks[key] = (
            entities.select(key, _week=_week("event_timestamp")).unique().sort(key, "_week").with_row_index("_number")
        ).with_columns(pl.col("_number").cast(pl.Int64))
    for view in _service_views(store):
        source = _source(view)
        path = folder / f"{view.name}.parquet"
        _weekly_history(
            store.repo_path / source.path, weeks[_join_key(view)], _join_key(view), source.timestamp_field
        ).write_parquet(path, compression="lz4")
        for spec in [
            *(other for other in cut.data_sources if other.name == source.name),
            *(other.spec.batch_source for other in cut.feature_views if other.spec.name == view.name),
            # Of a view that is pushed to, feast takes the file that the push source names.
            *(
                other.spec.stream_source.batch_source
                for other in cut.feature_views
                if other.spec.name == view.name and other.spec.HasField("stream_source")
            ),
        ]:
            spec.file_options.uri = str(path)
    for key, numbers in weeks.items():
        entities = (
            entities.with_columns(_week=_week("event_timestamp"))
            .join(numbers, on=[key, "_week"], how="left", maintain_order="left")
            .with_columns(pl.col("_number").alias(key))
            .drop("_number", "_week")
        )
    registry = folder / "registry.db"
    registry.write_bytes(cut.SerializeToString())
    return _variant(store, registry=registry, online=folder / "none.db"), entities


def _week(column: str) -> pl.Expr:
    return pl.col(column).dt.truncate("1w")


def _weekly_history(path: Path, weeks: pl.DataFrame, key: str, timestamp: str) -> pl.DataFrame:
    """Return a history's rows in each wanted week of a key and the last row before it, keyed by the week's number."""
    history = pl.read_parquet(path, glob=False).cast({key: pl.Int64, timestamp: pl.Datetime("us")}).sort(timestamp)
    inside = history.with_columns(_week=_week(timestamp)).join(weeks, on=[key, "_week"], how="inner")
    before = weeks.sort("_week").join_asof(
        history,
        left_on="_week",
        right_on=timestamp,
        by=key,
        strategy="backward",
        allow_exact_matches=False,
        coalesce=False,
        check_sortedness=False,
    )
    return pl.concat(
        [
            part.filter(pl.col(timestamp).is_not_null())
            .with_columns(pl.col("_number").alias(key))
            .select(history.columns)
            for part in (inside, before)
        ]
    )


@contextlib.contextmanager
def _bounded_duckdb(spill: Path, threads: int, memory: str) -> Iterator[None]:
    """Feast's DuckDB store works through ibis' default backend: here one of bounded size that ends with the block."""
    import ibis

    previous = ibis.options.default_backend
    backend = ibis.duckdb.connect(temp_directory=str(spill), threads=threads, memory_limit=memory)
    ibis.set_backend(backend)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="ibis")
            yield
    finally:
        ibis.options.default_backend = previous
        backend.disconnect()


def _definitions(store: FeatureStore) -> list[object]:
    """Return what the registry defines, without the times at which it was written."""
    from google.protobuf.json_format import MessageToDict

    proto = store.registry.proto()
    return [
        _without_times(MessageToDict(item.spec))
        for group in (proto.entities, proto.feature_views, proto.feature_services)
        for item in sorted(group, key=lambda item: item.spec.name)
    ]


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_times(part) for name, part in value.items() if not name.endswith("Timestamp")}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _scratch(store: FeatureStore) -> Iterator[Path]:
    """Yield a scratch folder next to the files that it will replace; remove those that killed processes left.

    Its owner holds a lock on it, which the kernel frees with the process.
    """
    for left in Path(store.repo_path).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=store.repo_path, prefix=_SCRATCH) as folder, _locked(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the operating system's lock on a folder; raise ``BlockingIOError`` when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _registry_path(store: FeatureStore) -> Path:
    return Path(store.repo_path, store.config.registry.path)


def _is_redis(store: FeatureStore) -> bool:
    return str(store.config.online_store.type) == "redis"


def _online_path(store: FeatureStore) -> Path:
    return Path(store.repo_path, store.config.online_store.path)


def _source(view: FeatureView) -> FileSource:
    from feast import FileSource

    assert isinstance(view.batch_source, FileSource)
    return view.batch_source


def _polars_type(dtype: FeastType) -> type[pl.DataType]:
    """Return the polars type of a feature; raise ``KeyError`` for a type that no view of ours has."""
    from feast.types import Float64, Int32, Int64

    types: dict[FeastType, type[pl.DataType]] = {Int32: pl.Int32, Int64: pl.Int64, Float64: pl.Float64}
    return types[dtype]


def _online_connection(store: FeatureStore) -> sqlite3.Connection:
    """Return the connection that feast's SQLite store keeps for as long as it lives."""
    provider: Any = store._get_provider()
    connection: sqlite3.Connection = provider.online_store._get_conn(store.config)
    return connection


def _hasten(store: FeatureStore, tables: Sequence[str]) -> None:
    """Nobody reads a scratch file, and it may be lost: no second index beside the primary key, no journal, no fsync."""
    connection = _online_connection(store)
    for table in tables:
        connection.execute(f'DROP INDEX "{table}_ek"')
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
        connection.execute(f"PRAGMA {pragma}")


def _copy_if_changed(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(target)
