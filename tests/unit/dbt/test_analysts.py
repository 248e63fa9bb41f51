"""The marts of viewers and of films by month, each against an independent computation in polars on a small sample."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from orchestration.synthetic.sample import SampleSpec, write_sample
from tests.unit.dbt.warehouses import Warehouse

MARTS = ("fct_movie_popularity", "fct_retention", "fct_user_sessions")


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Warehouse, pl.DataFrame]]:
    """Build the marts on the sample's ratings; yield them and the ratings: user_key, movie_key, rating, rated_at."""
    folder = tmp_path_factory.mktemp("analysts")
    write_sample(folder / "sample", SampleSpec(users=80, movies=120, ratings=4_000, broken=False))
    ratings = pl.read_csv(folder / "sample" / "sample" / "ratings.csv").select(
        user_key="userId",
        movie_key="movieId",
        rating="rating",
        rated_at=pl.from_epoch("timestamp", time_unit="s").cast(pl.Datetime("us")),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        warehouse = Warehouse(folder)
        with duckdb.connect(warehouse.path) as con:
            con.register("given", ratings.to_arrow())
            con.execute("CREATE SCHEMA marts")
            con.execute(
                "CREATE TABLE marts.fct_ratings AS SELECT user_key, movie_key, 'sample' AS edition,"
                " rating::DECIMAL(2,1) AS rating, rated_at FROM given"
            )
        warehouse.dbt("run", "--select", *MARTS)
        yield warehouse, ratings


def test_popularity_by_month_is_that_of_polars(marts: tuple[Warehouse, pl.DataFrame]) -> None:
    warehouse, ratings = marts
    months = ratings.group_by("movie_key", month=pl.col("rated_at").dt.truncate("1mo").dt.date()).agg(
        pl.len().alias("count"), pl.col("rating").mean().alias("mean")
    )
    # All pairs of a film's months: nothing of the way in which the mart is made.
    before = (
        months.join(months, on="movie_key", suffix="_other")
        .filter(
            pl.col("month_other") < pl.col("month"),
            pl.col("month_other").dt.offset_by("3mo") >= pl.col("month"),
        )
        .group_by("movie_key", "month")
        .agg(pl.col("count_other").sum().alias("before"))
    )
    wanted = months.join(before, on=["movie_key", "month"], how="left").fill_null(0)
    found = warehouse.read(
        "SELECT movie_key, month, rating_count, rating_mean::DOUBLE AS mean, rating_count_before,"
        " trend::DOUBLE AS trend"
        " FROM marts.fct_movie_popularity ORDER BY ALL"
    )
    assert len(found) == wanted.height > 1_000
    assert sum(row["before"] > 0 for row in wanted.iter_rows(named=True)) > 100
    for row, other in zip(found, wanted.sort("movie_key", "month").iter_rows(named=True), strict=True):
        assert (row["movie_key"], row["month"], row["rating_count"], row["rating_count_before"]) == (
            other["movie_key"],
            other["month"],
            other["count"],
            other["before"],
        )
        assert row["mean"] == pytest.approx(other["mean"], abs=6e-4)
        assert row["trend"] == pytest.approx(other["count"] - other["before"] / 3, abs=6e-3)


def test_retention_is_that_of_polars(marts: tuple[Warehouse, pl.DataFrame]) -> None:
    warehouse, ratings = marts
    number = pl.col("rated_at").dt.year() * 12 + pl.col("rated_at").dt.month()
    active = ratings.select("user_key", number=number.cast(pl.Int32)).unique()
    cohorts = active.with_columns(cohort=pl.col("number").min().over("user_key"))
    sizes = cohorts.group_by("cohort").agg(pl.col("user_key").n_unique().alias("size"))
    wanted = (
        cohorts.group_by("cohort", since=pl.col("number") - pl.col("cohort"))
        .agg(pl.len().alias("active"))
        .join(sizes, on="cohort")
        .select("cohort", "since", "size", "active")
    )
    found = warehouse.read(
        "SELECT year(cohort_month) * 12 + month(cohort_month) AS cohort, months_since, cohort_users, active_users,"
        " retention FROM marts.fct_retention"
    )
    assert sorted(tuple(row.values())[:4] for row in found) == sorted(wanted.rows())
    assert all(row["retention"] == pytest.approx(row["active_users"] / row["cohort_users"], abs=1e-6) for row in found)
    assert any(0 < row["retention"] < 1 for row in found)


def test_sessions_are_those_of_polars(marts: tuple[Warehouse, pl.DataFrame]) -> None:
    warehouse, ratings = marts
    wanted = (
        ratings.sort("user_key", "rated_at")
        .with_columns(gap=pl.col("rated_at").diff().over("user_key"))
        .with_columns(session=(pl.col("gap").is_null() | (pl.col("gap") > pl.duration(minutes=30))).cast(pl.Int32))
        .with_columns(session=pl.col("session").cum_sum().over("user_key"))
        .group_by("user_key", "session")
        .agg(pl.col("rated_at").min().alias("start"), pl.col("rated_at").max().alias("end"), pl.len().alias("count"))
        .sort("user_key", "session")
    )
    found = warehouse.read(
        "SELECT user_key, session_number, started_at, ended_at, rating_count FROM marts.fct_user_sessions"
        " ORDER BY user_key, session_number"
    )
    assert [tuple(row.values()) for row in found] == wanted.rows()
    assert wanted["count"].max() > 1
