"""What the online store holds: the same on a SQLite file and on a real Redis."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from feature_repo import store as feature_store
from tests.unit.features.conftest import Home

MIDNIGHT = datetime(2015, 6, 1)
USER = "user_features__rating_count"


def test_the_online_store_equals_the_last_offline_row_of_every_key_view_and_feature(online: Home) -> None:
    counts = feature_store.materialize(online.store)
    for view in online.store.list_feature_views():
        (key,) = (column.name for column in view.entity_columns)
        last = (
            pl.read_parquet(online.features / f"{view.name}.parquet")
            .sort("feature_timestamp")
            .group_by(key)
            .last()
            .sort(key)
        )
        assert counts[view.name] == last.height
        names = [feature.name for feature in view.features]
        answer = online.store.get_online_features(
            [f"{view.name}:{name}" for name in names], [{key: value} for value in last[key]]
        ).to_dict()
        for name in names:
            assert answer[name] == last[name].cast(pl.Float64 if name == "imdb_rating" else last[name].dtype).to_list()


def test_the_served_user_vector_equals_the_offline_row_and_carries_its_time(online: Home) -> None:
    feature_store.materialize(online.store)
    last = (
        pl.read_parquet(online.features / "user_features.parquet").sort("feature_timestamp").group_by("user_key").last()
    )
    last = last.sort("user_key", descending=True)
    answer = feature_store.online_user_features(online.store, last["user_key"].to_list())
    assert answer["user_key"].to_list() == last["user_key"].to_list()
    assert answer["event_timestamp"].dt.replace_time_zone(None).to_list() == last["feature_timestamp"].to_list()
    for name in feature_store.service_schema()["user"]:
        assert answer[name].to_list() == last[name.removeprefix("user_features__")].to_list()


def test_an_unknown_user_has_no_values_and_no_time(online: Home) -> None:
    feature_store.materialize(online.store)
    (row,) = feature_store.online_user_features(online.store, [987_654_321]).drop("user_key").iter_rows()
    assert set(row) == {None}


def test_values_that_went_back_and_users_who_vanished_are_corrected_under_an_open_reader(online: Home) -> None:
    online.set_user_history(1, {MIDNIGHT: 7, MIDNIGHT + timedelta(days=2): 9})
    online.set_user_history(2, {MIDNIGHT: 5})
    feature_store.materialize(online.store)
    reader = online.reopened()
    assert feature_store.online_user_features(reader, [1, 2])[USER].to_list() == [9, 5]
    online.set_user_history(1, {MIDNIGHT: 6})
    online.set_user_history(2, {})
    feature_store.materialize(online.store)
    answer = feature_store.online_user_features(reader, [1, 2])
    assert answer[USER].to_list() == [6, None]
    assert answer["event_timestamp"].dt.replace_time_zone(None).to_list() == [MIDNIGHT, None]


def test_a_film_that_a_view_no_longer_has_keeps_what_others_say_of_it(online: Home) -> None:
    feature_store.materialize(online.store)
    path = online.features / "movie_imdb.parquet"
    history = pl.read_parquet(path)
    key = int(history["movie_key"][0])
    history.filter(pl.col("movie_key") != key).write_parquet(path)
    feature_store.materialize(online.store)
    told = online.store.get_online_features(
        ["movie_imdb:imdb_votes", "movie_content:release_year"], [{"movie_key": key}]
    ).to_dict()
    assert told["imdb_votes"] == [None]
    assert told["release_year"] != [None]


def test_a_pushed_row_is_read_at_once_and_replaced_by_the_next_fill(online: Home) -> None:
    from feast.data_source import PushMode

    online.set_user_history(1, {MIDNIGHT: 7})
    feature_store.materialize(online.store)
    row = pl.read_parquet(online.features / "user_features.parquet").filter(pl.col("user_key") == 1)
    pushed = row.with_columns(
        pl.lit(8, pl.Int32).alias("rating_count"), pl.lit(MIDNIGHT + timedelta(hours=1)).alias("feature_timestamp")
    )
    online.store.push("user_features_push", pushed.to_pandas(), to=PushMode.ONLINE)
    assert feature_store.online_user_features(online.reopened(), [1])[USER].to_list() == [8]
    feature_store.materialize(online.store)
    assert feature_store.online_user_features(online.reopened(), [1])[USER].to_list() == [7]


def test_a_store_that_moves_to_a_redis_leaves_no_values_in_its_file_and_back(online: Home) -> None:
    feature_store.materialize(online.store)
    file, note = online.feast / "online_store.db", online.feast / feature_store.REDIS_FILLED
    assert (file.exists(), note.exists()) == (not online.redis, online.redis)
    if online.redis:
        back = feature_store.open_store(online.feast, online.features)
        feature_store.apply(back)
        feature_store.materialize(back)
        assert (file.exists(), note.exists()) == (True, False)
