"""Where an edition's files and the IMDb dumps are: generated here, in a mirror, downloaded before, or fetched now."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from models.data.movielens import EDITIONS, Edition
from orchestration.errors import SourceError
from orchestration.ingestion.file_inspection import check_gzip
from orchestration.ingestion.http_download import download, is_unfinished, read_note, say
from orchestration.ingestion.imdb import DUMPS
from orchestration.storage.disk_space import NoRoom, alone_in, check_room, unwritten
from settings import Settings

logger = logging.getLogger(__name__)

_DAY_S = 86_400
_STAMP = ".unpacked-from"


@dataclass(frozen=True)
class EditionFiles:
    """An edition's files as they lie in one folder. ``origin`` says where they come from: for people to read.

    ``archive``: the zip that they were unpacked from, if it was downloaded.
    """

    edition: str
    folder: Path
    origin: str
    archive: Path | None = None


@dataclass(frozen=True)
class Place:
    """Where a file, or an edition's folder or zip, is to be taken from.

    ``path`` is where it lies or will lie. ``ask``: for ``upstream``, whether the server at ``url`` is to be asked:
    it is not there yet, not whole, or was last looked at too long ago.
    """

    origin: Literal["generated", "mirror", "upstream"]
    path: Path
    url: str = ""
    ask: bool = False


def place_of_edition(settings: Settings) -> Place:
    """Where the edition that the settings ask for comes from; see ``locate_edition``. Writes nothing."""
    edition = _edition(settings)
    if edition.name == "sample":
        return Place("generated", settings.sample_dir / "sample")
    if settings.raw_dir is not None:
        for name in edition.folders:
            folder = settings.raw_dir / name
            if folder.is_dir():
                return Place("mirror", _complete(folder, edition))
            archive = settings.raw_dir / f"{name}.zip"
            if archive.is_file():
                return Place("mirror", archive)
    archive = settings.downloads / "movielens" / f"{edition.name}.zip"
    # A released edition does not change any more; ml-latest does.
    max_age_days = settings.imdb_max_age_days if edition.published is None else None
    url = f"{settings.movielens_url.rstrip('/')}/{edition.name}.zip"
    return Place("upstream", archive, url, _to_be_asked(archive, max_age_days))


def place_of_dump(settings: Settings, dump: str) -> Place:
    """Where one IMDb dump comes from; see ``locate_dump``. Writes nothing."""
    if dump not in DUMPS:
        raise SourceError(f"there is no IMDb dump {dump!r}. Choose MARQUEE_IMDB_DUMPS from {', '.join(DUMPS)}.")
    name = DUMPS[dump].file
    if settings.movielens == "sample":
        return Place("generated", settings.sample_dir / "imdb" / name)
    mirror = _imdb_mirror(settings)
    if mirror is not None and (mirror / name).is_file():
        return Place("mirror", mirror / name)
    target = settings.downloads / "imdb" / name
    url = f"{settings.imdb_url.rstrip('/')}/{name}"
    return Place("upstream", target, url, _to_be_asked(target, settings.imdb_max_age_days))


def locate_edition(settings: Settings) -> EditionFiles:
    """Return the files of the edition that the settings ask for, all of them present.

    ``sample`` is generated first. Otherwise, in this order: ``<raw_dir>/<edition>/``, ``<raw_dir>/<edition>.zip``, an
    earlier download, GroupLens. A zip is unpacked under the downloads. ``ml-latest`` is requested again, like a dump.
    Raises ``SourceError``.
    """
    place, edition = place_of_edition(settings), _edition(settings)
    if place.origin == "generated":
        _make_sample(settings)
        return EditionFiles("sample", place.path, f"generated, seed {settings.seed}")
    if place.origin == "mirror" and place.path.is_dir():
        return EditionFiles(edition.name, place.path, f"mirror {place.path}")
    unpacked = settings.downloads / "movielens" / edition.name
    if place.origin == "mirror":
        unpack_edition(place.path, unpacked, edition)
        return EditionFiles(edition.name, unpacked, f"mirror {place.path}")
    if place.ask:
        remedy = (
            f"Without network, put {edition.name}/ or {edition.name}.zip into a folder and name it in MARQUEE_RAW_DIR;"
            " MARQUEE_MOVIELENS=sample needs no files."
        )
        _fetch(place, check=lambda path: _check_zip(path, edition, place.url), remedy=remedy)
    unpack_edition(place.path, unpacked, edition)
    return EditionFiles(edition.name, unpacked, place.url, place.path)


def locate_dump(settings: Settings, dump: str, *, ask: bool = True) -> Path:
    """Return the file of one IMDb dump.

    With the edition ``sample`` it is generated. Otherwise, in this order: ``imdb_dir`` (else ``<raw_dir>/imdb``), a
    download that was checked within ``imdb_max_age_days``, IMDb, which sends it only if it has changed. Where IMDb
    cannot be reached, an older download is taken with a warning. ``ask=False`` takes a download whatever its age, so
    that a table is read from the very file that was observed. Raises ``SourceError``.
    """
    place = place_of_dump(settings, dump)
    if place.origin == "generated":
        _make_sample(settings)
    if place.ask and (ask or not place.path.is_file()):
        mirror = _imdb_mirror(settings)
        absent = f"{mirror} does not hold it. " if mirror else ""
        remedy = (
            f"{absent}Without network, put {place.path.name} into a folder and name it in MARQUEE_IMDB_DIR, or leave"
            f" {dump} out of MARQUEE_IMDB_DUMPS."
        )
        _fetch(place, check=check_gzip, remedy=remedy)
    return place.path


def locate_streaming(settings: Settings) -> Path | None:
    """Return the folder of the streaming catalogs: the one that is set, else the edition ``sample``'s own, else None.

    The folder need not exist, nor hold all files.
    """
    if settings.streaming_dir is None and settings.movielens == "sample":
        _make_sample(settings)
        return settings.sample_dir / "streaming"
    return settings.streaming_dir


def unpack_edition(archive: Path, folder: Path, edition: Edition) -> None:
    """Make ``folder`` hold the edition's files and readme from a zip; nothing is done when it already does.

    The MD5 that GroupLens publishes, every member's name and the room on the disk are looked at before anything is
    written: a name that leads out of the folder refuses the whole zip. Files keep the time that the zip states. Raises
    ``SourceError``; ``folder`` is then as it was.
    """
    state = archive.stat()
    # The files' names, too: what an older version unpacked may lack some.
    stamp = f"{archive} {state.st_size} {state.st_mtime_ns} {' '.join(layout.file for layout in edition.files)}"
    if _stamp_of(folder) == stamp:
        if _former_of(folder).exists():
            with alone_in(folder.parent, say):
                shutil.rmtree(_former_of(folder), ignore_errors=True)
        return
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(archive, opened, edition)
            if not _is_published(archive, edition):
                raise SourceError(
                    f"{archive} is not the {edition.name} that GroupLens publishes (its MD5 differs). Delete it and get"
                    f" it again; to use it as it is, unpack it into a folder {edition.folders[0]}/ beside it."
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            with alone_in(folder.parent, say):
                if _stamp_of(folder) != stamp:
                    _unpack(opened, members, folder, stamp)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{archive} is damaged or no zip ({error}). Delete it and get it again.") from error
    except OSError as error:
        raise unwritten(folder, error) from error


def _unpack(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path, stamp: str) -> None:
    """Unpack aside, then change places, so that ``folder`` is at no moment a mixture of two zips."""
    aside = folder.with_name(f".{folder.name}.partial")
    former = _former_of(folder)
    for left_behind in (aside, former):
        shutil.rmtree(left_behind, ignore_errors=True)
    check_room(folder.parent, sum(member.file_size for member in members.values()), f"the files of {folder.name}")
    try:
        aside.mkdir()
        for name, member in members.items():
            with opened.open(member) as source, (aside / name).open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            changed_at = datetime(*member.date_time, tzinfo=UTC).timestamp()
            os.utime(aside / name, (changed_at, changed_at))
        (aside / _STAMP).write_text(stamp, encoding="utf-8")
        if folder.exists():
            folder.rename(former)
        aside.rename(folder)
    finally:
        for left_over in (aside, former):
            shutil.rmtree(left_over, ignore_errors=True)


def _former_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.former")


def _stamp_of(folder: Path) -> str | None:
    stamped = folder / _STAMP
    return stamped.read_text(encoding="utf-8") if stamped.is_file() else None


def _members(archive: Path, opened: zipfile.ZipFile, edition: Edition) -> dict[str, zipfile.ZipInfo]:
    """Return the members to write by the name each gets: the edition's files and readmes, of the outermost folder."""
    for member in opened.infolist():
        if _escapes(member):
            raise SourceError(
                f"{archive} holds {member.filename!r}, which leads out of the folder; nothing was unpacked. Delete the"
                " zip and get it from https://files.grouplens.org/datasets/movielens/."
            )
    by_name: dict[str, zipfile.ZipInfo] = {}
    for member in sorted(opened.infolist(), key=lambda m: (m.filename.count("/"), m.filename), reverse=True):
        by_name[PurePosixPath(member.filename).name] = member
    files = [layout.file for layout in edition.files]
    if missing := edition.lacks(by_name):
        raise SourceError(f"{archive} lacks {', '.join(missing)}: it is not {edition.name}. Put the right zip there.")
    return {name: member for name, member in by_name.items() if name in files or name.upper().startswith("README")}


