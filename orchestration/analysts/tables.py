"""The marts that no SQL makes, as data: columns, types and descriptions, which also stand in the published copy."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from orchestration.warehouse import quote


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

#: Every such mart, by its name.
MADE_MARTS: dict[str, MadeMart] = {mart.name: mart for mart in (USER_SEGMENTS, RECOMMENDATIONS)}
