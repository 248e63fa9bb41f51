"""The marts that no SQL makes, as data: columns, types and descriptions, which also stand in the published copy."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import polars as pl

from orchestration.storage.warehouse import quote

_POLARS: dict[str, type[pl.DataType]] = {
    "BIGINT": pl.Int64,
    "INTEGER": pl.Int32,
    "DOUBLE": pl.Float64,
    "VARCHAR": pl.String,
    "BOOLEAN": pl.Boolean,
    "TIMESTAMP": pl.Datetime,
}


@dataclass(frozen=True)
class MadeMart:
    """One mart of the schema ``marts`` made by Python. Columns are (name, DuckDB type, description), in order."""

    name: str
    description: str
    columns: tuple[tuple[str, str, str], ...]

    @property
    def relation(self) -> str:
        """``marts.<name>``."""
        return f"marts.{self.name}"

    @property
    def spoken(self) -> dict[str, str]:
        """The description of each column."""
        return {name: description for name, _, description in self.columns}

    @property
    def select_list(self) -> str:
        """The columns with their types, for a SELECT from rows that have them under the same names."""
        return ", ".join(f"{quote(name)}::{kind} AS {quote(name)}" for name, kind, _ in self.columns)

    @property
    def polars_schema(self) -> dict[str, type[pl.DataType]]:
        """The columns as polars types, for rows that are made one by one."""
        return {name: _POLARS[kind] for name, kind, _ in self.columns}

    def replace(self, con: duckdb.DuckDBPyConnection, rows: str) -> None:
        """Make the table hold what the query ``rows`` gives, in one transaction."""
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        con.execute(f"CREATE OR REPLACE TABLE {quote(self.relation)} AS SELECT {self.select_list} FROM ({rows})")


USER_SEGMENTS = MadeMart(
    "user_segments",
    "The segment that each user belongs to, by how often, how lately and what he rates (user_habits), found by a seeded"
    " k-means. One row a user_key with ratings of the edition or the app.",
    (
        ("user_key", "BIGINT", "Our key of the user."),
        ("segment", "INTEGER", "Number of the segment, from 1; the first rates the most."),
        (
            "segment_name",
            "VARCHAR",
            (
                "What sets the segment apart: how much its users rate, how long ago they last did, and the genre that"
                " they rate more than others."
            ),
        ),
        (
            "distance",
            "DOUBLE",
            "How far the user is from the segment's centre, in standard deviations of the habits; small is typical.",
        ),
    ),
)

RECOMMENDATIONS = MadeMart(
    "recommendations",
    "What the promoted model recommends: up to 50 unseen films a user. One row a user_key and rank.",
    (
        ("user_key", "BIGINT", "Our key of the user."),
        ("rank", "INTEGER", "Place in the user's list, from 1."),
        ("movie_key", "BIGINT", "Our key of the film."),
        ("score", "DOUBLE", "The model's score; it orders the films of one user and compares no two users."),
        (
            "reason_kind",
            "VARCHAR",
            (
                "like_film: the model holds reason_movie_key, which the user rated 4 stars or more, for like the film;"
                " popular: the model counts ratings; overall: no single film stands out."
            ),
        ),
        ("reason_movie_key", "BIGINT", "Of the films that the user liked the one most like it; NULL without one."),
        ("reason", "VARCHAR", "The reason as a sentence."),
        ("model_version", "VARCHAR", "The version of the bundle that scored, as the API names it."),
    ),
)

MART_PROFILE = MadeMart(
    "mart_profile",
    "What the columns of the marts hold. One row a mart and column_name.",
    (
        ("mart", "VARCHAR", "The mart, without its schema."),
        ("column_name", "VARCHAR", "The column."),
        ("position", "INTEGER", "Its place in the table, from 1."),
        ("type", "VARCHAR", "Its DuckDB type."),
        ("row_count", "BIGINT", "Rows of the mart."),
        ("missing", "BIGINT", "Rows in which it is NULL."),
        ("distinct_count", "BIGINT", "Different values; an estimate where is_exact is false."),
        ("is_exact", "BOOLEAN", "Whether all rows were taken for everything; false above 200,000 of them."),
        ("least", "VARCHAR", "The least number or time; NULL for texts, lists and keys."),
        ("greatest", "VARCHAR", "The greatest number or time; NULL for texts, lists and keys."),
        ("q25", "DOUBLE", "A quarter of the values is not above it; this and what follows is of numbers alone."),
        ("median", "DOUBLE", "Half of the values is not above it."),
        ("q75", "DOUBLE", "Three quarters of the values are not above it."),
        ("mean", "DOUBLE", "Their mean."),
        ("stddev", "DOUBLE", "Their standard deviation."),
        ("outlier_share", "DOUBLE", "Share of values more than 1.5 interquartile ranges outside q25 and q75."),
        ("sampled_rows", "BIGINT", "Rows that quantiles, mean and outliers are of."),
        ("content_version", "VARCHAR", "Version of the content that was looked at."),
    ),
)

MART_CORRELATIONS = MadeMart(
    "mart_correlations",
    "How the numbers of a mart go together. One row a mart and pair of its numbers that both vary.",
    (
        ("mart", "VARCHAR", "The mart, without its schema."),
        ("column_a", "VARCHAR", "One column."),
        ("column_b", "VARCHAR", "The other one, which comes later in the table."),
        ("correlation", "DOUBLE", "Pearson's, -1 to 1, of at most about 200,000 rows of the mart."),
        ("sampled_rows", "BIGINT", "Rows in which both are there."),
    ),
)

CHECK_RESULTS = MadeMart(
    "check_results",
    "What the newest run of each check said. One row a check of a table, file or model; those of the published copy's"
    " own tables about runs come after it.",
    (
        ("asset", "VARCHAR", "What was judged, e.g. marts/dim_movies."),
        ("check_name", "VARCHAR", "The check."),
        ("is_blocking", "BOOLEAN", "Whether a failure stops what is downstream."),
        ("status", "VARCHAR", "passed, failed, or never where it has not run yet."),
        ("severity", "VARCHAR", "What a failure is: error or warn; NULL where it has not run."),
        ("description", "VARCHAR", "What the check says of itself."),
        ("checked_at", "TIMESTAMP", "When, UTC."),
        ("run_id", "VARCHAR", "The run that judged."),
    ),
)

RUN_HISTORY = MadeMart(
    "run_history",
    "The pipeline's runs, the newest 1,000. One row a run_id; the run that wrote this table is still STARTED in it.",
    (
        ("run_id", "VARCHAR", "Dagster's id of the run."),
        ("job", "VARCHAR", "What was run."),
        ("reason", "VARCHAR", "Why it was started; NULL where nobody said so."),
        ("status", "VARCHAR", "SUCCESS, FAILURE, STARTED, ..."),
        ("started_at", "TIMESTAMP", "When it began, UTC; NULL before that."),
        ("ended_at", "TIMESTAMP", "When it ended, UTC; NULL before that."),
        ("seconds", "DOUBLE", "How long it took."),
        ("asset_count", "INTEGER", "Assets that it was asked for; NULL where it was asked for all of its job."),
    ),
)

ASSET_LINEAGE = MadeMart(
    "asset_lineage",
    "What is made from what. One row an upstream and downstream asset that follow each other directly.",
    (
        ("upstream", "VARCHAR", "What is read, e.g. raw/ml_ratings."),
        ("downstream", "VARCHAR", "What is made from it."),
        ("upstream_group", "VARCHAR", "The group of upstream: upstream, raw, staging, intermediate, marts, ..."),
        ("downstream_group", "VARCHAR", "The group of downstream."),
    ),
)

#: Marts that tell of runs: what they hold differs from home to home, whatever the data.
OF_RUNS = frozenset({CHECK_RESULTS.name, RUN_HISTORY.name})

#: Every such mart, by its name.
MADE_MARTS: dict[str, MadeMart] = {
    mart.name: mart
    for mart in (
        USER_SEGMENTS,
        RECOMMENDATIONS,
        MART_PROFILE,
        MART_CORRELATIONS,
        CHECK_RESULTS,
        RUN_HISTORY,
        ASSET_LINEAGE,
    )
}