def _escapes(member: zipfile.ZipInfo) -> bool:
    """Whether unpacking a member could write outside the folder: absolute, with a drive, upwards, or a link."""
    # orig_filename: zipfile itself cuts at a NUL and turns the separators of this system.
    names = {member.filename, member.orig_filename}
    return stat.S_ISLNK(member.external_attr >> 16) or any(
        "\0" in name
        or PurePosixPath(name).is_absolute()
        or bool(PureWindowsPath(name).anchor)
        or ".." in PureWindowsPath(name).parts
        for name in names
    )


def _check_zip(path: Path, edition: Edition, url: str) -> None:
    try:
        with zipfile.ZipFile(path) as opened:
            broken = opened.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise SourceError(f"what {url} sent is damaged or no zip ({error}). Try again later.") from error
    if broken is not None:
        raise SourceError(f"what {url} sent is damaged: the checksum of {broken} does not fit. Try again later.")
    if not _is_published(path, edition):
        raise SourceError(f"what {url} sent is not the {edition.name} of GroupLens (MD5). Check the address.")


def _is_published(archive: Path, edition: Edition) -> bool:
    """Whether a zip is, byte for byte, the one whose MD5 GroupLens publishes; True where none is published."""
    if edition.md5 is None:
        return True
    with archive.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest() == edition.md5


