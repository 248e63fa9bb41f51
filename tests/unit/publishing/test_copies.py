"""The published copy, the publications kept beside it, and their Parquet files, on real files and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration.publishing.duckdb_copy import publish, settle
from orchestration.publishing.manifest import (
    Layout,
    copy_of,
    current_parquet,
    note_of,
    parquet_of,
    read_manifest,
)
from orchestration.storage.warehouse import connect
from settings import Settings
from tests.unit.publishing.generations import expected, look_anew, publish_generation, read_through

COMMENTS = {"films": {"": "One row a film.", "title": "The film's name."}}
TWO_FILMS = "(1, 'Avalanche', DATE '2001-05-01'), (2, 'Bellwether', DATE '2002-06-01')"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", lock_timeout_s=0.3)


def make_films(con: duckdb.DuckDBPyConnection, values: str = TWO_FILMS) -> None:
    con.execute("CREATE SCHEMA IF NOT EXISTS marts")
    con.execute(f"CREATE OR REPLACE TABLE marts.films AS SELECT * FROM (VALUES {values}) AS t (film, title, seen_on)")


def state_of(settings: Settings) -> dict[str, bytes]:
    folder = settings.published.parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_content(one: Path, other: Path) -> None:
    assert one.read_bytes() == other.read_bytes()
    assert not one.samefile(other)


def test_a_publication_is_whole_commented_and_leaves_no_side_files(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publication = publish(con, settings, comments=COMMENTS)
    assert publication.changed
    version = publication.version
    assert sorted(path.name for path in settings.published.parent.iterdir()) == [
        "manifest.json",
        f"marquee-{version}.duckdb",
        f"marquee-{version}.json",
        "marquee.duckdb",
        "parquet",
        f"parquet-{version}",
    ]
    with duckdb.connect(str(settings.published), read_only=True) as con:
        assert con.execute("SELECT title FROM marts.films ORDER BY film").fetchall() == [
            ("Avalanche",),
            ("Bellwether",),
        ]
        assert con.execute("SELECT comment FROM duckdb_tables()").fetchall() == [("One row a film.",)]
        assert con.execute("SELECT comment FROM duckdb_columns() WHERE column_name = 'title'").fetchall() == [
            ("The film's name.",)
        ]
    manifest = read_manifest(settings)
    assert manifest is not None
    assert (manifest.version, manifest.tables, manifest.kept) == (version, publication.tables, (version,))


def test_a_publication_of_the_same_marts_is_not_written_again(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        first = publish(con, settings, comments=COMMENTS)
        before = {path: path.stat().st_mtime_ns for path in settings.published.parent.rglob("*.*")}
        second = publish(con, settings, comments=COMMENTS)
        kept = (note_of(settings, first.version),)
        assert {path: path.stat().st_mtime_ns for path in before if path not in kept} == {
            path: stamp for path, stamp in before.items() if path not in kept
        }
        make_films(con, "(1, 'Avalanche', DATE '2001-05-01')")
        third = publish(con, settings, comments=COMMENTS)
    assert (second.version, second.changed) == (first.version, False)
    assert third.version != first.version
    assert third.tables["films"].rows == 1


def test_the_newest_copy_and_its_version_are_two_files_of_one_content(settings: Settings) -> None:
    publication = publish_generation(settings, 1)
    assert_same_content(settings.published, copy_of(settings, publication.version))


def test_the_last_few_publications_are_kept_and_older_ones_go(settings: Settings) -> None:
    few = settings.model_copy(update={"keep_publications": 2})
    versions = [publish_generation(few, generation).version for generation in range(4)]
    manifest = read_manifest(few)
    assert manifest is not None
    assert manifest.kept == (versions[3], versions[2])
    assert {path.name for path in few.published.parent.iterdir()} == {
        "manifest.json", "marquee.duckdb", "parquet",
        *(f"marquee-{version}.{end}" for version in versions[2:] for end in ("duckdb", "json")),
        *(f"parquet-{version}" for version in versions[2:]),
    }  # fmt: skip
    for generation in (2, 3):
        with duckdb.connect(str(copy_of(few, versions[generation])), read_only=True) as con:
            assert con.execute("SELECT DISTINCT generation FROM marts.films").fetchall() == [(generation,)]
        note = read_manifest(few, versions[generation])
        assert note is not None
        assert note.tables["films"].rows == 100_000


def test_marts_that_come_back_to_a_kept_state_are_the_newest_again(settings: Settings) -> None:
    first, second = publish_generation(settings, 1), publish_generation(settings, 2)
    again = publish_generation(settings, 1)
    assert again.version == first.version
    assert again.kept == (first.version, second.version)
    assert look_anew(settings) == expected(1)


def test_long_readers_and_new_ones_see_whole_states_while_others_are_published(settings: Settings) -> None:
    counts = read_through(settings, publications=4)
    assert counts["opened"] > 0


def test_the_published_copy_is_readable_by_the_older_command_line_tool(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publish(con, settings, comments=COMMENTS)
    shell = Path(sys.executable).with_name("duckdb")
    if not shell.exists():
        pytest.skip("the duckdb command line tool of requirements.lock is not installed")
    version = subprocess.run([shell, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("v1.5")
    done = subprocess.run(
        [shell, "-readonly", "-csv", "-noheader", settings.published, "SELECT count(*) FROM marts.films"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2"


def test_a_publication_that_fails_leaves_the_old_copy_and_nothing_of_its_own(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publish(con, settings, comments=COMMENTS)
        before = state_of(settings)
        # A type that the format of the copy does not know.
        con.execute("CREATE TABLE marts.later AS SELECT 1::VARIANT AS anything")
        with pytest.raises(duckdb.Error, match="VARIANT"):
            publish(con, settings, comments=COMMENTS)
    assert state_of(settings) == before


def test_what_a_kill_left_of_a_publication_goes_with_the_next(settings: Settings) -> None:
    first = publish_generation(settings, 1)
    for name in (
        "marquee-0123.duckdb",
        "marquee-0123.json",
        ".marquee.duckdb.part",
        ".marquee-0123.duckdb.second.part",
    ):
        settings.published.with_name(name).write_text("half")
    (settings.published.with_name("parquet-0123")).mkdir()
    second = publish_generation(settings, 2)
    left = {path.name for path in settings.published.parent.iterdir() if "0123" in path.name or ".part" in path.name}
    assert left == set()
    assert second.kept == (second.version, first.version)


@pytest.mark.parametrize("lost", ["copy", "parquet", "link", "note"])
def test_what_is_missing_of_the_newest_publication_is_made_again(settings: Settings, lost: str) -> None:
    publication = publish_generation(settings, 1)
    path = {
        "copy": copy_of(settings, publication.version),
        "parquet": parquet_of(settings, publication.version) / "films.parquet",
        "link": current_parquet(settings),
        "note": note_of(settings, publication.version),
    }[lost]
    path.unlink()
    publish_generation(settings, 1)
    assert path.exists()
    assert_same_content(settings.published, copy_of(settings, publication.version))


def test_a_home_whose_copy_had_no_version_yet_gets_one(settings: Settings) -> None:
    publication = publish_generation(settings, 1)
    manifest = settings.published.with_name("manifest.json")
    told = pl.read_json(manifest).drop("files", "kept", "stored")
    for path in settings.published.parent.iterdir():
        if "-" in path.name and path.is_file():
            path.unlink()
    manifest.chmod(0o644)
    manifest.write_text(told.write_json()[1:-1])
    assert publish_generation(settings, 1).kept == (publication.version,)
    assert copy_of(settings, publication.version).exists()


def test_the_parquet_files_hold_the_marts_sorted_with_their_versions(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con, "(2, 'b', DATE '2002-01-01'), (1, 'a', DATE '2002-01-01'), (3, 'c', DATE '2001-01-01')")
        con.execute("CREATE TABLE marts.plain AS SELECT * FROM (VALUES (2), (1)) t (number)")
        publication = publish(con, settings, comments={}, layouts={"films": Layout(("title",), "seen_on")})
    folder = current_parquet(settings)
    assert pl.read_parquet(folder / "plain.parquet")["number"].to_list() == [1, 2]
    assert pl.read_parquet_metadata(folder / "plain.parquet")["version"] == publication.tables["plain"].digest
    assert pl.read_parquet(folder / "films" / "year=2002" / "films.parquet")["title"].to_list() == ["a", "b"]
    with duckdb.connect() as con:
        found = con.execute(
            f"SELECT film, year FROM read_parquet('{folder}/films/**/*.parquet', hive_partitioning = true) ORDER BY 1"
        ).fetchall()
    assert found == [(1, 2002), (2, 2002), (3, 2001)]
    frame = pl.scan_parquet(folder / "films", hive_partitioning=True).collect()
    assert sorted(frame.select("film", "year").rows()) == found


def test_only_a_table_that_changed_is_written_to_parquet_again(settings: Settings) -> None:
    layouts = {"films": Layout((), "seen_on")}
    with connect(settings) as con:
        make_films(con)
        con.execute("CREATE TABLE marts.plain AS SELECT 1 AS number")
        first = publish(con, settings, comments={}, layouts=layouts)
        con.execute("INSERT INTO marts.plain VALUES (2)")
        second = publish(con, settings, comments={}, layouts=layouts)
        before, after = parquet_of(settings, first.version), parquet_of(settings, second.version)
        partition = Path("films") / "year=2001" / "films.parquet"
        written = [(folder / partition).stat().st_mtime_ns for folder in (before, after)]
        assert written[0] == written[1]
        assert_same_content(before / partition, after / partition)
        assert pl.read_parquet(before / "plain.parquet").height == 1
        # Another order of the rows is other files, though no version of a table has changed.
        third = publish(con, settings, comments={}, layouts={"films": Layout(("title",))})
    assert third.tables == second.tables
    assert (parquet_of(settings, third.version) / "films.parquet").exists()
    assert current_parquet(settings).resolve() == parquet_of(settings, third.version).resolve()


def test_a_copied_home_whose_link_became_a_folder_is_published_into(settings: Settings) -> None:
    publish_generation(settings, 1)
    current_parquet(settings).unlink()
    current_parquet(settings).mkdir()
    (current_parquet(settings) / "films.parquet").write_text("an old copy")
    second = publish_generation(settings, 2)
    assert os.readlink(current_parquet(settings)) == parquet_of(settings, second.version).name  # noqa: PTH115


def test_a_copy_and_its_manifest_alone_become_one_publication(settings: Settings) -> None:
    publish_generation(settings, 1)
    second = publish_generation(settings, 2)
    for path in [*settings.published.parent.glob("*-*")]:
        if path.is_file():
            path.unlink()
    settle(settings)
    manifest = read_manifest(settings)
    assert manifest is not None
    assert manifest.kept == (second.version,)
    assert look_anew(settings) == expected(2)
    assert publish_generation(settings, 2).changed is False
    assert pl.read_parquet(current_parquet(settings) / "films.parquet").height == 100_000
