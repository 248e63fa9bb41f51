"""``MARQUEE_HOME``: the folder of all state, its format version, and the swap of one edition for another.

A home holds one edition. Another edition is built in a home of its own inside (``rebuild/``), and only when that is
complete are its parts moved to the places of the old ones. The moves are listed in a journal first, so a kill between
two of them is finished by the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from settings import HOME_FORMAT, Settings

#: What moves when the edition changes, in this order: the bundles before the pointer that names one of them.
SWAPPED = (
    "warehouse.duckdb",
    "published",
    "features",
    "feast",
    "evaluation",
    "models",
    "serving.json",
    "bentoml",
    "dagster",
    "dbt",
    "sample",
)

#: Tables of the old warehouse that the new one starts with, so that no key is ever given twice.
KEPT_TABLES = ("intermediate.int_user_keys", "intermediate.int_movie_keys")

DAGSTER_YAML = """\
# Written by Marquee at every start. Telemetry and the new-user dialogue are off; runs queue one at a time, because one
# process at a time may write the warehouse.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 1
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 60
"""


class HomeError(RuntimeError):
    """The home cannot be used as it is; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Home:
    """What ``home.json`` says: the format and the edition."""

    format: int
    edition: str


def read_home(folder: Path) -> Home | None:
    """The home's note, or None for a folder that is no home yet. Raises ``HomeError`` for a newer format."""
    note = folder / "home.json"
    try:
        home = Home(**json.loads(note.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise HomeError(f"{note} cannot be read ({error}). Restore it, or start with an empty MARQUEE_HOME.") from None
    if home.format > HOME_FORMAT:
        raise HomeError(
            f"{folder} was written by a newer version (format {home.format}, this one knows {HOME_FORMAT})."
            " Update the code, or choose another MARQUEE_HOME."
        )
    return home


def prepare(settings: Settings) -> None:
    """Make the home's folders and notes. Idempotent. Raises ``HomeError`` when the home holds another edition."""
    home = read_home(settings.home)
    if home is not None and home.edition != settings.movielens:
        raise HomeError(
            f"{settings.home} holds the edition {home.edition}, not {settings.movielens}."
            " `make run` rebuilds aside and swaps; or choose another MARQUEE_HOME."
        )
    settings.dagster.mkdir(parents=True, exist_ok=True)
    _write(settings.dagster / "dagster.yaml", DAGSTER_YAML)
    _write(settings.home / "home.json", json.dumps({"format": HOME_FORMAT, "edition": settings.movielens}))


def rebuild_folder(settings: Settings) -> Path:
    """Where another edition is built before it takes the home's place."""
    return settings.home / "rebuild"


def start_rebuild(settings: Settings, edition: str) -> Path:
    """A folder for building ``edition`` aside, begun with the old warehouse's keys. A rebuild under way goes on."""
    from orchestration.warehouse import exclusive, open_database, quote, tables_of

    aside = rebuild_folder(settings)
    found = read_home(aside)
    if found is not None and found.edition != edition:
        shutil.rmtree(aside)
    if not (aside / "home.json").exists() and settings.warehouse.exists():
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with exclusive(settings):
            con = open_database(settings, aside / "warehouse.duckdb")
            literal = str(settings.warehouse).replace("'", "''")
            con.execute(f"ATTACH '{literal}' AS former (READ_ONLY)")
            for relation in KEPT_TABLES:
                schema, table = relation.split(".")
                con.execute("USE former")
                kept = table in tables_of(con, schema)
                con.execute("USE warehouse")
                if kept:
                    con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
                    con.execute(f"CREATE TABLE {quote(relation)} AS FROM former.{quote(relation)}")
            con.close()
    aside.mkdir(parents=True, exist_ok=True)
    return aside


def swap(settings: Settings) -> None:
    """Put the finished rebuild in the home's place. The new home.json goes last: it says that the swap is done."""
    aside = rebuild_folder(settings)
    edition = read_home(aside)
    if edition is None:
        raise HomeError(f"{aside} holds no finished rebuild.")
    _write(settings.home / "swap.json", json.dumps({"edition": edition.edition}))
    heal(settings.home)


def heal(folder: Path) -> bool:
    """Finish a swap that was cut off. Returns whether there was one."""
    journal = folder / "swap.json"
    if not journal.exists():
        return False
    edition = json.loads(journal.read_text())["edition"]
    aside, former = folder / "rebuild", folder / "former"
    former.mkdir(exist_ok=True)
    for name in SWAPPED:
        new, place = aside / name, folder / name
        if not new.exists():
            continue
        if name == "published":
            # Readers may open the file at any moment: replaced file by file, the folder is never missing.
            place.mkdir(exist_ok=True)
            for file in sorted(new.iterdir()):
                file.replace(place / file.name)
            new.rmdir()
            continue
        if place.exists():
            shutil.rmtree(former / name, ignore_errors=True)
            place.replace(former / name)
        new.replace(place)
    _write(folder / "home.json", json.dumps({"format": HOME_FORMAT, "edition": edition}))
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)
    journal.unlink()
    return True


def _write(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    if path.exists() and path.read_text() == text:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(text)
    aside.replace(path)
