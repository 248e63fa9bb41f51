import numpy as np
import pytest

from models.data.interactions import Interactions
from models.data.negative_sampling import NegativeSampler, distinct_negatives


@pytest.fixture
def rows() -> Interactions:
    rng = np.random.default_rng(1)
    codes = rng.choice(20 * 50, 400, replace=False)
    return Interactions.of(codes // 50, codes % 50, n_users=20, n_items=50)


def test_training_negatives_never_hit_a_positive(rows: Interactions) -> None:
    users = np.repeat(np.arange(20, dtype=np.int32), 2_000).reshape(-1, 4)
    drawn = NegativeSampler(rows).draw(users, np.random.default_rng(0))
    assert drawn.shape == users.shape
    assert not np.isin(users.astype(np.int64) * 50 + drawn, rows.codes()).any()


def test_training_negatives_are_uniform_over_what_is_left(rows: Interactions) -> None:
    left = np.setdiff1d(np.arange(50), rows.items[rows.users == 3])
    drawn = NegativeSampler(rows).draw(np.full(len(left) * 1_000, 3, dtype=np.int32), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=50)[left]
    # Chi-square of as many cells as items left: mean n - 1, deviation sqrt(2 (n - 1)).
    chi_square = ((counts - 1_000) ** 2 / 1_000).sum()
    assert chi_square < (len(left) - 1) + 5 * np.sqrt(2 * (len(left) - 1))


def test_training_negatives_differ_from_draw_to_draw_and_repeat_with_the_seed(rows: Interactions) -> None:
    users = np.repeat(np.arange(20, dtype=np.int32), 50)
    sampler, rng = NegativeSampler(rows), np.random.default_rng(5)
    first, second = sampler.draw(users, rng), sampler.draw(users, rng)
    assert (first != second).any()
    np.testing.assert_array_equal(first, sampler.draw(users, np.random.default_rng(5)))


def test_a_user_who_met_everything_has_no_negative() -> None:
    rows = Interactions.of([0, 0, 0, 1], [0, 1, 2, 0], n_users=2, n_items=3)
    drawn = NegativeSampler(rows).draw(np.array([0, 1, 0], dtype=np.int32), np.random.default_rng(0))
    assert drawn[[0, 2]].tolist() == [-1, -1]
    assert drawn[1] in (1, 2)
    assert distinct_negatives(rows, np.array([0], dtype=np.int32), 2, seed=0).tolist() == [[-1, -1]]


def test_test_negatives_are_distinct_and_never_met(rows: Interactions) -> None:
    users = np.arange(20, dtype=np.int32)
    drawn = distinct_negatives(rows, users, 20, seed=7)
    assert drawn.shape == (20, 20)
    assert all(len(set(row)) == 20 for row in drawn.tolist())
    assert not np.isin(users[:, None].astype(np.int64) * 50 + drawn, rows.codes()).any()
    np.testing.assert_array_equal(drawn, distinct_negatives(rows, users, 20, seed=7))
    assert (drawn != distinct_negatives(rows, users, 20, seed=8)).any()


def test_test_negatives_are_uniform(rows: Interactions) -> None:
    left = np.setdiff1d(np.arange(50), rows.items[rows.users == 3])
    drawn = distinct_negatives(rows, np.full(6_000, 3, dtype=np.int32), 5, seed=7)
    counts, expected = np.bincount(drawn.ravel(), minlength=50)[left], 30_000 / len(left)
    assert ((counts - expected) ** 2 / expected).sum() < len(left) + 5 * np.sqrt(2 * len(left))


def test_a_user_with_too_few_items_left_gets_what_there_is() -> None:
    rows = Interactions.of([0, 0], [0, 2], n_users=1, n_items=4)
    drawn = distinct_negatives(rows, np.array([0], dtype=np.int32), 6, seed=0)
    assert sorted(drawn[0].tolist()) == [-1, -1, -1, -1, 1, 3]
