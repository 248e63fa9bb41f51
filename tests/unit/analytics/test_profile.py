"""The profile of the marts, against polars, and that a table which did not change is not looked at again."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import polars as pl
import pytest

from orchestration.analytics.column_profile import profile_marts


@pytest.fixture
def rows() -> pl.DataFrame:
    draw = np.random.default_rng(4)
    x = draw.normal(size=3_000)
    return pl.DataFrame(
        {
            "user_key": np.arange(3_000),
            "x": np.where(np.arange(3_000) % 100 == 0, 50.0, x),
            "y": [
                None if place % 10 == 0 else float(value) for place, value in enumerate(x * 2 + draw.normal(size=3_000))
            ],
            "same": [7] * 3_000,
            "day": pl.Series([18_000 + place % 30 for place in range(3_000)]).cast(pl.Date),
            "name": [f"n{place % 5}" for place in range(3_000)],
        }
    )


@pytest.fixture
def con(rows: pl.DataFrame) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("CREATE SCHEMA marts")
        con.register("given", rows.to_arrow())
        con.execute("CREATE TABLE marts.some AS SELECT * FROM given")
        con.execute("CREATE TABLE marts.none_yet (title VARCHAR, score DOUBLE, films INTEGER[])")
        yield con


def profile(con: duckdb.DuckDBPyConnection, mart: str = "some") -> dict[str, dict[str, object]]:
    frame = con.sql("SELECT * FROM marts.mart_profile").pl().filter(pl.col("mart") == mart)
    return {row["column_name"]: row for row in frame.iter_rows(named=True)}


def test_a_small_table_is_described_as_polars_describes_it(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> None:
    assert profile_marts(con, ["some"], "code") == 1
    found = profile(con)
    assert [found[name]["position"] for name in rows.columns] == [1, 2, 3, 4, 5, 6]
    assert {name: row["missing"] for name, row in found.items()} == {n: rows[n].null_count() for n in rows.columns}
    assert {name: row["distinct_count"] for name, row in found.items()} == {
        name: rows[name].drop_nulls().n_unique() for name in rows.columns
    }
    x = rows["x"]
    low, high = (float(x.quantile(share, "linear") or 0) for share in (0.25, 0.75))
    outside = x.filter((x < low - 1.5 * (high - low)) | (x > high + 1.5 * (high - low)))
    assert found["x"]["q25"] == pytest.approx(low)
    assert found["x"]["median"] == pytest.approx(x.median())
    assert found["x"]["stddev"] == pytest.approx(x.std())
    assert found["x"]["outlier_share"] == pytest.approx(len(outside) / 3_000)
    assert len(outside) >= 30
    assert found["x"]["greatest"] == "50.0"
    assert found["day"]["least"] == str(rows["day"].min())


def test_keys_and_texts_show_no_values(con: duckdb.DuckDBPyConnection) -> None:
    profile_marts(con, ["some"], "code")
    found = profile(con)
    for name in ("user_key", "name"):
        assert [found[name][of] for of in ("least", "greatest", "q25", "median", "mean")] == [None] * 5


def test_correlations_are_those_of_pairs_that_are_there_and_vary(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame
) -> None:
    profile_marts(con, ["some"], "code")
    found = con.sql("SELECT column_a, column_b, correlation, sampled_rows FROM marts.mart_correlations").fetchall()
    there = rows.drop_nulls("y")
    assert found == [("x", "y", pytest.approx(there.select(pl.corr("x", "y")).item(), abs=1e-4), there.height)]


def test_a_large_table_is_sampled_by_its_content_and_near_the_whole(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame
) -> None:
    profile_marts(con, ["some"], "code", sample=500)
    first = profile(con)
    con.execute("CREATE OR REPLACE TABLE marts.some AS SELECT * FROM given ORDER BY hash(user_key)")
    profile_marts(con, ["some"], "other code", sample=500)
    again = profile(con)
    for name in first:
        assert {**first[name], "content_version": None} == {**again[name], "content_version": None}
    assert 300 < first["x"]["sampled_rows"] < 800  # type: ignore[operator]
    assert (first["x"]["is_exact"], first["x"]["row_count"]) == (False, 3_000)
    assert first["y"]["median"] == pytest.approx(rows["y"].median(), abs=0.3)
    assert first["y"]["missing"] == 300


def test_only_what_changed_is_looked_at_again(con: duckdb.DuckDBPyConnection) -> None:
    assert profile_marts(con, ["none_yet", "some"], "code") == 2
    before = con.sql("SELECT * FROM marts.mart_profile ORDER BY ALL").fetchall()
    assert profile_marts(con, ["none_yet", "some"], "code") == 0
    assert con.sql("SELECT * FROM marts.mart_profile ORDER BY ALL").fetchall() == before
    con.execute("INSERT INTO marts.none_yet VALUES ('a', 1.5, [1, 2])")
    assert profile_marts(con, ["none_yet", "some"], "code") == 1
    assert profile(con, "none_yet")["films"]["distinct_count"] == 1
    assert profile(con, "none_yet")["score"]["median"] == 1.5
    assert len(profile(con)) == 6
    # A mart that is gone is gone here, too, and other code looks anew.
    assert profile_marts(con, ["some"], "code") == 0
    assert profile(con, "none_yet") == {}
    assert profile_marts(con, ["some"], "newer code") == 1


def test_an_empty_table_has_a_row_a_column(con: duckdb.DuckDBPyConnection) -> None:
    profile_marts(con, ["none_yet"], "code")
    found = profile(con, "none_yet")
    assert [row["row_count"] for row in found.values()] == [0, 0, 0]
    assert found["score"]["median"] is None
