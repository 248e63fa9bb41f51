"""The home's format and the swap of one edition for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestration.home import SWAPPED, HomeError, heal, prepare, read_home, rebuild_folder, start_rebuild, swap
from orchestration.warehouse import connect
from settings import HOME_FORMAT, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def fill(folder: Path, mark: str) -> None:
    """Something at every place that moves."""
    for name in SWAPPED:
        if "." in name:
            (folder / name).write_text(mark)
        else:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "content").write_text(mark)


def marks(folder: Path) -> set[str]:
    return {((folder / name) if "." in name else folder / name / "content").read_text() for name in SWAPPED}


def test_a_prepared_home_says_its_format_and_edition_and_is_prepared_again_without_harm(settings: Settings) -> None:
    for _ in range(2):
        prepare(settings)
    home = read_home(settings.home)
    assert home is not None
    assert (home.format, home.edition) == (HOME_FORMAT, "sample")
    assert "telemetry" in (settings.dagster / "dagster.yaml").read_text()


def test_a_home_of_a_newer_format_is_refused(settings: Settings) -> None:
    prepare(settings)
    (settings.home / "home.json").write_text(json.dumps({"format": HOME_FORMAT + 1, "edition": "sample"}))
    with pytest.raises(HomeError, match="newer version"):
        prepare(settings)


def test_a_home_of_another_edition_is_not_written_into(settings: Settings) -> None:
    prepare(settings)
    with pytest.raises(HomeError, match="holds the edition sample"):
        prepare(settings.model_copy(update={"movielens": "ml-100k"}))


def test_a_finished_rebuild_takes_the_place_of_every_part(settings: Settings) -> None:
    prepare(settings)
    fill(settings.home, "old")
    aside = start_rebuild_of(settings, "ml-100k")
    fill(aside, "new")
    swap(settings)
    assert marks(settings.home) == {"new"}
    home = read_home(settings.home)
    assert home is not None
    assert home.edition == "ml-100k"
    assert not rebuild_folder(settings).exists()
    assert not (settings.home / "former").exists()


@pytest.mark.parametrize("moved", range(0, len(SWAPPED) + 1, 3))
def test_a_swap_cut_off_after_some_parts_is_finished_by_the_next_start(settings: Settings, moved: int) -> None:
    prepare(settings)
    fill(settings.home, "old")
    aside = start_rebuild_of(settings, "ml-100k")
    fill(aside, "new")
    (settings.home / "swap.json").write_text(json.dumps({"edition": "ml-100k"}))
    for name in SWAPPED[:moved]:
        place = settings.home / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        (aside / name).rename(place)
    assert heal(settings.home)
    assert marks(settings.home) == {"new"}
    assert not heal(settings.home)


def test_a_rebuild_starts_with_the_keys_already_given(settings: Settings) -> None:
    prepare(settings)
    with connect(settings) as con:
        con.execute("CREATE SCHEMA intermediate")
        con.execute(
            "CREATE TABLE intermediate.int_user_keys AS SELECT 'sample' AS source, '7' AS source_id, 1 AS user_key"
        )
    aside = start_rebuild(settings, "ml-100k")
    with connect(Settings(home=aside)) as con:
        assert con.execute("FROM intermediate.int_user_keys").fetchall() == [("sample", "7", 1)]


def start_rebuild_of(settings: Settings, edition: str) -> Path:
    """A rebuild folder prepared as the child run would, without a warehouse to take keys from."""
    (settings.home / "warehouse.duckdb").unlink(missing_ok=True)
    aside = start_rebuild(settings, edition)
    prepare(Settings(home=aside, movielens=edition))
    fill(settings.home, "old")
    return aside
