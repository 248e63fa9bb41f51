from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from bento.schemas.recommendations import EXAMPLE_INPUT, Item, Provenance, RecommendRequest, SimilarRequest


def test_the_examples_are_valid_bodies() -> None:
    assert RecommendRequest.model_validate_json(json.dumps(EXAMPLE_INPUT["recommend"])).k == 20
    assert SimilarRequest.model_validate_json(json.dumps(EXAMPLE_INPUT["similar"])).k == 20
    for model in (Item, Provenance):
        extra: Any = model.model_config["json_schema_extra"]
        model.model_validate(extra["example"])


@pytest.mark.parametrize("k", [0, -1, 501, 1.5, "20", True, None])
def test_a_number_of_films_that_is_no_whole_number_from_1_to_500_is_refused(k: object) -> None:
    with pytest.raises(ValidationError):
        RecommendRequest.model_validate_json(json.dumps({"user_id": 1, "k": k}))


@pytest.mark.parametrize("body", [{}, {"k": 3}, {"user_id": "1"}, {"user_id": 2**63}, {"user_id": 1, "top": 3}, [], 1])
def test_a_body_of_another_shape_is_refused(body: object) -> None:
    with pytest.raises(ValidationError):
        RecommendRequest.model_validate_json(json.dumps(body))


def test_twenty_films_are_the_default() -> None:
    assert RecommendRequest(user_id=1).k == SimilarRequest(movie_id=1).k == 20
