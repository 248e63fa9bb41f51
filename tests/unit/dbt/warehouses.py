"""A DuckDB file with raw tables, and dbt to build on it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb

from orchestration.ingestion.raw_tables import APP_TABLES, TABLES, create_ledgers

PROJECT = Path(__file__).resolve().parents[3] / "dbt_project"
EDITION = "ml-1m"


def _time(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())


class Warehouse:
    """A DuckDB file with raw tables, and dbt to build on it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"

    def reset(self) -> None:
        """Replace the file with a new one in which every raw table is empty."""
        self.path.unlink(missing_ok=True)
        with duckdb.connect(self.path) as con:
            create_ledgers(con)
            for table in (*TABLES.values(), *APP_TABLES):
                con.execute(f"CREATE TABLE raw.{table.name} ({table.columns_sql})")

    def insert(self, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" for _ in rows[0])
        with duckdb.connect(self.path) as con:
            con.executemany(f"INSERT INTO raw.{table} ({columns}) VALUES ({marks})", rows)

    def add_ratings(self, rows: list[tuple[int, int, float, str]]) -> None:
        self.insert(
            "ml_ratings",
            'edition, "userId", "movieId", rating, "timestamp"',
            [(EDITION, user, movie, rating, _time(when)) for user, movie, rating, when in rows],
        )

    def execute(self, statement: str) -> None:
        with duckdb.connect(self.path) as con:
            con.execute(statement)

    def dbt(self, *arguments: str) -> None:
        """Run dbt; fail with dbt's own message of what went wrong."""
        from dbt.cli.main import dbtRunner

        outcome = dbtRunner().invoke([*arguments, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "-q"])
        assert outcome.exception is None, outcome.exception
        failed = [f"{r.node.name}: {r.message}" for r in outcome.result if r.status in ("error", "fail")]
        assert outcome.success, failed

    def read(self, query: str) -> list[dict[str, Any]]:
        with duckdb.connect(self.path, read_only=True) as con:
            cursor = con.execute(query)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def marts(self) -> dict[str, list[dict[str, Any]]]:
        """Every table that dbt made, by name."""
        tables = self.read("SELECT schema_name, table_name FROM duckdb_tables() WHERE schema_name <> 'raw'")
        return {row["table_name"]: self.read(f"FROM {row['schema_name']}.{row['table_name']}") for row in tables}
