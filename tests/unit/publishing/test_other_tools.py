"""What other tools do to the published copy: real processes write to it, are killed, and hold it open."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from orchestration.lib.check_status import UpstreamChecks
from orchestration.publishing.duckdb_copy import publish
from orchestration.publishing.manifest import Publication, copy_of, current_parquet, parquet_of, read_manifest
from orchestration.run import _missing_artifacts
from orchestration.storage.home import prepare, rebuild_folder, swap
from orchestration.storage.warehouse import connect
from settings import Settings
from tests.unit.publishing.generations import ask
from tests.unit.publishing.writers import die, write, writer

NOTE = "UPDATE marts.films SET title = 'NOTE' WHERE film = 1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", lock_timeout_s=0.3)


def publish_films(settings: Settings, generation: int) -> Publication:
    """Publish films that tell their generation, one less each time, and a table that never changes."""
    with connect(settings) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        con.execute(
            f"CREATE OR REPLACE TABLE marts.films AS SELECT range + {generation} AS film, '{generation}' AS title"
            " FROM range(5)"
        )
        con.execute("CREATE TABLE IF NOT EXISTS marts.plain AS SELECT range AS number FROM range(3)")
        return publish(con, settings, comments={})


def films(file: Path) -> list[Any]:
    """Return the films of a copy as any tool sees them that opens it read-only."""
    with closing(duckdb.connect(str(file), read_only=True)) as con:
        return con.execute("SELECT film, title FROM marts.films ORDER BY 1").fetchall()


def of_generation(generation: int) -> list[Any]:
    return [(film + generation, str(generation)) for film in range(5)]


def assert_as_published(settings: Settings, newest: int, *older: tuple[Publication, int]) -> None:
    """Every name says what was published under it, and nothing but the publications is there."""
    publication = read_manifest(settings)
    assert publication is not None
    assert publication.kept == (publication.version, *(one.version for one, _ in older))
    for file in (settings.published, copy_of(settings, publication.version)):
        assert films(file) == of_generation(newest)
    assert pl.read_parquet(current_parquet(settings) / "films.parquet").rows() == of_generation(newest)
    for one, generation in older:
        assert films(copy_of(settings, one.version)) == of_generation(generation)
        assert pl.read_parquet(parquet_of(settings, one.version) / "films.parquet").rows() == of_generation(generation)
    assert {path.name for path in settings.published.parent.iterdir()} == {
        "manifest.json", "marquee.duckdb", "parquet",
        *(f"marquee-{version}.{end}" for version in publication.kept for end in ("duckdb", "json")),
        *(f"parquet-{version}" for version in publication.kept),
    }  # fmt: skip
    files = [path for path in settings.published.parent.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o444"}
    assert {path.stat().st_nlink for path in files} == {1}
    assert not _missing_artifacts(settings)(_published_copy())


def _published_copy() -> Any:
    from orchestration.defs.warehouse.dbt_assets import PUBLISHED_COPY

    return PUBLISHED_COPY


def test_published_files_are_read_only_and_no_two_are_one_inode(settings: Settings) -> None:
    first = publish_films(settings, 1)
    publish_films(settings, 2)
    assert_as_published(settings, 2, (first, 1))
    unchanged = [parquet_of(settings, v) / "plain.parquet" for v in read_manifest(settings).kept]  # type: ignore[union-attr]
    assert len({path.stat().st_mtime_ns for path in unchanged}) == 1, "it was written again"


def test_the_log_of_a_killed_writer_does_not_reach_the_next_publication(settings: Settings) -> None:
    first = publish_films(settings, 1)
    write(settings.published, NOTE, killed=True)
    write(copy_of(settings, first.version), NOTE, killed=True)
    assert films(settings.published) != of_generation(1)
    publish_films(settings, 2)
    assert_as_published(settings, 2, (first, 1))


@pytest.mark.parametrize("name", ["current", "versioned"])
def test_the_log_of_a_killed_writer_goes_with_a_run_that_has_nothing_new(settings: Settings, name: str) -> None:
    first = publish_films(settings, 1)
    write(settings.published if name == "current" else copy_of(settings, first.version), NOTE, killed=True)
    assert _missing_artifacts(settings)(_published_copy())
    publish_films(settings, 1)
    assert_as_published(settings, 1)


def test_a_writer_that_outlives_a_publication_reaches_no_published_file(settings: Settings) -> None:
    first = publish_films(settings, 1)
    with writer(settings.published) as process:
        ask(process, NOTE)
        second = publish_films(settings, 2)
        ask(process, "DELETE FROM marts.films WHERE film > 3")
        ask(process, "CHECKPOINT")
        assert_as_published(settings, 2, (first, 1))
        ask(process, "close")
    assert_as_published(settings, 2, (first, 1))
    with writer(copy_of(settings, second.version)) as process:
        publish_films(settings, 3)
        ask(process, "DELETE FROM marts.films")
        ask(process, "close")
    # A version that was written to is one no more, and cannot be made again.
    publish_films(settings, 3)
    assert_as_published(settings, 3, (first, 1))


def test_a_log_written_by_name_after_the_rename_goes_with_the_next_run(settings: Settings) -> None:
    first = publish_films(settings, 1)
    with writer(settings.published) as process:
        publish_films(settings, 2)
        ask(process, NOTE)
        die(process)
    assert films(settings.published) != of_generation(2)
    publish_films(settings, 2)
    assert_as_published(settings, 2, (first, 1))


def test_building_the_published_copy_alone_makes_a_changed_file_again(settings: Settings) -> None:
    """As a click in the UI does it."""
    from orchestration.defs.warehouse.dbt_assets import published_copy

    first = publish_films(settings, 1)
    asset = published_copy({"nodes": {}})
    resources = {"settings": settings, "upstream_checks": UpstreamChecks.of([asset])}
    dg.materialize([asset], resources=resources)
    publication = read_manifest(settings)
    assert publication is not None
    write(settings.published, "DELETE FROM marts.films WHERE film > 3")
    write(copy_of(settings, publication.version), NOTE, killed=True)
    built = dg.materialize([asset], resources=resources)
    (event,) = built.get_asset_materialization_events()
    assert_as_published(settings, 1, (first, 1))
    mended = event.materialization.metadata["mended"].value
    assert mended == f"marquee-{publication.version}.duckdb.wal, marquee.duckdb"


@pytest.mark.parametrize("changed", ["current", "versioned", "both", "parquet", "manifest", "note", "link"])
def test_what_another_tool_has_changed_is_made_again(settings: Settings, changed: str) -> None:
    first = publish_films(settings, 1)
    second = publish_films(settings, 2)
    versioned = copy_of(settings, second.version)
    if changed in ("current", "both"):
        write(settings.published, "DELETE FROM marts.films WHERE film > 3")
    if changed in ("versioned", "both"):
        write(versioned, NOTE.replace("film = 1", "film = 2"))
    if changed == "parquet":
        file = current_parquet(settings) / "films.parquet"
        file.chmod(0o644)
        pl.DataFrame({"film": [1], "title": ["NOTE"]}).write_parquet(file)
    if changed in ("manifest", "note"):
        file = (
            settings.published.with_name("manifest.json") if changed == "manifest" else versioned.with_suffix(".json")
        )
        file.chmod(0o644)
        file.write_text(file.read_text()[:200])
    if changed == "link":
        current_parquet(settings).unlink()
        current_parquet(settings).symlink_to(parquet_of(settings, first.version).name)
    assert _missing_artifacts(settings)(_published_copy())
    publish_films(settings, 2)
    # Which older ones there were is lost with the manifest.
    assert_as_published(settings, 2, *([] if changed == "manifest" else [(first, 1)]))


def test_the_bytes_decide_where_the_time_alone_is_another(settings: Settings) -> None:
    publish_films(settings, 1)
    inodes = {path: path.stat().st_ino for path in settings.published.parent.glob("*.duckdb")}
    for path in settings.published.parent.rglob("*.*"):
        os.utime(path)
    assert not _missing_artifacts(settings)(_published_copy())
    size = settings.published.stat().st_size
    settings.published.chmod(0o644)
    with settings.published.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"x" * 100)
    assert settings.published.stat().st_size == size
    assert _missing_artifacts(settings)(_published_copy())
    publish_films(settings, 1)
    assert_as_published(settings, 1)
    versioned = copy_of(settings, read_manifest(settings).version)  # type: ignore[union-attr]
    assert versioned.stat().st_ino == inodes[versioned]


def as_of_before_records(settings: Settings) -> None:
    """Make the home what it was before files were recorded: writable, hard links, manifests without records."""
    folder = settings.published.parent
    for manifest in folder.glob("*.json"):
        manifest.chmod(0o644)
        manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != "stored"}))
    publication = read_manifest(settings)
    assert publication is not None
    settings.published.unlink()
    os.link(copy_of(settings, publication.version), settings.published)
    one, *others = sorted(folder.glob("parquet-*/plain.parquet"))
    for other in others:
        other.unlink()
        os.link(one, other)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


def test_a_home_of_before_files_were_recorded_is_taken_over(settings: Settings) -> None:
    first, second = publish_films(settings, 1), publish_films(settings, 2)
    third = publish_films(settings, 3)
    as_of_before_records(settings)
    write(settings.published, "DELETE FROM marts.films WHERE film > 3")
    write(copy_of(settings, second.version), "DELETE FROM marts.films WHERE film > 3")
    assert films(copy_of(settings, third.version)) != of_generation(3)
    assert _missing_artifacts(settings)(_published_copy())
    publish_films(settings, 3)
    # Of the older ones the one that is what its manifest says stays.
    assert_as_published(settings, 3, (first, 1))


def test_a_swap_leaves_no_log_beside_the_new_copy(settings: Settings) -> None:
    prepare(settings)
    publish_films(settings, 1)
    aside = settings.model_copy(update={"home": rebuild_folder(settings), "movielens": "ml-100k"})
    prepare(aside)
    publish_films(aside, 2)
    write(settings.published, NOTE, killed=True)
    write(aside.published, NOTE.replace("film = 1", "film = 2"), killed=True)
    swap(settings)
    assert_as_published(settings.model_copy(update={"movielens": "ml-100k"}), 2)


def test_a_home_copied_without_its_times_is_as_published(settings: Settings, tmp_path: Path) -> None:
    publish_films(settings, 1)
    copied = settings.model_copy(update={"home": tmp_path / "copied"})
    shutil.copytree(settings.home, copied.home, symlinks=True, copy_function=shutil.copy)
    assert publish_films(copied, 1).changed is False
    assert_as_published(copied, 1)
