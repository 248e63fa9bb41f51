from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.ease import Ease
from models.algorithms.rating.bayesian_mf import BayesianMF
from models.algorithms.rating.bundled_rating_model import fit_rating_head, load_rating_head
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.serving.rating_inference import foretell

N_USERS, N_ITEMS = 200, 40


@pytest.fixture(scope="module")
def stars() -> np.ndarray:
    """Return each user's true ratings: even users love even movies and dislike odd ones, odd users the reverse."""
    rng = np.random.default_rng(3)
    likes = (np.arange(N_USERS)[:, None] + np.arange(N_ITEMS)[None]) % 2 == 0
    return np.clip(np.round(2 * (np.where(likes, 4.2, 2.2) + rng.normal(size=likes.shape) * 0.5)) / 2, 0.5, 5.0)


@pytest.fixture(scope="module")
def rated() -> np.ndarray:
    return np.random.default_rng(4).random((N_USERS, N_ITEMS)) < 0.5


@pytest.fixture(scope="module")
def head(stars: np.ndarray, rated: np.ndarray) -> BayesianMF:
    users, items = np.nonzero(rated)
    return fit_rating_head(Interactions.of(users, items, stars[rated], n_users=N_USERS, n_items=N_ITEMS), seed=1)


def _of(history: dict[int, float], items: list[int]) -> tuple[UserBatch, np.ndarray]:
    row = csr_array((list(history.values()), ([0] * len(history), list(history))), shape=(1, N_ITEMS), dtype=np.float32)
    return UserBatch(np.array([-1]), row), np.array([items])


def test_a_history_says_what_is_liked_and_without_one_the_interval_is_wider(head: BayesianMF) -> None:
    told = foretell(head, *_of({0: 5.0, 2: 4.5, 4: 5.0, 1: 1.0, 3: 1.5}, [6, 7]))
    stranger = foretell(head, *_of({}, [6, 7]))
    assert told.mean[0, 0] > 3.7 > 3.0 > told.mean[0, 1]
    assert (told.deviation < stranger.deviation).all()


def test_of_the_ratings_that_were_held_back_about_as_many_as_said_are_within_the_interval(
    head: BayesianMF, stars: np.ndarray, rated: np.ndarray
) -> None:
    history = csr_array(np.where(rated, stars, 0.0).astype(np.float32))
    everything = np.broadcast_to(np.arange(N_ITEMS), (N_USERS, N_ITEMS))
    told = head.forecast_batch(UserBatch(np.full(N_USERS, -1), history), everything)
    low, high = told.interval(0.8)
    within = ((low <= stars) & (stars <= high))[~rated].mean()
    assert 0.7 < within < 0.9
    off = np.sqrt(((told.mean - stars)[~rated] ** 2).mean())
    assert off < 0.6 * np.sqrt(((stars[rated].mean() - stars)[~rated] ** 2).mean())


def test_the_films_own_rating_is_not_looked_at(head: BayesianMF) -> None:
    liked = {0: 5.0, 2: 4.5, 1: 1.0}
    without = foretell(head, *_of(liked, [6]))
    for own in (0.5, 5.0):
        assert foretell(head, *_of({**liked, 6: own}, [6])).mean == pytest.approx(without.mean, abs=1e-5)


def test_it_keeps_nothing_of_any_user_and_a_loaded_one_tells_the_same(head: BayesianMF, tmp_path: Path) -> None:
    head.save(tmp_path / "rating")
    with np.load(tmp_path / "rating" / "weights.npz") as weights:
        assert weights["history_items"].size == 0
        assert weights["user_values"].size == 0
    batch, items = _of({0: 5.0, 1: 1.0}, [6, 7, 8])
    first, second = foretell(head, batch, items), foretell(load_rating_head(tmp_path / "rating"), batch, items)
    assert (first.mean == second.mean).all()
    assert (first.deviation == second.deviation).all()


def test_the_same_seed_gives_the_same_model(head: BayesianMF, stars: np.ndarray, rated: np.ndarray) -> None:
    users, items = np.nonzero(rated)
    again = fit_rating_head(Interactions.of(users, items, stars[rated], n_users=N_USERS, n_items=N_ITEMS), seed=1)
    batch, asked = _of({0: 5.0}, [1, 2])
    assert (foretell(head, batch, asked).mean == foretell(again, batch, asked).mean).all()


def test_another_recommender_in_its_place_is_refused(tmp_path: Path) -> None:
    Ease().fit(Interactions.of([0, 1], [0, 1], n_users=2, n_items=2)).save(tmp_path / "rating")
    with pytest.raises(RecommenderError, match="ease tells no intervals"):
        load_rating_head(tmp_path / "rating")
