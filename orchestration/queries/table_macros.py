"""The questions that the published copy answers by name: DuckDB table macros, one a file; the first line says what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Question:
    """One macro of the schema ``marts``. ``tables``: the marts that it reads."""

    name: str
    comment: str
    statement: str

    @property
    def tables(self) -> frozenset[str]:
        """The marts that it reads."""
        return frozenset(re.findall(r"\bmarts\.(\w+)", self.statement))

    def create(self, catalog: str) -> list[str]:
        """Return the statements that make the macro and its comment in the database attached as ``catalog``."""
        place = f'"{catalog}".marts."{self.name}"'
        made = self.statement.replace(f"CREATE MACRO {self.name}(", f"CREATE OR REPLACE MACRO {place}(", 1)
        spoken = self.comment.replace("'", "''")
        return [made, f"COMMENT ON MACRO TABLE {place} IS '{spoken}'"]


def questions() -> list[Question]:
    """Every question, by name."""
    found = []
    for path in sorted(_FOLDER.glob("*.sql")):
        comment, _, statement = path.read_text(encoding="utf-8").partition("\n")
        found.append(Question(path.stem, comment.removeprefix("-- "), statement.strip()))
    return found
