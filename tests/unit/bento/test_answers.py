from __future__ import annotations

from http import HTTPStatus

import pytest

from bento.answers import Served, recommend, similar
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.schemas import RecommendRequest, RecommendResponse, SimilarRequest
from models.bundle import Bundle
from tests.unit.bento.conftest import RecordingReader, features_of


def _ask(served: Served, user_id: int, k: int = 20) -> RecommendResponse:
    answer = recommend(served, RecommendRequest(user_id=user_id, k=k))
    # The answer is built unvalidated; what it says must still be of the declared types.
    return RecommendResponse.model_validate(answer.model_dump(), strict=True)


def test_a_known_user_gets_every_film_he_has_not_seen_best_first(bundle: Bundle) -> None:
    answer = _ask(Served.of(bundle, None), 11)
    assert {item.title for item in answer.items} == {"Delta", "Epsilon"}
    assert [item.rank for item in answer.items] == [1, 2]
    assert answer.items[0].score >= answer.items[1].score
    assert {item.source for item in answer.items} == {"collaborative"}
    assert answer.fallback is None


def test_an_item_carries_the_bundles_facts_of_its_own_film(bundle: Bundle) -> None:
    gamma = next(item for item in _ask(Served.of(bundle, None), 12).items if item.title == "Gamma")
    assert (gamma.movie_id, gamma.movie_key, gamma.imdb_id) == (102, 902, "tt0000003")
    assert (gamma.year, gamma.genres) == (None, ["Comedy", "War"])
    assert (gamma.link, gamma.link_kind) == ("https://example.org/2", "imdb_title")


def test_an_unknown_user_gets_the_most_met_films_and_is_told_why(bundle: Bundle) -> None:
    answer = _ask(Served.of(bundle, None), 999, k=2)
    assert [item.title for item in answer.items] == ["Alpha", "Beta"]
    assert {item.source for item in answer.items} == {"popular"}
    assert answer.fallback is not None
    assert (answer.fallback.used, answer.fallback.cause) == ("popularity", "unknown_user")
    assert "999" in answer.fallback.reason


def test_the_features_are_asked_for_by_the_users_key_and_named_in_the_provenance(bundle: Bundle) -> None:
    reader = RecordingReader(features_of([1.0, 2.0]))
    answer = _ask(Served.of(bundle, reader), 12)
    assert reader.asked == [502]
    assert answer.fallback is None
    assert answer.provenance.feature_timestamp == "2020-03-01T00:00:00Z"
    assert answer.provenance.missing_features == []
    assert (answer.provenance.feature_service, answer.provenance.feature_hash) == ("recommender_v1", "abc123")
    assert answer.provenance.model_version == bundle.version
    assert answer.provenance.data_snapshot == {"snapshot": "first"}


def test_a_feature_without_a_value_is_named_and_the_model_still_answers(bundle: Bundle) -> None:
    answer = _ask(Served.of(bundle, RecordingReader(features_of([1.0, None]))), 12)
    assert answer.fallback is None
    assert answer.provenance.missing_features == ["user_features__b"]


def test_a_user_without_features_gets_popular_films_that_he_has_not_seen(bundle: Bundle) -> None:
    answer = _ask(Served.of(bundle, RecordingReader(features_of([None, None]))), 11)
    assert answer.fallback is not None
    assert answer.fallback.cause == "no_features"
    assert {item.title for item in answer.items} == {"Delta", "Epsilon"}
    assert answer.provenance.feature_timestamp is None


def test_an_unreadable_store_gives_popular_films_without_telling_the_caller_its_address(bundle: Bundle) -> None:
    reader = RecordingReader(FeatureStoreUnavailable("cannot open /secret/online_store.db"))
    answer = _ask(Served.of(bundle, reader), 11)
    assert answer.fallback is not None
    assert answer.fallback.cause == "feature_store_unavailable"
    assert "secret" not in answer.model_dump_json()


def test_an_unknown_user_is_not_looked_up_in_the_store(bundle: Bundle) -> None:
    reader = RecordingReader(features_of([1.0, 2.0]))
    _ask(Served.of(bundle, reader), 999)
    assert reader.asked == []


def test_who_has_seen_every_film_gets_an_empty_list(bundle: Bundle) -> None:
    assert _ask(Served.of(bundle, None), 14).items == []


def test_similar_films_leave_out_the_film_itself_and_end_where_the_catalogue_does(bundle: Bundle) -> None:
    answer = similar(Served.of(bundle, None), SimilarRequest(movie_id=100, k=500))
    assert {item.title for item in answer.items} == {"Beta", "Gamma", "Delta", "Epsilon"}
    assert {item.source for item in answer.items} == {"similar"}
    # Alpha and Beta were met by the same users.
    assert answer.items[0].title == "Beta"


def test_a_second_id_of_a_film_leads_to_the_same_film(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    assert similar(served, SimilarRequest(movie_id=200)).items == similar(served, SimilarRequest(movie_id=100)).items


def test_an_unknown_film_is_refused_with_its_id_and_a_remedy(bundle: Bundle) -> None:
    with pytest.raises(RequestRefused) as refused:
        similar(Served.of(bundle, None), SimilarRequest(movie_id=7))
    assert refused.value.status == HTTPStatus.NOT_FOUND
    assert "7" in refused.value.message
    assert refused.value.remedy
