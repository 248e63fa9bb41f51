"""The manifest that the graph is made of: it follows the project's content, and is replaced whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import duckdb
import pytest

from orchestration.lib.dbt_project import DBT_PROJECT, dbt_project, parse_digest
from orchestration.lib.dbt_runner import failures
from settings import Settings

MODELS = {
    "dim_movies.sql": "select 1 as movie_key",
    "user_taste.sql": "select 1 as user_key",
    "user_taste.yml": "models: [{name: user_taste, description: what users like}]",
}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a dbt project of two models, with the profile of the real one."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(
        "{name: marquee, version: '1.0.0', profile: marquee, model-paths: [models]}"
    )
    shutil.copy(DBT_PROJECT / "profiles.yml", folder)
    for name, text in MODELS.items():
        (folder / "models" / name).write_text(text)
    return folder


def models(settings: Settings, project: Path) -> dict[str, str]:
    """Return the SQL and description of each model, as the graph would read them."""
    manifest = json.loads(dbt_project(settings, project)[0].manifest_path.read_text())
    return {node["name"]: f"{node['raw_code']} -- {node['description']}" for node in manifest["nodes"].values()}


def test_an_edit_is_seen_though_its_file_looks_older(settings: Settings, project: Path) -> None:
    assert set(models(settings, project)) == {"dim_movies", "user_taste"}
    for name, old, new in (("dim_movies.sql", "1", "2"), ("user_taste.yml", "like", "love")):
        file = project / "models" / name
        before = file.stat()
        file.write_text(MODELS[name].replace(old, new))
        # As archives, images and `rsync -a` do; the same time is what they write where builds are reproducible.
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert models(settings, project) == {
        "dim_movies": "select 2 as movie_key -- ",
        "user_taste": "select 1 as user_key -- what users love",
    }


def test_a_model_that_was_removed_is_in_the_manifest_no_longer(settings: Settings, project: Path) -> None:
    assert set(models(settings, project)) == {"dim_movies", "user_taste"}
    for name in ("user_taste.sql", "user_taste.yml"):
        (project / "models" / name).unlink()
    assert set(models(settings, project)) == {"dim_movies"}


def test_a_project_as_it_was_is_not_parsed_again(settings: Settings, project: Path, tmp_path: Path) -> None:
    assert dbt_project(settings, project)[1] is not None
    for file in project.rglob("*.*"):
        os.utime(file)
    (project / "target").mkdir()
    (project / "target" / "manifest.json").write_text("{}")
    assert dbt_project(settings, project)[1] is None
    moved = settings.model_copy(update={"home": tmp_path / "moved"})
    shutil.copytree(settings.home, moved.home)
    assert dbt_project(moved, project)[1] is None


def test_the_digest_follows_what_the_profile_and_macros_read(settings: Settings, project: Path) -> None:
    digest = parse_digest(settings, project)
    assert parse_digest(settings.model_copy(update={"catalogue_min_votes": 7}), project) != digest
    (project / "macros").mkdir()
    (project / "macros" / "empty.sql").touch()
    assert parse_digest(settings, project) != digest


def test_dbt_builds_where_it_should_whatever_the_callers_shell_says(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell asks for tables without rows and for a target that is not there; the home's name looks like a URL."""
    from dbt.cli.main import dbtRunner

    (project / "models" / "doubled.sql").write_text("select 2 * movie_key as doubled from {{ ref('dim_movies') }}")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    settings = Settings(home=tmp_path / "it's [2024] 100% c# {{y}} ünï*")
    os.environ.update(DBT_EMPTY="1", DBT_TARGET="prod", DBT_TARGET_PATH="target", DBT_PROJECT_DIR=str(tmp_path))
    dbt_project(settings, project)
    done = dbtRunner().invoke(["-q", "build", "--project-dir", str(project), "--profiles-dir", str(project)])
    assert done.success, failures(done)
    with closing(duckdb.connect(str(settings.warehouse), read_only=True)) as con:
        assert con.execute("FROM main.doubled").fetchall() == [(2,)]
    assert {path.name for path in tmp_path.iterdir()} == {settings.home.name, "project", "temporary"}
    assert {path.name for path in project.iterdir()} == {"dbt_project.yml", "models", "profiles.yml"}


def test_what_a_killed_parse_left_behind_is_not_taken_for_the_manifest(settings: Settings) -> None:
    cut_short = settings.home / "dbt" / "parsed" / ".123.part" / "manifest.json"
    cut_short.parent.mkdir(parents=True)
    cut_short.write_text('{"nodes": {"model.')
    # What dbt writes while it builds may be cut short as well.
    settings.dbt_target.mkdir(parents=True)
    (settings.dbt_target / "manifest.json").write_text('{"nodes": {"model.')
    manifest = json.loads(dbt_project(settings)[0].manifest_path.read_text())
    assert "model.marquee.dim_movies" in manifest["nodes"]
    assert (settings.dbt_target / "partial_parse.msgpack").exists()
