"""One file into one raw table: good rows are loaded, broken ones go to ``raw.quarantine``, and the two add up.

DuckDB reads the file as lines and splits them itself: on this input that is as fast as its CSV parser (20M ratings: 5 s
against 6 s), and every line of the file stays in hand, whatever is wrong with it. Line numbers are worked out only when
something is wrong, by a second reading that keeps nothing but the broken rows.
"""

from __future__ import annotations

import csv
import glob
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import duckdb

from models.data.movielens import Column, FileLayout
from orchestration.errors import Reason, SourceError
from orchestration.ingestion.file_inspection import (
    BLANK_LINE,
    ESCAPED_RETURN,
    ESCAPED_START,
    LINE_SEPARATOR,
    UNDECODABLE,
    FileFacts,
    inspect_file,
    suppose_regular,
    write_clean_copy,
)
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.raw_tables import RawTable, create_ledgers

logger = logging.getLogger(__name__)

#: A column of which more than half of at least so many values are not what they should be has another meaning now: its
#: file is refused. Below it, or for fewer values, the rows are broken and go to quarantine.
RETYPED_VALUES = 20

#: DuckDB's own name of a row's number: a column of that name would hide it.
_RESERVED = ("rowid",)
_LONGEST_NAME = 100

#: The last second of the year 9999, where DuckDB's and Python's calendars stop being of one mind.
_LAST_SECOND = 253_402_300_799

#: A quoted row that runs over more lines than this is taken for a stray quote on its first line.
_MAX_LINES_OF_A_ROW = 20

# One field of a quoted line: quoted; or bare, where a quote inside is literal as in Python's csv module; or empty.
_FIELD = r'(?:"(?:[^"]|"")*"|[^",][^,]*|)'
_COMPLETE = f"{_FIELD}(?:,{_FIELD})*"
_OPENS = f'(?:{_FIELD},)*"(?:[^"]|"")*'
_CLOSES = f'(?:[^"]|"")*"(?:,{_FIELD})*'
_GOES_ON = r'(?:[^"]|"")*'

_WHOLE = "-?[0-9]+"
_NUMBER = r"-?[0-9]+([.][0-9]+)?"
_REAL = r"-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?"


@dataclass(frozen=True)
class Known:
    """The values that a column may have: a temporary table with one column of the same name; else ``reason``."""

    table: str
    reason: Reason


