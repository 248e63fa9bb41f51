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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

from models.datasets import EDITIONS, Edition
from orchestration.sources.download import download, read_note
from orchestration.sources.files import check_gzip
from orchestration.sources.imdb import DUMPS
from orchestration.sources.report import SourceError
from settings import Settings

logger = logging.getLogger(__name__)

_DAY_S = 86_400
_STAMP = ".unpacked-from"


@dataclass(frozen=True)
class EditionFiles:
    """An edition's files as they lie in one folder. ``origin`` says where they come from: for people to read."""

    edition: str
    folder: Path
    origin: str


def locate_edition(settings: Settings) -> EditionFiles:
    """The files of the edition that the settings ask for, all of them present.

    ``sample`` is generated first. Otherwise, in this order: ``<raw_dir>/<edition>/``, ``<raw_dir>/<edition>.zip``, an
    earlier download, GroupLens. A zip is unpacked under the downloads. Raises ``SourceError``.
    """
    edition = EDITIONS.get(settings.movielens)
    if edition is None:
        raise SourceError(
            f"there is no MovieLens edition {settings.movielens!r}. Set MARQUEE_MOVIELENS to one of"
            f" {', '.join(EDITIONS)}."
        )
    if edition.name == "sample":
        _make_sample(settings)
        return EditionFiles("sample", settings.sample_dir / "sample", f"generated, seed {settings.seed}")
    unpacked = settings.downloads / "movielens" / edition.name
    if settings.raw_dir is not None:
        for name in edition.folders:
            folder = settings.raw_dir / name
            if folder.is_dir():
                return EditionFiles(edition.name, _complete(folder, edition), f"mirror {folder}")
            archive = settings.raw_dir / f"{name}.zip"
            if archive.is_file():
                unpack_edition(archive, unpacked, edition)
                return EditionFiles(edition.name, unpacked, f"mirror {archive}")
    archive = unpacked.with_name(f"{edition.name}.zip")
    url = f"{settings.movielens_url.rstrip('/')}/{edition.name}.zip"
    if not archive.is_file():
        remedy = (
            f"Without network, put {edition.name}/ or {edition.name}.zip into a folder and name it in MARQUEE_RAW_DIR;"
            " MARQUEE_MOVIELENS=sample needs no files."
        )
        download(url, archive, check=lambda path: _check_zip(path, edition, url), remedy=remedy)
    unpack_edition(archive, unpacked, edition)
    return EditionFiles(edition.name, unpacked, url)


def locate_dump(settings: Settings, dump: str) -> Path:
    """The file of one IMDb dump.

    With the edition ``sample`` it is generated. Otherwise, in this order: ``imdb_dir`` (else ``<raw_dir>/imdb``), a
    download not older than ``imdb_max_age_days``, IMDb. Where IMDb cannot be reached, an older download is taken with a
    warning. Raises ``SourceError``.
    """
    if dump not in DUMPS:
        raise SourceError(f"there is no IMDb dump {dump!r}. Choose MARQUEE_IMDB_DUMPS from {', '.join(DUMPS)}.")
    name = DUMPS[dump].file
    if settings.movielens == "sample":
        _make_sample(settings)
        return settings.sample_dir / "imdb" / name
    mirror = settings.imdb_dir or (settings.raw_dir / "imdb" if settings.raw_dir else None)
    if mirror is not None and (mirror / name).is_file():
        return mirror / name
    target = settings.downloads / "imdb" / name
    if target.is_file() and _age_s(target) <= settings.imdb_max_age_days * _DAY_S:
        return target
    absent = f"{mirror} does not hold it. " if mirror else ""
    remedy = (
        f"{absent}Without network, put {name} into a folder and name it in MARQUEE_IMDB_DIR, or leave {dump} out of"
        " MARQUEE_IMDB_DUMPS."
    )
    try:
        download(f"{settings.imdb_url.rstrip('/')}/{name}", target, check=check_gzip, remedy=remedy)
    except SourceError as error:
        if not target.is_file():
            raise
        logger.warning("%s The earlier download %s is used.", error, target)
    return target


def unpack_edition(archive: Path, folder: Path, edition: Edition) -> None:
    """Make ``folder`` hold the edition's files and readme from a zip; nothing is done when it already does.

    Every member's name is looked at before anything is written: one that leads out of the folder refuses the whole zip.
    Files keep the time that the zip states. Raises ``SourceError``; ``folder`` is then as it was.
    """
    state = archive.stat()
    stamp = f"{archive} {state.st_size} {state.st_mtime_ns}"
    stamped = folder / _STAMP
    if stamped.is_file() and stamped.read_text(encoding="utf-8") == stamp:
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(archive, opened, edition)
            aside.mkdir(parents=True)
            for name, member in members.items():
                with opened.open(member) as source, (aside / name).open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                changed_at = datetime(*member.date_time, tzinfo=UTC).timestamp()
                os.utime(aside / name, (changed_at, changed_at))
        (aside / _STAMP).write_text(stamp, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{archive} is damaged or no zip ({error}). Delete it and get it again.") from error
    except OSError as error:
        raise SourceError(
            f"{archive} cannot be unpacked to {folder} ({error.strerror or error}). Check disk and rights."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _members(archive: Path, opened: zipfile.ZipFile, edition: Edition) -> dict[str, zipfile.ZipInfo]:
    """The members to write by the name each gets: the edition's files and readmes, of the outermost folder."""
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
    if missing := [file for file in files if file not in by_name]:
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
    if edition.md5 is not None:
        with path.open("rb") as handle:
            if hashlib.file_digest(handle, "md5").hexdigest() != edition.md5:
                raise SourceError(f"what {url} sent is not the {edition.name} of GroupLens (MD5). Check the address.")


def _complete(folder: Path, edition: Edition) -> Path:
    missing = [layout.file for layout in edition.files if not (folder / layout.file).is_file()]
    if missing:
        raise SourceError(
            f"{folder} lacks {', '.join(missing)}. Put the whole edition there, or remove the folder to have"
            f" {edition.name} downloaded."
        )
    return folder


def _age_s(target: Path) -> float:
    note = read_note(target)
    return time.time() - (note.fetched_at if note else target.stat().st_mtime)


def _make_sample(settings: Settings) -> None:
    from orchestration.sources.sample import SampleSpec, write_sample

    spec = SampleSpec(
        users=settings.sample_users,
        movies=settings.sample_movies,
        ratings=settings.sample_ratings,
        seed=settings.seed,
    )
    write_sample(settings.sample_dir, spec)
