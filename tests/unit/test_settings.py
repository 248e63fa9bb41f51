"""Every setting comes from one variable, wrong values are refused by name, and the README lists them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from settings import BARS, EDITIONS, IMDB_DUMPS, PROJECT_ROOT, RECIPES, Settings


def test_a_variable_sets_its_setting_and_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARQUEE_HOME", "state")
    monkeypatch.setenv("MARQUEE_MOVIELENS", "ml-100k")
    settings = Settings()
    assert settings.home == tmp_path / "state"
    assert settings.warehouse == tmp_path / "state" / "warehouse.duckdb"
    assert settings.movielens == "ml-100k"


def test_an_experiment_needs_a_version_and_a_shadow_the_log() -> None:
    with pytest.raises(ValidationError, match="MARQUEE_AB_VERSION"):
        Settings(ab_mode="ab")
    with pytest.raises(ValidationError, match="ab_version"):
        Settings(ab_mode="ab", ab_version="../elsewhere")
    with pytest.raises(ValidationError, match="MARQUEE_ANSWER_LOG"):
        Settings(ab_mode="shadow", ab_version="ease-1", answer_log=False)
    with pytest.raises(ValidationError, match="ab_share"):
        Settings(ab_share=1.5)


@pytest.mark.parametrize(
    "command",
    [
        "orchestration.run",
        "orchestration.ui",
        "orchestration.shell",
        "orchestration.maintenance clean-up",
        "bento.serve",
    ],
)
def test_a_home_that_cannot_hold_a_database_is_refused_in_one_line(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=PROJECT_ROOT,
        env={**os.environ, "MARQUEE_HOME": str(tmp_path / "what?x=1")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"MARQUEE_HOME: {tmp_path}/what?x=1 cannot hold a database, for `?` is in its name; choose another folder\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_edition_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_MOVIELENS", "ml-7m")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "ml-7m" in str(refused.value)
    assert all(edition in str(refused.value) for edition in EDITIONS)


def test_dumps_are_listed_by_commas_in_any_order_and_unknown_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_IMDB_DUMPS", "title.ratings, title.basics")
    assert Settings().imdb_dumps == ("title.basics", "title.ratings")
    monkeypatch.setenv("MARQUEE_IMDB_DUMPS", "")
    assert Settings().imdb_dumps == IMDB_DUMPS
    monkeypatch.setenv("MARQUEE_IMDB_DUMPS", "title.basic")
    with pytest.raises(ValidationError, match=r"unknown IMDb dump title\.basic"):
        Settings()


def test_the_bars_always_compete_and_unknown_recipes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().candidates == ("popularity", "ease", "ials", "neumf")
    monkeypatch.setenv("MARQUEE_RECIPES", "itemknn, bpr,ease")
    assert Settings().candidates == ("popularity", "ease", "ials", "bpr", "itemknn")
    assert Settings(recipes=()).candidates == BARS
    monkeypatch.setenv("MARQUEE_RECIPES", "oracle")
    with pytest.raises(ValidationError, match="unknown recipe oracle; choose from popularity, ease"):
        Settings()


def test_every_recipe_that_the_settings_know_has_its_description() -> None:
    from orchestration.defs.training.assets import CANDIDATES

    assert set(CANDIDATES) == {*BARS, *RECIPES}


def test_the_readme_names_every_variable() -> None:
    readme = (PROJECT_ROOT / "README.md").read_text()
    missing = [name for name in Settings.model_fields if f"MARQUEE_{name.upper()}" not in readme]
    assert missing == []
