"""One function makes the environment of our process and its children, and no name of a home confuses a library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import duckdb
import pytest

import environment
from bento.packaging.build import bentoml_environment
from bento.store.database import Store
from environment import PathError, adopt_environment, dagster_home, plain_folder, process_environment
from orchestration.ingestion.app_store import app_version, ingest_app
from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.raw_tables import create_ledgers
from orchestration.maintenance.backup import PARTS
from orchestration.storage.home import prepare
from settings import PROJECT_ROOT, Settings
from tests.unit.ingestion.editions import write_dump

#: All that a home's name may hold; see tests/unit/test_settings.py for what it may not.
ODD = "it's [2024] 100% c# x=1 {{y}} ünï*"


@pytest.fixture(autouse=True)
def variables() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a home whose name holds characters special to globs, URLs and templates; its links are next to it."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return Settings(home=tmp_path / ODD)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}


def test_switches_of_the_callers_shell_do_not_come_along(settings: Settings) -> None:
    foreign = {"DBT_EMPTY": "1", "DBT_TARGET": "prod", "DBT_ENGINE_SAMPLE": "1 day", "PYTHONOPTIMIZE": "2"}
    os.environ.update(foreign, PYTHONSAFEPATH="1", DBT_TARGET_PATH="elsewhere", UNRELATED="stays")
    for made in (process_environment(settings), bentoml_environment(settings)):
        assert not foreign.keys() & made.keys()
        assert "PYTHONSAFEPATH" not in made
        assert made["DBT_TARGET_PATH"] == str(settings.dbt_target)
        assert made["UNRELATED"] == "stays"
    adopt_environment(settings)
    assert not foreign.keys() & os.environ.keys()
    assert os.environ["DAGSTER_HOME"] == str(dagster_home(settings))


def test_a_bare_environment_can_be_the_base(settings: Settings) -> None:
    made = process_environment(settings, {"PATH": "/bin", "DBT_DEFER": "1"})
    assert made["PATH"] == "/bin"
    assert "DBT_DEFER" not in made


def test_caches_and_metrics_of_libraries_lie_in_the_home(settings: Settings) -> None:
    made = process_environment(settings)
    code = "import matplotlib; print(matplotlib.get_configdir())"
    done = subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True, check=True)
    assert done.stdout == f"{settings.home / 'cache' / 'matplotlib'}\n"
    for name in ("TORCHINDUCTOR_CACHE_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        assert Path(made[name]).parent == settings.home / "cache"
        assert Path(made[name]).is_dir()


def test_a_plain_name_is_left_alone_and_an_odd_one_gets_a_private_link(settings: Settings, tmp_path: Path) -> None:
    assert plain_folder(tmp_path) == tmp_path
    link = plain_folder(settings.home)
    assert link.readlink() == settings.home
    assert link.parent.stat().st_mode & 0o777 == 0o700
    assert plain_folder(settings.home) == link
    link.unlink()
    link.symlink_to(tmp_path)
    assert plain_folder(settings.home).readlink() == settings.home
    assert plain_folder(tmp_path / "a?b") != link


def test_a_link_is_never_put_where_others_can_change_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_temporary_folders", lambda: iter([settings.home.parent / "temporary"]))
    plain_folder(settings.home).parent.chmod(0o777)
    with pytest.raises(PathError, match="Choose another MARQUEE_HOME"):
        plain_folder(settings.home)


def test_the_apps_store_is_in_the_home_and_nowhere_else(settings: Settings, tmp_path: Path) -> None:
    assert app_version(settings.app_store) == "0-0-0"
    store = Store(settings.app_store)
    store.migrate()
    store.close()
    assert (settings.home / "app" / "store.db").is_file()
    assert app_version(settings.app_store) == "0-0-0"
    with duckdb.connect() as con:
        ingest_app(con, settings.app_store, "sample")
    assert files(tmp_path) == {ODD}
    (part,) = (part for part in PARTS if part.name == "app store")
    staging = tmp_path / "staging"
    staging.mkdir()
    assert part.gather(settings, staging)["app/store.db"].is_file()


def test_dagster_reads_its_settings_and_keeps_its_runs_in_the_home(settings: Settings, tmp_path: Path) -> None:
    import dagster as dg

    prepare(settings)
    adopt_environment(settings)

    @dg.asset
    def thing() -> None: ...

    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert dg.materialize([thing], instance=instance).success
        reference = instance.get_ref()
    # As by its children: they are handed the instance, not the variable.
    with dg.DagsterInstance.from_ref(reference) as handed:
        assert not handed.telemetry_enabled
        assert handed.get_latest_materialization_event(thing.key) is not None
    assert (settings.dagster / "history" / "runs.db").is_file()
    assert files(tmp_path) == {ODD}


def test_a_mirror_is_read_and_not_the_one_that_its_name_matches_as_a_pattern(tmp_path: Path) -> None:
    for name, votes in (("[2024]*?", 10), ("2ab", 99)):
        write_dump(tmp_path / name, "title.ratings", f"tt0000001 5.0 {votes}")
    with duckdb.connect() as con:
        create_ledgers(con)
        ingest_imdb(con, "title.ratings", tmp_path / "[2024]*?" / "title.ratings.tsv.gz")
        assert con.execute('SELECT "numVotes" FROM raw.imdb_title_ratings').fetchall() == [(10,)]


def test_polars_never_takes_the_name_of_a_file_for_a_pattern() -> None:
    readers = {f"{verb}_{kind}" for verb in ("read", "scan") for kind in ("parquet", "csv", "ipc", "ndjson")}
    globbing = []
    for package in ("bento", "feature_repo", "models", "orchestration"):
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"pl.{name}" for name in readers}:
                    from_text = ast.unparse(node.args[0]).startswith("io.StringIO")
                    if not from_text and "glob" not in {keyword.arg for keyword in node.keywords}:
                        globbing.append(f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}")
    assert globbing == []