@dataclass(frozen=True)
class FileLoad:
    """What is to be loaded from where.

    ``values``: SQL over the fields' names for the table's columns that are not simply the field of that name.
    ``known``: for a column, what its values must be found in.
    """

    source: str
    table: RawTable
    layout: FileLayout
    path: Path
    remedy: str
    values: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    may_be_empty: bool = False

    @cached_property
    def facts(self) -> FileFacts:
        """The file's digest, lines and own time (read once)."""
        return inspect_file(self.path, self.layout.encoding)

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The names in the file's first line, all known columns among them.

        Raises ``SourceError`` when a column is missing, or a new one has a name that a table cannot have.
        """
        if not self.layout.header:
            return self.layout.names
        names = self._names()
        new = [name for name in names if name not in self.layout.names]
        missing = [name for name in self.layout.names if name not in names]
        faults = [f"lacks the column {', '.join(missing)}"] if missing else []
        if missing and new:
            faults.append(f"has an unknown column {', '.join(new)[:200]!r}")
        elif fault := _fault_of_names(names, new, [column.name for column in self.table.columns]):
            faults.append(fault)
        if faults:
            wanted = ", ".join(self.layout.names)
            raise SourceError(f"{self.path}: the header {' and '.join(faults)}; it should be {wanted}. {self.remedy}")
        return tuple(names)

    def _names(self) -> list[str]:
        line = self.facts.first_line
        if not self.layout.quoted:
            return [name.strip('"') for name in line.split(self.layout.separator)]
        try:
            return next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise SourceError(f"{self.path}: the header is quoted wrongly ({error}). {self.remedy}") from error

    @cached_property
    def new_columns(self) -> tuple[str, ...]:
        """The file's columns that its layout does not have, in the order of the file."""
        return tuple(name for name in self.header if name not in self.layout.names)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns in the order of this file's header; a new one is text under a name that nothing else has.

        Raises ``SourceError`` as ``header`` does.
        """
        known = {column.name: column for column in self.layout.columns}
        new = {name: Column(_inner_name(i)) for i, name in enumerate(self.new_columns)}
        return tuple((known | new)[name] for name in self.header)

    @property
    def columns_sql(self) -> str:
        """Column definitions of the table that this file makes: the declared ones, then the new ones."""
        return ", ".join([self.table.columns_sql, *(f"{_identifier(name)} VARCHAR" for name in self.new_columns)])

    @property
    def data_lines(self) -> int:
        """Lines of the file that are not its header."""
        return self.facts.lines - self.layout.header

    def check(self) -> None:
        """Everything that can be known before a table is touched: the file, its bytes, its header, that it has rows.

        Raises ``SourceError``.
        """
        if self.layout.header and not self.facts.lines:
            raise SourceError(f"{self.path} is empty. {self.remedy}")
        _ = self.columns
        if self.data_lines <= 0 and not self.may_be_empty:
            raise SourceError(f"{self.path} has no data rows. {self.remedy}")


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing of what is done inside."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        con.rollback()
        raise


def load_file(con: duckdb.DuckDBPyConnection, load: FileLoad) -> LoadReport:
    """Replace ``raw.<table>``, its quarantine rows and its row of ``raw.loads`` in one transaction.

    Raises ``SourceError``, and leaves all three as they were, when the file cannot be read, a column is missing or has
    another meaning, or none of the rows can be loaded.
    """
    if not load.layout.quoted:
        report = _load_while_inspecting(con, load)
        if report is not None:
            return report
    with transaction(con):
        return replace_table(con, load)


def _load_while_inspecting(con: duckdb.DuckDBPyConnection, load: FileLoad) -> LoadReport | None:
    """``load_file`` of a file that is taken for a regular one, as nearly all are: None, and nothing done, if it is not.

    The inspection, a third of the time of a large dump, goes on beside the load. The rows that DuckDB has read count
    only if it finds what was supposed.
    """
    supposed = suppose_regular(load.path, load.layout.encoding)
    if supposed is None:
        return None
    hopeful = replace(load)
    vars(hopeful)["facts"] = supposed
    with ThreadPoolExecutor(1) as beside:
        inspected = beside.submit(inspect_file, load.path, load.layout.encoding)
        con.begin()
        try:
            filled = _try_insert(con, hopeful)
            vars(load)["facts"] = inspected.result()
            load.check()
            if not filled or not load.facts.regular:
                con.rollback()
                return None
            with Lines(con, load) as lines:
                report = _account_for(con, load, lines)
            con.commit()
        except BaseException:
            con.rollback()
            raise
    _tell_of_new_columns(load, report)
    return report


def _try_insert(con: duckdb.DuckDBPyConnection, load: FileLoad) -> bool:
    """Whether DuckDB could read the file; if not, its inspection and a careful second reading tell why."""
    try:
        with Lines(con, load) as lines:
            _insert(con, load, lines)
    except (duckdb.InvalidInputException, duckdb.IOException):
        return False
    return True


def load_nothing(con: duckdb.DuckDBPyConnection, table: RawTable) -> LoadReport:
    """Replace ``raw.<table>`` by an empty one, for a file that does not exist or was not asked for."""
    with transaction(con):
        return empty_table(con, table)


def replace_table(con: duckdb.DuckDBPyConnection, load: FileLoad) -> LoadReport:
    """``load_file`` within the caller's transaction, which must be rolled back when this raises."""
    load.check()
    try:
        with Lines(con, load) as lines:
            report = _replace(con, load, lines)
    except duckdb.InvalidInputException as error:
        said = str(error).partition("\n")[0]
        raise SourceError(f"{load.path} cannot be read as lines ({said}). {load.remedy}") from error
    _tell_of_new_columns(load, report)
    return report


def _tell_of_new_columns(load: FileLoad, report: LoadReport) -> None:
    if report.new_columns:
        logger.warning(
            "%s has new columns (%s): they are loaded as text, and nothing reads them.",
            load.path,
            ", ".join(report.new_columns),
        )