def _complete(folder: Path, edition: Edition) -> Path:
    if missing := edition.lacks([path.name for path in folder.iterdir() if path.is_file()]):
        raise SourceError(
            f"{folder} lacks {', '.join(missing)}. Put the whole edition there, or remove the folder to have"
            f" {edition.name} downloaded."
        )
    return folder


def _fetch(place: Place, *, check: Callable[[Path], None], remedy: str) -> None:
    """Bring a download up to date; an older one is used with a warning where the server cannot be reached."""
    try:
        download(place.url, place.path, check=check, remedy=remedy)
    except NoRoom:
        raise
    except SourceError as error:
        if not place.path.is_file():
            raise
        logger.warning("%s The earlier download %s is used.", error, place.path)


def _to_be_asked(target: Path, max_age_days: float | None) -> bool:
    """Whether a download is missing, cut off, or was last looked at longer ago than that; None: it never changes."""
    if not target.is_file() or is_unfinished(target):
        return True
    note = read_note(target)
    age_s = time.time() - (note.looked_at if note else target.stat().st_mtime)
    return max_age_days is not None and age_s > max_age_days * _DAY_S


def _edition(settings: Settings) -> Edition:
    edition = EDITIONS.get(settings.movielens)
    if edition is None:
        raise SourceError(
            f"there is no MovieLens edition {settings.movielens!r}. Set MARQUEE_MOVIELENS to one of"
            f" {', '.join(EDITIONS)}."
        )
    return edition


def _imdb_mirror(settings: Settings) -> Path | None:
    return settings.imdb_dir or (settings.raw_dir / "imdb" if settings.raw_dir else None)


def _make_sample(settings: Settings) -> None:
    from orchestration.synthetic.sample import SampleSpec, write_sample

    spec = SampleSpec(
        users=settings.sample_users,
        movies=settings.sample_movies,
        ratings=settings.sample_ratings,
        seed=settings.seed,
    )
    write_sample(settings.sample_dir, spec)
