from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from models.serving.bundle import write_pointer
from orchestration.maintenance.errors import UpkeepError
from orchestration.maintenance.retention import clean_up
from orchestration.publishing.manifest import copy_of, read_manifest
from orchestration.storage.home import DAGSTER_YAML
from settings import Settings
from tests.unit.maintenance.homes import NOW, age, make_home, put, put_bento
from tests.unit.publishing.generations import publish_generation
from tests.unit.publishing.writers import write


def run(settings: Settings, *, dry_run: bool = False, now: datetime = NOW) -> list[str]:
    """Run the clean-up and return the lines that it reports."""
    told: list[str] = []
    clean_up(settings, now=now, dry_run=dry_run, tell=told.append)
    return told


def snapshot(folder: Path) -> dict[str, bytes]:
    locks = {"warehouse.lock", "run.lock"}
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in locks)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_challenger_of_an_experiment_stays(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=4)
    run(settings.model_copy(update={"keep_bundles": 1, "ab_mode": "ab", "ab_version": versions[1]}))
    assert (settings.models / versions[1]).is_dir()
    assert not (settings.models / versions[0]).is_dir()


def test_old_bundles_go_and_the_newest_few_the_served_the_rollback_and_the_built_one_stay(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=7)
    settings = settings.model_copy(update={"keep_bundles": 2})
    write_pointer(settings.serving_pointer, versions[0])
    write_pointer(settings.serving_pointer, versions[1])
    write_pointer(settings.models / "built.json", versions[3])
    told = run(settings)
    left = {path.name for path in settings.models.iterdir() if path.is_dir()}
    assert left == {versions[1], versions[0], versions[3], versions[5], versions[6]}
    assert [line for line in told if "bundle" in line] != []
    assert "freed" in told[-1]


def test_the_decision_of_a_bundle_goes_with_it(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=4)
    for version in versions:
        put(settings.models / "decisions" / f"{version}.json")
        put(settings.models / "decisions" / f"{version}.npz")
    run(settings.model_copy(update={"keep_bundles": 1}))
    left = {path.name for path in (settings.models / "decisions").iterdir()}
    assert left == {f"{version}.{kind}" for version in versions[2:] for kind in ("json", "npz")}


def test_with_a_pointer_that_cannot_be_read_nothing_is_removed(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=3)
    settings.serving_pointer.write_text("{")
    put(settings.home / "rebuild" / "home.json")
    age(settings.home / "rebuild", days=9)
    with pytest.raises(UpkeepError, match="not known which bundle is served"):
        run(settings.model_copy(update={"keep_bundles": 1}))
    assert all((settings.models / version).is_dir() for version in versions)
    assert (settings.home / "rebuild").exists()


def test_old_bentos_go_and_those_of_the_served_and_the_rollback_version_stay(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=6)
    settings = settings.model_copy(update={"keep_bentos": 1})
    write_pointer(settings.serving_pointer, versions[1])
    write_pointer(settings.serving_pointer, versions[0])
    bentos = {version: put_bento(settings, version, "aaaa", 50 - i) for i, version in enumerate(versions)}
    older_code = put_bento(settings, versions[0], "0000", 90)
    put_bento(settings, versions[3], "aaaa", 47)
    run(settings)
    assert {path.parent for path in settings.bentoml.glob("bentos/*/*/bento.yaml")} == {
        bentos[versions[0]], bentos[versions[1]], bentos[versions[5]]
    }  # fmt: skip
    assert not older_code.exists()
    models = {path.parent.name for path in settings.bentoml.glob("models/*/*/model.yaml")}
    assert models == {versions[0], versions[1], versions[5]}
    assert (settings.bentoml / "bentos" / "marquee" / "latest").read_text() == bentos[versions[5]].name
    assert (settings.bentoml / "models" / "marquee_bundle" / "latest").read_text() == versions[5]


def test_a_model_just_put_into_the_store_stays_although_no_bento_holds_it_yet(tmp_path: Path) -> None:
    settings, [version] = make_home(tmp_path)
    put_bento(settings, version, "aaaa", 5)
    model = put(settings.bentoml / "models" / "marquee_bundle" / "neumf-new" / "model.yaml").parent
    age(model, days=0.01)
    run(settings)
    assert model.exists()


@pytest.mark.parametrize(
    "leftover",
    [
        "rebuild/warehouse.duckdb",
        "former/models/x",
        "restored/serving.json",
        "published/.marquee.duckdb.part",
        "downloads/imdb/.title.basics.tsv.gz.17.partial",
        "models/.writing-abc/items.parquet",
        "evaluation/checkpoints/0a1b/train.npz",
        "bentoml/.build-abc/settings.py",
        "dbt/logs/dbt.log.1",
        "dbt/target/dbt_models-2053021-c20e96f/run_results.json",
    ],
)
def test_what_is_half_written_or_for_one_call_goes_when_it_is_old_and_stays_while_it_is_fresh(
    tmp_path: Path, leftover: str
) -> None:
    settings, _ = make_home(tmp_path)
    file = put(settings.home / leftover)
    age(settings.home / Path(leftover).parts[0], days=0.5)
    before = snapshot(settings.home)
    assert run(settings) == [f"freed 0 B in {settings.home}"]
    assert snapshot(settings.home) == before
    age(settings.home / Path(leftover).parts[0], days=2)
    assert len(run(settings)) == 2
    assert not file.exists()
    assert {**snapshot(settings.home), str(file.relative_to(settings.home)): b"content"} == before