def empty_table(con: duckdb.DuckDBPyConnection, table: RawTable) -> LoadReport:
    """``load_nothing`` within the caller's transaction."""
    create_ledgers(con)
    con.execute(f"CREATE OR REPLACE TABLE raw.{table.name} ({table.columns_sql})")
    report = LoadReport(table.name, None, 0, 0, 0)
    _note(con, report, None)
    return report


def good_rows_sql(load: FileLoad, lines: Lines) -> str:
    """Return a query of the file's rows that break no rule of their own, in the table's columns and types."""
    return f"SELECT {_outputs(load)} FROM ({_checked_sql(load, lines.sql())}) WHERE reason IS NULL"


def refuse_retyped(con: duckdb.DuckDBPyConnection, load: FileLoad, lines: Lines) -> None:
    """Read the file once more and see that no column has another meaning now. Raises ``SourceError``."""
    typed = [(f"t{i}", column) for i, column in enumerate(load.columns, 1) if column.kind != "text"]
    sound = " AND ".join(f"NOT coalesce({condition}, false)" for condition, _ in _rules_of_line(load))
    counts = []
    for text, column in typed:
        bad = " OR ".join(f"coalesce({condition}, false)" for condition, _ in _rules_of_kind(column, text))
        counts += [f"count({text})", f"count({text}) FILTER ({bad})", f"min({text}) FILTER ({bad})"]
    query = f"SELECT {', '.join(counts)} FROM ({_fields_sql(load, lines.sql())}) WHERE {sound}"
    [found] = con.execute(query).fetchall()
    types = {column.name: column.type for column in load.table.columns}
    for place, (_, column) in enumerate(typed):
        values, bad, example = found[3 * place : 3 * place + 3]
        if values >= RETYPED_VALUES and 2 * bad > values:
            kind = f" ({types[column.name]})" if column.name in types else ""
            raise SourceError(
                f"{load.path}: the column {column.name} should be {_in_words(column)}{kind}, but {bad:,} of its"
                f" {values:,} values are not, for example {str(example)[:80]!r}. Nothing of it was loaded."
                f" {load.remedy}"
            )


def _replace(con: duckdb.DuckDBPyConnection, load: FileLoad, lines: Lines) -> LoadReport:
    _insert(con, load, lines)
    return _account_for(con, load, lines)


def _insert(con: duckdb.DuckDBPyConnection, load: FileLoad, lines: Lines) -> None:
    """Fill a new table with the rows that break no rule of their own."""
    name = f"raw.{load.table.name}"
    create_ledgers(con)
    con.execute(f"CREATE OR REPLACE TABLE {name} ({load.columns_sql})")
    con.execute(f"INSERT INTO {name} {good_rows_sql(load, lines)}")


def _account_for(con: duckdb.DuckDBPyConnection, load: FileLoad, lines: Lines) -> LoadReport:
    """Set aside every row of the file that the filled table lacks or must not have, and note the load."""
    name = f"raw.{load.table.name}"
    con.execute("DELETE FROM raw.quarantine WHERE table_name = ?", [load.table.name])
    loaded = _count(con, f"SELECT count(*) FROM {name}")
    if _may_be_retyped(con, load, lines.rows - loaded):
        refuse_retyped(con, load, lines)
    doubtful = _mark_doubtful(con, load)
    reasons: dict[str, int] = {}
    if doubtful or loaded != lines.rows:
        reasons = _set_aside(con, load, lines, doubtful)
        loaded = _count(con, f"SELECT count(*) FROM {name}")
    aside = sum(reasons.values())
    report = LoadReport(load.table.name, load.path.name, lines.rows, loaded, aside, reasons, load.new_columns)
    if report.loaded_rows + report.quarantined_rows != report.file_rows:
        raise SourceError(
            f"{load.path}: {report.file_rows} rows in the file, but {report.loaded_rows} loaded and"
            f" {report.quarantined_rows} in quarantine. Was it changed while it was read? Run again."
        )
    if not loaded and not load.may_be_empty:
        worst = max(reasons, key=lambda reason: reasons[reason])
        raise SourceError(f"{load.path}: none of its {report.file_rows} rows can be loaded ({worst}). {load.remedy}")
    _note(con, report, load.facts)
    return report


