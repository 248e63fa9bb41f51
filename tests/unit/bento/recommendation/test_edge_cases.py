"""Films that are not what they were: two of one title, and one that a newer model no longer has."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import polars as pl
import pytest

from bento.bundles.loaded_bundle import Served
from bento.errors import RequestRefused
from bento.recommendation.answers import recommend, recommend_for_movie, similar
from bento.recommendation.user_profile import taste_of
from bento.schemas.recommendations import ForMovieRequest, RecommendRequest, SimilarRequest
from bento.store.user_state import AppHistory
from models.serving.bundle import Bundle

#: The key of a film that the bundle does not have.
GONE = 987


def test_of_a_title_that_fits_several_films_the_best_known_is_meant_and_the_others_are_named(bundle: Bundle) -> None:
    titles = pl.Series("title", ["Alpha", "Beta", "The Beta", "Delta", "Beta"])
    served = Served.of(replace(bundle, items=bundle.items.with_columns(titles)), None)
    answer = recommend_for_movie(served, ForMovieRequest(user_id=13, title="beta"), AppHistory())
    # Beta of 1991 was rated three times, the two others less often.
    assert (answer.movie.movie_id, answer.movie.year) == (101, 1991)
    assert {film.movie_id for film in answer.other_matches} == {102, 104}
    assert 101 not in {item.movie_id for item in answer.items}
    by_year = recommend_for_movie(served, ForMovieRequest(user_id=13, title="beta 1994"), AppHistory())
    assert by_year.movie.movie_id == 104


def test_a_film_that_the_model_no_longer_has_counts_for_nothing_and_is_404_when_asked_for(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    told = AppHistory(known=True, ratings=((GONE, 5.0), (900, 4.0)), dismissed=(GONE,))
    answer = recommend(served, RecommendRequest(user_id=1_000_000_001), told)
    assert answer.provenance.app_ratings == 1
    assert (
        answer.items
        == recommend(
            served, RecommendRequest(user_id=1_000_000_001), AppHistory(known=True, ratings=((900, 4.0),))
        ).items
    )
    only_it = recommend(served, RecommendRequest(user_id=1_000_000_001), AppHistory(known=True, ratings=((GONE, 5.0),)))
    assert only_it.fallback is not None
    for ask in (
        lambda: similar(served, SimilarRequest(movie_id=GONE)),
        lambda: recommend_for_movie(served, ForMovieRequest(user_id=12, movie_id=GONE), AppHistory()),
    ):
        with pytest.raises(RequestRefused) as refused:
            ask()
        assert refused.value.status == HTTPStatus.NOT_FOUND


def test_ratings_in_the_app_have_the_times_that_the_training_will_give_them(bundle: Bundle) -> None:
    served = Served.of(bundle, None)
    app = AppHistory(
        known=True, ratings=((904, 5.0), (GONE, 1.0), (902, 3.0)), rated_at=(1_700_000_500, 3, 1_600_000_000)
    )
    taste = taste_of(served, 13, app)
    rated = dict(zip(taste.history.indices.tolist(), taste.times.tolist(), strict=True))
    assert (rated[4], rated[2]) == (1_700_000_500, 1_600_000_000)
    # What the bundle knew stays as it was.
    assert rated[3] == bundle.history_times[bundle.history.indptr[2]]


def test_where_only_the_order_is_known_ratings_in_the_app_follow_all_others(bundle: Bundle) -> None:
    taste = taste_of(Served.of(bundle, None), 13, AppHistory(known=True, ratings=((904, 5.0), (902, 3.0))))
    rated = dict(zip(taste.history.indices.tolist(), taste.times.tolist(), strict=True))
    assert rated[3] < rated[4] < rated[2]
