"""Judges a table of the warehouse by its suite, with Great Expectations.

Its SQL engine does not work with DuckDB's dialect, so the columns that the rules read are fetched as pandas frames.
Memory stays bounded for tables of any length: a long one is judged in parts, split by the hash of its key, so that rows
which must be compared with each other meet in the same part. Importing Great Expectations takes seconds, so it happens
at the first run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestration.quality.rules import NOT_EMPTY, SAME_COLUMNS, SAME_TYPES, SOME_COLUMNS, Rule, Severity, Suite

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

#: Failing rows kept of each rule: enough to see what is wrong, few enough to read.
FAILING_ROWS = 20
#: Size of a part, in fetched numbers; a string counts as eight of them (about 64 bytes with its Python object).
PART_UNITS = 24_000_000
_STRING_UNITS = 8
_ROWID = "__rowid"
_NOT_NULL = "ExpectColumnValuesToNotBeNull"
_BETWEEN = "ExpectColumnValuesToBeBetween"
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT")


@dataclass(frozen=True)
class Outcome:
    """How one rule fared on one table.

    ``observed`` says in words what was found: a count or column list, some of the unexpected values, or the error.
    ``unexpected_count`` counts rows (0 for a rule about the whole table). ``failing_rows`` are the first of them in
    table order, with all columns of the table; for a uniqueness rule the rows that share a key stand together.
    """

    name: str
    column: str
    kwargs: dict[str, Any]
    passed: bool
    severity: Severity
    observed: str
    unexpected_count: int
    failing_rows: list[dict[str, Any]]


@dataclass(frozen=True)
class SuiteResult:
    """How one table fared.

    ``passed`` when every rule held, ``blocking_failed`` when one did not that must stop what depends on the table.
    """

    table: str
    rows: int
    passed: bool
    blocking_failed: bool
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class _Verdict:
    """What Great Expectations said of one rule on one part."""

    passed: bool
    observed: str
    compared: int = 0
    unexpected: int = 0
    rowids: tuple[int, ...] = ()
    error: bool = False


def run_suite(con: duckdb.DuckDBPyConnection, suite: Suite, *, part_units: int = PART_UNITS) -> SuiteResult:
    """Judge ``suite.table`` as this connection sees it; nothing is written.

    Never raises for what the table is: a missing table or column, a wrong type, or an error inside an expectation is a
    failed blocking outcome that carries the message.
    """
    import duckdb

    try:
        types = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {_quoted(suite.table)}").fetchall()}
        rows = _scalar(con, f"SELECT count(*) FROM {_quoted(suite.table)}")
    except duckdb.Error as error:
        missing = Outcome("expect_table_to_exist", "", {}, False, "blocking", str(error).splitlines()[0], 0, [])
        return SuiteResult(suite.table, 0, False, True, (missing,))

    rules = suite.all_rules
    verdicts: dict[int, list[_Verdict]] = {number: [] for number in range(len(rules))}
    about_table = [number for number in verdicts if _is_about_table(rules[number])]
    for number in about_table:
        frame = _table_frame(con, suite.table, types, rows, rules[number])
        for verdict in _judge(frame, {number: _table_rule(rules[number])}).values():
            verdicts[number].append(verdict)
    about_rows = {number: rules[number] for number in verdicts if number not in about_table}
    for group in _passes(about_rows):
        for part in _parts(con, suite.table, types, rows, group, part_units):
            for number, verdict in part.items():
                verdicts[number].append(verdict)
    outcomes = tuple(_outcome(con, suite.table, rules[number], found) for number, found in verdicts.items())
    return SuiteResult(
        suite.table,
        rows,
        all(outcome.passed for outcome in outcomes),
        any(not outcome.passed and outcome.severity == "blocking" for outcome in outcomes),
        outcomes,
    )


def _is_about_table(rule: Rule) -> bool:
    return rule.expectation in (NOT_EMPTY, SAME_COLUMNS, SOME_COLUMNS, SAME_TYPES)


def _table_frame(
    con: duckdb.DuckDBPyConnection, table: str, types: dict[str, str], rows: int, rule: Rule
) -> pd.DataFrame:
    """The smallest frame that shows what the rule is about: the bare index, the bare header, or the description."""
    import pandas as pd

    if rule.expectation == NOT_EMPTY:
        return pd.DataFrame(index=pd.RangeIndex(rows))
    if rule.expectation == SAME_TYPES:
        expected = {name for name, _ in rule.kwargs["value_pairs_set"]}
        described = [(name, kind) for name, kind in types.items() if name in expected]
        return pd.DataFrame(described, columns=["column_name", "column_type"])
    return con.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0").df()


def _table_rule(rule: Rule) -> Rule:
    if rule.expectation == SAME_TYPES:
        return replace(rule, columns=("column_name", "column_type"))
    return rule


def _passes(rules: dict[int, Rule]) -> list[dict[int, Rule]]:
    """The rules in groups with at most one uniqueness rule each, because a table is split by one key at a time."""
    unique = [number for number, rule in rules.items() if rule.is_unique]
    extra = unique[1:]
    first = {number: rule for number, rule in rules.items() if number not in extra}
    return [group for group in (first, *({number: rules[number]} for number in extra)) if group]


def _parts(
    con: duckdb.DuckDBPyConnection,
    table: str,
    types: dict[str, str],
    rows: int,
    rules: dict[int, Rule],
    part_units: int,
) -> Iterator[dict[int, _Verdict]]:
    """The verdicts of each part of the table; one part when it is small."""
    import duckdb

    reads = _readers(rules, types)
    units = 1 + sum(_units(types[column], readers) for column, readers in reads.items())
    count = max(1, -(-rows * units // part_units))
    keys = next((rule.columns for rule in rules.values() if rule.is_unique), None)
    split = ", ".join(_identifier(key) for key in keys) if keys and set(keys) <= set(types) else "rowid"
    fetched = [_expression(column, types[column], names) for column, names in reads.items()]
    selected = ", ".join([f"rowid AS {_ROWID}", *fetched])
    prepared = {number: _with_epochs(rule, types) for number, rule in rules.items()}
    for part in range(count):
        where = f" WHERE hash({split}) % {count} = {part}" if count > 1 else ""
        try:
            frame = con.execute(f"SELECT {selected} FROM {_quoted(table)}{where}").df().set_index(_ROWID)
        except duckdb.Error as error:
            failed = _Verdict(False, str(error).splitlines()[0], error=True)
            yield dict.fromkeys(rules, failed)
            return
        yield _judge(frame, prepared)


def _units(kind: str, readers: set[str]) -> int:
    is_string = kind.startswith("VARCHAR") or kind.endswith("]")
    return _STRING_UNITS if is_string and readers != {_NOT_NULL} else 1


def _readers(rules: dict[int, Rule], types: dict[str, str]) -> dict[str, set[str]]:
    """The columns to fetch, each with the expectations that read it. A missing one is left to its rule."""
    reads: dict[str, set[str]] = {}
    for rule in rules.values():
        for column in rule.columns:
            if column in types:
                reads.setdefault(column, set()).add(rule.expectation)
    return reads


def _expression(column: str, kind: str, readers: set[str]) -> str:
    """How a column is fetched: whole where its values are judged, and in a type that pandas compares by vector.

    Great Expectations compares with bounds value by value in Python unless a column is int64, float64 or
    datetime64[ns]; nullable integers arrive as none of these, and the last cannot hold the years that a broken row may
    have. So what has bounds comes as DOUBLE (exact for integers below 2**53, and for half stars).
    """
    name = _identifier(column)
    if readers == {_NOT_NULL}:
        # Presence is all that is asked, and strings are what costs memory.
        return f"CASE WHEN {name} IS NOT NULL THEN 1.0::DOUBLE END AS {name}"
    if kind.startswith("DECIMAL"):
        return f"{name}::DOUBLE AS {name}"
    if _BETWEEN in readers and kind.startswith("TIMESTAMP"):
        return f"epoch_us({name})::DOUBLE AS {name}"
    if _BETWEEN in readers and kind in _NUMBERS:
        return f"{name}::DOUBLE AS {name}"
    return name


def _with_epochs(rule: Rule, types: dict[str, str]) -> Rule:
    """The rule with ISO dates as microseconds where its column is fetched so."""
    if len(rule.columns) != 1 or not types.get(rule.columns[0], "").startswith("TIMESTAMP"):
        return rule
    kwargs = {
        key: _epoch_us(value) if key in ("min_value", "max_value") and isinstance(value, str) else value
        for key, value in rule.kwargs.items()
    }
    return replace(rule, kwargs=kwargs)


def _epoch_us(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _judge(frame: pd.DataFrame, rules: dict[int, Rule]) -> dict[int, _Verdict]:
    """Great Expectations' verdict on each rule over one frame, by the rule's number."""
    gx = _great_expectations()
    # A context of its own: it keeps every batch that it has seen.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("warehouse").add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    verdicts: dict[int, _Verdict] = {}
    expectations = []
    for number, rule in rules.items():
        try:
            expectation = getattr(gx.expectations, rule.expectation)(**rule.arguments, meta={"rule": number})
        except (TypeError, ValueError) as error:
            verdicts[number] = _Verdict(False, str(error), error=True)
        else:
            expectations.append(expectation)
    result = batch.validate(
        gx.ExpectationSuite(name="suite", expectations=expectations),
        result_format={
            "result_format": "BASIC",
            "partial_unexpected_count": FAILING_ROWS,
            "include_unexpected_rows": True,
        },
    )
    for judged in result.results:
        number = judged.expectation_config.meta["rule"]
        verdicts[number] = _verdict(judged, rules[number])
    lost = set(rules) - set(verdicts)
    if lost:
        raise RuntimeError(f"Great Expectations gave no verdict on {[rules[number] for number in sorted(lost)]}")
    return verdicts


def _verdict(judged: Any, rule: Rule) -> _Verdict:
    error = _error_of(judged.exception_info or {})
    if error:
        return _Verdict(False, error, error=True)
    found = judged.result
    if "observed_value" in found:
        return _Verdict(bool(judged.success), str(found["observed_value"]))
    rows = found.get("unexpected_rows")
    described = found["partial_unexpected_list"] if rule.expectation == SAME_TYPES else []
    return _Verdict(
        bool(judged.success),
        ", ".join(f"{name} is {kind}" for name, kind in described),
        found["element_count"] - found.get("missing_count", 0),
        found["unexpected_count"],
        () if rows is None else tuple(int(rowid) for rowid in rows.index),
    )


def _error_of(info: dict[str, Any]) -> str:
    """The message of what was raised inside an expectation, or nothing. It comes flat, or one entry a failed metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")]
    return "; ".join(dict.fromkeys(messages))


