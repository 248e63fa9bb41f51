"""The bundle: one immutable folder with everything that is served, and the pointer that names the served one.

A bundle's version is the address of its content (``<recommender>-<12 hex>``), so writing the same twice gives the same
folder, and a folder whose files do not hash to its version is refused. Figures that differ from run to run (seconds of
a fit) belong to ``evaluation``, which the address leaves out and a checksum covers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import Recommender
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.registry import load_recommender
from models.serving.inference import load_served_form, put_in_order
from models.serving.rating_inference import ServedStars

if TYPE_CHECKING:
    from models.algorithms.rating.bayesian_mf import BayesianMF

#: The layout of a bundle; a loader refuses any other.
SCHEMA_VERSION = 1
#: The layout of the pointer file.
POINTER_SCHEMA_VERSION = 1
#: How many versions the pointer remembers having named.
FORMER = 10

_MANIFEST = "bundle.json"
_RATING = "rating"
_CONTENT = "content"
_CREDITS = "credits.parquet"
_MAP = "map.parquet"
#: The columns of a bundle's map of the films.
MAP = pl.Schema({"movie_key": pl.Int64(), "x": pl.Float32(), "y": pl.Float32()})
#: The columns of a bundle's credits; ``nconst`` is IMDb's id of a person.
CREDITS = pl.Schema(
    {
        "nconst": pl.String(),
        "name": pl.String(),
        "birth_year": pl.Int32(),
        "death_year": pl.Int32(),
        "movie_key": pl.Int64(),
        "category": pl.String(),
    }
)
_ITEM_COLUMNS = ("movie_key", "movie_id", "title", "year", "genres", "imdb_id", "link_url", "link_kind", "rating_count")
_USER_COLUMNS = ("user_id", "user_key")


class BundleError(ValueError):
    """A bundle or pointer that cannot be served: missing, changed since it was written, or of another schema."""


def no_credits() -> pl.DataFrame:
    """Nobody made anything."""
    return CREDITS.to_frame()


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Which features a bundle was trained on: the service, its hash, the order of columns, the items' moment.

    ``snapshot_time`` is ISO 8601 in UTC, the time up to which the interactions behind ``item_features.npy`` count.
    """

    service: str = ""
    service_hash: str = ""
    user_names: tuple[str, ...] = ()
    item_names: tuple[str, ...] = ()
    snapshot_time: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: row i of ``items`` and ``item_features`` is item i, row u of ``users`` and ``history`` user u.

    ``history`` csr float32[n_users, n_items] holds the stars each user gave, ``history_times`` int64[nnz] (epoch
    seconds) goes with its data; ``item_features`` float32[n_items, Fi] or None; ``manifest`` is ``bundle.json``.
    ``rating`` foretells stars (``rating_inference``); None in a bundle from before there was one. ``credits`` are who
    made the films: a row a person, film and category (nconst, name, birth_year, death_year, movie_key, category).
    ``film_map`` float32[n_items, 2] are places of the films (``models.serving.movie_map``), NaN for one without.
    ``content`` goes by the films' words (``models.algorithms.content_based``); None where these are not known.
    """

    version: str
    manifest: Mapping[str, Any]
    recommender: Recommender
    popularity: Recommender
    items: pl.DataFrame
    users: pl.DataFrame
    history: csr_array
    history_times: NDArray[np.int64]
    item_features: NDArray[np.float32] | None
    features: FeatureSet
    user_index: Mapping[int, int] = field(repr=False)
    item_index: Mapping[int, int] = field(repr=False)
    rating: BayesianMF | ServedStars | None = None
    credits: pl.DataFrame = field(default_factory=no_credits, repr=False)
    film_map: NDArray[np.float32] | None = field(default=None, repr=False)
    content: Recommender | None = None

    def of_users(self, kept: NDArray[np.bool_]) -> Bundle:
        """Return the bundle with the users ``kept`` bool[n_users] alone; its models are as they are, of all users."""
        cells = np.repeat(kept, np.diff(self.history.indptr))
        users = self.users.filter(pl.Series(kept))
        return replace(
            self,
            users=users,
            history=csr_array(self.history[np.flatnonzero(kept)]),
            history_times=self.history_times[cells],
            user_index={int(uid): index for index, uid in enumerate(users["user_id"].to_list())},
        )

    def batch(self, users: Sequence[int], user_features: NDArray[np.float32] | None = None) -> UserBatch:
        """Return the batch of user indices (-1: unknown, no history) with the bundle's own item features."""
        index = np.asarray(users, dtype=np.int64)
        n_users, n_items = self.history.shape
        # One empty row behind the last user is the history of everybody unknown.
        with_blank = csr_array(
            (self.history.data, self.history.indices, np.append(self.history.indptr, self.history.indptr[-1])),
            shape=(n_users + 1, n_items),
        )
        rows = np.where(index < 0, n_users, index)
        lengths = np.diff(with_blank.indptr)[rows]
        offsets = np.repeat(with_blank.indptr[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        times = self.history_times[np.arange(lengths.sum()) + offsets]
        return UserBatch(index, with_blank[rows], user_features, self.item_features, times)


def write_bundle(
    models_dir: Path,
    *,
    recommender: Recommender,
    popularity: Recommender,
    items: pl.DataFrame,
    users: pl.DataFrame,
    interactions: Interactions,
    item_features: NDArray[np.float32] | None = None,
    features: FeatureSet | None = None,
    data_snapshot: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    rating: BayesianMF | None = None,
    credits: pl.DataFrame | None = None,
    film_map: pl.DataFrame | None = None,
    content: Recommender | None = None,
) -> str:
    """Write a bundle under ``models_dir`` and return its version; the same content is written once.

    ``items`` has a row an item index (movie_key, movie_id, title, year, genres, imdb_id, link_url, link_kind,
    rating_count; more are kept; a list column ``movie_ids`` adds further ids of the same film), ``users`` a row a user
    index (user_id, user_key); ``interactions`` are what the users have seen; ``data_snapshot`` and ``evaluation`` are
    plain JSON.
    Raises ``BundleError`` when the parts do not fit together.
    """
    _check_parts(recommender, popularity, items, users, interactions, item_features, rating, content)
    models_dir.mkdir(parents=True, exist_ok=True)
    # Aside in the same file system, so that the rename that publishes it is atomic; a dot keeps it out of listings.
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=models_dir))
    try:
        recommender.save(aside / "recommender")
        put_in_order(aside / "recommender")
        popularity.save(aside / "popularity")
        if rating is not None:
            rating.save(aside / _RATING)
        if content is not None:
            content.save(aside / _CONTENT)
        items.write_parquet(aside / "items.parquet")
        users.write_parquet(aside / "users.parquet")
        if credits is not None:
            credits.select(CREDITS.names()).cast(CREDITS).write_parquet(aside / _CREDITS)
        if film_map is not None:
            film_map.select(MAP.names()).cast(MAP).write_parquet(aside / _MAP)
        order = np.argsort(interactions.codes(), kind="stable")
        rows = interactions.take(order)
        np.savez(
            aside / "history.npz",
            allow_pickle=False,
            indptr=np.concatenate([[0], np.cumsum(interactions.user_counts())]),
            indices=rows.items,
            ratings=rows.ratings,
            times=rows.timestamps,
        )
        if item_features is not None:
            np.save(aside / "item_features.npy", np.asarray(item_features, dtype=np.float32), allow_pickle=False)
        addressed = {
            "schema_version": SCHEMA_VERSION,
            "recommender": recommender.name,
            "data_snapshot": dict(data_snapshot or {}),
            "features": asdict(features or FeatureSet()),
            "counts": {"users": len(users), "items": len(items), "interactions": len(interactions)},
            "files": _digests(aside),
        }
        version = _version(addressed)
        manifest = {**addressed, "version": version, "evaluation": dict(evaluation or {})}
        manifest["checksum"] = _checksum(manifest)
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _publish(aside, models_dir / version)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return version


