"""What the UI shows of a table: row count, column schema, its version, a few rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from orchestration.storage.warehouse import TableVersion, columns_of, quote, table_version
from orchestration.visualization import charts
from settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def place(settings: Settings, path: Path) -> str:
    """Return a path for display: relative to the home, which may be moved or be swapped for another."""
    return f"$MARQUEE_HOME/{path.relative_to(settings.home)}" if path.is_relative_to(settings.home) else str(path)


def picture(figure: "Figure") -> dg.MarkdownMetadataValue:
    """Return a chart as metadata."""
    return dg.MetadataValue.md(charts.png_markdown(figure))


def column_schema(
    con: duckdb.DuckDBPyConnection, relation: str, descriptions: Mapping[str, str] | None = None
) -> dg.TableSchema:
    """Return a relation's columns with their types and descriptions."""
    spoken = descriptions or {}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=kind, description=spoken.get(name) or None)
            for name, kind in columns_of(con, relation)
        ]
    )


#: Columns that say whose row it is; the content of a refused row may.
_OF_PEOPLE = {"userId", "user_id", "user_key", "source_id", "subject", "content"}


def table_metadata(
    con: duckdb.DuckDBPyConnection, relation: str, *, descriptions: Mapping[str, str] | None = None
) -> tuple[TableVersion, dict[str, Any]]:
    """Return the version of a table and its metadata for an asset's materialization.

    The first rows are shown unless they are about people: the event log keeps them, even after a person is erased.
    """
    version = table_version(con, relation)
    rows = con.sql(f"SELECT * FROM {quote(relation)} LIMIT 5").pl()
    preview = {} if _OF_PEOPLE & set(rows.columns) else {"preview": dg.MetadataValue.md(charts.markdown_table(rows))}
    return version, {
        "dagster/row_count": version.rows,
        "dagster/column_schema": column_schema(con, relation, descriptions),
        "dagster/table_name": relation,
        "content_version": version.digest,
        **preview,
    }


def materialized(
    version: TableVersion, metadata: dict[str, Any], key: dg.AssetKey | None = None
) -> dg.MaterializeResult:
    """Return a materialization whose data version is the content's, so that an unchanged table rebuilds nothing."""
    return dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion(version.digest), metadata=metadata)
