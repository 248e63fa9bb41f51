"""``MARQUEE_HOME``: the folder of all state, its format version and migrations, and the swap of one state for another.

A home holds one edition. Another edition is built in a home of its own inside (``rebuild/``), and a backup is restored
in one (``restored/``); only when that is complete are its parts moved to the places of the old ones. The moves are
listed in a journal first, so a kill between two of them is finished by the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from orchestration.publishing.duckdb_copy import remove_others
from orchestration.publishing.manifest import MANIFEST, read_manifest
from orchestration.publishing.sealed_files import logs_in, put_in_place
from orchestration.storage.dagster_settings import Tree, merged, noted, noting, owners_settings, read_tree, write_tree
from orchestration.storage.warehouse import exclusive, open_database, quote, tables_of
from settings import HOME_FORMAT, Settings

#: What moves when the edition changes, in this order: a database's log with it, for another database cannot replay it,
#: and the bundles before the pointer that names one of them.
SWAPPED = (
    "warehouse.duckdb.wal",
    "warehouse.duckdb",
    "published",
    "features",
    "feast",
    "evaluation",
    "models",
    "serving.json",
    "mlflow",
    "bentoml",
    "dagster",
    "dbt",
    "sample",
)

#: Tables of the old warehouse that the new one starts with: no key is ever given twice, and IMDb's history goes on.
KEPT_TABLES = (
    "intermediate.int_user_keys",
    "intermediate.int_movie_keys",
    "raw.imdb_changes",
    "raw.imdb_looks",
    "raw.imdb_snapshot_titles",
    "raw.imdb_snapshot_ratings",
    "raw.imdb_drift",
)

DAGSTER_YAML = """\
# Generated at every start. Settings of your own belong in dagster.extra.yaml of MARQUEE_HOME; what you change here is
# carried over to it. Telemetry and the new-user dialogue are off; runs queue one at a time, because one process at a
# time may write the warehouse.
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


#: The owner's settings of Dagster, outside the folder that a change of edition replaces.
DAGSTER_EXTRA = "dagster.extra.yaml"


class HomeError(RuntimeError):
    """The home cannot be used as it is; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Home:
    """What ``home.json`` says: the format and the edition."""

    format: int
    edition: str


def read_home(folder: Path) -> Home | None:
    """Read the home's note; None for a folder that is no home yet.

    Raises ``HomeError`` for a note that cannot be read or is of a newer format.
    """
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


def migrate(folder: Path, steps: Mapping[int, Callable[[Path], None]] | None = None) -> int:
    """Bring an older home to the format of this code, one step at a time. Returns the number of steps taken.

    ``steps`` maps a format to what makes the next one of it. ``home.json`` moves on after each step, so a kill in the
    middle of one has the next start do it again: every step may be repeated. Raises ``HomeError`` where a step is
    missing.
    """
    steps = MIGRATIONS if steps is None else steps
    home = read_home(folder)
    taken = 0
    while home is not None and home.format < HOME_FORMAT:
        step = steps.get(home.format)
        if step is None:
            raise HomeError(
                f"{folder} is of format {home.format}, and nothing leads from there to {HOME_FORMAT}."
                " Start with an empty MARQUEE_HOME, and bring the keys along from a backup (`make restore`)."
            )
        step(folder)
        home = Home(home.format + 1, home.edition)
        _write_home(folder, home)
        taken += 1
    return taken


def _without_a_strange_sample(folder: Path) -> None:
    """Format 2: only a home of the sample has ``sample/``. A swap to another edition used to leave it behind."""
    home = read_home(folder)
    if home is not None and home.edition != "sample":
        shutil.rmtree(folder / "sample", ignore_errors=True)


#: From each older format, what makes the next one of it. A step may run twice, and knows nothing of later formats.
MIGRATIONS: dict[int, Callable[[Path], None]] = {1: _without_a_strange_sample}


def prepare(settings: Settings) -> None:
    """Make the home's folders and notes, an older home's first migrated. Idempotent.

    Raises ``HomeError`` when the home holds another edition or is of a newer format.
    """
    home = read_home(settings.home)
    if home is not None and home.edition != settings.movielens:
        raise HomeError(
            f"{settings.home} holds the edition {home.edition}, not {settings.movielens}."
            " `make run` rebuilds aside and swaps; or choose another MARQUEE_HOME."
        )
    migrate(settings.home)
    settings.dagster.mkdir(parents=True, exist_ok=True)
    _write_dagster_settings(settings.home)
    _write_home(settings.home, Home(HOME_FORMAT, settings.movielens))


def _write_dagster_settings(folder: Path) -> None:
    """Write dagster.yaml with the owner's settings over ours, and what they are in a comment of it.

    A file that says the same already keeps its comments.
    """
    _keep_owners_settings(folder)
    wanted = merged(read_tree(DAGSTER_YAML), _read_dagster_settings(folder / DAGSTER_EXTRA))
    file = folder / "dagster" / "dagster.yaml"
    if file.exists() and _read_dagster_settings(file) == wanted:
        text = file.read_text(encoding="utf-8")
    elif wanted == read_tree(DAGSTER_YAML):
        text = DAGSTER_YAML
    else:
        text = DAGSTER_YAML.partition("telemetry:")[0] + write_tree(wanted)
    _write(file, noting(text, wanted))


def _keep_owners_settings(folder: Path) -> None:
    """Carry over to dagster.extra.yaml what its owner has changed in dagster.yaml since it was written."""
    file = folder / "dagster" / "dagster.yaml"
    if not file.exists():
        return
    extra = folder / DAGSTER_EXTRA
    found, owners = _read_dagster_settings(file), _read_dagster_settings(extra)
    kept = owners_settings(owners, written=noted(file.read_text(encoding="utf-8")), found=found)
    if kept != owners:
        _write(extra, write_tree(kept))


def _read_dagster_settings(file: Path) -> Tree:
    try:
        return read_tree(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise HomeError(f"{file} cannot be read: {error}. Mend it, or remove it.") from None


def rebuild_folder(settings: Settings) -> Path:
    """Where another edition is built before it takes the home's place."""
    return settings.home / "rebuild"


