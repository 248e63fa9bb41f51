"""The backup: one file with what upstream files cannot give back, and its restoration into a home.

A backup is a list of named parts. Each part gathers files under names inside the archive, and settles them after they
have been unpacked into a home of their own, which then takes the home's place as a finished rebuild does. The archive
begins with a manifest (the home's format and edition, and the SHA-256 of every member), so all of it can be verified
before anything is touched.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from orchestration.maintenance.errors import UpkeepError, spoken_size
from orchestration.publishing.duckdb_copy import record_of, settle, whole_copy
from orchestration.publishing.manifest import MANIFEST, read_manifest
from orchestration.storage.home import KEPT_TABLES, SWAPPED, Home, migrate, read_home, swap_in
from orchestration.storage.warehouse import connect, exclusive, open_database, quote, tables_of
from settings import HOME_FORMAT, Settings

#: The layout of the archive; a reader refuses any other.
SCHEMA_VERSION = 1
_MANIFEST = "manifest.json"
#: A manifest names some hundred files: one that is larger is none of ours.
_MANIFEST_LIMIT = 16 << 20
_CHUNK = 1 << 20


class LeftOut(Exception):
    """A part that is no good as it is, and can be made again; the message says how."""


@dataclass(frozen=True)
class Part:
    """One thing that a backup holds: ``root``, its place in the archive, is a file or folder of the home.

    ``gather`` gives each member's name and file, or raises ``LeftOut``; it may write into the folder that it is given.
    ``settle`` makes the unpacked files the state of the home that they lie in; where there is nothing to do, they are
    in place already.
    """

    name: str
    roots: tuple[str, ...]
    gather: Callable[[Settings, Path], Mapping[str, Path]]
    settle: Callable[[Settings], None] = lambda settings: None


@dataclass(frozen=True)
class Member:
    """One file of the archive."""

    part: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive says it holds."""

    home: Home
    made_at: str
    members: Mapping[str, Member]


def _gather_keys(settings: Settings, staging: Path) -> Mapping[str, Path]:
    """Gather the tables with the keys given so far, as Parquet."""
    gathered: dict[str, Path] = {}
    if not settings.warehouse.exists():
        return gathered
    with closing(open_database(settings, settings.warehouse)) as con:
        for relation in KEPT_TABLES:
            schema, table = relation.split(".")
            if table in tables_of(con, schema):
                file = staging / f"{relation}.parquet"
                literal = str(file).replace("'", "''")
                con.execute(f"COPY (FROM {quote(relation)} ORDER BY ALL) TO '{literal}' (FORMAT parquet)")
                gathered[f"keys/{file.name}"] = file
    return gathered


def _settle_keys(settings: Settings) -> None:
    """Create a warehouse that holds the keys alone: the next run builds the rest, as it does for another edition."""
    folder = settings.home / "keys"
    with connect(settings) as con:
        for file in sorted(folder.glob("*.parquet")):
            relation = file.name.removesuffix(".parquet")
            if relation not in KEPT_TABLES:
                raise UpkeepError(f"the backup holds {relation}, which is no table of keys that this version knows.")
            literal = glob.escape(str(file)).replace("'", "''")
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(relation.split('.')[0])}")
            con.execute(f"CREATE TABLE {quote(relation)} AS FROM read_parquet('{literal}')")
    shutil.rmtree(folder)


def _gather_bundles(settings: Settings, staging: Path) -> Mapping[str, Path]:
    """Gather the served bundle, the one before it, the decisions that let them in, and the pointer that names both."""
    from models.serving.bundle import read_pointer, read_previous

    if not settings.serving_pointer.exists():
        return {}
    served, rollback = read_pointer(settings.serving_pointer), read_previous(settings.serving_pointer)
    gathered = {settings.serving_pointer.name: settings.serving_pointer}
    for version in (served, rollback):
        if version is not None and (settings.models / version).is_dir():
            gathered |= _files_of(settings.home, settings.models / version)
            gathered |= {
                file.relative_to(settings.home).as_posix(): file
                for file in (settings.models / "decisions").glob(f"{version}.*")
            }
    return gathered


def _settle_bundles(settings: Settings) -> None:
    """Check that the served bundle loads, with every hash verified."""
    from models.serving.bundle import BundleError, load_bundle, read_pointer

    try:
        load_bundle(settings.models / read_pointer(settings.serving_pointer))
    except BundleError as error:
        raise UpkeepError(f"the backup's served bundle cannot be served: {error}") from error


