"""The questions to the streaming catalogues, asked of the published copy: its own macros answer, so each is said once.

DuckDB is imported and the file opened for one question alone: with one thread and little memory, beside the models.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bento.catalog.published_copy import CopyUnusable, FileRecord, opened, record_in
from bento.errors import RequestRefused

logger = logging.getLogger("marquee.catalogues")

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
        """Query a macro of the schema ``marts`` with parameters by name; None leaves a filter out.

        Raises ``RequestRefused``: 404 if there is no copy or it lacks the macro; 503 if it is locked, damaged or
        changed by another tool.
        """
        try:
            manifest = self._manifest()
            version = None if manifest is None else str(manifest["version"])
            # By its version, for DuckDB gives a process the old file for a name that another thread still has open.
            versioned = self.published.with_name(f"marquee-{version}.duckdb")
            if manifest is not None and versioned.exists():
                return Answered(_ask(versioned, record_in(manifest, versioned), question, filters, limit), version)
            if self.published.exists():
                return Answered(_ask(self.published, None, question, filters, limit), version)
        except CopyUnusable as error:
            logger.warning("%s", error)
            raise
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            "There is no published copy to ask.",
            "`make run` writes one into the home that is served from.",
        )

    def _manifest(self) -> dict[str, Any] | None:
        file = self.published.with_name("manifest.json")
        try:
            manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CopyUnusable("published/manifest.json is damaged.", "`make update` rewrites it.") from error
        return manifest


def _ask(
    file: Path, record: FileRecord | None, question: str, filters: Mapping[str, Any], limit: int | None
) -> list[dict[str, Any]]:
    import duckdb

    given = {name: value for name, value in filters.items() if value is not None}
    named = ", ".join(f"{name} := ${name}" for name in given)
    query = f"FROM marts.{question}({named})" + ("" if limit is None else f" LIMIT {limit:d}")
    with opened(file, record, threads=1, memory_limit=_MEMORY) as con:
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