def load_bundle(path: Path, *, to_serve: bool = False) -> Bundle:
    """Load the bundle in a folder after checking every file's hash.

    ``to_serve`` loads the serving forms (``models.serving.inference``), which score alike and cannot be saved again.
    Raises ``BundleError`` naming the file that is missing, changed or of another schema.
    """
    manifest = read_bundle_manifest(path)
    for name, digest in manifest["files"].items():
        if not (path / name).is_file():
            raise BundleError(f"{path}: {name} is missing")
        if _digest(path / name) != digest:
            raise BundleError(f"{path}: {name} is not what was written (its hash differs)")
    items, users = (pl.read_parquet(path / name, glob=False) for name in ("items.parquet", "users.parquet"))
    with np.load(path / "history.npz", allow_pickle=False) as stored:
        history = csr_array((stored["ratings"], stored["indices"], stored["indptr"]), shape=(len(users), len(items)))
        times = stored["times"].astype(np.int64)
    features_file = path / "item_features.npy"
    read = load_served_form if to_serve else load_recommender
    stored_features: dict[str, Any] = manifest["features"]
    feature_set = FeatureSet(
        service=stored_features["service"],
        service_hash=stored_features["service_hash"],
        user_names=tuple(stored_features["user_names"]),
        item_names=tuple(stored_features["item_names"]),
        snapshot_time=stored_features["snapshot_time"],
    )
    return Bundle(
        version=manifest["version"],
        manifest=manifest,
        recommender=read(path / "recommender"),
        popularity=load_recommender(path / "popularity"),
        items=items,
        users=users,
        history=history,
        history_times=times,
        item_features=np.load(features_file, allow_pickle=False) if features_file.is_file() else None,
        features=feature_set,
        user_index={int(uid): index for index, uid in enumerate(users["user_id"].to_list())},
        item_index=_item_index(items),
        rating=_rating(path / _RATING, to_serve),
        credits=pl.read_parquet(path / _CREDITS, glob=False) if (path / _CREDITS).is_file() else no_credits(),
        film_map=_film_map(path / _MAP, items),
        content=read(path / _CONTENT) if (path / _CONTENT).is_dir() else None,
    )