def _gather_published(settings: Settings, staging: Path) -> Mapping[str, Path]:
    """Gather the newest copy that analysts open, with its manifest: older ones and the Parquet files are left out.

    A copy that another tool has changed is left out, since the next run makes it again.
    """
    publication = read_manifest(settings)
    if publication is None or not settings.published.exists():
        return {}
    copy = settings.published if record_of(settings, publication) is None else whole_copy(settings, publication)
    if copy is None:
        raise LeftOut("another tool has changed it; `make update` makes it again")
    manifest = settings.published.with_name(MANIFEST)
    found = {settings.published: copy, manifest: manifest}
    return {name.relative_to(settings.home).as_posix(): file for name, file in found.items()}


def _settle_published(settings: Settings) -> None:
    """Settle the copy as the only publication; its Parquet files come with the next one."""
    settle(settings)


def _gather_app_store(settings: Settings, staging: Path) -> Mapping[str, Path]:
    """Gather the app's users, ratings and events with SQLite's backup, which allows others to write meanwhile.

    A store elsewhere (``MARQUEE_STORE_URL``) is backed up by the means of its own server.
    """
    store = settings.home / "app" / "store.db"
    if settings.store_url.get_secret_value() or not store.exists():
        return {}
    file = staging / "store.db"
    with (
        closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(file)) as copy,
    ):
        source.backup(copy)
    return {"app/store.db": file}


#: What a backup holds. More state is one line more: its files, and where they go.
PARTS = (
    Part("app store", ("app",), _gather_app_store),
    Part("keys", ("keys",), _gather_keys, _settle_keys),
    Part("bundles", ("models", "serving.json"), _gather_bundles, _settle_bundles),
    Part("published copy", ("published",), _gather_published, _settle_published),
)


def write_backup(settings: Settings, target: Path, *, now: datetime, tell: Callable[[str], None]) -> Manifest:
    """Write the backup to ``target``, read it back, and give it its name. The caller holds the home.

    Raises ``UpkeepError``; a file that had the name before is then as it was.
    """
    home = read_home(settings.home)
    if home is None:
        raise UpkeepError(f"{settings.home} holds nothing to back up: there is no home.json. Is MARQUEE_HOME right?")
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The published copy and the keys change under the warehouse's lock, whoever's run it is.
        with exclusive(settings, tell=tell):
            manifest = _write_parts(settings, aside, Manifest(home, now.isoformat(timespec="seconds"), {}), tell)
        verify(aside)
        aside.replace(target)
    except (OSError, duckdb.Error) as error:
        raise UpkeepError(f"{target} cannot be written ({_said(error)}). Check disk and rights.") from error
    finally:
        aside.unlink(missing_ok=True)
    tell(f"{spoken_size(target.stat().st_size):>9}  {target}")
    return manifest


def _write_parts(settings: Settings, aside: Path, manifest: Manifest, tell: Callable[[str], None]) -> Manifest:
    """Gather every part and write the archive. Returns the manifest with its members."""
    files: dict[str, Path] = {}
    members: dict[str, Member] = {}
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=aside.parent) as staging:
        for part in PARTS:
            try:
                gathered = dict(sorted(part.gather(settings, Path(staging)).items()))
            except LeftOut as reason:
                tell(f"the {part.name} is left out: {reason}")
                continue
            sizes = {name: file.stat().st_size for name, file in gathered.items()}
            files |= gathered
            members |= {name: Member(part.name, sizes[name], _digest(file)) for name, file in gathered.items()}
            tell(f"{spoken_size(sum(sizes.values())):>9}  {part.name}, {len(gathered)} files")
        _need_space(aside.parent, sum(member.bytes for member in members.values()))
        manifest = Manifest(manifest.home, manifest.made_at, members)
        _write_archive(aside, manifest, files)
    return manifest


def restore(settings: Settings, file: Path, *, tell: Callable[[str], None]) -> Manifest:
    """Make the home hold what a backup holds. The caller holds the home.

    All of the file is verified first, then unpacked beside the state, which is exchanged last and by a journal. What is
    built from upstream files is not in a backup: the next run builds it. Raises ``UpkeepError``; the home is then as it
    was.
    """
    manifest = verify(file)
    if manifest.home.format > HOME_FORMAT:
        raise UpkeepError(
            f"{file} was made by a newer version (home format {manifest.home.format}, this one knows {HOME_FORMAT})."
            " Update the code. Nothing was touched."
        )
    tell(f"{file}: made {manifest.made_at} of {manifest.home.edition}, {len(manifest.members)} files, all whole")
    aside = settings.home / "restored"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    # Twice: the published copy and the bundles as they are, and the tables that are made of the rest.
    _need_space(aside, 2 * sum(member.bytes for member in manifest.members.values()))
    try:
        with _opened(file) as archive:
            for name, stream in _members(archive, file, manifest):
                _unpack(aside / name, stream)
        restored = Settings(home=aside, movielens=manifest.home.edition)
        held = {member.part for member in manifest.members.values()}
        for part in PARTS:
            if part.name in held:
                part.settle(restored)
        (aside / "home.json").write_text(json.dumps(asdict(manifest.home)))
        # What this backup does not hold at all, an app's store elsewhere for one, stays as it is.
        further = {root for part in PARTS if part.name in held for root in part.roots} - set(SWAPPED)
        with exclusive(settings, tell=tell):
            swap_in(settings.home, aside, further=sorted(further))
    except (OSError, duckdb.Error) as error:
        raise UpkeepError(f"{settings.home} cannot be written ({_said(error)}). Check disk and rights.") from error
    finally:
        if not (settings.home / "swap.json").exists():
            shutil.rmtree(aside, ignore_errors=True)
    migrate(settings.home)
    return manifest


