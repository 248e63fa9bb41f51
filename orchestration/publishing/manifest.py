"""What a publication is, and the notes beside the files that say which one lies there and which older ones are kept.

``published/marquee.duckdb`` is the newest copy and ``manifest.json`` its note. Each kept publication has a name of its
own beside it, ``marquee-<version>.duckdb``, its manifest ``marquee-<version>.json`` and its Parquet files
``parquet-<version>/``; the newest copy's two names are two files of the same content, so that a tool that writes to one
leaves the other as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bento.catalog.published_copy import FileRecord
from orchestration.publishing.sealed_files import READ_ONLY
from orchestration.storage.warehouse import TableVersion, replace_durably
from settings import Settings

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Layout:
    """How a table lies in the copy and in its Parquet export.

    ``sorted_by``: columns, by default the first two, which are a mart's grain. ``by_year_of``: a column of time whose
    year parts the Parquet files.
    """

    sorted_by: tuple[str, ...] = ()
    by_year_of: str | None = None


@dataclass(frozen=True)
class Publication:
    """One published copy: its version (a digest of all that it says), what is in it, and what is kept beside it.

    ``files``: of each table a digest of what its Parquet files are made of. ``stored``: each file of this version, by
    its path in ``published/``, as it was written; the newest copy's other name holds the same. ``kept``: versions that
    can be opened, the newest first.
    """

    version: str
    edition: str
    tables: Mapping[str, TableVersion]
    files: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, FileRecord] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    changed: bool = False


def copy_of(settings: Settings, version: str) -> Path:
    """Return the path of a kept publication's DuckDB file."""
    return settings.published.with_name(f"marquee-{version}.duckdb")


def note_of(settings: Settings, version: str) -> Path:
    """Return the path of a kept publication's manifest."""
    return settings.published.with_name(f"marquee-{version}.json")


def parquet_of(settings: Settings, version: str) -> Path:
    """Return the folder with the Parquet files of a kept publication."""
    return settings.published.with_name(f"parquet-{version}")


def current_parquet(settings: Settings) -> Path:
    """Return the link to the folder with the Parquet files of the newest publication."""
    return settings.published.with_name("parquet")


def read_manifest(settings: Settings, version: str | None = None) -> Publication | None:
    """Read the manifest of the newest publication, or of a kept one; None where there is none that can be read."""
    file = settings.published.with_name(MANIFEST) if version is None else note_of(settings, version)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        # A home of before publications were kept has the first three alone; then came records of the stored files.
        return Publication(
            version=manifest["version"],
            edition=manifest["edition"],
            tables={name: TableVersion(**told) for name, told in manifest["tables"].items()},
            files=manifest.get("files", {}),
            stored={path: FileRecord(**told) for path, told in manifest.get("stored", {}).items()},
            kept=tuple(manifest.get("kept", ())),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Somebody has written to it: the next publication begins as if there were none.
        return None


def write_manifest(settings: Settings, publication: Publication) -> None:
    """Write the note of the newest publication, whole or not at all; the word that it is published."""
    told = {**_told(publication), "kept": list(publication.kept)}
    _write(settings.published.with_name(MANIFEST), told)


def write_note(settings: Settings, publication: Publication) -> None:
    """Write the manifest of a kept publication."""
    _write(note_of(settings, publication.version), _told(publication))


def _told(publication: Publication) -> dict[str, Any]:
    return {
        "version": publication.version,
        "edition": publication.edition,
        "tables": {name: asdict(version) for name, version in publication.tables.items()},
        "files": dict(publication.files),
        "stored": {path: asdict(record) for path, record in publication.stored.items()},
    }


def _write(file: Path, told: Mapping[str, Any]) -> None:
    aside = file.with_name(f".{file.name}.part")
    # What a kill left of an earlier one may be read-only.
    aside.unlink(missing_ok=True)
    aside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    aside.chmod(READ_ONLY)
    replace_durably(aside, file)
