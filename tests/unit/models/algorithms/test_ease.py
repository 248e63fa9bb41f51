import numpy as np
import pytest

from models.algorithms.ease import Ease, EaseConfig, ease_memory
from models.data.batch import UserBatch
from models.data.interactions import Interactions


def _data(n_users: int, n_items: int) -> Interactions:
    rng = np.random.default_rng(4)
    codes = rng.choice(n_users * n_items, n_users * n_items // 4, replace=False)
    return Interactions.of(codes // n_items, codes % n_items, n_users=n_users, n_items=n_items)


def _by_definition(data: Interactions, l2: float) -> np.ndarray:
    """Steck 2019, equation 8, with a general inverse in double precision."""
    x = data.matrix().toarray().astype(np.float64)
    p = np.linalg.inv(x.T @ x + l2 * np.eye(data.n_items))
    weights = -p / np.diag(p)
    np.fill_diagonal(weights, 0.0)
    return x @ weights


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 20), (20, 60), (30, 30)])
def test_the_scores_are_those_of_the_closed_form(n_users: int, n_items: int) -> None:
    data = _data(n_users, n_items)
    fitted = Ease(EaseConfig(l2=3.0)).fit(data)
    scores = fitted.score(UserBatch(np.arange(n_users), data.matrix()))
    np.testing.assert_allclose(scores, _by_definition(data, 3.0), rtol=1e-3, atol=1e-4)


def test_stars_in_the_history_count_as_ones() -> None:
    data = _data(40, 10)
    fitted = Ease(EaseConfig(l2=3.0)).fit(data)
    ones = data.matrix()
    stars = ones.copy()
    stars.data = np.full_like(stars.data, 4.5)
    users = np.arange(40)
    np.testing.assert_array_equal(fitted.score(UserBatch(users, ones)), fitted.score(UserBatch(users, stars)))


def test_only_the_most_rated_items_get_weights_when_memory_is_short() -> None:
    data = Interactions.of([0, 0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 1, 3], n_users=3, n_items=5)
    fitted = Ease(EaseConfig(l2=1.0, max_items=2)).fit(data)
    scores = fitted.score(UserBatch(np.arange(3), data.matrix()))
    assert (scores[:, 2:] == 0).all()
    assert (scores[0, :2] > 0).all()
    items, _ = fitted.similar(np.array([4]), 2)
    assert items.shape == (1, 2)


def test_memory_is_stated_before_a_fit() -> None:
    # The largest edition that is taken whole, ml-10m with 10,681 films, stays within the pipeline's 4 GB.
    assert ease_memory(69_878, 10_681) < 2e9
    assert ease_memory(162_541, EaseConfig().max_items) < 2e9