def verify(file: Path) -> Manifest:
    """Read a whole backup without writing anything: its manifest, and every member against its hash.

    Raises ``UpkeepError`` that names what is wrong: damage, a member that is missing, strange or changed, a path that
    leads out of the home, another layout.
    """
    with _opened(file) as archive:
        first = archive.next()
        if first is None or first.name != _MANIFEST or not first.isreg() or first.size > _MANIFEST_LIMIT:
            raise UpkeepError(f"{file} is no backup of Marquee: it does not begin with a manifest.")
        stream = archive.extractfile(first)
        assert stream is not None
        manifest = _parse(stream.read(), file)
        found = set()
        for name, member in _members(archive, file, manifest):
            found.add(name)
            digest = hashlib.sha256()
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
            if digest.hexdigest() != manifest.members[name].sha256:
                raise UpkeepError(f"{file}: {name} is not what was written (its hash differs). Nothing was touched.")
    missing = sorted(set(manifest.members) - found)
    if missing:
        raise UpkeepError(f"{file} lacks {', '.join(missing)}. Nothing was touched.")
    return manifest


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    """Open the archive to be read once from its beginning; raise ``UpkeepError`` for damage found on the way."""
    try:
        with tarfile.open(file, "r|gz") as archive:
            yield archive
    except FileNotFoundError:
        raise UpkeepError(f"{file} is not there.") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UpkeepError(f"{file} is damaged or no backup ({error}). Nothing was touched.") from error


def _members(archive: tarfile.TarFile, file: Path, manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """Each member after the manifest, as name and stream. Only those that the manifest names, each once."""
    seen = set()
    for info in archive:
        if info.name == _MANIFEST:
            continue
        if info.name in seen or info.name not in manifest.members or not info.isreg():
            raise UpkeepError(f"{file} holds {info.name}, which its manifest does not name. Nothing was touched.")
        if info.size != manifest.members[info.name].bytes:
            raise UpkeepError(f"{file}: {info.name} is not of the size that was written. Nothing was touched.")
        seen.add(info.name)
        yield info.name, archive.extractfile(info)


def _parse(text: bytes, file: Path) -> Manifest:
    try:
        told = json.loads(text)
        if told["schema_version"] != SCHEMA_VERSION:
            raise UpkeepError(f"{file} is of layout {told['schema_version']}; this version reads {SCHEMA_VERSION}.")
        manifest = Manifest(
            Home(**told["home"]), told["made_at"], {name: Member(**facts) for name, facts in told["members"].items()}
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UpkeepError(f"{file} is no backup of Marquee: its manifest cannot be read ({error!r}).") from error
    roots = {part.name: part.roots for part in PARTS}
    for name, member in manifest.members.items():
        steps = PurePosixPath(name).parts
        if not steps or "\0" in name or name != "/".join(steps) or steps[0] == "/" or {".", ".."} & set(steps):
            raise UpkeepError(f"{file} holds {name!r}, a path that leads out of the home. Nothing was touched.")
        if steps[0] not in roots.get(member.part, ()):
            raise UpkeepError(f"{file} holds {name!r} of the part {member.part!r}, which this version does not know.")
    return manifest


def _write_archive(path: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    told = {"schema_version": SCHEMA_VERSION, **asdict(manifest)}
    text = json.dumps(told, indent=1).encode()
    # Level 1: what is large in it (Parquet, weights) hardly gets smaller by trying harder.
    with path.open("wb") as out:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            header = tarfile.TarInfo(_MANIFEST)
            header.size = len(text)
            archive.addfile(header, io.BytesIO(text))
            for name in manifest.members:
                info = tarfile.TarInfo(name)
                info.size = manifest.members[name].bytes
                with files[name].open("rb") as stream:
                    archive.addfile(info, stream)
        out.flush()
        os.fsync(out.fileno())


def _unpack(target: Path, stream: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)
        out.flush()
        os.fsync(out.fileno())


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UpkeepError(f"{folder} has {spoken_size(free)} free, and {spoken_size(size)} are needed at most.")


def _files_of(home: Path, folder: Path) -> dict[str, Path]:
    return {file.relative_to(home).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _said(error: Exception) -> str:
    """Return what an error says, in one line."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
