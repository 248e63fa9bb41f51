"""The lock and the content version, on real DuckDB files and real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration.storage.warehouse import (
    WarehouseBusy,
    connect,
    exclusive,
    export_parquet,
    table_version,
)
from settings import Settings

HOLDER = """
import pathlib, sys
from orchestration.storage.warehouse import exclusive
from settings import Settings
with exclusive(Settings(home=pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


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
