"""Films like one film, by behaviour, by content and by both, over the tiny bundle."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import numpy as np
import pytest
from pydantic import ValidationError

from bento.errors import RequestRefused
from bento.recommendation.answers import Served, similar
from bento.schemas.recommendations import SimilarRequest, SimilarResponse
from models.algorithms.hybrid import standardized
from models.serving.bundle import Bundle


def _like(bundle: Bundle, movie_id: int, **wishes: object) -> SimilarResponse:
    body = {"movie_id": movie_id, **wishes}
    return similar(Served.of(bundle, None), SimilarRequest.model_validate(body))


def test_by_content_are_the_films_that_share_words_the_most_shared_first(bundle: Bundle) -> None:
    answer = _like(bundle, 100, by="content")
    assert [item.title for item in answer.items] == ["Delta", "Epsilon", "Beta"]
    assert [item.score for item in answer.items[:2]] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert {item.source for item in answer.items} == {"content"}
    assert (answer.by, answer.provenance.recommender, answer.provenance.blend) == ("content", "content", None)
    assert answer.provenance.model_version == bundle.version
    # The same by the model's name.
    assert _like(bundle, 100, model="content") == answer


def test_a_film_without_a_word_is_like_no_other_by_content_and_the_answer_says_so(bundle: Bundle) -> None:
    answer = _like(bundle, 102, by="content")
    assert (answer.items, answer.empty) == ([], "no_words")
    hybrid, behaviour = _like(bundle, 102, by="hybrid"), _like(bundle, 102)
    assert [item.title for item in hybrid.items] == [item.title for item in behaviour.items]
    assert {item.source for item in hybrid.items if item.score > 0} == {"collaborative"}
    assert (hybrid.empty, behaviour.empty) == (None, None)


def test_hybrid_is_the_mean_of_both_in_deviations_over_the_other_films(bundle: Bundle) -> None:
    answer = _like(bundle, 100, by="hybrid")
    assert bundle.content is not None
    others = np.arange(5) != 0
    parts = [
        standardized(model.similarities(np.array([0])), others)[0] for model in (bundle.recommender, bundle.content)
    ]
    mean = (parts[0] + parts[1]) / 2
    order = [item for item in np.argsort(-mean, kind="stable").tolist() if item != 0]
    assert [item.movie_id for item in answer.items] == [100 + item for item in order]
    assert [item.score for item in answer.items] == pytest.approx([float(mean[item]) for item in order])
    wanted = ["content" if parts[1][item] > parts[0][item] else "collaborative" for item in order]
    assert [item.source for item in answer.items] == wanted
    assert set(wanted) == {"content", "collaborative"}
    assert (answer.by, answer.provenance.recommender, answer.provenance.blend) == ("hybrid", "ease", 0.5)


def test_another_model_of_the_bundle_says_what_is_alike(bundle: Bundle) -> None:
    assert _like(bundle, 100, model="ease") == _like(bundle, 100)
    answer = _like(bundle, 102, model="popularity", k=2)
    assert [item.title for item in answer.items] == ["Alpha", "Beta"]
    assert {item.source for item in answer.items} == {"popular"}
    assert answer.provenance.recommender == "popularity"


@pytest.mark.parametrize("wishes", [{"by": "content"}, {"by": "hybrid"}, {"model": "content"}, {"model": "als"}])
def test_a_model_that_the_bundle_does_not_ship_is_refused_with_those_it_does(
    bundle: Bundle, wishes: dict[str, object]
) -> None:
    with pytest.raises(RequestRefused) as refused:
        _like(replace(bundle, content=None), 100, **wishes)
    assert refused.value.status == HTTPStatus.BAD_REQUEST
    assert "Its models are: ease, popularity." in refused.value.remedy


@pytest.mark.parametrize("wishes", [{"by": "content"}, {"by": "hybrid"}, {"model": "popularity"}])
def test_an_index_over_another_likeness_is_refused_with_the_remedy(bundle: Bundle, wishes: dict[str, object]) -> None:
    with pytest.raises(RequestRefused) as refused:
        _like(bundle, 100, index="faiss", **wishes)
    assert refused.value.status == HTTPStatus.BAD_REQUEST
    assert "exact" in refused.value.remedy


@pytest.mark.parametrize(
    "wishes", [{"by": "content", "model": "ease"}, {"by": "hybrid", "model": "content"}, {"by": "taste"}, {"model": ""}]
)
def test_a_likeness_that_contradicts_the_model_is_no_request(wishes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimilarRequest.model_validate({"movie_id": 100, **wishes})
