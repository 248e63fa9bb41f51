"""The lock, the content version and the published copy, on real DuckDB files and real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration.warehouse import (
    WarehouseBusy,
    connect,
    exclusive,
    export_parquet,
    publish,
    read_manifest,
    table_version,
)
from settings import Settings

HOLDER = """
import pathlib, sys
from orchestration.warehouse import exclusive
from settings import Settings
with exclusive(Settings(home=pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
READER = """
import duckdb, sys
con = duckdb.connect(sys.argv[1], read_only=True)
print("open", flush=True)
sys.stdin.readline()
print(con.execute("SELECT count(*) FROM marts.films").fetchone()[0])
"""
COMMENTS = {"films": {"": "One row a film.", "title": "The film's name."}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", lock_timeout_s=0.3)


def make_films(con: duckdb.DuckDBPyConnection, values: str = "(1, 'Avalanche'), (2, 'Bellwether')") -> None:
    con.execute("CREATE SCHEMA IF NOT EXISTS marts")
    con.execute(f"CREATE OR REPLACE TABLE marts.films AS SELECT * FROM (VALUES {values}) AS t (film, title)")


def version_of(values: str) -> str:
    with duckdb.connect() as con:
        make_films(con, values)
        return table_version(con, "marts.films").digest


def test_a_content_version_ignores_row_order_and_sees_duplicates_and_changes() -> None:
    version = version_of("(1, 'a'), (2, 'b')")
    assert version_of("(2, 'b'), (1, 'a')") == version
    assert version_of("(1, 'a'), (2, 'b'), (2, 'b')") != version
    assert version_of("(1, 'a'), (2, 'c')") != version
    assert version_of("(1, 'b'), (2, 'a')") != version


def test_a_content_version_sees_a_renamed_column_and_another_type() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 1 AS y")
        con.execute("CREATE TABLE c AS SELECT 1::BIGINT AS x")
        versions = {table_version(con, name).digest for name in "abc"}
    assert len(versions) == 3


def test_a_second_process_waits_for_the_lock_and_then_names_its_holder(settings: Settings) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(settings.home),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    told: list[str] = []
    with pytest.raises(WarehouseBusy, match=f"process {holder.pid}"), exclusive(settings, tell=told.append):
        pass
    assert told == [line for line in told if str(holder.pid) in line]
    assert len(told) == 1
    holder.kill()
    holder.wait()
    with exclusive(settings):
        assert json.loads(settings.warehouse_lock.read_text())["pid"] != holder.pid


def test_a_publication_is_whole_commented_and_leaves_no_side_files(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publication = publish(con, settings, comments=COMMENTS)
    assert publication.changed
    assert sorted(path.name for path in settings.published.parent.iterdir()) == ["manifest.json", "marquee.duckdb"]
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
    assert (manifest.version, manifest.tables) == (publication.version, publication.tables)


def test_a_publication_of_the_same_marts_is_not_written_again(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        first = publish(con, settings, comments=COMMENTS)
        written = settings.published.stat().st_mtime_ns
        second = publish(con, settings, comments=COMMENTS)
        make_films(con, "(1, 'Avalanche'), (2, 'Bellwether'), (3, 'Cormorant')")
        third = publish(con, settings, comments=COMMENTS)
    assert (second.version, second.changed) == (first.version, False)
    assert written != settings.published.stat().st_mtime_ns
    assert third.version != first.version
    assert third.tables["films"].rows == 3


def test_the_published_copy_is_readable_by_the_older_command_line_tool(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publish(con, settings, comments=COMMENTS)
    shell = Path(sys.executable).with_name("duckdb")
    if not shell.exists():
        pytest.skip("the duckdb command line tool of requirements.lock is not installed")
    done = subprocess.run(
        [shell, "-readonly", "-csv", "-noheader", settings.published, "SELECT count(*) FROM marts.films"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2"


def test_a_reader_keeps_its_file_while_a_new_one_takes_its_place(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con)
        publish(con, settings, comments=COMMENTS)
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(settings.published)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "open\n"
            make_films(con, "(1, 'Avalanche')")
            publish(con, settings, comments=COMMENTS)
            answer, _ = reader.communicate("go\n")
    assert answer.strip() == "2"


def test_an_export_is_sorted_and_replaced_whole(settings: Settings) -> None:
    target = settings.features / "films.parquet"
    with connect(settings) as con:
        make_films(con, "(2, 'b'), (1, 'a')")
        export_parquet(con, "marts.films", target, order_by="film", version=table_version(con, "marts.films"))
        make_films(con, "(3, 'c'), (2, 'b'), (1, 'a')")
        version = table_version(con, "marts.films")
        export_parquet(con, "marts.films", target, order_by="film", version=version)
        rows = con.execute(f"SELECT film FROM '{target}'").fetchall()
    assert rows == [(1,), (2,), (3,)]
    assert pl.read_parquet_metadata(target)["version"] == version.digest
    assert [path.name for path in target.parent.iterdir()] == ["films.parquet"]


def test_a_publication_that_fails_leaves_the_old_copy_and_nothing_beside_it(settings: Settings) -> None:
    with connect(settings) as con:
        make_films(con, "(1, 'Avalanche')")
        publish(con, settings, comments=COMMENTS)
        before = {path.name: path.read_bytes() for path in settings.published.parent.iterdir()}
        # A type that the format of the copy does not know.
        con.execute("CREATE TABLE marts.later AS SELECT 1::VARIANT AS anything")
        with pytest.raises(duckdb.Error, match="VARIANT"):
            publish(con, settings, comments=COMMENTS)
    assert {path.name: path.read_bytes() for path in settings.published.parent.iterdir()} == before