def _may_be_retyped(con: duckdb.DuckDBPyConnection, load: FileLoad, refused: int) -> bool:
    """Whether some column could have more broken values than sound ones: no more are broken than rows were refused.

    What is loaded is sound, so that this costs no second reading of a file with a few broken rows.
    """
    if 2 * refused <= RETYPED_VALUES:
        return False
    in_table = {column.name for column in load.table.columns}
    sound = [
        f'count("{column.name}")' if column.name in in_table else "count(*)"
        for column in load.layout.columns
        if column.kind != "text"
    ]
    return bool(sound) and refused > _count(con, f"SELECT least({', '.join(sound)}) FROM raw.{load.table.name}")


@dataclass(frozen=True)
class _Doubtful:
    """What breaks a rule between rows: reason -> column of the unknown values; the columns of keys that come twice."""

    unknown: Mapping[Reason, str]
    double: str

    def __bool__(self) -> bool:
        return bool(self.unknown or self.double)


def _mark_doubtful(con: duckdb.DuckDBPyConnection, load: FileLoad) -> _Doubtful:
    """Temporary tables of loaded keys that break a rule between rows, and which of them hold any.

    Rows in strictly ascending order of their key, as most editions and all IMDb dumps are, need no grouping.
    """
    name = f"raw.{load.table.name}"
    unknown = {}
    double = ""
    for column, known in load.known.items():
        con.execute(
            f'CREATE OR REPLACE TEMP TABLE "unknown_{column}" AS SELECT DISTINCT "{column}" FROM {name}'
            f' WHERE "{column}" NOT IN (SELECT "{column}" FROM {known.table})'
        )
        if _count(con, f'SELECT count(*) FROM "unknown_{column}"'):
            unknown[known.reason] = column
    if load.layout.unique:
        keys = [f'"{key}"' for key in load.layout.unique]
        columns = ", ".join(keys)
        previous = ", ".join(f"lag({key}) OVER () AS p{i}" for i, key in enumerate(keys))
        after = " OR ".join(
            "(" + " AND ".join([*(f"{keys[j]} = p{j}" for j in range(i)), f"{keys[i]} > p{i}"]) + ")"
            for i in range(len(keys))
        )
        descents = f"SELECT 1 FROM (SELECT {columns}, {previous} FROM {name}) WHERE NOT ({after}) LIMIT 1"
        if con.execute(descents).fetchone() is not None:
            con.execute(
                f"CREATE OR REPLACE TEMP TABLE double_keys AS SELECT {columns} FROM {name}"
                f" GROUP BY {columns} HAVING count(*) > 1"
            )
            if _count(con, "SELECT count(*) FROM double_keys"):
                double = columns
    return _Doubtful(unknown, double)


