"""People who asked to be forgotten, in publications that were made before: copies and Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import duckdb
import polars as pl

from orchestration.privacy.erasure import erase
from orchestration.publishing.duckdb_copy import publish
from orchestration.publishing.manifest import Publication, copy_of, current_parquet, parquet_of, read_manifest
from orchestration.storage.home import prepare
from orchestration.storage.warehouse import connect
from settings import Settings


def publish_users(settings: Settings, users: Collection[tuple[str, int]]) -> Publication:
    """Publish marts with these users, each with one rating."""
    with connect(settings) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        con.execute(
            "CREATE OR REPLACE TABLE marts.dim_users"
            " (user_key BIGINT, edition VARCHAR, user_id INTEGER, rating_count INTEGER DEFAULT 1)"
        )
        con.executemany(
            "INSERT INTO marts.dim_users (user_key, edition, user_id) VALUES (?, ?, ?)",
            [(key, edition, number) for key, (edition, number) in enumerate(sorted(users), 1)],
        )
        con.execute("CREATE OR REPLACE TABLE marts.films AS SELECT 1 AS movie_key")
        return publish(con, settings, comments={})


def users_of(settings: Settings, version: str) -> set[tuple[str, int]]:
    with duckdb.connect(str(copy_of(settings, version)), read_only=True) as con:
        return set(con.execute("SELECT edition, user_id FROM marts.dim_users").fetchall())


def test_publications_that_hold_somebody_forgotten_go_with_their_parquet_files(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare(settings)
    # Of the same number, one is of the edition and one of the app.
    with_both = publish_users(settings, {("sample", 7), ("app", 7), ("sample", 1)})
    without = publish_users(settings, {("sample", 7), ("sample", 1)})
    newest = publish_users(settings, {("sample", 7), ("sample", 2)})
    done = erase(settings, {("app", 7), ("sample", 3)})
    assert (done.unpublished, done.still_published) == ((with_both.version,), None)
    assert not copy_of(settings, with_both.version).exists()
    assert not parquet_of(settings, with_both.version).exists()
    manifest = read_manifest(settings)
    assert manifest is not None
    assert manifest.kept == (newest.version, without.version)
    assert users_of(settings, without.version) == {("sample", 7), ("sample", 1)}
    assert set(pl.read_parquet(current_parquet(settings) / "dim_users.parquet")["user_id"]) == {7, 2}


def test_the_newest_publication_is_named_until_another_takes_its_place(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare(settings)
    old = publish_users(settings, {("sample", 1), ("sample", 2)})
    newest = publish_users(settings, {("sample", 1), ("sample", 2), ("sample", 3)})
    done = erase(settings, {("sample", 2)})
    assert (done.unpublished, done.still_published) == ((old.version,), newest.version)
    assert settings.published.exists()
    after = publish_users(settings, {("sample", 1), ("sample", 3)})
    done = erase(settings, {("sample", 2)})
    assert (done.unpublished, done.still_published) == ((newest.version,), None)
    files = [path for path in settings.published.parent.rglob("*.parquet") if path.stem == "dim_users"]
    assert {2} & {user for file in files for user in pl.read_parquet(file)["user_id"]} == set()
    assert users_of(settings, after.version) == {("sample", 1), ("sample", 3)}


def test_a_publication_that_cannot_be_read_could_hold_anybody(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare(settings)
    old = publish_users(settings, {("sample", 1)})
    publish_users(settings, {("sample", 3)})
    copy_of(settings, old.version).chmod(0o644)
    copy_of(settings, old.version).write_bytes(b"damaged")
    assert erase(settings, {("sample", 99)}).unpublished == (old.version,)


def test_weights_that_no_run_fits_anew_go_when_somebody_is_forgotten_and_those_of_wanted_recipes_stay(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path / "home", recipes="neumf")
    prepare(settings)
    publish_users(settings, {("sample", 1)})
    killed = settings.checkpoints / "flagship" / "state.npz"
    unwanted, wanted = settings.evaluation / "bpr" / "weights.npz", settings.evaluation / "neumf" / "weights.npz"
    for file in (killed, unwanted, wanted):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"user 7")
    erase(settings, set())
    assert killed.exists()
    erase(settings, {("sample", 7)})
    assert [file.exists() for file in (killed, unwanted, wanted)] == [False, False, True]


def test_nobody_forgotten_is_nothing_removed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare(settings)
    old = publish_users(settings, {("sample", 1)})
    publish_users(settings, {("sample", 3)})
    assert erase(settings, set()).unpublished == ()
    assert copy_of(settings, old.version).exists()
