from __future__ import annotations

import numpy as np
import pytest

from benchmarks.models.synthetic import generated_interactions
from models.algorithms import ease_sparse
from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.ease_sparse import EaseSparse, EaseSparseConfig
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError


@pytest.fixture(scope="module")
def rows() -> Interactions:
    return generated_interactions(400, 90, 9_000, seed=3)


def everybody(rows: Interactions) -> UserBatch:
    return UserBatch(np.arange(rows.n_users), rows.matrix())


def test_with_all_items_in_every_pattern_it_is_ease_itself(rows: Interactions) -> None:
    exact = Ease(EaseConfig(l2=20.0)).fit(rows)
    sparse = EaseSparse(EaseSparseConfig(l2=20.0, neighbours=1_000)).fit(rows)
    np.testing.assert_allclose(sparse.score(everybody(rows)), exact.score(everybody(rows)), rtol=1e-3, atol=1e-4)


def test_each_weight_is_that_of_the_regression_on_its_pattern(rows: Interactions) -> None:
    fitted = EaseSparse(EaseSparseConfig(l2=20.0, neighbours=7)).fit(rows)
    x = rows.matrix().toarray().astype(np.float64)
    gram = x.T @ x
    weights = fitted._weights.toarray()
    for item in (0, 17, 89):
        strength = gram[:, item] / np.sqrt(np.diag(gram) + 20.0)
        strength[item] = -1.0
        pattern = np.sort(np.argsort(-strength)[:7])
        assert np.flatnonzero(weights[:, item]).tolist() == pattern.tolist()
        wanted = np.linalg.solve(gram[np.ix_(pattern, pattern)] + 20.0 * np.eye(7), gram[pattern, item])
        np.testing.assert_allclose(weights[pattern, item], wanted, rtol=1e-3)


def test_a_wider_pattern_comes_nearer_to_ease(rows: Interactions) -> None:
    exact = Ease(EaseConfig(l2=20.0)).fit(rows).score(everybody(rows))
    apart = [
        float(
            np.abs(EaseSparse(EaseSparseConfig(l2=20.0, neighbours=n)).fit(rows).score(everybody(rows)) - exact).mean()
        )
        for n in (5, 20, 60)
    ]
    assert apart[0] > apart[1] > apart[2]


def test_blocks_of_any_size_give_the_same_weights(rows: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EaseSparseConfig(l2=20.0, neighbours=12, max_regressors=50)
    whole = EaseSparse(config).fit(rows).score(everybody(rows))
    monkeypatch.setattr(ease_sparse, "_CELLS", 350)
    monkeypatch.setattr(ease_sparse, "_SYSTEM_CELLS", 500)
    np.testing.assert_allclose(EaseSparse(config).fit(rows).score(everybody(rows)), whole, rtol=1e-4, atol=1e-6)


def test_who_is_not_among_the_most_rated_is_spoken_for_but_does_not_speak(rows: Interactions) -> None:
    fitted = EaseSparse(EaseSparseConfig(l2=20.0, neighbours=10, max_regressors=30)).fit(rows)
    ranked = np.argsort(-rows.item_counts(), kind="stable")
    weights = fitted._weights.toarray()
    assert not weights[ranked[30:]].any()
    assert (np.abs(weights[:, ranked[30:]]).sum(axis=0) > 0).all()
    # Its neighbours are then those that speak for it.
    silent = int(ranked[40])
    items, _ = fitted.similar(np.array([silent]), 3)
    assert items[0].tolist() == np.argsort(-weights[:, silent], kind="stable")[:3].tolist()


def test_an_item_that_nobody_rated_scores_nothing_and_one_item_alone_is_no_error() -> None:
    rows = Interactions.of([0, 0, 1, 1, 2], [0, 1, 0, 1, 1], n_users=3, n_items=4)
    scores = EaseSparse(EaseSparseConfig(l2=1.0)).fit(rows).score(everybody(rows))
    assert (scores[:, 2:] == 0).all()
    assert (scores[:2, :2] > 0).all()
    lonely = Interactions.of([0, 1], [2, 2], n_users=2, n_items=4)
    assert not EaseSparse().fit(lonely).score(everybody(lonely)).any()


def test_it_states_what_62_000_films_need_and_grows_with_the_regressors() -> None:
    size = (162_541, 62_423, 25_000_095)
    assert EaseSparse().fit_memory(*size) < 6 * 2**30
    assert EaseSparse(EaseSparseConfig(max_regressors=60_000)).fit_memory(*size) > 12 * 2**30


def test_a_system_without_a_solution_is_named() -> None:
    twins = Interactions.of([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    with pytest.raises(RecommenderError, match=r"l2 = -5\.0 is too small"):
        EaseSparse(EaseSparseConfig(l2=-5.0)).fit(twins)