def _set_aside(con: duckdb.DuckDBPyConnection, load: FileLoad, lines: Lines, doubtful: _Doubtful) -> dict[str, int]:
    """Put the broken rows into quarantine and take those that broke a rule between rows out of the table."""
    name = f"raw.{load.table.name}"
    double = doubtful.double
    is_unknown = {
        reason: f'"{column}" IN (SELECT "{column}" FROM "unknown_{column}")'
        for reason, column in doubtful.unknown.items()
    }
    unknown_cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in is_unknown.items())
    is_double = f"({double}) IN (SELECT ({double}) FROM double_keys)" if double else "false"
    # A movie's second row is only a duplicate of rows that are themselves sound.
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE set_aside AS
        WITH checked AS ({_checked_sql(load, lines.sql(numbered=True), numbered=True)}),
        judged AS (
            SELECT *, reason IS NULL AND {is_double} AS is_double,
                CASE WHEN reason IS NOT NULL THEN reason {unknown_cases} END AS verdict
            FROM checked
        )
        SELECT * FROM judged WHERE verdict IS NOT NULL OR is_double
        """
    )
    if double:
        con.execute(
            f"""
            UPDATE set_aside SET verdict = '{Reason.DUPLICATE}'
            WHERE verdict IS NULL AND n NOT IN (SELECT min(n) FROM set_aside WHERE verdict IS NULL GROUP BY {double})
            """
        )
        con.execute(f"DELETE FROM {name} WHERE {is_double}")
        con.execute(f"INSERT INTO {name} SELECT {_outputs(load)} FROM set_aside WHERE verdict IS NULL")
    for condition in is_unknown.values():
        con.execute(f"DELETE FROM {name} WHERE {condition}")
    con.execute(
        f"""
        INSERT INTO raw.quarantine
        SELECT ?, ?, ?, n, verdict, replace(replace(line, '{BLANK_LINE}', ''), '{UNDECODABLE}', '')
        FROM set_aside WHERE verdict IS NOT NULL ORDER BY n
        """,
        [load.source, load.table.name, load.path.name],
    )
    counts = con.execute(
        "SELECT verdict, count(*) FROM set_aside WHERE verdict IS NOT NULL GROUP BY verdict ORDER BY verdict"
    ).fetchall()
    con.execute("DROP TABLE set_aside")
    return dict(counts)


def _note(con: duckdb.DuckDBPyConnection, report: LoadReport, facts: FileFacts | None) -> None:
    if facts is None:
        con.execute("DELETE FROM raw.quarantine WHERE table_name = ?", [report.table])
    con.execute("DELETE FROM raw.loads WHERE table_name = ?", [report.table])
    con.execute(
        "INSERT INTO raw.loads VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            report.table,
            report.file,
            report.file_rows,
            report.loaded_rows,
            report.quarantined_rows,
            facts.sha256 if facts else None,
            facts.snapshot_at if facts else None,
        ],
    )


class Lines:
    """The file's rows as SQL: ``line``, and ``n`` (the line number) when asked for.

    A context: a clean copy of an irregular file lives as long as it. ``rows`` is the number of the file's data rows,
    counted from its bytes, not by DuckDB.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, load: FileLoad) -> None:
        self._con = con
        self._load = load
        self._copy: Path | None = None
        self._spans = False
        self.rows = load.data_lines

    def __enter__(self) -> Lines:
        facts, layout = self._load.facts, self._load.layout
        # Line numbers come from the order of the rows.
        self._con.execute("SET preserve_insertion_order = true")
        if not facts.regular:
            self._copy = _scratch(self._con) / f"clean-{facts.path.name}.txt"
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            write_clean_copy(facts, layout.encoding, self._copy)
        if layout.quoted and facts.quotes:
            self._join_lines()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        # After a failure the tables go with the transaction, in which nothing else can be done.
        if self._spans and failure is None:
            self._con.execute("DROP TABLE IF EXISTS covered_lines")
            self._con.execute("DROP TABLE IF EXISTS joined_lines")
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)

    def sql(self, numbered: bool = False) -> str:
        """Return a query of the rows: ``line``, with ``n`` before it if ``numbered``."""
        if not self._spans:
            return self._lines_sql(numbered)
        rows = (
            f"SELECT n, line FROM ({self._lines_sql(True)}) WHERE n NOT IN (SELECT n FROM covered_lines)"
            " UNION ALL SELECT n, line FROM joined_lines"
        )
        return rows if numbered else f"SELECT line FROM ({rows})"

    def _lines_sql(self, numbered: bool) -> str:
        facts, layout = self._load.facts, self._load.layout
        file = _quoted(glob.escape(str(self._copy or facts.path)))
        encoding = "utf-8" if self._copy else layout.encoding
        compression = "gzip" if facts.compressed and not self._copy else "none"
        number = f"row_number() OVER () + {int(layout.header)} AS n, " if numbered else ""
        line = "line"
        if self._copy:
            line = f"replace(replace(line, '{ESCAPED_RETURN}', chr(13)), '{ESCAPED_START}', chr(1)) AS line"
        return (
            f"SELECT {number}{line} FROM read_csv({file}, delim = '{LINE_SEPARATOR}', quote = '',"
            f" escape = '', header = false, skip = {int(layout.header)}, columns = {{'line': 'VARCHAR'}},"
            f" auto_detect = false, strict_mode = false, encoding = '{encoding}', compression = '{compression}')"
        )

    def _join_lines(self) -> None:
        """Find the rows that run over several lines, and count them as one each."""
        numbered = self._lines_sql(True)
        self._con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE quoted_lines AS
            SELECT n, NOT complete AND regexp_full_match(line, '{_OPENS}') AS opens,
                regexp_full_match(line, '{_CLOSES}') AS closes
            FROM (SELECT n, line, regexp_full_match(line, '{_COMPLETE}') AS complete FROM ({numbered})
                  WHERE contains(line, '"'))
            WHERE NOT regexp_full_match(line, '{_GOES_ON}')
               OR (NOT complete AND regexp_full_match(line, '{_OPENS}'))
            """
        )
        spans = f"""
            SELECT n AS first, next AS last FROM (
                SELECT n, opens, lead(n) OVER (ORDER BY n) AS next, lead(closes) OVER (ORDER BY n) AS next_closes
                FROM quoted_lines)
            WHERE opens AND next_closes AND next - n < {_MAX_LINES_OF_A_ROW}
        """
        if self._con.execute(spans).fetchone() is not None:
            self._spans = True
            self._con.execute(
                "CREATE OR REPLACE TEMP TABLE covered_lines AS"
                f" SELECT unnest(range(first, last + 1)) AS n, first FROM ({spans})"
            )
            self._con.execute(
                "CREATE OR REPLACE TEMP TABLE joined_lines AS"
                f" SELECT first AS n, string_agg(replace(line, '{BLANK_LINE}', ''), chr(10) ORDER BY n) AS line"
                f" FROM ({numbered}) JOIN covered_lines USING (n) GROUP BY first"
            )
            self.rows -= _count(
                self._con, "SELECT (SELECT count(*) FROM covered_lines) - (SELECT count(*) FROM joined_lines)"
            )
        self._con.execute("DROP TABLE quoted_lines")


def _fields_sql(load: FileLoad, lines_sql: str, numbered: bool = False) -> str:
    """Return a query of the lines with their fields: ``f`` (as a list), ``t1``... (as texts), and as typed columns."""
    layout, columns = load.layout, load.columns
    null = f"nullif(%s, {_quoted(layout.null)})" if layout.null else "%s"
    texts = ", ".join(null % f"nullif(f[{i}], '')" + f" AS t{i}" for i in range(1, len(columns) + 1))
    values = ", ".join(f'{_value(column, f"t{i}")} AS "{column.name}"' for i, column in enumerate(columns, 1))
    fields = f"string_split(line, {_quoted(layout.separator)})"
    if layout.quoted and load.facts.quotes:
        parts = f"regexp_extract_all(line || ',', '({_FIELD}),', 1)"
        unquoted = "CASE WHEN x[1] = '\"' THEN replace(x[2:-2], '\"\"', '\"') ELSE x END"
        fields = f"CASE WHEN contains(line, '\"') THEN list_transform({parts}, lambda x: {unquoted}) ELSE {fields} END"
    number = "n, " if numbered else ""
    return f"""
        SELECT *, {values}
        FROM (SELECT {number}line, f, {texts} FROM (SELECT {number}line, {fields} AS f FROM ({lines_sql})))
    """


def _rules_of_line(load: FileLoad) -> list[tuple[str, str]]:
    """Return the conditions that refuse a whole line: (SQL condition, reason), in the order in which they are tried."""
    rules = []
    if not load.facts.regular:
        rules.append((f"line = '{BLANK_LINE}'", Reason.BLANK.value))
        rules.append((f"contains(line, '{UNDECODABLE}')", Reason.BYTES.value))
    if load.layout.quoted and load.facts.quotes:
        rules.append((f"contains(line, '\"') AND NOT regexp_full_match(line, '{_COMPLETE}')", Reason.QUOTING.value))
    rules.append((f"len(f) <> {len(load.columns)}", Reason.FIELDS.value))
    return rules


def _checked_sql(load: FileLoad, lines_sql: str, numbered: bool = False) -> str:
    """Return a query of the lines with a typed column per field, and ``reason``: the first rule that the row breaks."""
    rules = _rules_of_line(load)
    for i, column in enumerate(load.columns, 1):
        rules += _rules(column, f"t{i}")
    # Which rule is broken is asked only of a row that is not plainly sound: to ask each rule of each row takes longer
    # than to read the row.
    cases = f"WHEN {_plainly_sound(load)} THEN NULL " + " ".join(
        f"WHEN {condition} THEN {_quoted(reason)}" for condition, reason in rules
    )
    number = "n, line, " if numbered else ""
    return f"""
        SELECT {number}{", ".join(f'"{column.name}"' for column in load.columns)}, CASE {cases} END AS reason
        FROM ({_fields_sql(load, lines_sql, numbered)})
    """


def _plainly_sound(load: FileLoad) -> str:
    """Return SQL that is true if a row breaks no rule and writes numbers as DuckDB does. Others may be sound, too."""
    parts = [f"NOT ({condition})" for condition, _ in _rules_of_line(load)]
    for place, column in enumerate(load.columns, 1):
        text, value = f"t{place}", f'"{column.name}"'
        optional = not (column.key or column.required or column.kind in ("flag", "timestamp"))
        match column.kind:
            case "timestamp":
                sound = f"CAST({value} AS VARCHAR) = {text} AND {value} BETWEEN 0 AND {_LAST_SECOND}"
            case "integer" | "bigint" | "decimal" | "real" | "rating":
                number = f"TRY_CAST({text} AS DOUBLE)" if column.kind == "rating" else value
                sound = f"CAST({value} AS VARCHAR) = {text} AND NOT {_out_of_bounds(column, number)}"
            case "boolean" | "flag":
                sound = f"({text} = '0' OR {text} = '1')"
            case "code":
                sound = f"{value} IS NOT NULL"
            case _:
                sound = f"{text} IS NOT NULL"
        if not optional:
            parts.append(sound)
        elif column.kind != "text":
            parts.append(f"({text} IS NULL OR ({sound}))")
    return " AND ".join(parts)


def _value(column: Column, text: str) -> str:
    match column.kind:
        case "integer":
            return f"TRY_CAST({text} AS INTEGER)"
        case "bigint" | "timestamp":
            return f"TRY_CAST({text} AS BIGINT)"
        case "decimal" | "real":
            return f"TRY_CAST({text} AS DOUBLE)"
        case "rating":
            return f"TRY_CAST({text} AS DECIMAL(2, 1))"
        case "boolean" | "flag":
            return f"{text} = '1'"
        case "code":
            names = " ".join(f"WHEN {code} THEN {_quoted(name)}" for code, name in column.codes)
            return f"CASE TRY_CAST({text} AS INTEGER) {names} END"
        case _:
            return text


def _rules(column: Column, text: str) -> list[tuple[str, str]]:
    """Return the conditions that refuse a field: (SQL condition, reason), in the order in which they are tried."""
    here = f" in {column.name}"
    rules = []
    if column.key:
        rules.append((f"{text} IS NULL", Reason.KEY + here))
    elif column.required or column.kind == "flag":
        rules.append((f"{text} IS NULL", Reason.MISSING + here))
    return rules + _rules_of_kind(column, text)


def _rules_of_kind(column: Column, text: str) -> list[tuple[str, str]]:
    """Return the conditions that refuse a value for its column's kind, as (SQL condition, reason)."""
    here = f" in {column.name}"
    value = f'"{column.name}"'
    rules: list[tuple[str, str]] = []
    # A number that is written as DuckDB would write it needs no regular expression.
    plain = f"coalesce(CAST({value} AS VARCHAR) = {text}, false)"
    match column.kind:
        case "timestamp":
            whole = f"({plain} OR regexp_full_match({text}, '{_WHOLE}'))"
            within = f"{value} BETWEEN 0 AND {_LAST_SECOND}"
            rules.append((f"NOT {whole} OR NOT coalesce({within}, false)", Reason.TIMESTAMP))
        case "integer" | "bigint" | "decimal" | "real" | "rating":
            form = {"integer": _WHOLE, "bigint": _WHOLE, "real": _REAL}.get(column.kind, _NUMBER)
            number = f"({plain} OR regexp_full_match({text}, '{form}'))"
            # A rating's own type would round what is between its steps.
            bounds = _out_of_bounds(column, f"TRY_CAST({text} AS DOUBLE)" if column.kind == "rating" else value)
            rules.append((f"{text} IS NOT NULL AND NOT {number}", Reason.NUMBER + here))
            reason = Reason.RATING.value if column.kind == "rating" else Reason.RANGE + here
            rules.append((f"{text} IS NOT NULL AND {bounds}", reason))
        case "boolean" | "flag":
            # Not with IN: DuckDB makes a join of a long one in a filter, and a join does not keep the rows' order.
            rules.append((f"{text} <> '0' AND {text} <> '1'", Reason.CODE + here))
        case "code":
            rules.append((f"{text} IS NOT NULL AND {value} IS NULL", Reason.CODE + here))
        case _:
            pass
    return [(condition, str(reason)) for condition, reason in rules]


