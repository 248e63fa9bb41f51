"""The environment variables of our own process and of every process that it starts."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from settings import Settings

#: Characters that a library takes for a pattern or for a part of a URL where a folder's name has them: Dagster globs
#: the path of its dagster.yaml and makes SQLAlchemy's URLs by hand, and dbt-duckdb parses the database's path as a URL.
_SPECIAL = frozenset("*?[]#")

#: Variables that the caller's shell may hold and that none of our processes may see. dbt takes each of its switches
#: from `DBT_…` (one run under `DBT_EMPTY=1` fills the warehouse with empty tables); without assertions and docstrings
#: altair cannot be used; on a safe path the project's own modules are not found; metrics belong in our folder.
_FOREIGN = frozenset({"PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"})
_FOREIGN_PREFIX = "DBT_"


class PathError(RuntimeError):
    """A folder cannot be given a name that every library reads right; the message says why and what to do."""


def process_environment(settings: Settings, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for work on a home: this process's, or ``base``, without foreign switches and with ours.

    Ours keep the packages from phoning home and put their state, caches and metrics into the home. The folders of the
    caches are made. Raises ``PathError``.
    """
    caches = cache_folder(settings)
    ours = {
        "DAGSTER_HOME": str(dagster_home(settings)),
        "BENTOML_HOME": str(settings.bentoml),
        "BENTOML_DO_NOT_TRACK": "True",
        "GX_ANALYTICS_ENABLED": "false",
        "FEAST_USAGE": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLCONFIGDIR": str(caches / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torchinductor"),
        # Feast's name for it; without one every process that imports feast leaves a folder of its own behind.
        "PROMETHEUS_MULTIPROCESS_DIR": str(caches / "prometheus"),
        **dbt_variables(settings),
        "DBT_TARGET_PATH": str(settings.dbt_target),
        "DBT_LOG_PATH": str(settings.home / "dbt" / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    for name in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        Path(ours[name]).mkdir(parents=True, exist_ok=True)
    given = os.environ if base is None else base
    return {name: value for name, value in given.items() if not _is_foreign(name)} | ours


def adopt_environment(settings: Settings) -> None:
    """Make the environment for work on a home that of this process, for what it imports and runs from now on."""
    environment = process_environment(settings)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def dbt_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that dbt's profile and macros read."""
    return {
        "MARQUEE_WAREHOUSE": str(plain_folder(settings.home) / settings.warehouse.name),
        "MARQUEE_THREADS": str(settings.threads),
        "MARQUEE_DUCKDB_MEMORY": settings.duckdb_memory,
        "MARQUEE_CATALOGUE_MIN_VOTES": str(settings.catalogue_min_votes),
    }


def cache_folder(settings: Settings) -> Path:
    """Return the folder of what libraries keep for themselves: it may be removed at any time."""
    return settings.home / "cache"


def dagster_home(settings: Settings) -> Path:
    """Return Dagster's folder under a name that Dagster can read."""
    return plain_folder(settings.home) / settings.dagster.name


def plain_folder(folder: Path) -> Path:
    """Return the folder under a name without characters that libraries take for a pattern or a part of a URL.

    That is the folder itself, or else a symbolic link to it in a private folder of this user's temporary files, made
    again by every start. Raises ``PathError``.
    """
    if not _SPECIAL & set(str(folder)):
        return folder
    links = _private_folder(folder)
    link = links / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    if not (link.is_symlink() and link.readlink() == folder):
        aside = links / f".{link.name}.{os.getpid()}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder, target_is_directory=True)
        aside.replace(link)
    return link


def _private_folder(wanted_for: Path) -> Path:
    """Return a private folder in a temporary directory; nobody else can write to it and redirect our links."""
    for temporary in _temporary_folders():
        links = temporary / f"marquee-{os.getuid()}"
        try:
            links.mkdir(mode=0o700, exist_ok=True)
            found = links.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return links
    raise PathError(
        f"{wanted_for} holds one of the characters {' '.join(sorted(_SPECIAL))}, and no folder of temporary files can"
        " hold a plain link to it. Choose another MARQUEE_HOME, or set TMPDIR."
    )


def _temporary_folders() -> Iterator[Path]:
    for name in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        if name and not _SPECIAL & set(name):
            yield Path(name)


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or name.startswith(_FOREIGN_PREFIX)
