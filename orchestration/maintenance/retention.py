"""Retention: what a home may lose, and the removal of it.

Never among it: what is served, what could be served again (the rollback version), what says which assets are current.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from environment import cache_folder
from orchestration.maintenance.errors import UpkeepError, spoken_size
from orchestration.publishing.duckdb_copy import others
from orchestration.publishing.manifest import read_manifest, write_manifest
from orchestration.storage.home import read_home
from orchestration.storage.warehouse import exclusive
from settings import Settings

#: How the name of a file or folder ends or begins while it is being written.
_HALF_WRITTEN_ENDS = (".part", ".partial")
_HALF_WRITTEN_BEGINS = (".writing-", ".pointer-", ".build-", ".backup-")
#: Homes inside the home, and homes that are on their way out: see ``orchestration.storage.home``.
_HOMES_ASIDE = ("rebuild", "restored", "former")


@dataclass(frozen=True)
class Removal:
    """One thing to remove: what it is, in words, the files that it takes, and how it is removed if not as files."""

    what: str
    paths: tuple[Path, ...]
    size: int
    first: Callable[[], None] | None = None

    def remove(self) -> None:
        """Remove it. A folder gets another name first, so that none is ever seen half empty under its own."""
        if self.first is not None:
            self.first()
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                aside = path.with_name(f".{path.name.lstrip('.')}.removed.part")
                shutil.rmtree(aside, ignore_errors=True)
                path.replace(aside)
                shutil.rmtree(aside)
            else:
                path.unlink(missing_ok=True)


def clean_up(settings: Settings, *, now: datetime, dry_run: bool, tell: Callable[[str], None]) -> int:
    """Apply retention, telling each thing and its size. Returns the bytes freed. The caller holds the home."""
    freed = 0
    for removals in (_bundles, _bentos, _old_runs, _leftovers):
        for removal in removals(settings, now):
            freed += _apply(removal, dry_run, tell)
    with exclusive(settings, tell=tell):
        for removal in (*_publications(settings), *_spill(settings)):
            freed += _apply(removal, dry_run, tell)
    tell(f"{'would free' if dry_run else 'freed'} {spoken_size(freed)} in {settings.home}")
    return freed


def _apply(removal: Removal, dry_run: bool, tell: Callable[[str], None]) -> int:
    if not dry_run:
        removal.remove()
    tell(f"{spoken_size(removal.size):>9}  {removal.what}")
    return removal.size


def named_versions(settings: Settings) -> dict[str, str]:
    """Bundle versions that a pointer names, with the reason to keep them.

    Raises ``UpkeepError`` where a pointer is there and cannot be read: what it names is then unknown.
    """
    from models.serving.bundle import BundleError, read_pointer, read_previous
    from orchestration.promotion.decisions import built_pointer

    named: dict[str, str] = {settings.ab_version: "experiment"} if settings.ab_version else {}
    for pointer, reason in ((settings.serving_pointer, "served"), (built_pointer(settings), "built")):
        if not pointer.exists():
            continue
        try:
            previous = read_previous(pointer)
            if previous is not None and reason == "served":
                named.setdefault(previous, "rollback")
            named[read_pointer(pointer)] = reason
        except BundleError as error:
            raise UpkeepError(f"{error}. Nothing was removed: it is not known which bundle is served.") from error
    return named


def _bundles(settings: Settings, now: datetime) -> list[Removal]:
    """Bundles beyond the newest few, but for those that a pointer names."""
    kept = named_versions(settings)
    bundles = sorted(settings.models.glob("[!.]*/bundle.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    removals = []
    for folder in (file.parent for file in bundles[settings.keep_bundles :] if file.parent.name not in kept):
        paths = (folder, *sorted((settings.models / "decisions").glob(f"{folder.name}.*")))
        removals.append(Removal(f"bundle {folder.name}", paths, sum(_size(path) for path in paths)))
    return removals


def _bentos(settings: Settings, now: datetime) -> list[Removal]:
    """Bentos beyond the newest few, but for the newest of each version that a pointer names; then models in none."""
    from bento.packaging.build import BENTO_NAME, MODEL_NAME, built_bentos

    bentos = built_bentos(settings)
    kept = bentos[: settings.keep_bentos]
    for version in named_versions(settings):
        kept += [bento for bento in bentos if bento.bundle_version == version][:1]
    paths = {bento.path for bento in kept}
    removals = [_removal(f"bento {bento.tag}", bento.path) for bento in bentos if bento.path not in paths]
    used = {bento.bundle_version for bento in kept}
    # A model is in the store before its bento is: one that has just been written may be on its way into one.
    models = (settings.bentoml / "models" / MODEL_NAME).glob("[!.]*/model.yaml")
    removals += [
        _removal(f"model {MODEL_NAME}:{file.parent.name}", file.parent)
        for file in sorted(models)
        if file.parent.name not in used and _age(file.parent, now) > _leftover_age(settings)
    ]
    gone = {path for removal in removals for path in removal.paths}
    if kept and removals:
        names = {BENTO_NAME: kept[0].path.name, MODEL_NAME: kept[0].bundle_version}
        last = removals[-1]
        removals[-1] = Removal(last.what, last.paths, last.size, partial(_mend_latest, settings, names, gone))
    return removals


def _mend_latest(settings: Settings, newest: dict[str, str], gone: set[Path]) -> None:
    """BentoML notes the latest version of each name in a file, which must not name one that is removed."""
    for folder in (settings.bentoml / "bentos", settings.bentoml / "models"):
        for name, version in newest.items():
            note = folder / name / "latest"
            if note.exists() and note.parent / note.read_text().strip() in gone:
                aside = note.with_name(".latest.part")
                aside.write_text(version)
                aside.replace(note)


def _old_runs(settings: Settings, now: datetime) -> Iterator[Removal]:
    """Finished runs of Dagster older than a setting, but for those that hold the latest word on some asset."""
    if not (settings.dagster / "history" / "runs.db").exists():
        return
    import dagster as dg

    from orchestration.lib.dagster_instance import open_instance

    finished = [status for status in dg.DagsterRunStatus if status.name in ("SUCCESS", "FAILURE", "CANCELED")]
    with open_instance(settings) as instance:
        old = instance.get_runs(
            dg.RunsFilter(statuses=finished, updated_before=now - timedelta(days=settings.keep_runs_days))
        )
        needed = _runs_that_say_what_is_current(instance) if old else set()
        for run in old:
            if run.run_id in needed:
                continue
            paths = [
                *(settings.dagster / "history" / "runs").glob(f"{run.run_id}.db*"),
                *(settings.dagster / "storage").glob(run.run_id),
            ]
            # The events' own file is removed after Dagster has emptied it, and its lines in the shared index.
            yield Removal(
                f"Dagster run {run.run_id[:8]} of {run.job_name}",
                tuple(paths),
                sum(_size(path) for path in paths),
                partial(instance.delete_run, run.run_id),
            )


def _runs_that_say_what_is_current(instance: object) -> set[str]:
    """Return the runs with the latest materialization or observation of an asset: without them it would be built again.

    Dagster keeps the latest results of checks apart from the runs.
    """
    import dagster as dg

    assert isinstance(instance, dg.DagsterInstance)
    needed: set[str] = set()
    for key in instance.all_asset_keys():
        materialized = instance.get_latest_materialization_event(key)
        if materialized is not None:
            needed.add(materialized.run_id)
        needed.update(record.run_id for record in instance.fetch_observations(key, limit=1).records)
    return needed


def _leftovers(settings: Settings, now: datetime) -> Iterator[Removal]:
    """Yield what a kill left half written or fitted, what an edition left behind, what dbt wrote for one call only."""
    age = _leftover_age(settings)
    home = read_home(settings.home)
    aside = [settings.home / name for name in _HOMES_ASIDE]
    for folder in aside:
        if folder.exists() and _age(folder, now) > age:
            yield _removal(f"{folder.name}/, abandoned", folder)
    if home is not None and home.edition != "sample" and settings.sample_dir.exists():
        yield _removal("sample/, of another edition than the home's", settings.sample_dir)
    calls = [path.parent for path in settings.dbt_target.glob("*/run_results.json")]
    for path in [*sorted(calls), *sorted((settings.home / "dbt" / "logs").glob("*"))]:
        if _age(path, now) > age:
            yield _removal(f"dbt/{path.relative_to(settings.home / 'dbt')}", path)
    # One file a kind and process, of processes that have long ended.
    for path in sorted((cache_folder(settings) / "prometheus").glob("*")):
        if _age(path, now) > age:
            yield _removal(f"{path.relative_to(settings.home)}, metrics of a process that has ended", path)
    for path in sorted(settings.checkpoints.glob("*")):
        if _age(path, now) > age:
            yield _removal(f"{path.relative_to(settings.home)}/, of a fit that was not asked for again", path)
    for path in _half_written(
        settings.home, skipped={*aside, settings.dagster, settings.sample_dir, settings.checkpoints}
    ):
        if _age(path, now) > age:
            yield _removal(f"{path.relative_to(settings.home)}, half written", path)


def _half_written(folder: Path, skipped: set[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path in skipped or path.is_symlink():
            continue
        if path.name.endswith(_HALF_WRITTEN_ENDS) or path.name.startswith(_HALF_WRITTEN_BEGINS):
            yield path
        elif path.is_dir():
            yield from _half_written(path, skipped)


def _publications(settings: Settings) -> Iterator[Removal]:
    """Yield published copies beyond the newest few, and what a kill left of one; the caller holds the warehouse."""
    publication = read_manifest(settings)
    if publication is None:
        return
    kept = publication.kept[: settings.keep_publications]
    first: Callable[[], None] | None = partial(write_manifest, settings, replace(publication, kept=kept))
    for path in others(settings, kept):
        # In a home of before every file had an inode of its own, one with a second name takes no room.
        size = sum(file.lstat().st_size for file in _files(path) if file.lstat().st_nlink == 1)
        kind = "a log of another tool's changes" if ".duckdb.wal" in path.name else "an older publication"
        yield Removal(f"{path.relative_to(settings.home)}, {kind}", (path,), size, first)
        first = None


def _spill(settings: Settings) -> Iterator[Removal]:
    """Yield what DuckDB spilled to disk for lack of memory; the caller holds the warehouse, so nobody is using it."""
    folder = settings.warehouse.with_name(settings.warehouse.name + ".tmp")
    if folder.exists() and any(folder.iterdir()):
        yield _removal(f"{folder.name}/, spilled by DuckDB", folder)


def _removal(what: str, path: Path) -> Removal:
    return Removal(what, (path,), _size(path))


def _files(path: Path) -> Iterable[Path]:
    return (found for found in path.rglob("*") if found.is_file()) if path.is_dir() else (path,)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _age(path: Path, now: datetime) -> timedelta:
    """Time since the newest of its files was written."""
    newest = max((os.lstat(file).st_mtime for file in (path, *_files(path))), default=0.0)
    return now - datetime.fromtimestamp(newest, UTC)


def _leftover_age(settings: Settings) -> timedelta:
    return timedelta(days=settings.keep_leftovers_days)
