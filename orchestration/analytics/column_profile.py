"""What the columns of the marts hold: types, gaps, distinct values, quantiles, outliers, and how numbers go together.

A table that did not change is not looked at again: its rows of the last time stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import duckdb
import polars as pl

from orchestration.analytics.python_marts import MART_CORRELATIONS, MART_PROFILE
from orchestration.storage.warehouse import columns_of, quote, table_version

#: Rows that quantiles, outliers and correlations are taken of; of a larger table those whose hash falls in, which are
#: the same ones in every run. Distinct values of a larger table are estimated (HyperLogLog, about 2 % off).
SAMPLE_ROWS = 200_000
#: Further than so many interquartile ranges from the quartiles is an outlier (Tukey).
FENCE = 1.5

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL")
_TIMES = ("DATE", "TIMESTAMP")
#: Numbers that name something and measure nothing: their quantiles say nothing, and those of people say who is there.
_NAMES = ("_key", "_id", "userId", "movieId")


def measures(name: str, kind: str) -> bool:
    """Whether a column measures: a number that is no key.

    >>> measures("rating_count", "INTEGER"), measures("user_key", "BIGINT"), measures("genres", "VARCHAR[]")
    (True, False, False)
    """
    return kind.startswith(_NUMBERS) and not kind.endswith("[]") and not name.endswith(_NAMES)


def profile_marts(con: duckdb.DuckDBPyConnection, marts: Sequence[str], code: str, sample: int = SAMPLE_ROWS) -> int:
    """Write the profile and the correlations of these marts; returns how many had to be looked at.

    ``code`` is the version of this code, which a former profile has to be of, too.
    """
    versions = {
        mart: hashlib.sha256(f"{code}|{table_version(con, f'marts.{mart}').digest}".encode()).hexdigest()[:16]
        for mart in marts
    }
    kept = _kept(con, versions)
    profiles, correlations = [], []
    for mart in marts:
        if mart not in kept:
            columns, pairs = profile_table(con, mart, versions[mart], sample)
            profiles.append(columns)
            correlations.append(pairs)
    known = ", ".join(f"'{mart}'" for mart in kept) or "''"
    con.execute("BEGIN")
    for mart_table, frames in ((MART_PROFILE, profiles), (MART_CORRELATIONS, correlations)):
        made = pl.concat(frames) if frames else None
        parts = [f"SELECT * FROM {mart_table.relation} WHERE mart IN ({known})"] if kept else []
        if made is not None:
            con.register("looked_at", made.to_arrow())
            parts.append("SELECT * FROM looked_at")
        mart_table.replace(con, f"SELECT * FROM ({' UNION ALL BY NAME '.join(parts)}) ORDER BY 1, 2, 3")
        if made is not None:
            con.unregister("looked_at")
    con.execute("COMMIT")
    return len(marts) - len(kept)


def _kept(con: duckdb.DuckDBPyConnection, versions: dict[str, str]) -> list[str]:
    """Return the marts whose profile is of their present content."""
    there = con.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'marts'"
        " AND table_name IN ('mart_profile', 'mart_correlations')"
    ).fetchall()
    if there != [(2,)]:
        return []
    if "content_version" not in dict(columns_of(con, MART_PROFILE.relation)):
        return []
    found = con.execute(f"SELECT DISTINCT mart, content_version FROM {MART_PROFILE.relation}").fetchall()
    return sorted(mart for mart, version in found if versions.get(mart) == version)


def profile_table(
    con: duckdb.DuckDBPyConnection, mart: str, version: str, sample: int = SAMPLE_ROWS
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of ``mart_profile`` and of ``mart_correlations`` for one mart."""
    relation = quote(f"marts.{mart}")
    columns = columns_of(con, f"marts.{mart}")
    numbers = [name for name, kind in columns if measures(name, kind)]
    [(rows,)] = con.execute(f"SELECT count(*) FROM {relation}").fetchall()
    exact = rows <= sample
    facts = _facts(con, relation, columns, exact)
    _draw(con, relation, columns, numbers, 1 if exact else -(-rows // sample))
    [(drawn,)] = con.execute("SELECT count(*) FROM drawn_rows").fetchall()
    spread = _spread(con, numbers)
    profile = []
    for place, (name, kind) in enumerate(columns, start=1):
        there, distinct, least, greatest = facts[name]
        measured = spread.get(name, (None,) * 6)
        profile.append(
            (mart, name, place, kind, rows, rows - there, distinct, exact, least, greatest, *measured, drawn, version)
        )
    pairs = _correlations(con, mart, numbers)
    con.execute("DROP TABLE drawn_rows")
    return (
        pl.DataFrame(profile, schema=MART_PROFILE.polars_schema, orient="row"),
        pl.DataFrame(pairs, schema=MART_CORRELATIONS.polars_schema, orient="row"),
    )


def _facts(
    con: duckdb.DuckDBPyConnection, relation: str, columns: list[tuple[str, str]], exact: bool
) -> dict[str, tuple[int, int, str | None, str | None]]:
    """Of each column: values that are there, distinct ones, and the least and greatest of numbers and times."""
    asked = []
    for name, kind in columns:
        column = quote(name)
        ordered = measures(name, kind) or kind.startswith(_TIMES)
        ends = f"min({column})::VARCHAR, max({column})::VARCHAR" if ordered else "NULL::VARCHAR, NULL::VARCHAR"
        distinct = f"count(DISTINCT {column})" if exact else f"approx_count_distinct({column})"
        asked.append(f"count({column}), {distinct}, {ends}")
    [row] = con.execute(f"SELECT {', '.join(asked)} FROM {relation}").fetchall()
    return {name: tuple(row[4 * place : 4 * place + 4]) for place, (name, _) in enumerate(columns)}


def _draw(
    con: duckdb.DuckDBPyConnection, relation: str, columns: list[tuple[str, str]], numbers: list[str], one_in: int
) -> None:
    """Write the numbers of one row in ``one_in``, as doubles, to the table ``drawn_rows``."""
    chosen = ", ".join(f"{quote(name)}::DOUBLE AS {quote(name)}" for name in numbers) or "1 AS nothing"
    every = ", ".join(quote(name) for name, _ in columns)
    some = f" WHERE hash({every}) % {one_in} = 0" if one_in > 1 else ""
    con.execute(f"CREATE OR REPLACE TEMP TABLE drawn_rows AS SELECT {chosen} FROM {relation}{some}")


def _spread(con: duckdb.DuckDBPyConnection, numbers: list[str]) -> dict[str, tuple[float | None, ...]]:
    """Of each number: quartiles, mean, standard deviation and the share of outliers, rounded."""
    if not numbers:
        return {}
    asked = ", ".join(
        f"quantile_cont({c}, 0.25), median({c}), quantile_cont({c}, 0.75), avg({c}), stddev_samp({c}), count({c})"
        for c in map(quote, numbers)
    )
    [row] = con.execute(f"SELECT {asked} FROM drawn_rows").fetchall()
    figures = {name: row[6 * place : 6 * place + 6] for place, name in enumerate(numbers)}
    fenced = []
    for name in numbers:
        low, _, high = figures[name][:3]
        if low is None:
            fenced.append("count(*) FILTER (false)")
            continue
        reach = FENCE * (high - low)
        ends = f"'{low - reach!r}'::DOUBLE AND '{high + reach!r}'::DOUBLE"
        fenced.append(f"count(*) FILTER (NOT {quote(name)} BETWEEN {ends})")
    [outliers] = con.execute(f"SELECT {', '.join(fenced)} FROM drawn_rows").fetchall()
    return {
        name: (
            *(None if value is None else _rounded(value) for value in figures[name][:5]),
            round(outside / figures[name][5], 6) if figures[name][5] else None,
        )
        for name, outside in zip(numbers, outliers, strict=True)
    }


def _rounded(value: float) -> float:
    """Nine significant digits: the last ones of a parallel sum differ from run to run."""
    return float(f"{value:.9g}")


def _correlations(
    con: duckdb.DuckDBPyConnection, mart: str, numbers: list[str]
) -> list[tuple[str, str, str, float, int]]:
    """Pearson's correlation of each pair of numbers that both vary."""
    pairs = [(a, b) for place, a in enumerate(numbers) for b in numbers[place + 1 :]]
    if not pairs:
        return []
    asked = ", ".join(f"corr({quote(a)}, {quote(b)}), regr_count({quote(a)}, {quote(b)})" for a, b in pairs)
    [row] = con.execute(f"SELECT {asked} FROM drawn_rows").fetchall()
    return [
        (mart, a, b, round(float(row[2 * place]), 4), int(row[2 * place + 1]))
        for place, (a, b) in enumerate(pairs)
        if row[2 * place] is not None and row[2 * place] == row[2 * place]
    ]