def test_a_sample_goes_when_the_home_holds_another_edition(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path)
    put(settings.sample_dir / "imdb" / "title.basics.tsv.gz")
    run(settings)
    assert settings.sample_dir.exists()
    note = settings.home / "home.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "edition": "ml-100k"}))
    run(settings)
    assert not settings.sample_dir.exists()


def test_what_duckdb_spilled_goes(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path)
    put(settings.home / "warehouse.duckdb.tmp" / "duckdb_temp_storage-0.tmp", "x" * 2_000)
    told = run(settings)
    assert "   2.0 kB  warehouse.duckdb.tmp/, spilled by DuckDB" in told
    assert not (settings.home / "warehouse.duckdb.tmp").exists()


def test_a_dry_run_tells_the_same_and_removes_nothing(tmp_path: Path) -> None:
    settings, versions = make_home(tmp_path, bundles=5)
    settings = settings.model_copy(update={"keep_bundles": 1, "keep_bentos": 1})
    for number, version in enumerate(versions):
        put_bento(settings, version, "aaaa", 50 - number)
    put(settings.home / "rebuild" / "warehouse.duckdb", "x" * 1_000)
    age(settings.home / "rebuild", days=2)
    before = snapshot(settings.home)
    told = run(settings, dry_run=True)
    assert snapshot(settings.home) == before
    done = run(settings)
    assert told[:-1] == done[:-1]
    assert told[-1].replace("would free", "freed") == done[-1]
    assert snapshot(settings.home) != before


def test_an_old_run_goes_unless_it_holds_the_latest_word_on_an_asset(tmp_path: Path) -> None:
    """Were the only materialization of an asset removed with its run, the asset would be built again."""
    settings, _ = make_home(tmp_path)
    (settings.dagster / "dagster.yaml").write_text(DAGSTER_YAML)

    @dg.asset
    def built_once() -> None: ...

    @dg.asset
    def built_often() -> None: ...

    @dg.observable_source_asset
    def observed() -> dg.DataVersion:
        return dg.DataVersion("1")

    with dg.DagsterInstance.from_config(str(settings.dagster)) as instance:
        only = dg.materialize([built_once, built_often], instance=instance).run_id
        stale = dg.materialize([built_often], instance=instance).run_id
        latest = dg.materialize([built_often], instance=instance).run_id
        [seen_before, seen] = [
            dg.Definitions([observed], jobs=[dg.define_asset_job("look", [observed])])
            .resolve_job_def("look")
            .execute_in_process(instance=instance)
            .run_id
            for _ in range(2)
        ]
    now = datetime.now(UTC)
    assert not any("Dagster run" in line for line in run(settings, now=now))
    told = run(settings.model_copy(update={"keep_runs_days": 0}), now=now)
    with dg.DagsterInstance.from_config(str(settings.dagster)) as instance:
        assert {found.run_id for found in instance.get_runs()} == {only, latest, seen}
        for asset in (built_once, built_often):
            assert instance.get_latest_materialization_event(asset.key) is not None
        assert len(instance.fetch_observations(observed.key, limit=5).records) == 1
    assert {line.split("Dagster run ")[1][:8] for line in told[:-1]} == {stale[:8], seen_before[:8]}
    assert not list(settings.dagster.rglob(f"{stale}*"))


def test_logs_that_other_tools_left_beside_published_copies_go(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path)
    publication = publish_generation(settings, 1)
    before = snapshot(settings.home)
    write(settings.published, "DELETE FROM marts.films", killed=True)
    write(copy_of(settings, publication.version), "DELETE FROM marts.films", killed=True)
    logs = ["marquee.duckdb.wal", f"marquee-{publication.version}.duckdb.wal"]
    said = [f"published/{log}, a log of another tool's changes" for log in logs]
    assert {line[11:] for line in run(settings, dry_run=True)[:-1]} == {*said}
    assert {line[11:] for line in run(settings)[:-1]} == {*said}
    assert snapshot(settings.home) == before


def test_publications_beyond_those_that_are_kept_go_and_are_named_no_longer(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path)
    versions = [publish_generation(settings, generation).version for generation in range(2)]
    assert run(settings)[:-1] == []
    put(settings.published.with_name("marquee-0123.duckdb"), "x" * 2_000)
    told = run(settings.model_copy(update={"keep_publications": 1}))
    assert "   2.0 kB  published/marquee-0123.duckdb, an older publication" in told
    manifest = read_manifest(settings)
    assert manifest is not None
    assert manifest.kept == (versions[1],)
    assert {path.name for path in settings.published.parent.glob("*-*")} == {
        f"marquee-{versions[1]}.duckdb",
        f"marquee-{versions[1]}.json",
        f"parquet-{versions[1]}",
    }
