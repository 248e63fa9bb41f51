"""Whoever asked to be forgotten, taken out of what a rebuild leaves behind: old bundles, bentos, free pages of files.

The rebuild itself leaves such people out of every table, history, store and model that it writes.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from bento.packaging.build import BENTO_NAME, MODEL_NAME, built_bentos
from bento.store.tables import APP
from models.serving.bundle import BundleError, read_bundle_manifest, read_pointer
from orchestration.publishing.duckdb_copy import remove_others
from orchestration.publishing.manifest import copy_of, read_manifest, write_manifest
from orchestration.publishing.sealed_files import logs_in
from orchestration.storage.warehouse import exclusive, rewrite
from settings import BARS, RECIPES, Settings


@dataclass(frozen=True)
class Erasure:
    """What was done: bundle versions and older publications that were removed.

    ``still_served`` and ``still_published``: the served bundle and the newest publication, if they hold somebody yet.
    """

    removed: tuple[str, ...] = ()
    still_served: str | None = None
    unpublished: tuple[str, ...] = ()
    still_published: str | None = None


def erase(settings: Settings, people: Collection[tuple[str, int]]) -> Erasure:
    """Remove every bundle, bento and publication that holds one of these people, and what files hold of deleted rows.

    With them go weights that no run fits anew.

    The served bundle and the newest publication stay while nothing newer is there; they are named, and the next erasure
    removes them.
    """
    if not people:
        return Erasure()
    served = _pointed(settings)
    removed: list[str] = []
    kept: list[str] = []
    for file in sorted(settings.models.glob("[!.]*/bundle.json")):
        version = file.parent.name
        if not holds(file.parent, people):
            continue
        if version == served:
            kept.append(version)
            continue
        _remove(settings, version)
        removed.append(version)
    _forget_previous(settings, removed)
    unpublished, still_published = _unpublish(settings, people)
    done = Erasure(tuple(removed), kept[0] if kept else None, unpublished, still_published)
    note = settings.home / "erasures.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8"))["people"] == len(people):
        return done
    with exclusive(settings):
        rewrite(settings)
    _remove_left_weights(settings)
    online = settings.feast / "online_store.db"
    if online.exists():
        with closing(sqlite3.connect(online)) as con:
            con.execute("VACUUM")
    # People only ever join the list: how many it has says whether somebody is new on it.
    aside = note.with_name(".erasures.json.part")
    aside.write_text(json.dumps({"people": len(people)}) + "\n", encoding="utf-8")
    aside.replace(note)
    return done


def _remove_left_weights(settings: Settings) -> None:
    """Remove what no run fits anew: states of fits that were killed, and fits of recipes that are no longer wanted.

    Both may hold weights of a user; those of the wanted recipes were fitted without him before this is called.
    """
    shutil.rmtree(settings.checkpoints, ignore_errors=True)
    for name in {*BARS, *RECIPES} - set(settings.candidates):
        shutil.rmtree(settings.evaluation / name, ignore_errors=True)


def _pointed(settings: Settings) -> str | None:
    try:
        return read_pointer(settings.serving_pointer)
    except BundleError:
        return None


def holds(bundle: Path, people: Collection[tuple[str, int]]) -> bool:
    """Whether one of these people is among those whom a bundle knows."""
    try:
        manifest = read_bundle_manifest(bundle)
        users = pl.read_parquet(bundle / "users.parquet", columns=["user_id"], glob=False)["user_id"]
    except (BundleError, OSError, pl.exceptions.PolarsError):
        # What cannot be read could hold anybody.
        return True
    return bool(users.is_in(ids_of(people, manifest)).any())


def ids_of(people: Collection[tuple[str, int]], manifest: Mapping[str, Any]) -> list[int]:
    """Return the user ids that these people have in a bundle, whose manifest says of which edition it is."""
    edition = str(manifest["data_snapshot"].get("edition", ""))
    return [number for source, number in people if source in (APP, edition)]


def _unpublish(settings: Settings, people: Collection[tuple[str, int]]) -> tuple[tuple[str, ...], str | None]:
    """Remove kept publications, their Parquet files with them, that hold one of these people.

    Returns their versions, and the newest one's if it does: the next publication takes its place, and then it goes.
    """
    with exclusive(settings):
        publication = read_manifest(settings)
        if publication is None:
            return (), None
        for log in logs_in(settings.published.parent):
            log.unlink(missing_ok=True)
        newest = settings.published.exists() and published_for(settings.published, people)
        gone = tuple(
            version
            for version in publication.kept
            if version != publication.version and published_for(copy_of(settings, version), people)
        )
        kept = tuple(version for version in publication.kept if version not in gone)
        if gone:
            write_manifest(settings, replace(publication, kept=kept))
        remove_others(settings, kept)
    return gone, publication.version if newest else None


def published_for(copy: Path, people: Collection[tuple[str, int]]) -> bool:
    """Whether one of these people is among the users of a published copy."""
    wanted = pl.DataFrame(sorted(people), schema=["edition", "user_id"], orient="row").to_arrow()
    try:
        with duckdb.connect(str(copy), read_only=True) as con:
            con.register("wanted", wanted)
            [(found,)] = con.execute(
                "SELECT count(*) FROM marts.dim_users JOIN wanted USING (edition, user_id)"
            ).fetchall()
    except duckdb.Error:
        # What cannot be read could hold anybody.
        return True
    return bool(found)


def _remove(settings: Settings, version: str) -> None:
    for bento in built_bentos(settings):
        if bento.bundle_version == version:
            shutil.rmtree(bento.path)
    shutil.rmtree(settings.bentoml / "models" / MODEL_NAME / version, ignore_errors=True)
    shutil.rmtree(settings.models / version)
    for folder in (settings.bentoml / "bentos" / BENTO_NAME, settings.bentoml / "models" / MODEL_NAME):
        _mend_latest(folder)


def _mend_latest(folder: Path) -> None:
    """BentoML notes the latest version of each name in a file, which must not name one that is gone."""
    note = folder / "latest"
    if not note.exists() or (folder / note.read_text().strip()).is_dir():
        return
    there = sorted(
        (path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True
    )
    if there:
        aside = folder / ".latest.part"
        aside.write_text(there[0].name)
        aside.replace(note)
    else:
        note.unlink()


def _forget_previous(settings: Settings, removed: Collection[str]) -> None:
    """Clear a removed version from each pointer, which must not offer it for a rollback."""
    for pointer in (settings.serving_pointer, settings.models / "built.json"):
        if not pointer.exists():
            continue
        document = json.loads(pointer.read_text(encoding="utf-8"))
        if document.get("previous") in removed:
            aside = pointer.with_name(f".{pointer.name}.part")
            aside.write_text(json.dumps({**document, "previous": None}, indent=1) + "\n", encoding="utf-8")
            aside.replace(pointer)
