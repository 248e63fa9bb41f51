"""The suites against the tables that the project makes, and against a good row and bad rows of each kind."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import duckdb
import pytest

from orchestration.analytics.python_marts import MADE_MARTS
from orchestration.ingestion.raw_tables import TABLES
from orchestration.quality.expectations import NOT_EMPTY
from orchestration.quality.runner import run_suite
from orchestration.quality.suites import SUITES

MARTS = Path(__file__).parents[3] / "dbt_project" / "models" / "marts"


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_raw_table_has_a_suite_of_its_columns(table) -> None:
    suite = SUITES[f"raw.{table.name}"]
    assert dict(suite.columns) == {column.name: column.type for column in table.columns}
    # A file may have a new column: that is told by a check of its own.
    assert suite.others


def test_every_mart_has_a_suite() -> None:
    marts = {f"marts.{path.stem}" for path in MARTS.rglob("*.sql")} | {mart.relation for mart in MADE_MARTS.values()}
    assert marts == {table for table in SUITES if table.startswith("marts.")}


@pytest.mark.parametrize("mart", MADE_MARTS.values(), ids=lambda mart: mart.name)
def test_a_mart_that_python_makes_has_a_suite_of_its_columns_and_describes_each(mart) -> None:
    assert dict(SUITES[mart.relation].columns) == {name: kind for name, kind, _ in mart.columns}
    assert all(description.endswith(".") for _, _, description in mart.columns)


def test_only_what_must_never_be_empty_has_to_have_rows() -> None:
    assert {table for table, suite in SUITES.items() if any(rule.expectation == NOT_EMPTY for rule in suite.rules)} == {
        "raw.ml_ratings",
        "raw.ml_movies",
        "marts.dim_movies",
        "marts.dim_users",
        "marts.fct_ratings",
        "marts.user_features",
        "marts.movie_features",
        "marts.movie_content",
    }


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.table)
def test_rules_read_only_columns_of_the_table_and_guard_a_key(suite) -> None:
    for rule in suite.rules:
        assert set(rule.columns) <= set(suite.columns), rule
    key = next((rule for rule in suite.rules if rule.is_unique and rule.severity == "blocking"), None)
    required = {rule.columns[0] for rule in suite.rules if "NotBeNull" in rule.expectation}
    # These have no key: a user may give a film the same tag twice, and rate a title of a platform again.
    assert key is not None or suite.table in ("raw.ml_tags", "raw.streaming_ratings")
    assert key is None or set(key.columns) <= required


def test_a_rule_stands_once_in_its_suite() -> None:
    for suite in SUITES.values():
        assert len({repr(rule) for rule in suite.rules}) == len(suite.rules), suite.table


@pytest.mark.parametrize(
    "table", ["raw.imdb_title_basics", "raw.ml_links", "raw.ml_genome_scores", "marts.dim_people", "marts.movie_tags"]
)
def test_what_may_be_left_out_passes_when_it_is_empty(table: str) -> None:
    with duckdb.connect() as con:
        _create(con, table)
        assert run_suite(con, SUITES[table]).passed


def test_a_new_column_of_a_raw_table_passes_and_a_missing_one_blocks() -> None:
    with duckdb.connect() as con:
        _create(con, "raw.imdb_title_ratings")
        con.execute("INSERT INTO raw.imdb_title_ratings VALUES ('tt0000001', 5.0, 10)")
        con.execute("ALTER TABLE raw.imdb_title_ratings ADD COLUMN mood VARCHAR")
        assert run_suite(con, SUITES["raw.imdb_title_ratings"]).passed
        con.execute('ALTER TABLE raw.imdb_title_ratings DROP COLUMN "numVotes"')
        assert run_suite(con, SUITES["raw.imdb_title_ratings"]).blocking_failed


def test_empty_ratings_block() -> None:
    with duckdb.connect() as con:
        _create(con, "raw.ml_ratings")
        result = run_suite(con, SUITES["raw.ml_ratings"])
    assert result.blocking_failed
    assert [outcome.name for outcome in result.outcomes if not outcome.passed] == [
        "expect_table_row_count_to_be_between"
    ]


def test_a_film_with_an_unknown_method_and_an_impossible_confidence_blocks() -> None:
    with duckdb.connect() as con:
        _create(con, "marts.dim_movies")
        con.execute(
            """
            INSERT INTO marts.dim_movies BY NAME
            SELECT 1 AS movie_key, 'e' AS edition, 1 AS movie_id, [1] AS movie_ids, true AS in_movielens,
                'T' AS title, 2000 AS year, [] AS genres, 'link' AS match_method, 1 AS match_confidence,
                'https://x' AS link_url, 'imdb_title' AS link_kind, 3 AS rating_count, 4.5 AS rating_mean
            """
        )
        assert run_suite(con, SUITES["marts.dim_movies"]).passed
        con.execute(
            """
            INSERT INTO marts.dim_movies BY NAME
            SELECT * REPLACE (2 AS movie_key, 2 AS movie_id, 'guess' AS match_method, 1.5 AS match_confidence,
                1492 AS year) FROM marts.dim_movies
            """
        )
        result = run_suite(con, SUITES["marts.dim_movies"])
    failed = {
        (outcome.column, outcome.severity): outcome.failing_rows for outcome in result.outcomes if not outcome.passed
    }
    assert set(failed) == {("match_method", "blocking"), ("match_confidence", "blocking"), ("year", "warning")}
    assert all([row["movie_key"] for row in rows] == [2] for rows in failed.values())


def test_films_that_only_imdb_has_share_no_id_of_an_edition() -> None:
    with duckdb.connect() as con:
        _create(con, "marts.dim_movies")
        con.execute(
            """
            INSERT INTO marts.dim_movies BY NAME
            SELECT key AS movie_key, [] AS movie_ids, false AS in_movielens, 'T' AS title, 'tt000000' || key AS tconst,
                [] AS genres, 'imdb_only' AS match_method, 1 AS match_confidence, 'https://x' AS link_url,
                'imdb_title' AS link_kind, 0 AS rating_count
            FROM range(1, 4) AS keys (key)
            """
        )
        assert run_suite(con, SUITES["marts.dim_movies"]).passed


def test_nothing_imports_the_library_before_it_is_needed() -> None:
    """Importing it takes seconds, and the graph's definitions import these modules."""
    for path in (Path(__file__).parents[3] / "orchestration" / "quality").glob("*.py"):
        tree = ast.parse(path.read_text())
        top = [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not [line for line in top if re.search("great_expectations|pandas|matplotlib", line)], path


def _create(con: duckdb.DuckDBPyConnection, table: str) -> None:
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
    columns = ", ".join(f'"{name}" {kind}' for name, kind in SUITES[table].columns.items())
    con.execute(f"CREATE TABLE {table} ({columns})")
