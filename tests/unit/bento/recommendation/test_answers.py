from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import numpy as np
import pytest

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.recommendation.answers import Asked, recommend, recommend_each, similar
from bento.recommendation.single_item import explain
from bento.recommendation.user_profile import taste_of
from bento.schemas.recommendations import ExplainRequest, Met, RecommendRequest, RecommendResponse, SimilarRequest
from bento.store.user_state import NOBODY, AppHistory
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.popularity import Popularity
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.registry import configured
from models.runtime.errors import UnknownUser
from models.serving.bundle import Bundle
from settings import BARS, RECIPES
from tests.unit.bento.conftest import MET, TITLES, RecordingReader, features_of


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


def test_requests_answered_together_get_what_each_gets_alone_for_one_reading_of_features(bundle: Bundle) -> None:
    told = AppHistory(known=True, ratings=((900, 5.0),))
    asked = [
        Asked(RecommendRequest(user_id=11, k=2)),
        Asked(RecommendRequest(user_id=12, genres=["drama"]), AppHistory(known=True, dismissed=(903,))),
        Asked(RecommendRequest(user_id=12, genres=["Opera"])),
        Asked(RecommendRequest(user_id=999, k=3)),
        Asked(RecommendRequest(history=[Met(movie_id=100)])),
        Asked(RecommendRequest(user_id=2**60, k=1), told),
        Asked(RecommendRequest(user_id=13, include_seen=True), AppHistory(forgotten=True)),
        Asked(RecommendRequest(user_id=13), None),
    ]
    reader = RecordingReader(features_of([1.0, 2.0]))
    served = Served.of(bundle, reader)
    together = recommend_each(served, asked)
    assert reader.asked == [501, 502, 502, 503]
    assert reader.readings == 1
    for place, one in enumerate(asked):
        answer = together[place]
        if place == 2:
            assert isinstance(answer, RequestRefused)
            assert "Opera" in answer.message
            continue
        assert isinstance(answer, RecommendResponse)
        alone = recommend(served, one.request, one.app)
        assert [item.movie_id for item in answer.items] == [item.movie_id for item in alone.items]
        assert [item.score for item in answer.items] == pytest.approx([item.score for item in alone.items], rel=1e-5)
        assert answer.model_dump(exclude={"items"}) == alone.model_dump(exclude={"items"})


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
    assert {item.source for item in answer.items} == {"collaborative"}
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


def _told(ratings: dict[int, float], dismissed: tuple[int, ...] = ()) -> AppHistory:
    """Return what the app's store would report of a user; movies by movie_key."""
    return AppHistory(True, False, tuple(ratings.items()), dismissed)


def _ask_with(served: Served, user_id: int, app: AppHistory | None, k: int = 20) -> RecommendResponse:
    return recommend(served, RecommendRequest(user_id=user_id, k=k), app)


