"""Each kind of rule on a table with one planted bad row; Great Expectations itself judges."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import duckdb
import pytest

from orchestration.quality.expectations import (
    Rule,
    Suite,
    between,
    matches,
    not_before,
    not_empty,
    not_null,
    one_of,
    unique,
)
from orchestration.quality.runner import Outcome, SuiteResult, failing_rows_markdown, run_suite, run_suites

COLUMNS = {
    "id": "INTEGER",
    "film": "INTEGER",
    "rating": "DECIMAL(2,1)",
    "tconst": "VARCHAR",
    "share": "DOUBLE",
    "first_at": "TIMESTAMP",
    "last_at": "TIMESTAMP",
    "genres": "VARCHAR[]",
}
HALF_STARS = [step / 2 for step in range(1, 11)]
TCONST = r"^tt[0-9]{7,}\Z"
KEYS = (unique("id"), unique("film", "tconst"))
RULES = (
    not_empty(),
    *not_null("id", "tconst", "genres"),
    *KEYS,
    one_of("rating", HALF_STARS),
    between("share", 0, 1),
    between("film", 1),
    between("first_at", "1995-01-01", "2100-01-01"),
    matches("tconst", TCONST),
    not_before("last_at", "first_at"),
)
SUITE = Suite("raw.things", COLUMNS, RULES)
GOOD_ROWS = 200


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA raw")
        typed = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE raw.things ({typed})")
        connection.execute(
            f"""
            INSERT INTO raw.things
            SELECT i, i % 7 + 1, (i % 10 + 1) / 2, printf('tt%07d', i), (i % 11) / 10,
                TIMESTAMP '2000-01-01' + i * INTERVAL 1 DAY, TIMESTAMP '2001-01-01' + i * INTERVAL 1 DAY, ['Drama']
            FROM range({GOOD_ROWS}) AS t (i)
            """
        )
        yield connection


def plant(con: duckdb.DuckDBPyConnection, **changes: object) -> tuple[object, ...]:
    """Add a row that differs from a good one in ``changes`` only."""
    good = {
        "id": 1000,
        "film": 3,
        "rating": Decimal("3.5"),
        "tconst": "tt0001000",
        "share": 0.5,
        "first_at": "2010-01-01",
        "last_at": "2011-01-01",
        "genres": ["Drama"],
    }
    row = list((good | changes).values())
    con.execute(f"INSERT INTO raw.things VALUES ({', '.join('?' * len(row))})", row)
    return con.execute("SELECT * FROM raw.things ORDER BY rowid DESC LIMIT 1").fetchall()[0]


def failures(result: SuiteResult) -> list[Outcome]:
    return [outcome for outcome in result.outcomes if not outcome.passed]


def the_failure(result: SuiteResult) -> Outcome:
    (failure,) = failures(result)
    return failure


def test_good_rows_pass_every_rule(con: duckdb.DuckDBPyConnection) -> None:
    result = run_suite(con, SUITE)
    assert failures(result) == []
    assert (result.passed, result.blocking_failed, result.rows) == (True, False, GOOD_ROWS)
    assert len(result.outcomes) == len(RULES) + 2  # the columns and their types


#: What is planted -> the rule that must find it, and nothing else may.
BAD_ROWS: tuple[tuple[dict[str, object], str, str], ...] = (
    ({"genres": None}, "expect_column_values_to_not_be_null", "genres"),
    ({"id": None}, "expect_column_values_to_not_be_null", "id"),
    ({"rating": Decimal("3.3")}, "expect_column_values_to_be_in_set", "rating"),
    ({"share": 1.0000001}, "expect_column_values_to_be_between", "share"),
    ({"film": 0}, "expect_column_values_to_be_between", "film"),
    ({"tconst": "tt123"}, "expect_column_values_to_match_regex", "tconst"),
    ({"last_at": "2009-12-31"}, "expect_column_pair_values_a_to_be_greater_than_b", "last_at, first_at"),
    ({"first_at": "1994-12-31 23:59:59.999999"}, "expect_column_values_to_be_between", "first_at"),
)


def test_each_bad_row_fails_its_rule_alone_and_is_shown_whole(con: duckdb.DuckDBPyConnection) -> None:
    planted = {
        (rule, column): dict(
            zip(COLUMNS, plant(con, **{"id": 2000 + number, "tconst": f"tt000200{number}"} | bad), strict=True)
        )
        for number, (bad, rule, column) in enumerate(BAD_ROWS)
    }
    result = run_suite(con, SUITE)
    assert result.blocking_failed
    assert {(outcome.name, outcome.column): outcome.failing_rows for outcome in failures(result)} == {
        rule: [row] for rule, row in planted.items()
    }
    assert {(outcome.unexpected_count, outcome.severity) for outcome in failures(result)} == {(1, "blocking")}


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        # No rating, though a DECIMAL(2,1) holds it.
        (one_of("rating", HALF_STARS), {"rating": Decimal("0.0")}),
        # A year that nanoseconds cannot hold.
        (between("first_at", "1995-01-01", "2100-01-01"), {"first_at": "9999-01-01"}),
        # `$` would match before the line feed.
        (matches("tconst", TCONST), {"tconst": "tt0001000\n"}),
    ],
)
def test_a_bad_value_at_the_edge_is_found(con: duckdb.DuckDBPyConnection, rule: Rule, bad: dict[str, object]) -> None:
    planted = plant(con, **bad)
    failure = the_failure(run_suite(con, Suite("raw.things", {}, (rule,), others=True)))
    assert failure.failing_rows == [dict(zip(COLUMNS, planted, strict=True))]


def test_rows_of_one_key_are_shown_side_by_side(con: duckdb.DuckDBPyConnection) -> None:
    plant(con, id=7, film=5)
    plant(con, film=150 % 7 + 1, tconst="tt0000150")
    single, compound = failures(run_suite(con, Suite("raw.things", COLUMNS, KEYS)))
    assert (single.column, single.unexpected_count) == ("id", 2)
    assert [(row["id"], row["film"]) for row in single.failing_rows] == [(7, 1), (7, 5)]
    assert (compound.column, compound.unexpected_count) == ("film, tconst", 2)
    assert [(row["tconst"], row["id"]) for row in compound.failing_rows] == [("tt0000150", 150), ("tt0000150", 1000)]


def test_judging_in_parts_finds_what_judging_at_once_finds(con: duckdb.DuckDBPyConnection) -> None:
    for number in range(30):
        plant(con, id=2000 + number % 29, film=number % 28 + 1, rating=Decimal("0.1"), tconst=f"nm{number % 28}")
    con.execute("DELETE FROM raw.things WHERE id BETWEEN 20 AND 40")
    rules = (
        *KEYS,
        one_of("rating", HALF_STARS),
        *not_null("share", mostly=0.9),
        matches("tconst", TCONST),
        matches("tconst", "^(?:tt|nm)[0-9]+"),
        one_of("tconst", ["nm1"]),
        not_before("first_at", "last_at"),
    )
    suite = Suite("raw.things", COLUMNS, rules)
    whole = run_suite(con, suite)
    assert [outcome.unexpected_count for outcome in failures(whole)] == [2, 4, 30, 30, 207, 209]
    assert run_suite(con, suite, part_units=1_000) == whole


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"id": None}, "id"),
        ({"genres": None}, "genres"),
        ({"share": 1.5}, "share"),
        ({"share": -0.1}, "share"),
        ({"film": 0}, "film"),
        ({"rating": Decimal("9.5")}, "rating"),
        ({"first_at": "1994-12-31 23:59:59"}, "first_at"),
        ({"first_at": "2100-01-01 00:00:01", "last_at": "2100-01-02 00:00:00"}, "first_at"),
    ],
)
def test_one_bad_row_of_a_long_table_is_found_whatever_stands_for_the_others(
    con: duckdb.DuckDBPyConnection, change: dict[str, object], column: str
) -> None:
    # DuckDB takes NaN for the greatest number; it must not hide one that is too great.
    con.execute("UPDATE raw.things SET share = 'NaN' WHERE id = 7")
    assert run_suite(con, SUITE, part_units=200).passed
    plant(con, **change)
    result = run_suite(con, SUITE, part_units=200)
    assert result == run_suite(con, SUITE)
    failure = the_failure(result)
    assert (failure.column, failure.unexpected_count, len(failure.failing_rows)) == (column, 1, 1)


def test_a_long_column_without_any_value_breaks_presence_alone(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE raw.things SET share = NULL, rating = NULL, first_at = NULL, genres = NULL")
    failure = the_failure(run_suite(con, SUITE, part_units=200))
    assert (failure.column, failure.unexpected_count) == ("genres", GOOD_ROWS)


def test_missing_keys_are_no_duplicates_in_a_long_table_either(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE raw.things SET tconst = NULL WHERE id % 2 = 0")
    suite = Suite("raw.things", COLUMNS, (unique("tconst"),))
    assert run_suite(con, suite, part_units=200).passed
    plant(con, tconst="tt0000001")
    assert [row["id"] for row in the_failure(run_suite(con, suite, part_units=200)).failing_rows] == [1, 1000]


@pytest.mark.parametrize("order", ["id", "id DESC", "hash(id)"])
def test_a_key_that_stands_twice_is_found_in_whatever_order_a_long_table_is(
    con: duckdb.DuckDBPyConnection, order: str
) -> None:
    con.execute(f"CREATE OR REPLACE TABLE raw.things AS FROM raw.things ORDER BY {order}")
    assert run_suite(con, SUITE, part_units=200).passed
    con.execute("INSERT INTO raw.things SELECT * REPLACE (1_000 AS id) FROM raw.things WHERE id = 30")
    failure = the_failure(run_suite(con, SUITE, part_units=200))
    assert (failure.column, [row["id"] for row in failure.failing_rows]) == ("film, tconst", [30, 1000])


@pytest.mark.parametrize(
    "tconst", ["tt", "1234567", "tt12345a67", "ttttttttttttt1234567", "tt1234567 ", "ťt1234567", ""]
)
def test_an_id_of_another_shape_is_found_among_those_that_stand_for_millions(
    con: duckdb.DuckDBPyConnection, tconst: str
) -> None:
    suite = Suite("raw.things", COLUMNS, (matches("tconst", TCONST),))
    plant(con, tconst=tconst)
    failure = the_failure(run_suite(con, suite, part_units=200))
    assert [row["tconst"] for row in failure.failing_rows] == [tconst]


def test_suites_judged_side_by_side_find_what_each_finds_alone(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE raw.others AS FROM raw.things")
    plant(con, share=2.0)
    suites = [Suite(f"raw.{name}", COLUMNS, RULES) for name in ("things", "others", "missing", "things")]
    assert run_suites(con, suites) == [run_suite(con, suite) for suite in suites]


@pytest.mark.parametrize("pattern", ["^tt1", r"^\d", "[0-5]", r"\w+"])
def test_a_pattern_that_tells_digits_apart_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        matches("tconst", pattern)


def test_many_bad_rows_are_counted_and_the_first_twenty_shown(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE raw.things SET share = -1 WHERE id >= 50")
    suite = Suite("raw.things", COLUMNS, (between("share", 0, 1),))
    failure = the_failure(run_suite(con, suite, part_units=200))
    assert failure.unexpected_count == GOOD_ROWS - 50
    assert [row["id"] for row in failure.failing_rows] == list(range(50, 70))
    assert failure.observed == "-1.0"


def test_values_that_may_be_missing_are_not_judged(con: duckdb.DuckDBPyConnection) -> None:
    plant(con, rating=None, share=None, film=None, first_at=None)
    assert run_suite(con, SUITE).passed


def test_a_warning_fails_the_suite_but_does_not_block(con: duckdb.DuckDBPyConnection) -> None:
    plant(con, share=2.0)
    result = run_suite(con, Suite("raw.things", COLUMNS, (between("share", 0, 1, severity="warning"),)))
    assert the_failure(result).severity == "warning"
    assert (result.passed, result.blocking_failed) == (False, False)


@pytest.mark.parametrize("part_units", [24_000_000, 150], ids=["in one part", "in many parts"])
def test_a_share_is_judged_over_the_whole_table(con: duckdb.DuckDBPyConnection, part_units: int) -> None:
    # All ten are in the first rows of the table: 5% of it.
    con.execute("UPDATE raw.things SET tconst = NULL WHERE id < 10")
    allowed = Suite("raw.things", COLUMNS, not_null("tconst", mostly=0.95))
    strict = Suite("raw.things", COLUMNS, not_null("tconst", mostly=0.951))
    assert run_suite(con, allowed, part_units=part_units).passed
    failure = the_failure(run_suite(con, strict, part_units=part_units))
    assert (failure.observed, failure.unexpected_count) == ("5.0% of 200", 10)


def test_an_empty_table_blocks_only_where_rows_are_a_must(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("DELETE FROM raw.things")
    failure = the_failure(run_suite(con, SUITE))
    assert (failure.name, failure.observed, failure.severity) == (
        "expect_table_row_count_to_be_between",
        "0",
        "blocking",
    )
    optional = Suite("raw.things", COLUMNS, tuple(rule for rule in RULES if rule != not_empty()))
    assert run_suite(con, optional).passed


def test_a_missing_column_blocks_even_a_rule_that_only_warns(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("ALTER TABLE raw.things DROP COLUMN share")
    rules = (between("share", 0, 1, severity="warning"), unique("share", "id"), *not_null("id"))
    result = run_suite(con, Suite("raw.things", {"id": "INTEGER", "share": "DOUBLE"}, rules, others=True))
    columns, one, other = failures(result)
    assert columns.name == "expect_table_columns_to_match_set"
    for failure in (one, other):
        assert failure.severity == "blocking"
        assert '"share"' in failure.observed
    assert result.blocking_failed


def test_a_column_of_another_type_blocks_and_is_named(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("ALTER TABLE raw.things ALTER film TYPE VARCHAR")
    types, rule = failures(run_suite(con, Suite("raw.things", COLUMNS, (between("film", 1),))))
    assert (types.name, types.observed) == ("expect_column_pair_values_to_be_in_set", "film is VARCHAR")
    assert (rule.name, rule.column) == ("expect_column_values_to_be_between", "film")
    assert "same type" in rule.observed


def test_moved_and_surplus_columns_block_unless_others_are_allowed(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE raw.moved AS SELECT film, id, rating FROM raw.things")
    expected = {"id": "INTEGER", "film": "INTEGER"}
    failure = the_failure(run_suite(con, Suite("raw.moved", expected, ())))
    assert failure.name == "expect_table_columns_to_match_ordered_list"
    assert failure.observed == "['film', 'id', 'rating']"
    assert run_suite(con, Suite("raw.moved", expected, (), others=True)).passed


def test_a_missing_table_blocks_with_its_name(con: duckdb.DuckDBPyConnection) -> None:
    result = run_suite(con, Suite("raw.nowhere", COLUMNS, RULES))
    assert result.blocking_failed
    assert "nowhere" in the_failure(result).observed


def test_an_expectation_that_cannot_be_built_fails_instead_of_passing(con: duckdb.DuckDBPyConnection) -> None:
    broken = Rule("ExpectColumnValuesToBeBetween", ("share",), {"min_value": 2, "max_value": 1}, "warning")
    failure = the_failure(run_suite(con, Suite("raw.things", COLUMNS, (broken,))))
    assert failure.severity == "blocking"
    assert "min_value" in failure.observed


def test_what_a_transaction_has_not_committed_is_judged(con: duckdb.DuckDBPyConnection) -> None:
    con.begin()
    plant(con, share=9.0)
    assert the_failure(run_suite(con, Suite("raw.things", COLUMNS, (between("share", 0, 1),)))).column == "share"


def test_the_page_lists_failed_rules_first_and_their_rows(con: duckdb.DuckDBPyConnection) -> None:
    plant(con, tconst="a|b\nc", film=9)
    rules = (*not_null("id"), matches("tconst", TCONST), not_empty())
    page = failing_rows_markdown(run_suite(con, Suite("raw.things", COLUMNS, rules)))
    lines = page.splitlines()
    assert lines[0] == "**raw.things**: 201 rows, 5 rules, 1 failed"
    assert lines[4].startswith("| blocking | tconst | matches ^tt[0-9]{7,}")
    assert lines[5].startswith("| ok |")
    assert r"| 1000 | 9 | 3.5 | a\|b c | 0.5 |" in page
