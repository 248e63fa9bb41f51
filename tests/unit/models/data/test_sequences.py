"""Pasts: what stands before a row, how new it is, and what is not known of its order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.data.sequences import Pasts, Timelines

#: One user: item 5 first, then 6 and 7 at one time, then 8.
ROWS = Interactions.of([0, 0, 0, 0], [8, 6, 5, 7], [4, 3, 5, 2], [30, 20, 10, 20], n_items=9)


def test_the_past_of_a_row_is_what_its_user_met_before_it() -> None:
    others = Interactions.of([1, 0, 1, 0, 0], [1, 2, 3, 4, 0], None, [5, 9, 1, 7, 8])
    timelines = Timelines(others, seed=1)
    rows = timelines.with_past()
    pasts = timelines.before(rows)
    assert timelines.items[rows].tolist() == [0, 2, 1]
    assert [pasts.items[a:b].tolist() for a, b in zip(pasts.bounds[:-1], pasts.bounds[1:], strict=True)] == [
        [4],
        [4, 0],
        [3],
    ]
    assert pasts.ranks.tolist() == [0, 1, 0, 0]
    assert pasts.ages.tolist() == [0, 1, 0, 0]


def test_what_has_one_time_is_equally_new() -> None:
    timelines = Timelines(ROWS, seed=1)
    last = timelines.before(np.array([3]))
    assert sorted(zip(last.items.tolist(), last.ranks.tolist(), last.ages.tolist(), strict=True)) == [
        (5, 2.0, 10.0),
        (6, 0.0, 0.0),
        (7, 0.0, 0.0),
    ]


def test_the_order_of_what_has_one_time_is_drawn() -> None:
    second = {int(Timelines(ROWS, seed=seed).items[1]) for seed in range(20)}
    assert second == {6, 7}


def test_a_user_whose_rows_have_one_time_has_no_order() -> None:
    timeless = Interactions.of([0, 0, 1, 1], [0, 1, 2, 3], None, [0, 0, 4, 6])
    timelines = Timelines(timeless, seed=1)
    assert timelines.users[timelines.with_past()].tolist() == [1]


def test_a_batch_has_the_pasts_that_the_training_rows_had() -> None:
    timelines = Timelines(ROWS, seed=1)
    trained = timelines.before(np.array([3]))
    history = csr_array(([5.0, 3.0, 2.0], [5, 6, 7], [0, 3]), shape=(1, 9))
    asked = Pasts.of_batch(UserBatch(np.array([0]), history, history_times=np.array([10, 20, 20])), in_order=True)
    as_rows = [
        sorted(zip(p.items.tolist(), p.stars.tolist(), p.ranks.tolist(), p.ages.tolist(), strict=True))
        for p in (trained, asked)
    ]
    assert as_rows[0] == as_rows[1]


def test_a_batch_without_times_or_whose_order_is_not_wanted_has_ranks_of_zero() -> None:
    history = csr_array(([1.0, 1.0], [0, 1], [0, 1, 2]), shape=(2, 3))
    batch = UserBatch(np.array([0, 1]), history, history_times=np.array([3, 9]))
    assert Pasts.of_batch(batch, in_order=False).ranks.tolist() == [0, 0]
    assert Pasts.of_batch(UserBatch(np.array([0, 1]), history), in_order=True).ages.tolist() == [0, 0]


def test_the_weights_of_a_matrix_fall_with_the_rank_and_end_with_the_window() -> None:
    pasts = Timelines(ROWS, seed=1).before(np.array([3]))
    weights = pasts.matrix(9, decay=2.0).toarray()[0]
    assert weights[[5, 6, 7]] == pytest.approx([np.exp(-1.0), 1.0, 1.0])
    assert pasts.matrix(9, longest=2).toarray()[0, [5, 6, 7]].tolist() == [0, 1, 1]
    assert pasts.newest(2).items.tolist() == sorted(pasts.newest(2).items.tolist())
    assert set(pasts.newest(2).items.tolist()) == {6, 7}


def test_subsets_part_the_rows_of_each_user() -> None:
    timelines = Timelines(ROWS, seed=1)
    kept, rest = timelines.subsets(np.array([0]), timelines.items % 2 == 0)
    assert sorted(kept.items.tolist()) == [6, 8]
    assert sorted(rest.items.tolist()) == [5, 7]


def test_an_empty_batch_has_no_pasts() -> None:
    nobody = UserBatch(np.empty(0, dtype=np.int64), csr_array((0, 4)))
    assert len(Pasts.of_batch(nobody, in_order=True)) == 0