def test_a_film_rated_in_the_app_is_gone_and_the_other_scores_have_changed(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    before, after = _ask(served, 12), _ask_with(served, 12, _told({902: 5.0}))
    assert "Gamma" in {item.title for item in before.items}
    assert {item.title for item in after.items} == {"Delta", "Epsilon"}
    assert {item.title: item.score for item in after.items}["Delta"] != {i.title: i.score for i in before.items}[
        "Delta"
    ]
    assert (after.fallback, after.provenance.app_ratings) == (None, 1)


def test_a_dismissed_film_is_not_recommended_and_says_nothing_of_taste(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    before, after = _ask(served, 12), _ask_with(served, 12, _told({}, (902,)))
    kept = [item for item in before.items if item.title != "Gamma"]
    assert [(item.title, item.score) for item in after.items] == [(item.title, item.score) for item in kept]


def test_a_user_of_the_app_only_is_answered_from_his_ratings_by_a_model_that_reads_histories(bundle: Bundle) -> None:
    answer = _ask_with(Served.of(bundle, None), 1_000_000_001, _told({900: 4.0}))
    assert answer.items[0].title == "Beta"
    assert answer.fallback is None
    assert {item.source for item in answer.items} == {"collaborative"}


def test_a_user_of_the_app_without_ratings_gets_popular_films_he_has_not_dismissed(bundle: Bundle) -> None:
    answer = _ask_with(Served.of(bundle, None), 1_000_000_001, _told({}, (900,)))
    assert [item.title for item in answer.items][:2] == ["Beta", "Gamma"]
    assert answer.fallback is not None
    assert answer.fallback.cause == "unknown_user"


def test_a_deleted_user_is_a_stranger_although_the_model_was_trained_on_him(bundle: Bundle) -> None:
    reader = RecordingReader(features_of([1.0, 2.0]))
    answer = _ask_with(Served.of(bundle, reader), 14, AppHistory(forgotten=True))
    assert len(answer.items) == 5
    assert answer.fallback is not None
    assert answer.fallback.cause == "unknown_user"
    assert reader.asked == []


def test_an_unreadable_app_store_leaves_the_models_answer_and_says_so(bundle: Bundle) -> None:
    answer = _ask_with(Served.of(bundle, None), 12, None)
    assert answer.items == _ask(Served.of(bundle, None), 12).items
    assert answer.provenance.app_ratings is None


def test_a_rating_in_the_app_stands_for_the_one_that_the_model_was_trained_on(bundle: Bundle) -> None:
    taste = taste_of(Served.of(bundle, None), 12, _told({900: 0.5, 77: 3.0}))
    assert sorted(zip(taste.history.indices.tolist(), taste.history.data.tolist(), strict=True)) == [(0, 0.5), (1, 1.0)]
    # Film 77 is none of the model's.
    assert taste.fresh.tolist() == [0]


def _neumf(bundle: Bundle) -> Served:
    """Return the same bundle with a model that knows users by their index only and does not read histories."""
    users, items = zip(*[(user, item) for user, met in MET.items() for item in met], strict=True)
    interactions = Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))
    config = NeuMFConfig(epochs=2, batch_size=8, use_features=False)
    return Served.of(replace(bundle, recommender=NeuMF(config).fit(interactions, seed=1)), None)


def test_a_model_that_reads_no_history_is_moved_towards_what_was_rated_well_and_away_from_the_rest(
    bundle: Bundle,
) -> None:
    served = _neumf(bundle)
    scores = {
        stars: {item.title: item.score for item in _ask_with(served, 13, _told({900: stars})).items}
        for stars in (0.5, 5.0)
    }
    assert "Alpha" not in scores[5.0]
    likeness = served.bundle.recommender.similarities(np.array([0]))[0]
    for item, title in enumerate(TITLES):
        if title in scores[5.0] and abs(likeness[item]) > 1e-3:
            assert (scores[5.0][title] > scores[0.5][title]) == (likeness[item] > 0)


def test_a_user_whom_such_a_model_does_not_know_gets_films_like_those_he_rated_and_is_told(bundle: Bundle) -> None:
    served = _neumf(bundle)
    answer = _ask_with(served, 1_000_000_001, _told({900: 5.0}))
    likeness = served.bundle.recommender.similarities(np.array([0]))[0]
    best = max(range(1, len(TITLES)), key=lambda item: likeness[item])
    assert answer.items[0].title == TITLES[best]
    assert {item.source for item in answer.items} == {"collaborative"}
    assert answer.fallback is not None
    assert (answer.fallback.used, answer.fallback.cause) == ("likeness", "new_user")


def test_a_recommended_film_says_which_of_the_users_films_weighed_and_removing_it_lowers_the_score(
    bundle: Bundle,
) -> None:
    served = Served.of(bundle, None)
    told = _told({900: 5.0, 901: 4.0})
    (gamma,) = [item for item in _ask_with(served, 1_000_000_001, told).items if item.title == "Gamma"]
    assert gamma.reason is not None
    heaviest = gamma.reason.films[0]
    assert gamma.reason.text.startswith(f"Because you rated {heaviest.title}")
    assert heaviest.weight > 0
    kept = {key: stars for key, stars in ((900, 5.0), (901, 4.0)) if key != heaviest.movie_id + 800}
    without = {item.title: item.score for item in _ask_with(served, 1_000_000_001, _told(kept)).items}
    assert without["Gamma"] == pytest.approx(gamma.score - heaviest.weight, abs=1e-6)


