"""What the UI shows of a table: row count, column schema, its version, a few rows."""

from typing import Any

import dagster as dg
import duckdb

from orchestration import charts
from orchestration.warehouse import TableVersion, columns_of, quote, table_version


def table_metadata(
    con: duckdb.DuckDBPyConnection, relation: str, *, descriptions: dict[str, str] | None = None
) -> tuple[TableVersion, dict[str, Any]]:
    """The version of a table and its metadata for an asset's materialization."""
    version = table_version(con, relation)
    spoken = descriptions or {}
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=kind, description=spoken.get(name))
            for name, kind in columns_of(con, relation)
        ]
    )
    preview = con.sql(f"SELECT * FROM {quote(relation)} LIMIT 5").pl()
    return version, {
        "dagster/row_count": version.rows,
        "dagster/column_schema": schema,
        "dagster/table_name": relation,
        "content_version": version.digest,
        "preview": dg.MetadataValue.md(charts.markdown_table(preview)),
    }


def materialized(
    version: TableVersion, metadata: dict[str, Any], key: dg.AssetKey | None = None
) -> dg.MaterializeResult:
    """A materialization whose data version is the content's, so that an unchanged table stops the wave."""
    return dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion(version.digest), metadata=metadata)
