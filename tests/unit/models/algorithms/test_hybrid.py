from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.hybrid import Hybrid, HybridConfig, standardized
from models.data.batch import UserBatch
from models.runtime.errors import RecommenderError
from tests.unit.models.examples import ITEMS, PER_TASTE, features_of, two_tastes


def _fitted(weight: float, *, without: int | None = None) -> tuple[Hybrid, UserBatch]:
    rows, _ = two_tastes()
    if without is not None:
        rows = rows.take(rows.items != without)
    hybrid = Hybrid(HybridConfig(settings={"l2": 5.0}, weight=weight))
    hybrid.fit(rows, features_of(rows), seed=1)
    return hybrid, UserBatch(np.arange(4), rows.matrix()[np.arange(4)])


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_at_either_end_it_orders_as_the_one_part_does(weight: float) -> None:
    hybrid, batch = _fitted(weight)
    part = hybrid.content if weight else hybrid.collaborative
    np.testing.assert_array_equal(hybrid.recommend(batch, 8)[0], part.recommend(batch, 8)[0])


def test_the_blend_is_the_weighed_sum_of_scores_in_standard_deviations() -> None:
    hybrid, batch = _fitted(0.25)
    collaborative, content = hybrid.collaborative.score(batch), hybrid.content.score(batch)
    by_hand = [
        0.75 * (cf - cf.mean()) / cf.std() + 0.25 * (words - words.mean()) / words.std()
        for cf, words in zip(collaborative, content, strict=True)
    ]
    np.testing.assert_allclose(hybrid.score(batch), by_hand, rtol=1e-4, atol=1e-5)


def test_a_film_that_nobody_met_is_placed_by_its_content() -> None:
    new = PER_TASTE - 1  # of the first taste
    hybrid, batch = _fitted(0.4, without=new)
    scores = hybrid.score(batch)
    assert hybrid.collaborative.score(batch)[:, new].tolist() == [0, 0, 0, 0]
    content = standardized(hybrid.content.score(batch))
    np.testing.assert_allclose(scores[:, new], 0.4 * content[:, new], rtol=1e-5)
    # Users 0 and 2 like the first taste, 1 and 3 the other.
    assert scores[[0, 2], new].min() > scores[[1, 3], new].max()


def test_popularity_orders_for_who_rated_nothing_and_fades_for_who_rated_much() -> None:
    rows, _ = two_tastes()
    # Film 1 is what most people met, film 19 what few did; user 0 likes the first taste.
    uneven = rows.take(~((rows.items == 19) & (rows.users > 10)))
    config = HybridConfig(settings={"l2": 5.0}, weight=0.0, popularity=0.05)
    hybrid = Hybrid(config).fit(uneven, features_of(uneven), seed=1)
    nobody = UserBatch(np.array([-1]), csr_array((1, ITEMS), dtype=np.float32))
    assert hybrid.recommend(nobody, 1)[0][0, 0] == uneven.item_counts().argmax()
    assert hybrid.score(nobody)[0].argmin() == 19
    alone = Hybrid(replace(config, popularity=0.0)).fit(uneven, features_of(uneven), seed=1)
    known = UserBatch(np.array([0]), uneven.matrix()[[0]])
    np.testing.assert_array_equal(hybrid.recommend(known, 1)[0], alone.recommend(known, 1)[0])


def test_equal_scores_stay_equal() -> None:
    flat = np.full((1, 1_000), 0.1, dtype=np.float32)
    assert np.ptp(standardized(flat)) < 1e-6


def test_a_weight_or_part_that_cannot_be_is_refused() -> None:
    with pytest.raises(RecommenderError, match="not between 0 and 1"):
        Hybrid(HybridConfig(weight=1.5))
    with pytest.raises(RecommenderError, match="not 'neumf'"):
        Hybrid(HybridConfig(collaborative="neumf"))


def test_without_content_it_says_so() -> None:
    rows, _ = two_tastes()
    with pytest.raises(RecommenderError, match="needs the content"):
        Hybrid().fit(rows)
    blank = replace(features_of(rows), item_content=None)
    with pytest.raises(RecommenderError, match="needs the content"):
        Hybrid().fit(rows, blank)


def test_its_part_learns_what_it_learns_alone() -> None:
    rows, _ = two_tastes()
    hybrid, batch = _fitted(0.3)
    alone = Ease(EaseConfig(l2=5.0)).fit(rows)
    assert batch.history.shape == (4, ITEMS)
    np.testing.assert_array_equal(hybrid.collaborative.score(batch), alone.score(batch))
