"""The checks of the raw tables that warn, run by Dagster on tiny files: declared columns, and published counts."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from models.data.movielens import EDITIONS
from orchestration.defs.ingestion import assets as raw
from orchestration.defs.ingestion import streaming
from settings import PROJECT_ROOT, Settings
from tests.unit.ingestion import editions
from tests.unit.ingestion.catalogues import write_catalogues
from tests.unit.ingestion.editions import write_dump

DUMP = "title.ratings"
REAL_DATA = Path(os.environ.get("MARQUEE_TEST_DATA", PROJECT_ROOT.parent / "shared" / "data"))


def materialize(settings: Settings, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
    """Materialize the raw tables and their own checks, or a part of them, in a Dagster that keeps nothing."""
    return dg.materialize(
        [
            raw.movielens_tables,
            *raw.imdb_tables,
            streaming.streaming_tables,
            raw.columns_as_declared,
            raw.published_counts,
        ],
        resources={"settings": settings},
        selection=selection,
    )


def checks(result: dg.ExecuteInProcessResult, name: str) -> dict[str, dg.AssetCheckEvaluation]:
    return {c.asset_key.path[-1]: c for c in result.get_asset_check_evaluations() if c.check_name == name}


def tiny(tmp_path: Path, edition: str = "ml-latest-small", **changed: str) -> Settings:
    editions.csv_edition(tmp_path / "mirror" / edition, edition, **changed)
    write_dump(tmp_path / "mirror" / "imdb", DUMP, "tt0000001 5.0 10")
    return Settings(home=tmp_path / "home", raw_dir=tmp_path / "mirror", movielens=edition, imdb_dumps=(DUMP,))


def test_files_as_declared_pass_and_a_small_edition_is_told_what_it_lacks(tmp_path: Path) -> None:
    result = materialize(tiny(tmp_path))
    columns = checks(result, "columns")
    assert set(columns) == set(raw.RAW_TABLES)
    assert all(check.passed for check in columns.values())
    [counts] = checks(result, "published_counts").values()
    assert (counts.passed, counts.severity, counts.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert counts.metadata["counts"].value.splitlines()[2:] == [
        "| ratings | 100,836 | 3 |",
        "| users | 610 | 2 |",
        "| movies | 9,742 | 3 |",
        "| tags | 3,683 | 2 |",
    ]


def test_a_new_column_is_noted_on_the_asset_and_warned_of_for_as_long_as_it_is_there(tmp_path: Path) -> None:
    settings = tiny(tmp_path, tags='userId,movieId,tag,timestamp,mood\n1,1,fun,5,"a, b"\n')
    for _ in range(2):
        result = materialize(settings)
        columns = checks(result, "columns")
        assert {name for name, check in columns.items() if not check.passed} == {"ml_tags"}
        warning = columns["ml_tags"]
        assert (warning.severity, warning.blocking) == (dg.AssetCheckSeverity.WARN, False)
        assert warning.metadata["new_columns"].value == "mood"
        [noted] = result.asset_materializations_for_node("movielens_tables")[3:4]
        assert noted.asset_key == raw.raw_key("ml_tags")
        assert noted.metadata["new_columns"].value == "mood"
    editions.csv_edition(tmp_path / "mirror" / "ml-latest-small")
    assert all(check.passed for check in checks(materialize(settings), "columns").values())


def test_a_table_that_lacks_a_declared_column_is_an_error(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    materialize(settings)
    with duckdb.connect(str(settings.warehouse)) as con:
        con.execute("ALTER TABLE raw.imdb_title_ratings DROP COLUMN numVotes")
    checked = materialize(settings, dg.AssetSelection.checks(raw.columns_as_declared))
    lacking = checks(checked, "columns")["imdb_title_ratings"]
    assert (lacking.passed, lacking.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert lacking.metadata["missing_columns"].value == "numVotes"


def test_streaming_catalogues_that_are_not_there_are_skipped_and_say_so(tmp_path: Path) -> None:
    for folder, said in ((None, "MARQUEE_STREAMING_DIR is not set"), (tmp_path / "none", "none of netflix_titles.csv")):
        settings = tiny(tmp_path).model_copy(update={"streaming_dir": folder})
        made = materialize(settings).asset_materializations_for_node("streaming_tables")
        assert len(made) == 5
        for one in made:
            assert one.metadata["dagster/row_count"].value == 0
            assert one.metadata["state"].value.startswith(f"skipped: {said}")


def test_a_folder_of_catalogues_is_loaded_and_a_missing_one_told(tmp_path: Path) -> None:
    folder = write_catalogues(tmp_path / "streaming")
    (folder / "hulu_titles.csv").unlink()
    settings = tiny(tmp_path).model_copy(update={"streaming_dir": folder})
    made = materialize(settings).asset_materializations_for_node("streaming_tables")
    states = {
        one.asset_key.path[-1]: (one.metadata["state"].value, one.metadata["dagster/row_count"].value) for one in made
    }
    assert states["streaming_netflix_titles"] == ("loaded", 2)
    assert states["streaming_hulu_titles"] == (f"skipped: its file is not in {folder}", 0)
    # One rating is of a title of the catalogue that is missing.
    assert states["streaming_ratings"] == ("loaded", 3)


@pytest.mark.real_data
def test_the_real_small_edition_has_its_published_counts(tmp_path: Path) -> None:
    if not (REAL_DATA / "ml-latest-small").is_dir():
        pytest.skip(f"no real files under {REAL_DATA}; MARQUEE_TEST_DATA names their folder")
    settings = Settings(home=tmp_path / "home", raw_dir=REAL_DATA, movielens="ml-latest-small", imdb_dumps=())
    [counts] = checks(materialize(settings), "published_counts").values()
    assert counts.passed, counts.metadata


def test_an_edition_that_grows_is_not_compared(tmp_path: Path) -> None:
    [counts] = checks(materialize(tiny(tmp_path, "ml-latest")), "published_counts").values()
    assert counts.passed
    assert counts.metadata["skipped"].value == "ml-latest has no fixed counts: it is generated here or grows"


def test_every_edition_but_the_growing_and_the_generated_one_has_published_counts() -> None:
    assert {name for name, edition in EDITIONS.items() if edition.published is None} == {"sample", "ml-latest"}
