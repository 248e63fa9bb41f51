"""Judges a table of the warehouse by its suite, with Great Expectations.

Its SQL engine does not work with DuckDB's dialect, so the columns that the rules read are fetched as pandas frames.
Memory stays bounded for tables of any length: a long one is judged by what its rules can tell apart (whether a value is
there, the least and the greatest, the distinct ones), which is exact, and in parts where that does not do. Nothing is
sampled: the verdict is on every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestration.quality.expectations import NOT_EMPTY, SAME_TYPES, Rule, Severity, Suite, unique
from orchestration.quality.gx_adapter import FAILING_ROWS, Verdict, judge
from orchestration.visualization.charts import markdown_rows

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

#: Size of a part, in fetched numbers; a string counts as eight of them (about 64 bytes with its Python object).
PART_UNITS = 24_000_000
#: A table of so many rows at most is simply fetched: what stands for its rows would take as long to find.
_FEW_ROWS = 50_000
_STRING_UNITS = 8
#: Hashes of keys that are counted at once: 30 to 40 bytes each.
_KEYS_AT_ONCE = 30_000_000
#: Bytes before the digits at the end of an id: ``tt``, ``nm``, and some to spare.
_SHORT_BEGINNING = 8
#: Up to so many distinct values of a column, or pairs of two, are judged for all of its rows.
_DISTINCT_VALUES = 50_000
#: Suites that are judged side by side.
_AT_ONCE = 2
_ROWID = "__rowid"
_NOT_NULL = "ExpectColumnValuesToNotBeNull"
_BETWEEN = "ExpectColumnValuesToBeBetween"
_MATCHES = "ExpectColumnValuesToMatchRegex"
_ONE_OF = "ExpectColumnValuesToBeInSet"
_NOT_BEFORE = "ExpectColumnPairValuesAToBeGreaterThanB"
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
class _Table:
    con: duckdb.DuckDBPyConnection
    name: str
    types: dict[str, str]
    rows: int

    @property
    def quoted(self) -> str:
        return _quoted(self.name)


def run_suites(con: duckdb.DuckDBPyConnection, suites: Iterable[Suite]) -> list[SuiteResult]:
    """``run_suite`` of each, two at a time: one is fetched while the library thinks about the other."""
    from concurrent.futures import ThreadPoolExecutor

    def judged(suite: Suite) -> SuiteResult:
        with con.cursor() as own:
            # A connection of its own does not take over the time zone.
            own.execute("SET TimeZone = 'UTC'")
            return run_suite(own, suite)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(judged, suites))


def run_suite(con: duckdb.DuckDBPyConnection, suite: Suite, *, part_units: int = PART_UNITS) -> SuiteResult:
    """Judge ``suite.table`` as this connection sees it; nothing is written.

    Never raises for what the table is: a missing table or column, a wrong type, or an error inside an expectation is a
    failed blocking outcome that carries the message.
    """
    import duckdb

    try:
        described = con.execute(f"DESCRIBE {_quoted(suite.table)}").fetchall()
        counted = con.execute(f"SELECT count(*) FROM {_quoted(suite.table)}").fetchall()
    except duckdb.Error as error:
        missing = Outcome("expect_table_to_exist", "", {}, False, "blocking", str(error).splitlines()[0], 0, [])
        return SuiteResult(suite.table, 0, False, True, (missing,))
    table = _Table(con, suite.table, {name: kind for name, kind, *_ in described}, counted[0][0])

    rules = dict(enumerate(suite.all_rules))
    verdicts: dict[int, list[Verdict]] = {number: [] for number in rules}
    for judged in (*_judge_table(table, rules), *_judge_rows(table, rules, part_units)):
        for number, verdict in judged.items():
            verdicts[number].append(verdict)
    outcomes = tuple(_outcome(table, rules[number], found) for number, found in verdicts.items())
    return SuiteResult(
        suite.table,
        table.rows,
        all(outcome.passed for outcome in outcomes),
        any(not outcome.passed and outcome.severity == "blocking" for outcome in outcomes),
        outcomes,
    )


def _judge_table(table: _Table, rules: dict[int, Rule]) -> Iterator[dict[int, Verdict]]:
    """Yield the verdicts on the table as a whole, each from the smallest frame that shows what its rule is about."""
    import pandas as pd

    for number, rule in rules.items():
        if rule.expectation == NOT_EMPTY:
            # The library walks through the frame, if only to count. Rows beyond the bound change nothing.
            [least] = rule.kwargs.values()
            [verdict] = judge(pd.DataFrame(index=pd.RangeIndex(min(table.rows, least))), {number: rule}).values()
            yield {number: replace(verdict, observed=str(table.rows))}
        elif rule.expectation == SAME_TYPES:
            expected = {name for name, _ in rule.kwargs["value_pairs_set"]}
            kinds = [(name, kind) for name, kind in table.types.items() if name in expected]
            frame = pd.DataFrame(kinds, columns=["column_name", "column_type"])
            yield judge(frame, {number: replace(rule, columns=("column_name", "column_type"))})
        elif rule.is_about_table:
            header = table.con.execute(f"SELECT * FROM {table.quoted} LIMIT 0").df()
            yield judge(header, {number: rule})


def _judge_rows(table: _Table, rules: dict[int, Rule], part_units: int) -> Iterator[dict[int, Verdict]]:
    """Yield the verdicts on the rows: at once for a small table, else by value, by key, and the rest part by part."""
    rest = {number: rule for number, rule in rules.items() if not rule.is_about_table}
    if table.rows <= _FEW_ROWS and _parts_of(table, rest, part_units) == 1:
        yield _judge_part(table, rest)
        return
    for number in [*_held_by_all(table, rest, _NOT_NULL), *_held_by_all(table, rest, _BETWEEN)]:
        yield {number: Verdict(True, "", compared=table.rows)}
        del rest[number]
    for number, rule in list(rest.items()):
        if _holds_for_distinct_values(table, rule):
            yield {number: Verdict(True, "")}
            del rest[number]
        elif rule.is_unique and set(rule.columns) <= set(table.types):
            yield from _judge_key(table, number, rule)
            del rest[number]
    if not rest:
        return
    ((first, last),) = table.con.execute(f"SELECT min(rowid), max(rowid) FROM {table.quoted}").fetchall()
    parts = _parts_of(table, rest, part_units)
    width = -(-(last - first + 1) // parts)
    for start in range(first, last + 1, width):
        yield _judge_part(table, rest, f"rowid >= {start} AND rowid < {start + width}")


def _held_by_all(table: _Table, rules: dict[int, Rule], expectation: str) -> list[int]:
    """Return the rules of a kind that hold for each row, as Great Expectations judges them on two rows.

    A rule on presence only asks whether a column is NULL, somewhere or everywhere; bounds hold for all values if they
    hold for the least and the greatest. So two rows stand for millions. A rule that fails on them is judged row by row,
    to count and show the failures.
    """
    asked = {
        number: rule
        for number, rule in rules.items()
        if rule.expectation == expectation
        and set(rule.columns) <= set(table.types)
        # That all values are there holds for any share of them; of bounds, NULLs would count.
        and (expectation == _NOT_NULL or "mostly" not in rule.kwargs)
    }
    columns = {rule.columns[0]: _identifier(rule.columns[0]) for rule in asked.values()}
    if expectation == _BETWEEN:
        # NaN is missing to Great Expectations, and the greatest number to DuckDB.
        kinds = {column: table.types[column] for column in columns}
        values = {
            column: f"nullif({name}, 'NaN')" if kinds[column] in ("FLOAT", "DOUBLE") else name
            for column, name in columns.items()
        }
        rows = [
            ", ".join(
                f"{_fetched(f'{end}({values[column]})', kinds[column], {expectation})} AS {columns[column]}"
                for column in columns
            )
            for end in ("min", "max")
        ]
    else:
        rows = [
            ", ".join(f"CASE WHEN {held} THEN 1.0::DOUBLE END AS {name}" for name, held in presence)
            for presence in (
                [(name, f"count({name}) > 0") for name in columns.values()],
                [(name, f"count({name}) = count(*)") for name in columns.values()],
            )
        ]
    if not columns:
        return []
    frame = table.con.execute(" UNION ALL ".join(f"SELECT {row} FROM {table.quoted}" for row in rows)).df()
    strict = {
        number: replace(rule, kwargs={key: value for key, value in rule.kwargs.items() if key != "mostly"})
        for number, rule in asked.items()
    }
    verdicts = judge(frame, {number: _with_epochs(rule, table) for number, rule in strict.items()})
    return [number for number, verdict in verdicts.items() if verdict.passed]


def _holds_for_distinct_values(table: _Table, rule: Rule) -> bool:
    """Whether a rule on the values of a column, or of two, holds for each distinct one, and so for every row.

    Strings cost 6 microseconds a row (90 million of them in one dump), and few of them differ in what a rule sees: a
    pattern does not tell digits apart, so ``tt0000001`` stands for all ids of its length. False where there are too
    many, or where one fails: then the rows are judged, to be counted and shown.
    """
    if rule.expectation not in (_MATCHES, _ONE_OF, _NOT_BEFORE) or "mostly" in rule.kwargs:
        return False
    kinds = [table.types.get(column, "") for column in rule.columns]
    if not all(kinds) or (rule.expectation == _MATCHES and kinds != ["VARCHAR"]):
        return False
    names = [_identifier(column) for column in rule.columns]
    fetched = [f"{_fetched(name, kind, {rule.expectation})} AS {name}" for name, kind in zip(names, kinds, strict=True)]
    values = table.quoted if rule.expectation != _MATCHES else f"({_shapes(table, names[0])})"
    distinct = f"SELECT DISTINCT {', '.join(names)} FROM {values} LIMIT {_DISTINCT_VALUES + 1}"
    frame = table.con.execute(f"SELECT {', '.join(fetched)} FROM ({distinct})").df()
    return len(frame) <= _DISTINCT_VALUES and judge(frame, {0: rule})[0].passed


def _shapes(table: _Table, name: str) -> str:
    """Return a query of a text column's values with a 9 for each digit, every distinct one at least once.

    Replacing each digit of each row takes ten times as long as counting the digits at its end, and an id is only a few
    letters followed by digits. So the digits after a short beginning are counted, and written out once per distinct
    shape.
    """
    digits, nines = "'012345678'", "'999999999'"
    short = f"strlen(rtrim({name}, '0123456789')) <= {_SHORT_BEGINNING}"
    return f"""
        SELECT translate(beginning, {digits}, {nines}) || repeat('9', digits) AS {name}
        FROM (
            SELECT DISTINCT
                CASE WHEN {short} THEN rtrim({name}, '0123456789') ELSE translate({name}, {digits}, {nines}) END
                    AS beginning,
                CASE WHEN {short} THEN strlen({name}) - strlen(rtrim({name}, '0123456789')) ELSE 0 END AS digits
            FROM {table.quoted}
        )
    """


def _judge_key(table: _Table, number: int, rule: Rule) -> Iterator[dict[int, Verdict]]:
    """Yield the verdicts on a uniqueness rule: on the rows whose key may occur twice, usually none.

    No key can occur twice where each row's key is above that of the row before it, as in most files. Otherwise DuckDB
    finds the hashes that occur more than once; a row with a unique hash has a unique key. The table is split by the
    hash, so that equal keys meet in one part.
    """
    if _ascends(table, rule.columns):
        yield judge(_no_key(), {number: unique("key")})
        return
    key = f"hash({', '.join(_identifier(column) for column in rule.columns)})"
    parts = -(-table.rows // _KEYS_AT_ONCE)
    for part in range(parts):
        where = f"{key} % {parts} = {part}"
        twice = table.con.execute(
            f"SELECT {key} AS key FROM {table.quoted} WHERE {where} GROUP BY ALL HAVING count(*) > 1"
        ).df()
        if twice.empty:
            yield judge(twice, {number: unique("key")})
            continue
        table.con.register("keys_seen_twice", twice)
        yield _judge_part(table, {number: rule}, f"{key} IN (SELECT key FROM keys_seen_twice)")
        table.con.unregister("keys_seen_twice")


def _ascends(table: _Table, columns: Sequence[str]) -> bool:
    """Whether each row's key is above that of the row before it; not where a NULL leaves that open."""
    keys = [_identifier(column) for column in columns]
    previous = ", ".join(f"lag({key}) OVER () AS p{i}" for i, key in enumerate(keys))
    above = " OR ".join(
        "(" + " AND ".join([*(f"{keys[j]} = p{j}" for j in range(i)), f"{keys[i]} > p{i}"]) + ")"
        for i in range(len(keys))
    )
    steps = f"SELECT {', '.join(keys)}, {previous} FROM {table.quoted}"
    # The first row has none before it, and is the one that may be found.
    found = table.con.execute(f"SELECT 1 FROM ({steps}) WHERE ({above}) IS NOT TRUE LIMIT 2").fetchall()
    return len(found) < 2