def _outcome(con: duckdb.DuckDBPyConnection, table: str, rule: Rule, verdicts: Sequence[_Verdict]) -> Outcome:
    errors = list(dict.fromkeys(verdict.observed for verdict in verdicts if verdict.error))
    unexpected = 0 if _is_about_table(rule) else sum(verdict.unexpected for verdict in verdicts)
    compared = sum(verdict.compared for verdict in verdicts)
    rowids = sorted(rowid for verdict in verdicts for rowid in verdict.rowids)[:FAILING_ROWS]
    shown = [] if _is_about_table(rule) else _rows(con, table, rowids, rule.columns if rule.is_unique else ())
    if errors:
        passed, observed = False, "; ".join(errors)
    elif "mostly" in rule.kwargs:
        # A share is a property of the whole table: a part that falls short proves nothing.
        passed = compared == 0 or compared - unexpected >= rule.kwargs["mostly"] * compared
        observed = f"{unexpected / max(compared, 1):.1%} of {compared:,}"
    else:
        passed = bool(verdicts) and all(verdict.passed for verdict in verdicts)
        observed = "; ".join(verdict.observed for verdict in verdicts if verdict.observed) or _examples(rule, shown)
    return Outcome(
        name=_snake(rule.expectation),
        column=", ".join(rule.columns),
        kwargs=dict(rule.kwargs),
        passed=passed,
        # What could not be judged must not go on, whatever the rule is worth.
        severity="blocking" if errors else rule.severity,
        observed=observed,
        unexpected_count=unexpected,
        failing_rows=shown,
    )


