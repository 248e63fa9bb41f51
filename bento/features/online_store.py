"""A user's features from the Feast online store, read at the moment of the request and never kept.

Feast is imported when a reader is made: that takes seconds, which are part of the service's start, not of a request.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import FeatureStoreUnavailable, NotServable
from bento.telemetry import stage
from models.serving.bundle import FeatureSet

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger("marquee.features")

#: What ``feature_repo.features`` calls the way into the view of the users.
PUSH_SOURCE = "user_features_push"


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's features: ``values`` float32[Fu] in the bundle's column order, NaN where the store has none.

    ``found`` is False for a user without any value; ``timestamp`` is since when the values hold (UTC), else None.
    """

    values: NDArray[np.float32]
    missing: tuple[str, ...]
    timestamp: datetime | None

    @property
    def found(self) -> bool:
        """Whether the store knows the user."""
        return self.timestamp is not None


class OnlineUserFeatures:
    """Reads the user features that one bundle was trained with.

    Made once a bundle. Raises ``NotServable`` when the store is not there or no longer defines what the bundle was
    trained with: numbers of another meaning would be scored without anyone noticing.
    """

    def __init__(self, feast_dir: Path, wanted: FeatureSet) -> None:
        self._feast_dir = feast_dir
        self._wanted = wanted
        self._refs = [name.replace("__", ":", 1) for name in wanted.user_names]
        self._store = self._open()
        self._online_file = self._online_path()
        self._identity = self._online_identity()
        self._pushing: tuple[tuple[int, int] | None, FeatureStore] | None = None

    @property
    def is_server(self) -> bool:
        """Whether the store is a server, which may hang, and not a file."""
        return self._online_file is None

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        """Read the features of several users at once, in order; raise ``FeatureStoreUnavailable`` if that fails."""
        with stage("features"):
            return self._read(user_keys)

    def _read(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        try:
            self._follow_replaced_file()
            answer = self._store.get_online_features(
                features=self._refs, entity_rows=[{"user_key": key} for key in user_keys], full_feature_names=True
            ).proto
            columns = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
            rows = [columns[name] for name in self._wanted.user_names]
            return [
                self._features(
                    [_number(row.values[place]) for row in rows],
                    max(row.event_timestamps[place].seconds for row in rows),
                )
                for place in range(len(user_keys))
            ]
        except Exception as error:
            raise FeatureStoreUnavailable(f"the online feature store cannot be read: {error}") from error

    def _features(self, found: list[float | None], seconds: int) -> UserFeatures:
        missing = tuple(name for name, value in zip(self._wanted.user_names, found, strict=True) if value is None)
        values = np.array([np.nan if value is None else value for value in found], dtype=np.float32)
        known = len(missing) < len(found)
        return UserFeatures(values, missing, datetime.fromtimestamp(seconds, UTC) if known else None)

    def forget(self, user_key: int, now: datetime) -> None:
        """Overwrite a user's features by nothing; the next materialization removes the row itself.

        Raises ``FeatureStoreUnavailable`` when the store cannot be written.
        """
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        try:
            self._follow_replaced_file()
            key = EntityKey(join_keys=["user_key"], entity_values=[Value(int64_val=user_key)])
            # Past Feast's own way of writing, which takes a row without any value for a mistake.
            provider = self._store._get_provider()
            for name in sorted({ref.partition(":")[0] for ref in self._refs}):
                view = self._store.get_feature_view(name)
                nothing = {feature.name: Value() for feature in view.features}
                provider.online_write_batch(self._store.config, view, [(key, nothing, now, None)], None)
        except Exception as error:
            raise FeatureStoreUnavailable(f"the online feature store cannot be written: {error}") from error

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        """Have the store hold these features by name of users by key from now on, until a run materializes others.

        Raises ``FeatureStoreUnavailable`` when the store cannot be written.
        """
        import pandas as pd
        from feast.data_source import PushMode

        try:
            identity = self._online_identity()
            if self._pushing is None or self._pushing[0] != identity:
                # A connection of its own: what is written is seen by the readers when it is whole.
                self._pushing = (identity, _feature_store_class()(repo_path=str(self._feast_dir)))
            about = pd.DataFrame({"user_key": list(rows), "feature_timestamp": pd.Timestamp(now)})
            frame = about.assign(**_columns(list(rows.values())))
            self._pushing[1].push(PUSH_SOURCE, frame, to=PushMode.ONLINE)
        except Exception as error:
            raise FeatureStoreUnavailable(f"the online feature store cannot be written: {error}") from error

    def _open(self) -> FeatureStore:
        remedy = "materialize the features of this home (`make run`), or point MARQUEE_HOME to the home that has them"
        if not (self._feast_dir / "feature_store.yaml").is_file():
            raise NotServable(f"there is no feature store in {self._feast_dir}", remedy)
        try:
            store = _feature_store_class()(repo_path=str(self._feast_dir))
            names, digest = registered_service(store, self._wanted.service)
        except Exception as error:
            raise NotServable(
                f"the feature store in {self._feast_dir} does not define {self._wanted.service}: {error}", remedy
            ) from error
        if absent := [name for name in self._wanted.user_names if name not in names]:
            raise NotServable(
                f"the bundle was trained with features that {self._wanted.service} no longer has: {', '.join(absent)}",
                "train and promote a model on the present features (`make run`), or serve a bundle that fits them",
            )
        if digest != self._wanted.service_hash:
            raise NotServable(
                f"the bundle was trained with {self._wanted.service} {self._wanted.service_hash[:12]}, the registry in "
                f"{self._feast_dir} defines it as {digest[:12]}",
                "train and promote a model on the present features (`make run`), or serve a bundle that fits them",
            )
        return store

    def _online_path(self) -> Path | None:
        """Return the online store's file; None if the store is a server."""
        online = self._store.config.online_store
        if getattr(online, "type", "") != "sqlite":
            return None
        return self._feast_dir / str(online.path)

    def _online_identity(self) -> tuple[int, int] | None:
        if self._online_file is None:
            return None
        found = os.stat(self._online_file)  # noqa: PTH116 - on every request, and half the price of Path.stat
        return found.st_dev, found.st_ino

    def _follow_replaced_file(self) -> None:
        """Open the store again when its file is another one than at the last read.

        SQLite sees what is written into its file, but goes on reading one that was renamed over. A missing file is an
        error here, because Feast would make an empty one and find nobody.
        """
        identity = self._online_identity()
        if identity != self._identity:
            logger.info("the online store's file was replaced; reading the new one")
            self._store = _feature_store_class()(repo_path=str(self._feast_dir))
            self._identity = identity


def _columns(rows: Sequence[Mapping[str, float | int | None]]) -> dict[str, list[float | int | None]]:
    """Turn rows into columns, with NaN for unknown values: a column without any value would have no type."""
    return {name: [float("nan") if row[name] is None else row[name] for row in rows] for name in rows[0]}


def _feature_store_class() -> type[FeatureStore]:
    """Feast's ``FeatureStore``, imported without typeguard's instrumentation of its classes, and without torch.

    ``@typechecked`` rewrites the source of every class of definitions while it is imported, which is 6 of the 8 seconds
    that the import takes. It guards those who write definitions; serving reads them from a registry. Torch is for
    feature vectors as tensors, which nobody asks for here: 190 MB and 2 seconds.
    """
    if "feast" not in sys.modules:
        import typeguard

        checked = typeguard.typechecked
        typeguard.typechecked = _as_it_is
        without_torch = "torch" not in sys.modules
        if without_torch:
            # What fails to import is, to Feast, not installed. A recommender that needs it imports it later.
            sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            import feast  # noqa: F401
        finally:
            typeguard.typechecked = checked
            if without_torch:
                del sys.modules["torch"]
    from feast import FeatureStore

    return FeatureStore


def _as_it_is(target: Any = None, **_: Any) -> Any:
    """Decorate without any effect, with or without arguments."""
    return _as_it_is if target is None else target


def _number(value: Any) -> float | None:
    """Return the number in one of Feast's protobuf values, whatever its type; None if it holds nothing."""
    kind = value.WhichOneof("val")
    return None if kind in (None, "null_val") else float(getattr(value, kind))


def registered_service(store: FeatureStore, name: str) -> tuple[list[str], str]:
    """Full feature names and hash of a feature service as the registry of ``store`` defines it.

    The hash is that of ``feature_repo.store.service_hash``, which serving cannot import; a test holds the two together.
    """
    service = store.get_feature_service(name)
    names: list[str] = []
    meaning: list[dict[str, Any]] = []
    for projection in service.feature_view_projections:
        view: Any = store.get_feature_view(projection.name)
        visible: str = projection.name_to_use()
        names += [f"{visible}__{feature.name}" for feature in projection.features]
        meaning.append(
            {
                "view": projection.name,
                "keys": [column.name for column in view.entity_columns],
                "ttl": 0.0 if view.ttl is None else view.ttl.total_seconds(),
                "source": view.batch_source.path,
                "timestamp": view.batch_source.timestamp_field,
                "features": [[feature.name, str(feature.dtype)] for feature in projection.features],
            }
        )
    return names, hashlib.sha256(json.dumps([name, meaning], sort_keys=True).encode()).hexdigest()
