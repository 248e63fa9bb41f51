from math import log2

import numpy as np
import pytest
from scipy.sparse import csr_array

from models import metrics
from models.evaluation import bootstrap as intervals

# Three users and six items. User 0 should find 1 and 4, user 1 should find 0, 2, 3 and 5, user 2 only 5.
RELEVANT = csr_array(np.array([[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1]]))
LISTS = np.array([[4, 0, 1], [5, 2, 4], [0, 1, -1]])
HITS = np.array([[True, False, True], [True, True, False], [False, False, False]])
COUNTS = np.array([2, 4, 1])


def test_hits_are_the_places_that_hold_a_relevant_item() -> None:
    np.testing.assert_array_equal(metrics.list_hits(LISTS, RELEVANT), HITS)


def test_nothing_relevant_is_no_hit() -> None:
    assert not metrics.list_hits(LISTS, csr_array((3, 6))).any()


def test_precision_divides_by_k_and_recall_by_what_is_relevant() -> None:
    assert metrics.list_precision(HITS, 3) == pytest.approx([2 / 3, 2 / 3, 0])
    assert metrics.list_precision(HITS, 1) == pytest.approx([1, 1, 0])
    assert metrics.list_recall(HITS, COUNTS, 3) == pytest.approx([1, 0.5, 0])
    assert metrics.list_recall(HITS, COUNTS, 1, capped=True) == pytest.approx([1, 1, 0])


def test_ndcg_is_over_the_best_order_that_k_leaves_room_for() -> None:
    # User 0: ranks 0 and 2 of two relevant. User 1: ranks 0 and 1, while three of the four would fit.
    expected = [1.5 / (1 + 1 / log2(3)), (1 + 1 / log2(3)) / (1 + 1 / log2(3) + 0.5), 0]
    assert metrics.list_ndcg(HITS, COUNTS, 3) == pytest.approx(expected)


def test_average_precision_is_over_everything_relevant() -> None:
    assert metrics.list_average_precision(HITS, COUNTS, 3) == pytest.approx([(1 + 2 / 3) / 2, 2 / 4, 0])


def test_reciprocal_rank_is_that_of_the_first_hit() -> None:
    late = np.array([[False, False, True]])
    assert metrics.list_reciprocal_rank(late, 3).tolist() == [1 / 3]
    assert metrics.list_reciprocal_rank(late, 2).tolist() == [0]


def test_novelty_is_the_surprise_of_a_meeting_in_bits() -> None:
    # Of eight users all, half and one met the items: 0, 1 and 3 bits.
    assert metrics.novelty(np.array([[0, 1, 2], [2, -1, -1]]), np.array([8, 4, 1]), 8) == pytest.approx([4 / 3, 3])


def test_diversity_of_a_short_list_counts_its_own_pairs() -> None:
    vectors = csr_array(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
    assert metrics.intra_list_diversity(np.array([[0, 1, -1], [0, -1, -1]]), vectors) == pytest.approx([0.4, 1.0])


def test_popularity_lift_is_unknown_without_a_history() -> None:
    history = csr_array(np.array([[1.0, 0, 0], [0, 0, 0]]))
    lift = metrics.popularity_lift(np.array([[1, 2], [1, 2]]), np.array([4, 6, 2]), history)
    assert lift[0] == 1.0
    assert np.isnan(lift[1])


def test_rmse_weighs_a_large_error_more_than_mae() -> None:
    predicted, true = np.array([4, 4, 1], dtype=np.float32), np.array([4, 3, 4], dtype=np.float32)
    assert metrics.rmse(predicted, true) == pytest.approx((10 / 3) ** 0.5)
    assert metrics.mae(predicted, true) == pytest.approx(4 / 3)


class TestIntervals:
    def test_an_interval_of_a_mean_is_that_of_the_normal_law_for_many_users(self) -> None:
        values = np.random.default_rng(1).normal(3.0, 2.0, 4_000)
        low, high = intervals.bootstrap_interval(values)
        half = 1.96 * 2.0 / 4_000**0.5
        assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.012)

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        values = np.random.default_rng(1).random(50)
        assert intervals.bootstrap_interval(values) == intervals.bootstrap_interval(values)
        assert intervals.bootstrap_interval(values) != intervals.bootstrap_interval(values, seed=1)

    def test_a_small_gain_of_everybody_shows_only_in_pairs(self) -> None:
        theirs = np.random.default_rng(1).random(200)
        ours = theirs + 0.01
        assert intervals.bootstrap_interval(ours)[0] < theirs.mean()
        assert intervals.paired_interval(ours, theirs)[0] > 0.009

    def test_pairs_of_other_users_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not the same users"):
            intervals.paired_interval(np.zeros(3), np.zeros(4))

    def test_a_ratio_draws_users_with_all_their_rows(self) -> None:
        # One user with 98 good rows and one with 2 bad ones: without the second the figure is 0, without the first 1.
        low, high = intervals.bootstrap_ratio_interval(np.array([0.0, 2.0]), np.array([98.0, 2.0]))
        assert (low, high) == (0.0, 1.0)

    def test_nobody_has_no_interval(self) -> None:
        assert np.isnan(intervals.bootstrap_interval(np.empty(0))).all()