def _examples(rule: Rule, failing_rows: list[dict[str, Any]]) -> str:
    """Up to five distinct failing values; nothing where NULL is what fails."""
    values = [[row[column] for column in rule.columns] for row in failing_rows]
    texts = [", ".join(str(part) for part in value) for value in values if value != [None]]
    return "; ".join(list(dict.fromkeys(texts))[:5])


def _rows(
    con: duckdb.DuckDBPyConnection, table: str, rowids: Sequence[int], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The whole rows; with ``keys`` all rows that share a key with them, side by side."""
    if not rowids:
        return []
    source = _quoted(table)
    chosen = f"rowid IN ({', '.join(map(str, rowids))})"
    if keys:
        named = [_identifier(key) for key in keys]
        same = " AND ".join(f"t.{key} IS NOT DISTINCT FROM k.{key}" for key in named)
        order = ", ".join(f"t.{key}" for key in named)
        query = (
            f"SELECT t.* FROM {source} AS t"
            f" SEMI JOIN (SELECT {', '.join(named)} FROM {source} WHERE {chosen}) AS k ON {same}"
            f" ORDER BY {order}, t.rowid LIMIT {FAILING_ROWS}"
        )
    else:
        query = f"SELECT * FROM {source} WHERE {chosen} ORDER BY rowid"
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _great_expectations() -> Any:
    """The library, silenced: no analytics, and no log of errors that become outcomes."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    return gx


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(table: str) -> str:
    return ".".join(_identifier(part) for part in table.split("."))


def _scalar(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def failing_rows_markdown(result: SuiteResult) -> str:
    """The result for a page: a table of the rules, then the failing rows of each that failed."""
    failed = [outcome for outcome in result.outcomes if not outcome.passed]
    head = f"**{result.table}**: {result.rows:,} rows, {len(result.outcomes)} rules, {len(failed)} failed"
    summary = _markdown(
        ["", "rule", "column", "expected", "failing rows", "found"],
        [
            [
                "ok" if outcome.passed else outcome.severity,
                outcome.name.removeprefix("expect_").replace("_", " "),
                outcome.column,
                _expected(outcome.kwargs),
                f"{outcome.unexpected_count:,}",
                outcome.observed,
            ]
            for outcome in sorted(result.outcomes, key=lambda outcome: (outcome.passed, outcome.severity))
        ],
    )
    sections = [head, summary]
    for outcome in failed:
        if outcome.failing_rows:
            names = list(outcome.failing_rows[0])
            shown = f"{len(outcome.failing_rows)} of {outcome.unexpected_count:,}"
            sections.append(f"**{outcome.column}: {outcome.name.removeprefix('expect_').replace('_', ' ')}** ({shown})")
            sections.append(_markdown(names, [list(row.values()) for row in outcome.failing_rows]))
    return "\n\n".join(sections)


def _expected(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in kwargs.items())


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """A value on one line of a Markdown table: NULL visible, the delimiter escaped, long text cut."""
    text = "NULL" if value is None else str(value)
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", " ").replace("\n", " ")
    return text if len(text) <= 120 else text[:117] + "..."
