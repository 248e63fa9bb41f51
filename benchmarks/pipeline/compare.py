"""Whether the hand-written script and the pipeline made the same marts."""

from __future__ import annotations

from pathlib import Path

import duckdb

from orchestration.storage.warehouse import columns_of, quote, tables_of


def differences(con: duckdb.DuckDBPyConnection, pipeline: Path, by_hand: Path, schema: str = "marts") -> dict[str, str]:
    """Return the marts that differ, each with what differs: a table, its columns, or its rows as a bag."""
    for name, path in (("pipeline", pipeline), ("by_hand", by_hand)):
        literal = str(path).replace("'", "''")
        con.execute(f"ATTACH '{literal}' AS {name} (READ_ONLY)")
    try:
        tables = {}
        for name in ("pipeline", "by_hand"):
            con.execute(f"USE {name}")
            tables[name] = {t: dict(columns_of(con, f"{schema}.{t}")) for t in tables_of(con, schema)}
        con.execute("USE memory")
        found = dict.fromkeys(tables["pipeline"].keys() ^ tables["by_hand"].keys(), "only one has it")
        for table in tables["pipeline"].keys() & tables["by_hand"].keys():
            ours, theirs = tables["pipeline"][table], tables["by_hand"][table]
            if ours != theirs:
                found[table] = f"columns {sorted(set(ours.items()) ^ set(theirs.items()))}"
                continue
            columns = ", ".join(quote(column) for column in sorted(ours))
            sides = [f"SELECT {columns} FROM {name}.{schema}.{quote(table)}" for name in ("pipeline", "by_hand")]
            counts = [
                con.execute(f"SELECT count(*) FROM ({first} EXCEPT ALL {second})").fetchall()[0][0]
                for first, second in (sides, sides[::-1])
            ]
            if any(counts):
                found[table] = f"{counts[0]:,} rows only in the pipeline's, {counts[1]:,} only by hand"
        return found
    finally:
        for name in ("pipeline", "by_hand"):
            con.execute(f"DETACH {name}")
