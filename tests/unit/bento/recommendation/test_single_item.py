from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.recommendation.answers import recommend
from bento.recommendation.single_item import explain, predict_rating
from bento.schemas.recommendations import (
    ExplainRequest,
    ExplainResponse,
    PredictRatingRequest,
    PredictRatingResponse,
    RecommendRequest,
)
from bento.store.user_state import NOBODY, AppHistory
from models.serving.bundle import Bundle
from tests.unit.bento.conftest import RecordingReader


def _predicted(served: Served, user: int, movie: int, app: AppHistory | None = NOBODY) -> PredictRatingResponse:
    return predict_rating(served, PredictRatingRequest(user_id=user, movie_id=movie), app)


def _explained(served: Served, user: int, movie: int, app: AppHistory | None = NOBODY) -> ExplainResponse:
    return explain(served, ExplainRequest(user_id=user, movie_id=movie), app)


def test_the_stars_are_those_that_the_user_gives_and_a_rating_in_the_app_moves_them_at_once(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    # Everybody gives one star, in ten ratings, which is little to learn from.
    before = _predicted(served, 11, 103)
    assert before.predicted == pytest.approx(1.0, abs=1.0)
    assert before.interval.low <= before.predicted <= before.interval.high
    assert (before.would_like, before.own_rating, before.ratings_used, before.fallback) == (False, None, 3, None)
    told = AppHistory(True, False, tuple((900 + film, 5.0) for film in range(3)), ())
    after = _predicted(served, 11, 103, told)
    assert after.predicted > before.predicted
    assert after.provenance.app_ratings == 3


def test_the_users_own_rating_is_named_and_not_looked_at(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    own = _predicted(served, 11, 100)
    assert (own.own_rating, own.ratings_used) == (1.0, 2)
    changed = _predicted(served, 11, 100, AppHistory(True, False, ((900, 5.0),), ()))
    assert changed.own_rating == 5.0
    assert changed.predicted == pytest.approx(own.predicted, abs=1e-5)


def test_of_a_stranger_or_a_deleted_user_it_is_what_people_give_the_film_and_says_so(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    stranger, deleted = _predicted(served, 999, 100), _predicted(served, 11, 100, AppHistory(forgotten=True))
    for answer in (stranger, deleted):
        assert answer.fallback is not None
        assert (answer.fallback.used, answer.fallback.cause) == ("averages", "unknown_user")
        assert answer.own_rating is None
    assert stranger.predicted == deleted.predicted


def test_without_the_apps_store_the_answer_says_so(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    assert _predicted(served, 11, 103, None).provenance.app_ratings is None
    assert _explained(served, 11, 103, None).provenance.app_ratings is None


def test_a_film_that_nobody_knows_is_refused(bundle: Bundle) -> None:
    for ask in (_predicted, _explained):
        with pytest.raises(RequestRefused) as refused:
            ask(Served.of(bundle, None), 11, 7)
        assert refused.value.status == HTTPStatus.NOT_FOUND


def test_a_bundle_without_a_model_of_stars_says_what_to_do(bundle: Bundle) -> None:
    with pytest.raises(RequestRefused, match="no model of stars") as refused:
        _predicted(Served.of(replace(bundle, rating=None), None), 11, 100)
    assert refused.value.status == HTTPStatus.SERVICE_UNAVAILABLE


def test_an_explanation_has_the_score_place_and_reason_of_the_list(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    for user in (11, 12, 13):
        listed = recommend(served, RecommendRequest(user_id=user, k=20)).items
        for item in listed:
            told = _explained(served, user, item.movie_id)
            assert (told.rank, told.score, told.source) == (item.rank, item.score, item.source)
            assert item.reason is not None
            # Where nothing of the user speaks for it, the list says how many rated it, and the explanation nothing.
            assert ([] if told.reason is None else told.reason.films[:3]) == item.reason.films
            assert (told.met, told.dismissed) == (False, False)


def test_a_film_that_was_met_or_dismissed_is_explained_and_has_no_place(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    met = _explained(served, 11, 100)
    assert (met.met, met.rank) == (True, None)
    assert met.reason is not None
    # A film is no reason for itself.
    assert "Alpha" not in {film.title for film in met.reason.films}
    gone = _explained(served, 12, 102, AppHistory(True, False, (), (902,)))
    assert (gone.met, gone.dismissed, gone.rank) == (False, True, None)


def test_strangers_and_an_unreadable_feature_store_get_the_reason_of_popular_films(bundle: Bundle) -> None:
    stranger = _explained(Served.of(bundle, None), 999, 100)
    reader = RecordingReader(FeatureStoreUnavailable("gone"))
    unread = _explained(Served.of(bundle, reader), 11, 103)
    assert stranger.reason is not None
    assert (stranger.reason.text, stranger.source, stranger.rank) == ("Rated by 3 users.", "popular", 1)
    assert unread.fallback is not None
    assert unread.fallback.cause == "feature_store_unavailable"
