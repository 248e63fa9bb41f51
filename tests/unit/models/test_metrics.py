import doctest
from math import log2

import numpy as np
import pytest

from models import metrics
from models.evaluation import bootstrap as intervals
from models.evaluation.protocols import splitters as ranking_splits
from models.tuning import grid_search as choosing


def test_the_examples_in_the_docstrings_hold() -> None:
    for module, examples in ((metrics, 16), (intervals, 3), (choosing, 1), (ranking_splits, 4)):
        failed, tried = doctest.testmod(module)
        assert failed == 0
        assert tried >= examples


def test_hit_ratio_counts_the_ranks_within_k() -> None:
    ranks = np.array([0, 9, 10, 55])
    assert metrics.hit_ratio(ranks, 10) == 0.5
    assert metrics.hit_ratio(ranks, 1) == 0.25
    assert metrics.hit_ratio(ranks, 11) == 0.75


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    # Third place: 1 / log2(4) = 0.5. Tenth place: 1 / log2(11). Eleventh place: nothing at k = 10.
    assert metrics.ndcg(np.array([2]), 10) == 0.5
    assert metrics.ndcg(np.array([9]), 10) == pytest.approx(1 / log2(11))
    assert metrics.ndcg(np.array([10]), 10) == 0.0
    assert metrics.ndcg(np.array([0, 2, 9, 10]), 10) == pytest.approx((1 + 0.5 + 1 / log2(11)) / 4)


def test_ties_count_against_the_target() -> None:
    flat = np.zeros((1, 100), dtype=np.float32)
    assert metrics.target_ranks(flat, np.array([0])).tolist() == [99]
    assert metrics.target_ranks(flat, np.array([57])).tolist() == [99]


def test_a_rank_counts_only_candidates() -> None:
    scores = np.array([[1.0, -np.inf, 3.0, 2.0], [5.0, 9.0, -np.inf, -np.inf]], dtype=np.float32)
    assert metrics.target_ranks(scores, np.array([0, 0])).tolist() == [2, 1]


def test_a_masked_target_or_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="masked"):
        metrics.target_ranks(np.array([[-np.inf, 1.0]], dtype=np.float32), np.array([0]))
    with pytest.raises(ValueError, match="not a number"):
        metrics.target_ranks(np.array([[np.nan, 1.0]], dtype=np.float32), np.array([1]))


def test_coverage_counts_each_recommended_item_once() -> None:
    # Items 0, 1 and 4 of ten.
    assert metrics.coverage(np.array([[0, 1], [1, 4], [0, -1]]), 10) == 0.3


def test_no_users_give_no_figure_instead_of_a_zero() -> None:
    assert np.isnan(metrics.hit_ratio(np.empty(0, dtype=np.int64), 10))
    assert np.isnan(metrics.ndcg(np.empty(0, dtype=np.int64), 10))