def _out_of_bounds(column: Column, value: str) -> str:
    """Return SQL that is true for a number that does not fit its type or the column's bounds, or lies between steps."""
    bounds = [f"{value} IS NULL"]
    bounds += [f"{value} < {column.minimum}"] if column.minimum is not None else []
    bounds += [f"{value} > {column.maximum}"] if column.maximum is not None else []
    if column.step is not None:
        steps = f"{value} / {column.step}"
        bounds.append(f"abs({steps} - round({steps})) > 1e-6")
    return f"({' OR '.join(bounds)})"


def _in_words(column: Column) -> str:
    """Describe what the values of a column should be."""
    match column.kind:
        case "timestamp":
            return "seconds since 1970"
        case "boolean" | "flag":
            return "0 or 1"
        case "code":
            return f"one of the codes {', '.join(str(code) for code, _ in column.codes)}"
        case _:
            noun = "a whole number" if column.kind in ("integer", "bigint") else "a number"
            least = "" if column.minimum is None else f" from {column.minimum:g}"
            most = "" if column.maximum is None else f" up to {column.maximum:g}"
            return noun + least + most + ("" if column.step is None else f" in steps of {column.step:g}")


def _inner_name(place: int) -> str:
    """Return the name of a new column inside the queries, where its own name could clash with another."""
    return f"new column {place}"


