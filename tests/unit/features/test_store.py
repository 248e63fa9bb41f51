"""The feature store on made-up histories: exact in time, complete, and online equal to offline."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from feature_repo import store as feature_store
from tests.unit.features.conftest import GENRES, Home

if TYPE_CHECKING:
    from feast import FeatureStore

MIDNIGHT = datetime(2015, 6, 1)  # a Monday, so also the first moment of a week
USER = "user_features__rating_count"


def rows(store: FeatureStore, user_key: int, *times: datetime) -> list[int | None]:
    """Return the user's rating count as known at each time."""
    asked = pl.DataFrame(
        {"user_key": [user_key] * len(times), "movie_key": [1] * len(times), "rated_at": list(times)},
        schema={"user_key": pl.Int64, "movie_key": pl.Int64, "rated_at": pl.Datetime("us")},
    )
    return feature_store.build_training_set(store, asked)[USER].to_list()


def online_content(store: FeatureStore) -> list[tuple[object, ...]]:
    """Every value of every online table, as stored."""
    with sqlite3.connect(Path(store.repo_path) / "online_store.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sorted(
            (table, *row)
            for table in tables
            for row in connection.execute(f'SELECT entity_key, feature_name, value, event_ts FROM "{table}"')
        )


def test_a_history_row_holds_from_its_own_timestamp_and_a_second_before_the_earlier_one_does(small: Home) -> None:
    small.set_user_history(1, {MIDNIGHT - timedelta(days=30): 3, MIDNIGHT: 7, MIDNIGHT + timedelta(days=2): 9})
    second = timedelta(seconds=1)
    times = [MIDNIGHT - second, MIDNIGHT, MIDNIGHT + second, MIDNIGHT + timedelta(days=2) - second]
    assert rows(small.store, 1, *times) == [3, 7, 7, 7]


def test_nothing_is_known_of_a_user_before_the_first_history_row_nor_of_one_without_a_history(small: Home) -> None:
    small.set_user_history(1, {MIDNIGHT: 7})
    assert rows(small.store, 1, MIDNIGHT - timedelta(microseconds=1)) == [None]
    assert rows(small.store, 12345, MIDNIGHT) == [None]


def test_a_value_planted_in_the_future_is_not_seen(small: Home) -> None:
    small.set_user_history(1, {MIDNIGHT: 7})
    asked = MIDNIGHT + timedelta(days=3)
    before = rows(small.store, 1, asked)
    small.set_user_history(1, {MIDNIGHT: 7, asked + timedelta(microseconds=1): 666})
    assert rows(small.store, 1, asked) == before == [7]
    small.set_user_history(1, {MIDNIGHT: 7, asked: 666})
    assert rows(small.store, 1, asked) == [666], "the planted value must be one that would be seen in time"


def test_a_history_row_holds_for_years(small: Home) -> None:
    small.set_user_history(1, {MIDNIGHT: 7})
    assert rows(small.store, 1, MIDNIGHT + timedelta(days=7_000)) == [7]


def test_rows_of_one_user_film_and_time_come_back_once_each_in_the_order_given(home: Home) -> None:
    one = home.interactions.head(5)
    asked = pl.concat([one, one.reverse(), one]).with_columns(note=pl.int_range(15))
    answer = feature_store.build_training_set(home.store, asked)
    assert answer.select(asked.columns).equals(asked)
    known = answer.head(5).drop("note", *one.columns)
    assert answer.slice(5, 5).reverse().select(known.columns).equals(known)
    assert answer.slice(10, 5).select(known.columns).equals(known)


def test_training_rows_count_the_ratings_of_days_before_their_own(home: Home, training: pl.DataFrame) -> None:
    """200 of them, counted in the ratings alone."""
    some = training.sample(200, seed=11, shuffle=True)
    rated = home.interactions.with_columns(day=pl.col("rated_at").dt.date())
    unknown = 0
    for row in some.iter_rows(named=True):
        earlier = rated.filter(pl.col("day") < row["rated_at"].date())
        for side in ("user", "movie"):
            known = earlier.filter(pl.col(f"{side}_key") == row[f"{side}_key"]).height
            unknown += known == 0
            assert row[f"{side}_features__rating_count"] == (known or None)
        film = home.films.row(by_predicate=pl.col("movie_key") == row["movie_key"], named=True)
        assert row["movie_content__release_year"] == film["year"]
        assert row["movie_content__runtime_minutes"] == film["runtime_minutes"]
        assert row["movie_content__is_war"] == int("war" in film["genres"])
    assert 0 < unknown < 200, "both known and unknown keys must be among the rows"


def test_every_training_row_equals_a_join_as_of_its_time(home: Home, training: pl.DataFrame) -> None:
    expected = home.interactions.with_row_index("row").sort("rated_at")
    for view, key in (("user_features", "user_key"), ("movie_features", "movie_key"), ("movie_content", "movie_key")):
        history = pl.read_parquet(home.features / f"{view}.parquet").sort("feature_timestamp")
        named = history.rename(
            {name: f"{view}__{name}" for name in history.columns if name not in (key, "feature_timestamp")}
        )
        expected = expected.join_asof(
            named, left_on="rated_at", right_on="feature_timestamp", by=key, check_sortedness=False
        ).drop("feature_timestamp", strict=False)
    assert training.equals(expected.sort("row").drop("row").select(training.columns))


