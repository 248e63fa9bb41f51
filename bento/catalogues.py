"""The questions to the streaming catalogues, asked of the published copy: its own macros answer, so each is said once.

DuckDB is imported and the file opened for one question alone: with one thread and little memory, beside the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bento.errors import RequestRefused

if TYPE_CHECKING:
    import duckdb

_MEMORY = "200MB"


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows by column, in the macro's order, and the version of the publication that gave them."""

    rows: list[dict[str, Any]]
    publication: str | None


@dataclass(frozen=True, slots=True)
class Catalogues:
    """``published``: the newest copy, with its manifest and the kept ones beside it."""

    published: Path

    def ask(self, question: str, filters: Mapping[str, Any], limit: int | None = None) -> Answered:
        """The answer of a macro of the schema ``marts`` to its parameters by name; None leaves a filter out.

        ``RequestRefused`` (404) where there is no copy, or one without the question.
        """
        version = self._version()
        # By its version, for DuckDB gives a process the old file for a name that another thread still has open.
        for file in (self.published.with_name(f"marquee-{version}.duckdb"), self.published):
            if file.exists():
                return Answered(_ask(file, question, filters, limit), version)
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            "There is no published copy to ask.",
            "`make run` writes one into the home that is served from.",
        )

    def _version(self) -> str | None:
        try:
            manifest = json.loads(self.published.with_name("manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return str(manifest["version"])


def _ask(file: Path, question: str, filters: Mapping[str, Any], limit: int | None) -> list[dict[str, Any]]:
    import duckdb

    given = {name: value for name, value in filters.items() if value is not None}
    named = ", ".join(f"{name} := ${name}" for name in given)
    query = f"FROM marts.{question}({named})" + ("" if limit is None else f" LIMIT {limit:d}")
    with closing(_opened(file)) as con:
        try:
            cursor = con.execute(query, given)
        except duckdb.CatalogException as error:
            raise RequestRefused(
                HTTPStatus.NOT_FOUND,
                "The published copy does not answer this question.",
                "It is of an older version, or without the catalogues' marts: `make run` writes a new one.",
            ) from error
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _opened(file: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(str(file), read_only=True, config={"threads": 1, "memory_limit": _MEMORY})
