"""Online features between two runs: made of the ratings of this moment as the marts would, and pushed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bento.errors import FeatureStoreUnavailable
from bento.fresh_features import FreshFeatures, features_now
from bento.served import Served
from bento.store import people
from bento.store.database import Store
from bento.store.people import Who
from models.bundle import Bundle, FeatureSet
from tests.unit.bento.conftest import RecordingReader, features_of
from tests.unit.features.conftest import GENRES, write_histories, write_ratings

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NAMES = ("movie_content__release_year", "movie_content__is_drama", "movie_content__is_war")
#: The tiny bundle's films: year, drama, war.
FILMS = np.array([[1990, 1, 0], [1991, 0, 0], [np.nan, 0, 1], [1993, 1, 0], [1994, 1, 0]], dtype=np.float32)


def test_they_are_those_that_the_mart_gives_at_the_next_midnight(tmp_path: Path) -> None:
    ratings, films = write_ratings(7, users=20, movies=60, ratings=900)
    write_histories(tmp_path, ratings, films)
    content = pl.read_parquet(tmp_path / "movie_content.parquet").sort("movie_key")
    names = ["release_year", *(f"is_{genre}" for genre in GENRES)]
    values = content.select(pl.col(names).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    place = {key: row for row, key in enumerate(content["movie_key"].to_list())}
    marts = pl.read_parquet(tmp_path / "user_features.parquet").sort("feature_timestamp").group_by("user_key").last()
    for row in marts.drop("feature_timestamp").iter_rows(named=True):
        own = ratings.filter(pl.col("user_key") == row.pop("user_key"))
        found = features_now(
            [f"movie_content__{name}" for name in names],
            values,
            np.array([place[key] for key in own["movie_key"].to_list()]),
            own["rating"].to_numpy().astype(np.float32),
            own["rated_at"].dt.epoch("s").to_numpy(),
        )
        assert found == pytest.approx(row, abs=2e-6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.close()


@pytest.fixture
def reader() -> RecordingReader:
    return RecordingReader(features_of([1.0, 2.0]))


@pytest.fixture
def served(bundle: Bundle, reader: RecordingReader) -> Served:
    described = FeatureSet("recommender_v1", "abc123", bundle.features.user_names, NAMES)
    return Served.of(replace(bundle, item_features=FILMS, features=described), reader)


def rate(store: Store, who: Who, movie_key: int, stars: float, at: datetime = NOW) -> None:
    with store.writing() as session:
        user = people.adopt_user(session, who, NOW)
        people.rate(
            session, user, movie_key=movie_key, edition=who.source, movie_id=1, rating=stars, rated_at=at, now=NOW
        )


def test_a_rating_in_the_app_is_pushed_with_those_of_the_edition(
    store: Store, served: Served, reader: RecordingReader
) -> None:
    who = Who.of(12, served.catalogue.edition)
    # User 12 has met films 0 and 1; what he says of film 1 in the app stands for what he said of it.
    rate(store, who, 902, 5.0)
    rate(store, who, 901, 0.5, NOW - timedelta(days=1))
    fresh = FreshFeatures(store, lambda: [served], lambda: NOW)
    fresh.note(12)
    fresh.start()
    fresh.stop()
    [(key, found)] = reader.pushed
    stars = np.array([served.bundle.history[1, 0], 0.5, 5.0])
    assert key == 502
    assert (found["rating_count"], found["active_days"]) == (3, 3)
    assert found["rating_mean"] == pytest.approx(stars.mean(), abs=1e-6)
    assert found["rating_stddev"] == pytest.approx(stars.std(), abs=1e-6)
    assert found["mean_release_year"] == pytest.approx((1990 + 1991) / 2)
    assert (found["genre_share_drama"], found["genre_share_war"]) == (0.333333, 0.333333)


def test_who_is_no_user_of_the_model_or_has_left_is_not_pushed(
    store: Store, served: Served, reader: RecordingReader
) -> None:
    with store.writing() as session:
        stranger = people.create_user(session, None, NOW).source_id
        people.forget_user(session, Who.of(13, served.catalogue.edition), NOW)
    fresh = FreshFeatures(store, lambda: [served], lambda: NOW)
    fresh.push([stranger, 13, 99])
    assert reader.pushed == []


def test_who_leaves_while_his_features_are_pushed_is_not_left_behind(
    store: Store, served: Served, reader: RecordingReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = Who.of(12, served.catalogue.edition)

    def leave(rows: object, now: datetime) -> None:
        with store.writing() as session:
            people.forget_user(session, who, NOW)

    monkeypatch.setattr(reader, "push", leave)
    FreshFeatures(store, lambda: [served], lambda: NOW).push([12])
    assert reader.forgotten == [502]


def test_beyond_the_room_there_is_users_wait_for_the_next_run_and_nobody_is_held_up(
    store: Store, served: Served, reader: RecordingReader
) -> None:
    fresh = FreshFeatures(store, lambda: [served], lambda: NOW, room=2)
    for user_id in (12, 13, 12, 11):
        fresh.note(user_id)
    fresh.start()
    fresh.stop()
    assert [key for key, _ in reader.pushed] == [502, 503]


def test_those_who_rate_at_the_same_time_are_pushed_together(
    store: Store, served: Served, reader: RecordingReader
) -> None:
    fresh = FreshFeatures(store, lambda: [served], lambda: NOW)
    for user_id in (11, 12, 13):
        fresh.note(user_id)
    fresh.start()
    fresh.stop()
    assert [key for key, _ in reader.pushed] == [501, 502, 503]
    assert reader.pushes == 1


def test_a_push_that_fails_does_not_end_the_pushing(
    store: Store, served: Served, reader: RecordingReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = reader.push, threading.Event()

    def push(rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        if not failed.is_set():
            failed.set()
            raise FeatureStoreUnavailable("away")
        real(rows, now)

    monkeypatch.setattr(reader, "push", push)
    fresh = FreshFeatures(store, lambda: [served], lambda: NOW, every_s=0.01)
    fresh.note(11)
    fresh.start()
    assert failed.wait(60)
    fresh.note(12)
    fresh.stop()
    assert [key for key, _ in reader.pushed] == [502]