def test_times_with_a_zone_and_arrow_tables_and_any_working_directory_give_the_same(
    home: Home, training: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        zoned = home.interactions.head(300).with_columns(
            pl.col("rated_at").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
        )
        answer = feature_store.build_training_set(home.store, zoned.to_arrow())
    finally:
        monkeypatch.undo()
        time.tzset()
    features = training.columns[4:]
    assert answer.select(features).equals(training.head(300).select(features))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.all().exclude("rated_at"), "lack rated_at"),
        ((pl.all(), pl.lit(1).alias(USER)), "feature service's names"),
        ((pl.col("user_key", "movie_key"), pl.lit(None, pl.Datetime("us")).alias("rated_at")), "missing keys or times"),
    ],
)
def test_interactions_that_cannot_be_joined_are_refused(home: Home, change: pl.Expr, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        feature_store.build_training_set(home.store, home.interactions.select(change))


def test_no_interactions_give_no_rows_with_all_columns(home: Home, training: pl.DataFrame) -> None:
    assert feature_store.build_training_set(home.store, home.interactions.clear()).schema == training.schema


def test_filling_the_online_store_again_changes_nothing(home: Home) -> None:
    counts = feature_store.materialize(home.store)
    before = online_content(home.store)
    assert feature_store.materialize(home.store) == counts
    assert online_content(home.store) == before


def test_a_fill_that_fails_leaves_the_online_values_as_they_were(small: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    small.set_user_history(1, {MIDNIGHT: 7})
    feature_store.materialize(small.store)
    before = online_content(small.store)
    small.set_user_history(1, {MIDNIGHT: 8})
    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "_WRITE_ROWS", 10**9)
        patch.setattr("feast.FeatureStore.write_to_online_store", lambda *_, **__: None)  # as feast does with a warning
        with pytest.raises(ValueError, match="0 values of marquee_user_features were written"):
            feature_store.materialize(small.store)
    doubled = pl.read_parquet(small.features / "user_features.parquet")
    pl.concat([doubled, doubled]).write_parquet(small.features / "user_features.parquet")
    with pytest.raises(ValueError, match="two rows of one user_key"):
        feature_store.materialize(small.store)
    (small.features / "user_features.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        feature_store.materialize(small.store)
    assert online_content(small.store) == before
    assert {path.name for path in small.feast.iterdir() if path.name.startswith(".")} == set()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(small: Home) -> None:
    for name in (".scratch-left", ".scratch-held"):
        (small.feast / name).mkdir()
        (small.feast / name / "online_store.db").write_bytes(b"half")
    # The lock belongs to the open folder, not to the process, so one process can stand for two.
    held = os.open(small.feast / ".scratch-held", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        feature_store.materialize(small.store)
    finally:
        os.close(held)
    assert [path.name for path in small.feast.glob(".scratch-*")] == [".scratch-held"]


def test_applying_again_writes_nothing_and_keeps_views_that_an_older_bundle_may_need(small: Home) -> None:
    from feast import FeatureView, Field, FileSource
    from feast.types import Int64

    from feature_repo.features import user

    retired = FeatureView(
        name="user_features_v0",
        entities=[user],
        schema=[Field(name="rating_count", dtype=Int64)],
        source=FileSource(path="../features/user_features.parquet", timestamp_field="feature_timestamp"),
    )
    small.store.apply([retired])
    first = feature_store.apply(small.store)
    content = (small.feast / "registry.db").read_bytes()
    assert feature_store.apply(small.store) == first
    assert (small.feast / "registry.db").read_bytes() == content
    assert "user_features_v0" in {view.name for view in small.store.list_feature_views()}


def test_the_service_means_the_same_in_the_definitions_and_in_every_home(home: Home, small: Home) -> None:
    assert (
        feature_store.service_hash()
        == feature_store.service_hash(home.store)
        == feature_store.service_hash(small.store)
    )
    # A new value means that bundles trained before do not fit the features served: rename the changed view then.
    assert feature_store.service_hash() == "72c25c171f8bfa58d596e3e718b68c013902d041c8861c6071be9879e5758643"
    schema = feature_store.service_schema()
    assert schema == feature_store.service_schema(home.store)
    assert (len(schema["user"]), len(schema["item"])) == (25, 25)
    assert not any(name.startswith("movie_imdb") for name in schema["item"])


def test_every_definition_says_what_it_is_and_whose(home: Home) -> None:
    store = home.store
    things = [*store.list_feature_views(), *store.list_feature_services(), *store.list_data_sources()]
    assert all(thing.description and thing.owner and thing.tags for thing in things)
    assert all(feature.description for view in store.list_feature_views() for feature in view.features)
    assert all(entity.description and entity.owner for entity in store.list_entities() if entity.name != "__dummy")


def test_histories_elsewhere_than_beside_the_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be in"):
        feature_store.open_store(tmp_path / "feast", tmp_path / "elsewhere" / "features")


def test_a_moved_store_is_opened_by_its_folder_alone(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the bento opens it: feast, the folder, and nothing of this project."""
    from feast import FeatureStore

    feature_store.materialize(home.store)
    expected = feature_store.online_user_features(home.store, [1])
    moved = tmp_path / "another home"
    shutil.copytree(home.feast, moved / "feast")
    monkeypatch.chdir(tmp_path)
    store = FeatureStore(repo_path=str(moved / "feast"))
    service = store.get_feature_service("recommender_v1")
    (users,) = (view for view in service.feature_view_projections if view.name == "user_features")
    refs = [f"user_features:{feature.name}" for feature in users.features]
    answer = store.get_online_features(refs, [{"user_key": 1}], full_feature_names=True).to_dict()
    assert answer.pop("user_key") == [1]
    assert expected.drop("user_key", "event_timestamp").to_dict(as_series=False) == answer


def test_the_genres_are_those_of_the_marts_in_their_order() -> None:
    from feature_repo import features

    assert features.GENRES == GENRES