def _fault_of_names(names: list[str], new: list[str], declared: list[str]) -> str | None:
    """Why a header cannot be taken although no column is missing, if so. DuckDB's names have no case."""
    if any(not name.strip() for name in new):
        return "has a column without a name"
    folded = [name.casefold() for name in names]
    if twice := [name for place, name in enumerate(names) if folded.index(name.casefold()) < place]:
        first = names[folded.index(twice[0].casefold())]
        return "names a column twice" + (f" ({first} and {twice[0]}, the case aside)" if first != twice[0] else "")
    taken = {name.casefold() for name in (*declared, *_RESERVED)}
    for name in new:
        if name.casefold() in taken:
            return f"has a new column {name!r}, a name that the table uses for something else"
        if not name.isprintable() or name != name.strip() or '"' in name or len(name) > _LONGEST_NAME:
            return f"has a new column {name[:_LONGEST_NAME]!r}, which is no name for a column"
    return None


def _outputs(load: FileLoad) -> str:
    """Return SQL for the table's columns: from ``load.values``, the field of the name, or NULL; then the new ones."""
    own = {column.name for column in load.columns}
    parts = []
    for column in load.table.columns:
        value = load.values.get(column.name, f'"{column.name}"' if column.name in own else "NULL")
        parts.append(f'CAST({value} AS {column.type}) AS "{column.name}"')
    parts += [f'"{_inner_name(i)}" AS {_identifier(name)}' for i, name in enumerate(load.new_columns)]
    return ", ".join(parts)


def _scratch(con: duckdb.DuckDBPyConnection) -> Path:
    """Return the folder where this connection spills: next to the warehouse, so inside its home."""
    folder = _value_of(con, "SELECT current_setting('temp_directory')")
    # That is DuckDB's default for a database in memory, and would be in the working directory.
    return Path(tempfile.gettempdir()) if folder == ".tmp" else Path(folder)


def _count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(_value_of(con, query))


def _value_of(con: duckdb.DuckDBPyConnection, query: str) -> str:
    [(value,)] = con.execute(query).fetchall()
    return str(value)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + re.sub("'", "''", text) + "'"