def start_rebuild(settings: Settings, edition: str) -> Path:
    """Return a folder for building ``edition`` aside, begun with the old warehouse's keys.

    A rebuild under way is continued, unless the home has since given keys that the rebuild does not know and could give
    again.
    """
    migrate(settings.home)
    aside = rebuild_folder(settings)
    found = read_home(aside)
    if found is not None and found.edition != edition:
        shutil.rmtree(aside)
    if settings.warehouse.exists():
        with exclusive(settings):
            if not (aside / "home.json").exists() or _lacks_keys(settings, aside / "warehouse.duckdb"):
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
                _copy_keys(settings, aside / "warehouse.duckdb")
    aside.mkdir(parents=True, exist_ok=True)
    return aside


def _copy_keys(settings: Settings, target: Path) -> None:
    """Begin another warehouse with the keys of this one. The caller holds the warehouse."""
    with closing(open_database(settings, target)) as con:
        for relation in _attach_former(con, settings.warehouse):
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(relation.split('.')[0])}")
            con.execute(f"CREATE TABLE {quote(relation)} AS FROM former.{quote(relation)}")


def _lacks_keys(settings: Settings, target: Path) -> bool:
    """Whether this home's warehouse holds keys that the other one does not. The caller holds the warehouse."""
    with closing(open_database(settings, target)) as con:
        for relation in _attach_former(con, settings.warehouse):
            schema, table = relation.split(".")
            if table not in tables_of(con, schema):
                return True
            missing = f"SELECT count(*) FROM (FROM former.{quote(relation)} EXCEPT FROM {quote(relation)})"
            if con.execute(missing).fetchall() != [(0,)]:
                return True
    return False


def _attach_former(con: duckdb.DuckDBPyConnection, warehouse: Path) -> list[str]:
    """Attach a warehouse as ``former``, and say which of the kept tables it has."""
    literal = str(warehouse).replace("'", "''")
    con.execute(f"ATTACH '{literal}' AS former (READ_ONLY)")
    found = con.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = 'former'"
    ).fetchall()
    return [relation for relation in KEPT_TABLES if (relation,) in found]


def swap(settings: Settings) -> None:
    """Put the finished rebuild in the home's place. The new home.json goes last: it says that the swap is done."""
    swap_in(settings.home, rebuild_folder(settings))


def swap_in(folder: Path, aside: Path, *, further: Collection[str] = ()) -> None:
    """Make the home hold what the home ``aside``, a folder inside it, holds: its parts, its edition, its format.

    A part of an edition that ``aside`` lacks is removed, for it belongs to the state that ends. ``further`` names what
    else moves, where ``aside`` has it.
    """
    home = read_home(aside)
    if home is None:
        raise HomeError(f"{aside} holds no finished home.")
    parts = [name for name in dict.fromkeys((*SWAPPED, *further)) if (aside / name).exists()]
    journal = {"aside": aside.name, "parts": parts, **asdict(home)}
    _write(folder / "swap.json", json.dumps(journal))
    heal(folder)


def heal(folder: Path) -> bool:
    """Finish a swap that was cut off. Returns whether there was one."""
    journal = folder / "swap.json"
    if not journal.exists():
        return False
    _keep_owners_settings(folder)
    told = json.loads(journal.read_text())
    # A journal of format 1 names no parts: then those move that are there, and nothing is removed.
    parts: list[str] | None = told.get("parts")
    aside, former = folder / told.get("aside", "rebuild"), folder / "former"
    former.mkdir(exist_ok=True)
    for name in dict.fromkeys((*SWAPPED, *(parts or ()))):
        new, place = aside / name, folder / name
        if not new.exists():
            if parts is not None and name not in parts and place.exists():
                _put_away(place, former)
        elif name == "published":
            # Readers may open the file at any moment: replaced one by one, the folder is never missing. The manifest
            # comes last, after what it names; what it does not name are publications of the state that ends. A log
            # that another tool has written, here or there, goes with its file.
            place.mkdir(exist_ok=True)
            for log in logs_in(new):
                log.unlink()
            for file in sorted(new.iterdir(), key=lambda path: (path.name == MANIFEST, path.is_symlink())):
                target = place / file.name
                if target.is_dir() and not target.is_symlink():
                    _put_away(target, former)
                if file.suffix == ".duckdb":
                    put_in_place(file, target)
                else:
                    file.replace(target)
            _forget_publications(folder)
            new.rmdir()
        else:
            if place.exists():
                _put_away(place, former)
            new.replace(place)
    _write_home(folder, Home(told.get("format", 1), told["edition"]))
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)
    journal.unlink()
    return True


def _forget_publications(folder: Path) -> None:
    settings = Settings(home=folder)
    publication = read_manifest(settings)
    remove_others(settings, publication.kept if publication is not None else ())


def _put_away(place: Path, former: Path) -> None:
    shutil.rmtree(former / place.name, ignore_errors=True)
    place.replace(former / place.name)


def _write_home(folder: Path, home: Home) -> None:
    _write(folder / "home.json", json.dumps(asdict(home)))


def _write(path: Path, text: str) -> None:
    """Write a small file whole or not at all, on disk before it gets its name."""
    if path.exists() and path.read_text() == text:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)
