"""Which column comes from which: read off a model's compiled SQL. Knows no Dagster.

dagster-dbt can do this, but it opens the database twice a model and qualifies the SQL anew for every column, which took
longer than dbt itself; here each statement is qualified once against one schema.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope
from sqlglot.schema import MappingSchema

DIALECT = "duckdb"

#: Column -> the (``schema.table``, column) pairs that it is computed from.
Lineage = dict[str, list[tuple[str, str]]]


def warehouse_schema(con: duckdb.DuckDBPyConnection) -> MappingSchema:
    """All tables and views of the open database with their columns, in the form that sqlglot resolves names with."""
    rows = con.execute(
        """
        SELECT table_catalog, table_schema, table_name, column_name, data_type
        FROM information_schema.columns WHERE table_catalog = current_catalog() ORDER BY ordinal_position
        """
    ).fetchall()
    tables: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for catalog, schema, table, column, data_type in rows:
        tables.setdefault(catalog, {}).setdefault(schema, {}).setdefault(table, {})[column] = data_type
    return MappingSchema(tables, dialect=DIALECT)


def column_lineage(sql: str, schema: MappingSchema) -> Lineage:
    """Return, for each column of a query's result, the columns of tables that it is computed from.

    A column computed from none (a literal) has an empty list. Raises ``sqlglot.errors.SqlglotError`` for SQL that
    cannot be read.
    """
    query = qualify(
        sqlglot.parse_one(sql, dialect=DIALECT), dialect=DIALECT, schema=schema, validate_qualify_columns=False
    )
    assert isinstance(query, exp.Query)
    scope = build_scope(query)
    found: Lineage = {}
    for column in query.named_selects:
        root = lineage(column, sql=query, scope=scope, dialect=DIALECT, trim_selects=False)
        sources = {
            (f"{table.db}.{table.name}", node.name.split(".")[-1].strip('"'))
            for node in root.walk()
            if not node.downstream and (table := node.expression.find(exp.Table)) is not None
        }
        found[column] = sorted(sources)
    return found


def without(found: Mapping[str, list[tuple[str, str]]], relation: str) -> Lineage:
    """Return the lineage without one relation: an incremental model reads itself."""
    return {column: [pair for pair in sources if pair[0] != relation] for column, sources in found.items()}
