"""Online features between two runs: made of the ratings of this moment as the marts would, and pushed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable
from bento.features.refresher import FreshFeatures, features_now
from bento.store import users as people
from bento.store.database import Store
from bento.store.users import Who
from models.serving.bundle import Bundle, FeatureSet
from tests.unit.bento.conftest import RecordingReader, features_of

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NAMES = ("movie_content__release_year", "movie_content__is_drama", "movie_content__is_war")
#: The tiny bundle's films: year, drama, war.
FILMS = np.array([[1990, 1, 0], [1991, 0, 0], [np.nan, 0, 1], [1993, 1, 0], [1994, 1, 0]], dtype=np.float32)


def test_a_half_is_rounded_up_as_in_the_mart() -> None:
    """One film of 128 has the genre: .0078125; that all else agrees is tested where the mart is built."""
    films = np.zeros((128, 2), dtype=np.float32)
    films[0, 1] = 1
    names = ["movie_content__release_year", "movie_content__is_war"]
    found = features_now(names, films, np.arange(128), np.full(128, 3, dtype=np.float32), np.zeros(128, dtype=np.int64))
    assert found["genre_share_war"] == 0.007813


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
