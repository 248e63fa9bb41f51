"""Films for a user by any model of the bundle and by blends with the content, over the tiny bundle."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.recommendation.answers import Asked, recommend, recommend_batch, recommend_each, recommend_for_movie
from bento.schemas.recommendations import BatchRequest, ForMovieRequest, Item, RecommendRequest, RecommendResponse
from bento.store.user_state import NOBODY, AppHistory
from models.algorithms.hybrid import Hybrid, HybridConfig, standardized
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent, film_words
from models.serving.bundle import Bundle
from tests.unit.bento.conftest import MET, TITLES, RecordingReader, features_of, write_tiny_bundle

#: Somebody of the app, of whom no model knows anything but what he rated there.
STRANGER = 1_000_000_001


def _ask(served: Served, app: AppHistory = NOBODY, **body: Any) -> RecommendResponse:
    return recommend(served, RecommendRequest.model_validate(body), app)


def _scores(answer: RecommendResponse) -> dict[str, float]:
    return {item.title: item.score for item in answer.items}


def _rated(*films: int) -> AppHistory:
    return AppHistory(True, False, tuple((900 + film, 5.0) for film in films), ())


def _interactions() -> Interactions:
    users, items = zip(*[(user, item) for user, met in MET.items() for item in met], strict=True)
    return Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))


def _hybrid(bundle: Bundle, weight: float) -> Hybrid:
    """Fit the recommender that blends in its fit what a request blends in its answer."""
    words = ItemContent.of(film_words(bundle.items.with_row_index("item")), np.zeros(len(TITLES), dtype=np.float32))
    rows = _interactions()
    features = TrainingFeatures(np.empty((len(rows), 0), dtype=np.float32), (), (), words)
    return Hybrid(HybridConfig(weight=weight)).fit(rows, features)


def _neumf(bundle: Bundle) -> Served:
    """Return the bundle with a model that knows users by their index and does not read histories."""
    config = NeuMFConfig(epochs=2, batch_size=8, use_features=False)
    return Served.of(replace(bundle, recommender=NeuMF(config).fit(_interactions(), seed=1)), None)


def test_without_a_blend_the_promoted_model_answers_alone(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    plain = _ask(served, user_id=13)
    assert _ask(served, user_id=13, blend=0.0) == _ask(served, user_id=13, model="ease") == plain
    assert (plain.provenance.recommender, plain.provenance.blend) == ("ease", None)
    assert {item.source for item in plain.items} == {"collaborative"}


@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_a_blend_scores_and_reasons_as_the_recommender_that_was_fitted_as_one(bundle: Bundle, weight: float) -> None:
    served, fitted = Served.of(bundle, None), _hybrid(bundle, weight)
    answer = _ask(served, user_id=12, blend=weight, include_seen=True)
    batch = UserBatch(np.array([1]), bundle.history[[1]])
    expected = fitted.score(batch)[0]
    assert [item.score for item in answer.items] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)
    assert _scores(answer) == pytest.approx(dict(zip(TITLES, expected.tolist(), strict=True)), abs=1e-5)
    contributions, words = fitted.contributions(batch, np.arange(5)), fitted.word_weights(batch, np.arange(5))
    for item in answer.items:
        film = item.movie_id - 100
        told = {} if item.reason is None else {one.movie_id - 100: one.weight for one in item.reason.films}
        wanted = dict(zip(batch.history.indices.tolist(), contributions[film].tolist(), strict=True))
        assert told == pytest.approx({one: weight for one, weight in wanted.items() if weight > 0}, abs=1e-5)
        best = sorted((w for w in words.weights[film].tolist() if w > 0), reverse=True)[:2]
        said = [] if item.reason is None else [one.weight for one in item.reason.words]
        assert said == pytest.approx(best, abs=1e-5)
    assert (answer.provenance.recommender, answer.provenance.blend) == ("ease", weight)


def test_a_film_of_a_blend_is_from_where_the_larger_part_of_its_score_is(bundle: Bundle) -> None:
    answer = _ask(Served.of(bundle, None), user_id=12, blend=0.5, include_seen=True)
    batch = UserBatch(np.array([1]), bundle.history[[1]])
    assert bundle.content is not None
    own, content = (standardized(model.score(batch))[0] for model in (bundle.recommender, bundle.content))
    wanted = {TITLES[film]: "content" if content[film] > own[film] else "collaborative" for film in range(5)}
    assert {item.title: item.source for item in answer.items} == wanted
    assert set(wanted.values()) == {"content", "collaborative"}


def test_the_content_alone_is_a_blend_of_1_or_a_model_of_its_own(bundle: Bundle) -> None:
    served = Served.of(bundle, RecordingReader(FeatureStoreUnavailable("away")))
    whole, named = _ask(served, user_id=13, blend=1.0), _ask(served, user_id=13, model="content")
    assert whole.items == named.items
    # Delta is all that he met: Alpha and Epsilon share its genre and decade, Beta the decade, Gamma nothing.
    assert [item.title for item in whole.items] == ["Alpha", "Epsilon", "Beta", "Gamma"]
    assert {item.source for item in whole.items} == {"content"}
    assert (whole.provenance.recommender, whole.provenance.blend) == ("content", 1.0)
    assert (named.provenance.recommender, named.provenance.blend) == ("content", None)
    # It reads no features, so that a store that is away does not matter.
    assert whole.fallback is None
    alpha, gamma = whole.items[0].reason, whole.items[-1].reason
    assert alpha is not None
    assert alpha.text == "Because you rated Delta; genre Drama, from the 1990s."
    assert gamma is not None
    assert gamma.text == "Rated by 2 users."


def test_popularity_answers_everybody_when_it_is_asked_for(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    for body in ({"user_id": 999}, {"history": []}):
        answer = _ask(served, model="popularity", k=2, **body)
        assert [item.title for item in answer.items] == ["Alpha", "Beta"]
        assert {item.source for item in answer.items} == {"popular"}
        assert (answer.fallback, answer.provenance.recommender) == (None, "popularity")
    mixed = _ask(served, user_id=13, model="popularity", blend=0.6)
    given = {item.title: item.source for item in mixed.items}
    assert given["Epsilon"] == "content"
    assert given["Gamma"] == "popular"
    reasons = {item.title: item.reason.text for item in mixed.items if item.reason is not None}
    assert reasons["Epsilon"].startswith("Because you rated Delta")
    assert reasons["Gamma"] == "Rated by 2 users."


def test_whom_the_model_does_not_know_the_content_answers_from_his_ratings_in_the_app(bundle: Bundle) -> None:
    served = _neumf(bundle)
    assert _ask(served, _rated(3), user_id=STRANGER).fallback is not None
    answer = _ask(served, _rated(3), user_id=STRANGER, model="content")
    assert (answer.fallback, answer.provenance.app_ratings) == (None, 1)
    assert [item.title for item in answer.items][:2] == ["Alpha", "Epsilon"]
    sent = _ask(served, history=[{"movie_id": 103}], model="content")
    assert _scores(sent) == _scores(answer)


@pytest.mark.parametrize("user_id", [12, STRANGER])
def test_a_blend_with_a_model_that_reads_no_history_deals_its_part_out_to_the_films_it_takes_for_alike(
    bundle: Bundle, user_id: int
) -> None:
    served = _neumf(bundle)
    app = _rated(0, 1) if user_id == STRANGER else NOBODY
    answer = _ask(served, app, user_id=user_id, blend=0.5)
    assert (answer.fallback is None) == (user_id == 12)
    content = _ask(served, app, user_id=user_id, blend=1.0)
    assert _scores(answer) != _scores(content)
    assert {item.source for item in answer.items} <= {"content", "collaborative"}
    for item in answer.items:
        assert item.reason is not None
        assert {film.title for film in item.reason.films} <= {"Alpha", "Beta"}
        assert all(film.weight > 0 for film in item.reason.films)


@pytest.mark.parametrize("wishes", [{"blend": 0.5}, {"blend": 1.0}, {"model": "content"}])
def test_a_history_that_says_nothing_of_words_leaves_the_answer_to_the_others(
    bundle: Bundle, wishes: dict[str, Any]
) -> None:
    """Gamma's words are no other film's."""
    served = Served.of(bundle, None)
    wordless, empty = (_ask(served, history=met, **wishes) for met in ([{"movie_id": 102}], []))
    assert wordless.provenance.blend is None
    assert empty.provenance.blend is None
    assert empty.fallback is not None
    assert empty.fallback.cause == "no_history"
    if wishes == {"blend": 0.5}:
        assert wordless.items == _ask(served, history=[{"movie_id": 102}]).items
        assert wordless.fallback is None
    else:
        assert wordless.fallback is not None
        assert (wordless.fallback.used, wordless.fallback.cause) == ("popularity", "no_words")
        assert {item.source for item in wordless.items} == {"popular"}
    stranger = _ask(served, user_id=999, **wishes)
    assert stranger.fallback is not None
    assert stranger.fallback.cause == "unknown_user"


def test_popular_films_that_stand_in_for_the_model_are_blended_and_the_answer_says_both(bundle: Bundle) -> None:
    served = Served.of(bundle, RecordingReader(features_of([None, None])))
    answer = _ask(served, user_id=13, blend=0.6)
    assert answer.fallback is not None
    assert answer.fallback.cause == "no_features"
    assert "words count beside" in answer.fallback.reason
    assert {item.source for item in answer.items} == {"content", "popular"}
    assert answer.items == _ask(served, user_id=13, model="popularity", blend=0.6).items


@pytest.mark.parametrize("wishes", [{"blend": 0.5}, {"blend": 1.0}, {"model": "content"}, {"model": "flagship"}])
def test_a_bundle_without_the_model_refuses_that_request_alone(bundle: Bundle, wishes: dict[str, Any]) -> None:
    bare = Served.of(replace(bundle, content=None), None)
    asked = [RecommendRequest(user_id=12), RecommendRequest(user_id=12, **wishes), RecommendRequest(user_id=13)]
    first, refused, last = recommend_each(bare, [Asked(request) for request in asked])
    assert isinstance(refused, RequestRefused)
    assert (refused.status, refused.remedy[:33]) == (HTTPStatus.BAD_REQUEST, "Its models are: ease, popularity.")
    assert [first, last] == [recommend(bare, asked[0]), recommend(bare, asked[2])]


def test_requests_of_different_ways_that_come_at_once_get_what_each_gets_alone(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    asked = [
        RecommendRequest(user_id=user, model=model, blend=blend)
        for user in (11, 12, 13, 999)
        for model, blend in ((None, 0.0), (None, 0.4), ("content", 0.0), ("popularity", 0.3), ("ease", 1.0))
    ]
    assert recommend_each(served, [Asked(one) for one in asked]) == [recommend(served, one) for one in asked]
    batch = recommend_batch(served, BatchRequest(user_ids=[12, 13, 999], blend=0.4, reasons=True), None)
    alone = [recommend(served, RecommendRequest(user_id=user, blend=0.4), None) for user in (12, 13, 999)]
    assert batch.answers == alone


def test_films_like_one_for_a_user_are_by_the_model_and_blend_that_are_asked_for(bundle: Bundle) -> None:
    served = Served.of(bundle, None)

    def like(**wishes: Any) -> list[Item]:
        body = {"user_id": 13, "movie_id": 100, **wishes}
        answer = recommend_for_movie(served, ForMovieRequest.model_validate(body), NOBODY)
        assert answer.provenance.recommender == ("content" if wishes.get("blend") == 1.0 else "ease")
        assert answer.provenance.blend == wishes.get("blend")
        return answer.items

    plain, half, whole = like(), like(blend=0.5), like(blend=1.0)
    assert {item.source for item in plain} == {"collaborative"}
    assert {item.source for item in whole} == {"content"}
    assert whole[0].title == "Epsilon"
    assert {item.source for item in half} == {"content", "collaborative"}
    assert len({tuple(item.score for item in items) for items in (plain, half, whole)}) == 3


def test_blending_needs_neither_sklearn_nor_torch_in_the_worker(tmp_path: Path) -> None:
    folder = tmp_path / "models" / write_tiny_bundle(tmp_path / "models")
    code = (
        "import sys; from pathlib import Path; from bento.bundles.hot_reload import load_served;"
        " from bento.recommendation.answers import recommend;"
        " from bento.schemas.recommendations import RecommendRequest;"
        " served = load_served(Path(sys.argv[1]), Path('none'));"
        " told = recommend(served, RecommendRequest(user_id=12, blend=0.5));"
        " print(told.provenance.blend, {'sklearn', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.5 set()"


@pytest.mark.parametrize("wishes", [{"model": "content", "blend": 0.5}, {"blend": 1.1}, {"blend": -0.1}, {"model": 3}])
def test_a_way_that_contradicts_itself_is_no_request(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RecommendRequest.model_validate({"user_id": 12, **wishes})
