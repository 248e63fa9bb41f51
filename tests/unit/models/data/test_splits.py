from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.interactions import Interactions
from models.data.splits import last_rows


@dataclass(frozen=True)
class Parts:
    """Each user's last row, the one before it and the rest, as row indices: what a fit with a validation holds out."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def leave_last_out(rows: Interactions) -> Parts:
    test = last_rows(rows)
    fit = np.setdiff1d(np.arange(len(rows)), test)
    validation = fit[last_rows(rows.take(fit))]
    return Parts(np.setdiff1d(fit, validation), validation, test)


def _random(seed: int) -> Interactions:
    """30 users, 40 items, few distinct times, so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(30 * 40, 300, replace=False)
    return Interactions.of(codes // 40, codes % 40, timestamps=rng.integers(0, 5, 300), n_users=30, n_items=40)


def test_the_last_row_is_the_test_and_the_one_before_the_validation() -> None:
    rows = Interactions.of([0, 0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2], timestamps=[4, 1, 3, 2, 7, 9, 8])
    split = leave_last_out(rows)
    assert split.test.tolist() == [0, 5]
    assert split.validation.tolist() == [2, 6]
    assert split.train.tolist() == [1, 3, 4]
    assert np.union1d(split.train, split.validation).tolist() == [1, 2, 3, 4, 6]


def test_of_rows_at_the_same_second_the_highest_item_is_the_last() -> None:
    rows = Interactions.of([0, 0, 0], [5, 9, 7], timestamps=[3, 3, 3])
    split = leave_last_out(rows)
    assert rows.items[split.test].tolist() == [9]
    assert rows.items[split.validation].tolist() == [7]


def test_a_user_keeps_at_least_one_row_to_learn_from() -> None:
    split = leave_last_out(Interactions.of([0, 1, 1], [0, 0, 1], timestamps=[1, 1, 2]))
    assert split.train.tolist() == [0, 1]
    assert split.validation.tolist() == []
    assert split.test.tolist() == [2]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_leaks_from_the_held_out_rows(seed: int) -> None:
    rows = _random(seed)
    split = leave_last_out(rows)
    parts = [split.train, split.validation, split.test]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(rows)))  # every row in exactly one part
    pairs = [set(rows.codes()[part].tolist()) for part in parts]
    assert not pairs[0] & pairs[1]
    assert not (pairs[0] | pairs[1]) & pairs[2]
    for user in range(rows.n_users):
        times = [rows.timestamps[part[rows.users[part] == user]] for part in parts]
        assert len(times[1]) <= 1
        assert len(times[2]) <= 1
        for earlier, later in ((0, 1), (0, 2), (1, 2)):
            if len(times[earlier]) and len(times[later]):
                assert times[earlier].max() <= times[later].min()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    rows = _random(seed)
    shuffle = np.random.default_rng(seed).permutation(len(rows))
    shuffled = rows.take(shuffle)
    split, again = leave_last_out(rows), leave_last_out(shuffled)
    for part, other in ((split.test, again.test), (split.validation, again.validation)):
        assert set(rows.codes()[part].tolist()) == set(shuffled.codes()[other].tolist())


def test_interactions_check_lengths_and_ranges() -> None:
    with pytest.raises(ValueError, match="unequal length"):
        Interactions.of([0, 1], [0])
    with pytest.raises(ValueError, match=r"item index outside 0\.\.3"):
        Interactions.of([0], [4], n_items=4)
    with pytest.raises(ValueError, match="user index outside"):
        Interactions.of([-1], [0])


def test_a_pair_met_twice_is_one_cell_of_the_matrix() -> None:
    matrix = Interactions.of([0, 0, 2], [1, 1, 0], n_users=3, n_items=3).matrix()
    assert matrix.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
