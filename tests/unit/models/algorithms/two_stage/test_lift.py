"""What people who met an item also met: lifts against the formula, and what is left where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.two_stage.lift import company
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.data.sequences import Pasts


def pasts(items: list[int], stars: list[float], n_items: int) -> Pasts:
    history = csr_array((stars, items, [0, len(items)]), shape=(1, n_items))
    return Pasts.of_batch(UserBatch(np.array([-1]), history), in_order=False)


ROWS = Interactions.of(
    [0, 0, 1, 1, 2, 2, 3, 3, 4], [0, 1, 0, 1, 2, 3, 2, 3, 2], [5.0, 3, 4, 4, 2, 5, 5, 4, 4], n_items=5
)


def test_one_entry_lifts_what_was_met_by_the_same_people() -> None:
    found = company(ROWS, shrink=2.0, strength=0.5, max_items=9, seed=0)
    shares = np.array([2, 2, 3, 2, 0.5]) / 5
    lift_of_1 = np.log((2 + 2 * shares[1]) / ((2 + 2) * shares[1]))
    lift_of_2 = np.log((0 + 2 * shares[2]) / ((2 + 2) * shares[2]))
    mean = float(ROWS.ratings.mean())
    scores = found.score(pasts([0], [mean], 5))[0]
    assert scores[1] == pytest.approx(np.log(shares[1]) + 0.5 * lift_of_1, abs=1e-5)
    assert scores[2] == pytest.approx(np.log(shares[2]) + 0.5 * lift_of_2, abs=1e-5)
    # Two stars more weigh 0.6 of an entry more.
    liked = found.score(pasts([0], [mean + 2], 5))[0]
    assert liked[1] == pytest.approx(np.log(shares[1]) + 0.5 * 1.6 * lift_of_1, abs=1e-5)


def test_without_an_entry_the_most_met_item_comes_first_and_one_without_rows_last() -> None:
    found = company(ROWS, shrink=2.0, strength=0.5, max_items=9, seed=0)
    scores = found.score(pasts([], [], 5))[0]
    assert scores.argmax() == 2
    assert scores.argmin() == 4


def test_of_some_items_alone_the_scores_are_the_same_and_items_beyond_the_limit_lift_nothing() -> None:
    found = company(ROWS, shrink=2.0, strength=0.5, max_items=3, seed=0)
    every = found.score(pasts([0, 3], [4.0, 4.0], 5))
    assert found.score(pasts([0, 3], [4.0, 4.0], 5), np.array([3, 1])) == pytest.approx(every[:, [3, 1]])
    assert found.score(pasts([3], [4.0], 5))[0] == pytest.approx(found.logs)


def test_without_any_rows_every_item_is_alike() -> None:
    nothing = Interactions.of([], [], n_items=3, n_users=2)
    found = company(nothing, shrink=2.0, strength=0.5, max_items=9, seed=0)
    assert len(set(found.score(pasts([], [], 3))[0].tolist())) == 1
