"""The home's format and the swap of one edition for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from orchestration.ingestion.raw_tables import IMDB_CHANGES, IMDB_STATE, create_ledgers
from orchestration.lib.dagster_instance import open_instance
from orchestration.publishing.manifest import copy_of, current_parquet
from orchestration.storage.home import (
    DAGSTER_EXTRA,
    DAGSTER_YAML,
    KEPT_TABLES,
    MIGRATIONS,
    SWAPPED,
    HomeError,
    heal,
    migrate,
    prepare,
    read_home,
    rebuild_folder,
    start_rebuild,
    swap,
)
from orchestration.storage.warehouse import connect
from settings import HOME_FORMAT, Settings
from tests.unit.publishing.generations import expected, look_anew, publish_generation


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


def dagster_yaml(settings: Settings) -> Path:
    return settings.dagster / "dagster.yaml"


def test_what_the_owner_appends_to_dagster_yaml_stays_and_can_be_taken_back(settings: Settings) -> None:
    prepare(settings)
    ours = yaml.safe_load(dagster_yaml(settings).read_text())
    with dagster_yaml(settings).open("a") as file:
        file.write("run_retries: {enabled: true}  # my own\n")
    for _ in range(3):
        prepare(settings)
        assert yaml.safe_load(dagster_yaml(settings).read_text()) == {**ours, "run_retries": {"enabled": True}}
    assert "my own" in dagster_yaml(settings).read_text()
    assert yaml.safe_load((settings.home / DAGSTER_EXTRA).read_text()) == {"run_retries": {"enabled": True}}
    dagster_yaml(settings).write_text(dagster_yaml(settings).read_text().replace("run_retries: {enabled: true}", ""))
    for _ in range(2):
        prepare(settings)
        assert yaml.safe_load(dagster_yaml(settings).read_text()) == ours


def test_an_old_home_keeps_its_owners_settings_and_gets_a_changed_default(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.dagster.mkdir(parents=True)
    # As the first version wrote it, with a value of the owner's and one more setting.
    dagster_yaml(settings).write_text(
        "telemetry: {enabled: false}\nnux: {enabled: false}\nconcurrency: {runs: {max_concurrent_runs: 4}}\n"
        "run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 60, start_timeout_seconds: 9}\n"
    )
    monkeypatch.setattr(
        "orchestration.storage.home.DAGSTER_YAML", DAGSTER_YAML.replace("seconds: 60", "seconds: 5") + "retention: {}\n"
    )
    prepare(settings)
    found = yaml.safe_load(dagster_yaml(settings).read_text())
    assert found["concurrency"] == {"runs": {"max_concurrent_runs": 4}}
    assert found["run_monitoring"] == {
        "enabled": True, "free_slots_after_run_end_seconds": 5, "start_timeout_seconds": 9
    }  # fmt: skip
    assert found["retention"] == {}
    assert yaml.safe_load((settings.home / DAGSTER_EXTRA).read_text()) == {
        "concurrency": {"runs": {"max_concurrent_runs": 4}}, "run_monitoring": {"start_timeout_seconds": 9}
    }  # fmt: skip


def test_the_owners_own_file_is_laid_over_ours_and_is_left_as_it_is(settings: Settings) -> None:
    settings.home.mkdir()
    extra = settings.home / DAGSTER_EXTRA
    extra.write_text("# why\nrun_monitoring:\n  enabled: false\n")
    for _ in range(2):
        prepare(settings)
        found = yaml.safe_load(dagster_yaml(settings).read_text())
        assert found["run_monitoring"] == {"enabled": False, "free_slots_after_run_end_seconds": 60}
        assert found["telemetry"] == {"enabled": False}
        assert extra.read_text() == "# why\nrun_monitoring:\n  enabled: false\n"
    extra.unlink()
    prepare(settings)
    assert yaml.safe_load(dagster_yaml(settings).read_text())["run_monitoring"]["enabled"] is True


@pytest.mark.parametrize("text", ["run_retries: {", "- a\n- b\n", "just words"])
@pytest.mark.parametrize("name", [DAGSTER_EXTRA, "dagster/dagster.yaml"])
def test_broken_dagster_settings_are_one_clear_line(settings: Settings, name: str, text: str) -> None:
    prepare(settings)
    (settings.home / name).write_text(text)
    with pytest.raises(HomeError, match=r"dagster.*\.yaml cannot be read: .*Mend it, or remove it") as refused:
        prepare(settings)
    assert "\n" not in str(refused.value)
    assert (settings.home / name).read_text() == text


def test_settings_that_dagster_does_not_know_are_one_clear_line(settings: Settings) -> None:
    prepare(settings)
    (settings.home / DAGSTER_EXTRA).write_text("run_queue: {max_concurrent_runs: 2}\n")
    prepare(settings)
    with pytest.raises(HomeError, match=r"Dagster cannot start with .*run_queue.*Mend it") as refused:
        open_instance(settings)
    assert "\n" not in str(refused.value)


def test_the_owners_dagster_settings_survive_a_change_of_edition(settings: Settings) -> None:
    prepare(settings)
    with dagster_yaml(settings).open("a") as file:
        file.write("run_retries: {enabled: true}\n")
    aside = start_rebuild_of(settings, "ml-100k")
    swap(settings)
    assert not aside.exists()
    prepare(settings.model_copy(update={"movielens": "ml-100k"}))
    with open_instance(settings) as instance:
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled


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
    journal = {"aside": "rebuild", "parts": list(SWAPPED), "format": HOME_FORMAT, "edition": "ml-100k"}
    (settings.home / "swap.json").write_text(json.dumps(journal))
    for name in SWAPPED[:moved]:
        place = settings.home / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        (aside / name).rename(place)
    assert heal(settings.home)
    assert marks(settings.home) == {"new"}
    assert not heal(settings.home)


def test_the_next_start_finishes_a_swap_that_an_older_version_began(settings: Settings) -> None:
    prepare(settings)
    fill(settings.home, "old")
    aside = start_rebuild_of(settings, "ml-100k")
    fill(aside, "new")
    (settings.home / "swap.json").write_text(json.dumps({"edition": "ml-100k"}))
    assert heal(settings.home)
    assert marks(settings.home) == {"new"}
    prepare(settings.model_copy(update={"movielens": "ml-100k"}))
    home = read_home(settings.home)
    assert home is not None
    assert (home.format, home.edition) == (HOME_FORMAT, "ml-100k")


def test_a_part_that_the_new_edition_does_not_have_goes_with_the_old_one(settings: Settings) -> None:
    """The generated sample, and the log of a database that another one could not replay."""
    prepare(settings)
    fill(settings.home, "old")
    aside = start_rebuild_of(settings, "ml-100k")
    fill(aside, "new")
    shutil.rmtree(aside / "sample")
    (aside / "warehouse.duckdb.wal").unlink()
    swap(settings)
    assert not (settings.home / "sample").exists()
    assert not (settings.home / "warehouse.duckdb.wal").exists()
    assert (settings.home / "warehouse.duckdb").read_text() == "new"


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


def test_a_rebuild_under_way_goes_on(settings: Settings) -> None:
    prepare(settings)
    give_key(settings, "7", 1)
    aside = start_rebuild(settings, "ml-100k")
    prepare(Settings(home=aside, movielens="ml-100k"))
    give_key(Settings(home=aside), "8", 2)
    start_rebuild(settings, "ml-100k")
    with connect(Settings(home=aside)) as con:
        assert con.execute("SELECT user_key FROM intermediate.int_user_keys ORDER BY 1").fetchall() == [(1,), (2,)]


def test_a_rebuild_under_way_begins_anew_when_the_home_has_given_keys_since(settings: Settings) -> None:
    prepare(settings)
    give_key(settings, "7", 1)
    aside = start_rebuild(settings, "ml-100k")
    prepare(Settings(home=aside, movielens="ml-100k"))
    give_key(settings, "8", 2)
    start_rebuild(settings, "ml-100k")
    with connect(Settings(home=aside)) as con:
        assert con.execute("SELECT user_key FROM intermediate.int_user_keys ORDER BY 1").fetchall() == [(1,), (2,)]


@pytest.fixture
def three_steps(monkeypatch: pytest.MonkeyPatch) -> dict[int, RecordingStep]:
    """Set the home format to 4 and return a step from each format before it."""
    monkeypatch.setattr("orchestration.storage.home.HOME_FORMAT", 4)
    return {number: RecordingStep() for number in (1, 2, 3)}


class RecordingStep:
    """A migration that counts how often it ran, and breaks off when it is told to."""

    def __init__(self) -> None:
        self.ran = 0
        self.broken = False

    def __call__(self, folder: Path) -> None:
        self.ran += 1
        if self.broken:
            raise KeyboardInterrupt


def test_an_older_home_is_migrated_one_format_at_a_time(
    settings: Settings, three_steps: dict[int, RecordingStep]
) -> None:
    write_format(settings, 1)
    assert migrate(settings.home, three_steps) == 3
    assert [step.ran for step in three_steps.values()] == [1, 1, 1]
    assert migrate(settings.home, three_steps) == 0
    home = read_home(settings.home)
    assert home is not None
    assert (home.format, home.edition) == (4, "sample")


def test_a_migration_cut_off_goes_on_with_the_step_that_was_not_finished(
    settings: Settings, three_steps: dict[int, RecordingStep]
) -> None:
    write_format(settings, 1)
    three_steps[2].broken = True
    with pytest.raises(KeyboardInterrupt):
        migrate(settings.home, three_steps)
    assert json.loads((settings.home / "home.json").read_text())["format"] == 2
    three_steps[2].broken = False
    assert migrate(settings.home, three_steps) == 2
    assert [step.ran for step in three_steps.values()] == [1, 2, 1]


def test_a_home_that_no_step_leads_on_from_is_refused(settings: Settings) -> None:
    write_format(settings, 0)
    with pytest.raises(HomeError, match="nothing leads from there"):
        prepare(settings)


def test_every_older_format_has_its_step() -> None:
    assert sorted(MIGRATIONS) == list(range(1, HOME_FORMAT))


def test_a_home_of_format_1_loses_the_sample_that_a_swap_left_behind(settings: Settings) -> None:
    write_format(settings, 1, edition="ml-100k")
    (settings.home / "sample" / "imdb").mkdir(parents=True)
    prepare(settings.model_copy(update={"movielens": "ml-100k"}))
    assert not (settings.home / "sample").exists()
    home = read_home(settings.home)
    assert home is not None
    assert home.format == HOME_FORMAT


def test_a_home_of_format_1_keeps_the_sample_that_it_holds(settings: Settings) -> None:
    write_format(settings, 1)
    (settings.home / "sample" / "imdb").mkdir(parents=True)
    prepare(settings)
    assert (settings.home / "sample" / "imdb").exists()


def write_format(settings: Settings, number: int, *, edition: str = "sample") -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "home.json").write_text(json.dumps({"format": number, "edition": edition}))


def give_key(settings: Settings, source_id: str, key: int) -> None:
    with connect(settings) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS intermediate")
        con.execute(
            "CREATE TABLE IF NOT EXISTS intermediate.int_user_keys (source VARCHAR, source_id VARCHAR, user_key INT)"
        )
        con.execute("INSERT INTO intermediate.int_user_keys VALUES ('sample', ?, ?)", [source_id, key])


def test_a_rebuild_goes_on_with_the_history_of_imdb(settings: Settings) -> None:
    kept = {relation.removeprefix("raw.") for relation in KEPT_TABLES if relation.startswith("raw.")}
    assert kept == {table.name for table in (IMDB_CHANGES, *IMDB_STATE)}
    prepare(settings)
    with connect(settings) as con:
        create_ledgers(con)
        con.execute("INSERT INTO raw.imdb_snapshot_titles VALUES ('tt0000001', 'A', 2000)")
        con.execute("INSERT INTO raw.imdb_changes BY NAME SELECT 1 AS look, 'tt0000001' AS tconst, 'added' AS change")
    aside = start_rebuild(settings, "ml-100k")
    with connect(Settings(home=aside)) as con:
        assert con.execute("FROM raw.imdb_snapshot_titles").fetchall() == [("tt0000001", "A", 2000)]
        assert con.execute("SELECT look, tconst, change FROM raw.imdb_changes").fetchall() == [
            (1, "tt0000001", "added")
        ]


def start_rebuild_of(settings: Settings, edition: str) -> Path:
    """Prepare a rebuild folder as the child run would, without a warehouse to take keys from."""
    (settings.home / "warehouse.duckdb").unlink(missing_ok=True)
    aside = start_rebuild(settings, edition)
    prepare(Settings(home=aside, movielens=edition))
    fill(settings.home, "old")
    return aside


def test_a_swap_leaves_the_publications_of_the_new_state_alone(settings: Settings) -> None:
    prepare(settings)
    publish_generation(settings, 1)
    publish_generation(settings, 2)
    aside = settings.model_copy(update={"home": rebuild_folder(settings), "movielens": "ml-100k"})
    prepare(aside)
    third = publish_generation(aside, 3)
    swap(settings)
    assert sorted(path.name for path in settings.published.parent.iterdir()) == [
        "manifest.json",
        f"marquee-{third.version}.duckdb",
        f"marquee-{third.version}.json",
        "marquee.duckdb",
        "parquet",
        f"parquet-{third.version}",
    ]
    assert settings.published.read_bytes() == copy_of(settings, third.version).read_bytes()
    assert (current_parquet(settings) / "films.parquet").exists()
    assert look_anew(settings) == expected(3)
