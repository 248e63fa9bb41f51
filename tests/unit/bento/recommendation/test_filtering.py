from __future__ import annotations

import numpy as np
import pytest

from bento.recommendation.filtering import best_of
from models.base import top_k
from models.runtime.errors import RecommenderError


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("n", [3, 40, 2_000])
def test_the_best_are_those_of_top_k_with_equal_scores_and_too_few_candidates(rows: int, n: int) -> None:
    rng = np.random.default_rng(n + rows)
    # Few different scores, so that many are equal to the last one taken.
    scores = rng.integers(0, 4, (rows, n)).astype(np.float32)
    few = np.full((rows, n), -np.inf, dtype=np.float32)
    few[:, ::25] = 1.0
    for given in (scores, few, rng.standard_normal((rows, n)).astype(np.float32), np.full_like(few, -np.inf)):
        kept = given.copy()
        for k in (1, 5, 20):
            found, best = best_of(given, k)
            expected, expected_best = top_k(given, k)
            assert (found == expected).all()
            assert (best == expected_best).all()
        assert np.array_equal(given, kept, equal_nan=True)


def test_a_score_that_is_no_number_is_refused() -> None:
    scores = np.zeros((1, 500), dtype=np.float32)
    scores[0, 7] = np.nan
    with pytest.raises(RecommenderError, match="not a number"):
        best_of(scores, 5)