def _no_key() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"key": pd.Series(dtype="uint64")})


def _parts_of(table: _Table, rules: dict[int, Rule], part_units: int) -> int:
    reads = _readers(table, rules)
    units = 1 + sum(_units(table.types[column], readers) for column, readers in reads.items())
    return max(1, -(-table.rows * units // part_units))


def _judge_part(table: _Table, rules: dict[int, Rule], condition: str = "true") -> dict[int, Verdict]:
    import duckdb

    reads = _readers(table, rules)
    fetched = [_expression(column, table.types[column], readers) for column, readers in reads.items()]
    selected = ", ".join([f"rowid AS {_ROWID}", *fetched])
    try:
        frame = table.con.execute(f"SELECT {selected} FROM {table.quoted} WHERE {condition}").df().set_index(_ROWID)
    except duckdb.Error as error:
        return dict.fromkeys(rules, Verdict(False, str(error).splitlines()[0], error=True))
    return judge(frame, {number: _with_epochs(rule, table) for number, rule in rules.items()})


def _units(kind: str, readers: set[str]) -> int:
    is_string = kind.startswith("VARCHAR") or kind.endswith("]")
    return _STRING_UNITS if is_string and readers != {_NOT_NULL} else 1


def _readers(table: _Table, rules: dict[int, Rule]) -> dict[str, set[str]]:
    """Return the columns to fetch, each with the expectations that read it. A missing one is left to its rule."""
    reads: dict[str, set[str]] = {}
    for rule in rules.values():
        for column in rule.columns:
            if column in table.types:
                reads.setdefault(column, set()).add(rule.expectation)
    return reads


def _expression(column: str, kind: str, readers: set[str]) -> str:
    """How a column is fetched: whole where its values are judged, and in a type that pandas compares by vector.

    Great Expectations compares with bounds value by value in Python unless a column is int64, float64 or
    datetime64[ns]; nullable integers arrive as none of these, and the last cannot hold the years that a broken row may
    have. So numbers with bounds and all times (in microseconds, as two of them may be compared) come as DOUBLE: exact
    for half stars and for integers below 2**53.
    """
    name = _identifier(column)
    if readers == {_NOT_NULL}:
        # Presence is all that is asked, and strings are what costs memory.
        return f"CASE WHEN {name} IS NOT NULL THEN 1.0::DOUBLE END AS {name}"
    return f"{_fetched(name, kind, readers)} AS {name}"


def _fetched(value: str, kind: str, readers: set[str]) -> str:
    """Return SQL for a value of a column of this type, in the type in which it is fetched."""
    if kind.startswith("DECIMAL"):
        return f"{value}::DOUBLE"
    if kind.startswith("TIMESTAMP"):
        return f"epoch_us({value})::DOUBLE"
    if _BETWEEN in readers and kind in _NUMBERS:
        return f"{value}::DOUBLE"
    return value


def _with_epochs(rule: Rule, table: _Table) -> Rule:
    """Return the rule with ISO dates as microseconds where its column is fetched so."""
    if len(rule.columns) != 1 or not table.types.get(rule.columns[0], "").startswith("TIMESTAMP"):
        return rule
    kwargs = {
        key: _epoch_us(value) if key in ("min_value", "max_value") and isinstance(value, str) else value
        for key, value in rule.kwargs.items()
    }
    return replace(rule, kwargs=kwargs)


def _epoch_us(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _outcome(table: _Table, rule: Rule, verdicts: Sequence[Verdict]) -> Outcome:
    errors = list(dict.fromkeys(verdict.observed for verdict in verdicts if verdict.error))
    unexpected = 0 if rule.is_about_table else sum(verdict.unexpected for verdict in verdicts)
    compared = sum(verdict.compared for verdict in verdicts)
    rowids = sorted(rowid for verdict in verdicts for rowid in verdict.rowids)[:FAILING_ROWS]
    shown = [] if rule.is_about_table else _rows(table, rowids, rule.columns if rule.is_unique else ())
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


def _rows(table: _Table, rowids: Sequence[int], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return the whole rows; with ``keys``, all rows that share a key with them, next to each other."""
    if not rowids:
        return []
    source = table.quoted
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
    cursor = table.con.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(table: str) -> str:
    return ".".join(_identifier(part) for part in table.split("."))


def failing_rows_markdown(result: SuiteResult) -> str:
    """Return the result as Markdown: a table of the rules, failed ones first, then each failed rule's failing rows."""
    failed = [outcome for outcome in result.outcomes if not outcome.passed]
    head = f"**{result.table}**: {result.rows:,} rows, {len(result.outcomes)} rules, {len(failed)} failed"
    ordered = sorted(result.outcomes, key=lambda outcome: (outcome.passed, outcome.severity))
    rules = [
        (
            "ok" if outcome.passed else outcome.severity,
            outcome.column,
            _in_words(outcome),
            f"{outcome.unexpected_count:,}" if outcome.unexpected_count else "",
            "" if outcome.passed and "mostly" not in outcome.kwargs else outcome.observed,
        )
        for outcome in ordered
    ]
    sections = [head, markdown_rows(["", "column", "rule", "failing rows:", "found"], rules)]
    for outcome in failed:
        if outcome.failing_rows:
            shown = f"{len(outcome.failing_rows):,} of {outcome.unexpected_count:,} failing rows"
            sections.append(f"**{outcome.column} {_in_words(outcome)}** ({outcome.severity}): {shown}")
            sections.append(
                markdown_rows(list(outcome.failing_rows[0]), [list(row.values()) for row in outcome.failing_rows])
            )
    return "\n\n".join(sections)


def _in_words(outcome: Outcome) -> str:
    """Describe what the rule asks; an expectation that is not listed here, by its name and arguments."""
    kwargs = outcome.kwargs
    words = {
        "expect_table_to_exist": "the table exists",
        "expect_table_row_count_to_be_between": "has rows",
        "expect_table_columns_to_match_ordered_list": "exactly the declared columns, in their order",
        "expect_table_columns_to_match_set": "has the declared columns",
        "expect_column_pair_values_to_be_in_set": "columns have the declared types",
        "expect_column_values_to_not_be_null": "not null",
        "expect_column_values_to_be_unique": "unique",
        "expect_compound_columns_to_be_unique": "unique together",
        "expect_column_values_to_be_between": _bounds(kwargs.get("min_value"), kwargs.get("max_value")),
        "expect_column_values_to_be_in_set": f"one of {', '.join(map(str, kwargs.get('value_set', [])))}",
        "expect_column_values_to_match_regex": f"matches {kwargs.get('regex')}",
        "expect_column_pair_values_a_to_be_greater_than_b": "the first not below the second",
    }.get(outcome.name, f"{outcome.name} {kwargs}")
    return f"{words}, in at least {kwargs['mostly']:.1%} of the rows" if "mostly" in kwargs else words


def _bounds(least: float | str | None, most: float | str | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"{least} to {most}"
