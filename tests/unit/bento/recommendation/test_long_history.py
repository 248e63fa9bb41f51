"""Somebody who has rated 5,000 films: in the app, in the data that the model was trained on, and in a history."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bento.bundles.loaded_bundle import Served
from bento.recommendation.answers import recommend, recommend_batch
from bento.recommendation.single_item import explain, predict_rating
from bento.schemas.recommendations import BatchRequest, ExplainRequest, Met, PredictRatingRequest, RecommendRequest
from bento.store import users as people
from bento.store.database import Store
from bento.store.user_state import AppHistory
from bento.store.users import Who
from models.algorithms.itemknn import ItemKnn
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.data.interactions import Interactions
from models.serving.bundle import load_bundle, write_bundle

FILMS, RATED = 5_200, 5_000
#: Who rated nearly everything, and somebody with a few.
WELL_READ, OTHER = 1, 2


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    rng = np.random.default_rng(0)
    users = np.concatenate([np.zeros(RATED, dtype=np.int64), np.repeat(np.arange(1, 40), 50)])
    items = np.concatenate([np.arange(RATED), *(rng.choice(FILMS, 50, replace=False) for _ in range(39))])
    interactions = Interactions.of(users, items, rng.integers(1, 6, len(users)), n_users=40, n_items=FILMS)
    keys = np.arange(FILMS)
    folder = tmp_path_factory.mktemp("long")
    version = write_bundle(
        folder,
        recommender=ItemKnn().fit(interactions),
        popularity=Popularity().fit(interactions),
        items=pl.DataFrame(
            {
                "movie_key": keys + 10_000,
                "movie_id": keys + 1,
                "title": [f"Film {key}" for key in keys],
                "year": [1990] * FILMS,
                "genres": [["Drama"]] * FILMS,
                "imdb_id": [None] * FILMS,
                "link_url": ["https://example.org"] * FILMS,
                "link_kind": ["imdb_search"] * FILMS,
                "rating_count": interactions.item_counts(),
            },
            schema_overrides={"imdb_id": pl.String},
        ),
        users=pl.DataFrame({"user_id": np.arange(40) + 1, "user_key": np.arange(40) + 500}),
        interactions=interactions,
        rating=fit_rating_head(interactions, seed=0),
    )
    return Served.of(load_bundle(folder / version), None)


@pytest.fixture(scope="module")
def app(served: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, AppHistory]:
    """Create a user of the app with 5,000 ratings in a real store; return their id and what the store says of them."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}")
    store.migrate()
    now = datetime(2024, 5, 1, tzinfo=UTC)
    with store.writing() as session:
        user = people.create_user(session, "Ann", now)
        for film in range(RATED):
            people.rate(
                session, user, movie_key=10_000 + film, edition="unnamed", movie_id=film + 1,
                rating=0.5 + film % 10 / 2, rated_at=now, now=now,
            )  # fmt: skip
        user_id = user.source_id
    with store.reading() as session:
        told = people.app_history(session, Who.of(user_id, served.catalogue.edition))
    store.close()
    return user_id, told


def test_5000_ratings_are_all_part_of_the_answer_wherever_they_are_kept(
    served: Served, app: tuple[int, AppHistory], tmp_path: Path
) -> None:
    user_id, told = app
    history = [Met(movie_id=film + 1, rating=0.5 + film % 10 / 2) for film in range(RATED)]
    answers = [
        recommend(served, RecommendRequest(user_id=WELL_READ, k=500)),
        recommend(served, RecommendRequest(user_id=user_id, k=500), told),
        recommend(served, RecommendRequest(history=history, k=500)),
    ]
    for answer in answers:
        assert answer.fallback is None
        assert {item.movie_id for item in answer.items} == set(range(RATED + 1, FILMS + 1))
        assert answer.items[0].reason is not None
    assert [answer.provenance.app_ratings for answer in answers] == [0, RATED, RATED]
    batch = recommend_batch(served, BatchRequest(user_ids=[WELL_READ, user_id, OTHER], k=5), [AppHistory(), told, told])
    assert [item.movie_id for item in batch.answers[0].items] == [item.movie_id for item in answers[0].items[:5]]


def test_one_film_is_judged_from_all_of_them(served: Served, app: tuple[int, AppHistory]) -> None:
    user_id, told = app
    for user, history in ((WELL_READ, AppHistory()), (user_id, told)):
        stars = predict_rating(served, PredictRatingRequest(user_id=user, movie_id=FILMS), history)
        assert stars.ratings_used == RATED
        assert 0.5 <= stars.interval.low < stars.predicted < stars.interval.high <= 5
        reason = explain(served, ExplainRequest(user_id=user, movie_id=FILMS), history).reason
        assert reason is None or len(reason.films) <= 10