def _film_map(file: Path, items: pl.DataFrame) -> NDArray[np.float32] | None:
    if not file.is_file():
        return None
    placed = items.select("movie_key").join(
        pl.read_parquet(file, glob=False), on="movie_key", how="left", maintain_order="left"
    )
    places = placed.select(pl.col("x", "y").cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    return np.ascontiguousarray(places, dtype=np.float32)


def _rating(folder: Path, to_serve: bool) -> BayesianMF | ServedStars | None:
    if not folder.is_dir():
        return None
    if to_serve:
        return ServedStars(folder)
    # With it comes torch, which takes seconds.
    from models.algorithms.rating.bundled_rating_model import load_rating_head

    return load_rating_head(folder)


def read_bundle_manifest(path: Path) -> dict[str, Any]:
    """``bundle.json`` with its own checks (schema, checksum, version), without reading the other files."""
    file = path / _MANIFEST
    if not file.is_file():
        raise BundleError(f"{path}: no bundle here ({_MANIFEST} is missing)")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BundleError(f"{file}: not JSON ({error})") from error
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema version {manifest.get('schema_version')!r}, this code reads {SCHEMA_VERSION}"
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise BundleError(f"{file}: is not what was written (its checksum differs)")
    content = {key: value for key, value in manifest.items() if key not in ("version", "evaluation", "checksum")}
    if manifest["version"] != _version(content):
        raise BundleError(f"{file}: version {manifest['version']} is not the address of its content")
    return manifest


def write_pointer(path: Path, version: str, *, held: bool = False) -> None:
    """Make ``serving.json`` name a version, atomically; the one named before is kept as ``previous``.

    ``former`` lists the versions named before, the last first; going back to one of them drops it and those after it.
    ``held`` notes that somebody chose the version, and that no run may move the pointer until it is let go.
    A pointer that cannot be read is replaced, without a previous one.
    """
    try:
        named = read_pointer(path)
        previous = read_previous(path) if named == version else named
        former = read_former(path)
        if version in former:
            former = former[former.index(version) + 1 :]
        elif named != version:
            former = (named, *former)
    except BundleError:
        previous, former = None, ()
    document = {
        "schema_version": POINTER_SCHEMA_VERSION,
        "version": version,
        "previous": previous,
        "former": list(former[:FORMER]),
        "held": held,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".pointer-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(0o644)  # mkstemp's 0600 would hide the pointer from a server of another user
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def read_pointer(path: Path) -> str:
    """Return the version that ``serving.json`` names; raise ``BundleError`` if it is missing or unreadable."""
    version = _read_pointer(path).get("version")
    if not isinstance(version, str) or not version or "/" in version:
        raise BundleError(f"{path}: names no version")
    return version


def read_previous(path: Path) -> str | None:
    """Return the version that was served before the one ``serving.json`` names, or None."""
    previous = _read_pointer(path).get("previous")
    return previous if isinstance(previous, str) else None


def read_former(path: Path) -> tuple[str, ...]:
    """Return the earlier versions that can be rolled back to, the last one first."""
    document = _read_pointer(path)
    former = document.get("former")
    if not isinstance(former, list):
        previous = document.get("previous")
        former = [previous]
    return tuple(version for version in former if isinstance(version, str) and version and "/" not in version)


def is_held(path: Path) -> bool:
    """Whether somebody chose the version that ``serving.json`` names, so that no run may move it."""
    return _read_pointer(path).get("held") is True


def _read_pointer(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no bundle is served yet (the file is missing)") from error
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("schema_version") != POINTER_SCHEMA_VERSION:
        raise BundleError(f"{path}: another schema version than {POINTER_SCHEMA_VERSION}")
    return document


def _check_parts(
    recommender: Recommender,
    popularity: Recommender,
    items: pl.DataFrame,
    users: pl.DataFrame,
    interactions: Interactions,
    item_features: NDArray[np.float32] | None,
    rating: BayesianMF | None,
    content: Recommender | None,
) -> None:
    for what, frame, columns in (("items", items, _ITEM_COLUMNS), ("users", users, _USER_COLUMNS)):
        if missing := [name for name in columns if name not in frame.columns]:
            raise BundleError(f"{what} lack the columns {', '.join(missing)}")
    sizes = {
        "items": {
            len(items), interactions.n_items, recommender.n_items, popularity.n_items,
            len(items) if item_features is None else len(item_features),
            len(items) if rating is None else rating.n_items,
            len(items) if content is None else content.n_items,
        },
        "users": {len(users), interactions.n_users, recommender.n_users, popularity.n_users},
    }  # fmt: skip
    for what, found in sizes.items():
        if len(found) != 1:
            raise BundleError(f"the parts disagree on the number of {what}: {sorted(found)}")


def _item_index(items: pl.DataFrame) -> dict[int, int]:
    """Movie id -> item index; the further ids of a film in ``movie_ids`` lead to the same index."""
    index: dict[int, int] = {}
    if "movie_ids" in items.columns:
        further = items.select("movie_ids").with_row_index("item").explode("movie_ids").drop_nulls()
        index.update(zip(further["movie_ids"].to_list(), further["item"].to_list(), strict=True))
    index.update({int(movie): row for row, movie in enumerate(items["movie_id"].to_list()) if movie is not None})
    return index


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _version(content: Mapping[str, Any]) -> str:
    return f"{content['recommender']}-{hashlib.sha256(_canonical(content)).hexdigest()[:12]}"


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({k: v for k, v in manifest.items() if k != "checksum"})).hexdigest()


def _publish(aside: Path, target: Path) -> None:
    """Rename the finished folder into place; one that is there already and whole stays as it is."""
    for path in [*sorted(aside.rglob("*")), aside]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    aside.chmod(0o755)  # mkdtemp's 0700 would hide it from a server of another user
    if target.exists():
        try:
            load_bundle(target)
            return
        except BundleError:
            # Damaged since: the content is known by its address, so the fresh copy heals it.
            shutil.rmtree(target)
    try:
        aside.rename(target)
    except OSError:
        if not target.exists():  # another writer of the same content was first
            raise