def test_popular_films_say_how_many_rated_them(bundle: Bundle) -> None:
    alpha = _ask(Served.of(bundle, None), 999, k=1).items[0]
    assert alpha.reason is not None
    assert (alpha.reason.text, alpha.reason.films, alpha.reason.words) == ("Rated by 3 users.", [], [])


class _ByIndex(Popularity):
    """Knows users by their index alone; its likeness is a table: Beta and Gamma are like Alpha, Epsilon like Delta."""

    name = "by index"

    def score(self, batch: UserBatch) -> np.ndarray:
        if (batch.users < 0).any():
            raise UnknownUser("by index")
        return super().score(batch)

    def similarities(self, items: np.ndarray) -> np.ndarray:
        alike = np.array([[0, 3, 1, -1, 0], [3, 0, 1, 0, 0], [1, 1, 0, 0, 0], [-1, 0, 0, 0, 2], [0, 0, 0, 2, 0]])
        return alike[items].astype(np.float32)


def test_a_user_whom_the_model_does_not_know_hears_which_of_his_ratings_the_films_are_like(bundle: Bundle) -> None:
    rows = [(user, item) for user, met in MET.items() for item in met]
    users, items = zip(*rows, strict=True)
    interactions = Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))
    served = Served.of(replace(bundle, recommender=_ByIndex().fit(interactions)), None)
    answer = _ask_with(served, 1_000_000_001, _told({900: 5.0, 903: 0.5}))
    assert {item.source for item in answer.items} == {"collaborative"}
    films = {item.title: item.reason and [film.title for film in item.reason.films] for item in answer.items}
    # He did not like Delta, so that it is a reason for nothing.
    assert films == {"Beta": ["Alpha"], "Gamma": ["Alpha"], "Epsilon": []}
    epsilon = next(item for item in answer.items if item.title == "Epsilon")
    assert epsilon.reason is not None
    assert epsilon.reason.text == "Rated by 1 users."


def test_a_model_that_knows_its_users_by_index_names_the_well_rated_films_that_are_most_alike(bundle: Bundle) -> None:
    rows = [(user, item) for user, met in MET.items() for item in met]
    users, items = zip(*rows, strict=True)
    interactions = Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))
    stars = bundle.history.copy()
    # User 12 liked Alpha and not Beta; Gamma is like both, and nothing that he rated is like Delta.
    stars.data[stars.indptr[1] : stars.indptr[2]] = 5.0, 1.0
    served = Served.of(replace(bundle, recommender=_ByIndex().fit(interactions), history=stars), None)
    told = {item.title: item.reason for item in _ask(served, 12).items}
    gamma, delta = told["Gamma"], told["Delta"]
    assert gamma is not None
    assert delta is not None
    assert gamma.text == "Because you rated Alpha."
    assert (delta.text, delta.films) == ("Rated by 2 users.", [])
    assert explain(served, ExplainRequest(user_id=12, movie_id=103), NOBODY).reason is None


@pytest.mark.parametrize("name", [*BARS, *RECIPES])
def test_every_recipe_that_may_be_champion_answers_those_it_knows_and_those_it_does_not(
    bundle: Bundle, name: str
) -> None:
    users, items = zip(*[(user, item) for user, met in MET.items() for item in met], strict=True)
    interactions = Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))
    plain = {"use_features": False, "epochs": 1} if name == "neumf" else {}
    fitted = configured(name, plain).fit(interactions)
    served = Served.of(replace(bundle, recommender=fitted), None)
    known = _ask(served, 11)
    assert {item.title for item in known.items} == {"Delta", "Epsilon"}
    assert known.fallback is None
    stranger = _ask(served, 999)
    assert len(stranger.items) == len(TITLES)
    assert stranger.fallback is not None
    rated = recommend(served, RecommendRequest(user_id=999, k=20), AppHistory(known=True, ratings=((900, 5.0),)))
    assert "Alpha" not in {item.title for item in rated.items}
    assert all(np.isfinite(item.score) for item in rated.items)
    assert similar(served, SimilarRequest(movie_id=100, k=2)).items
