from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.popularity import Popularity
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import ItemsAsOf, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.comparison import LeaveLastOutEvaluation
from models.runtime.progress import Progress, ProgressCallback
from tests.unit.models.examples import features_of, two_tastes


class Recording(Recommender):
    """Scores by a fixed table and remembers what it was given."""

    name: ClassVar[str] = "recording"

    def __init__(self, table: NDArray[np.float32], *, uses_features: bool = False) -> None:
        super().__init__()
        self.table = table
        self.uses_features = uses_features
        self.fitted: list[tuple[Interactions, TrainingFeatures | None]] = []
        self.asked: list[UserBatch] = []

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        self.fitted.append((interactions, features))
        progress(Progress(1, 1, {}))

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        return 0

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        self.asked.append(batch)
        return self.table[batch.users]

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        raise NotImplementedError

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        raise NotImplementedError

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        raise NotImplementedError


@pytest.fixture
def two_users() -> Interactions:
    # 200 films. User 0 met 0, 1, 2 and last 3; user 1 met 4 and last 5.
    return Interactions.of(
        [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 5], timestamps=[1, 2, 3, 4, 1, 2], n_users=2, n_items=200
    )


def negatives_of(protocol: LeaveLastOutEvaluation) -> NDArray[np.int32]:
    """Return the sampled candidates without the target, which is the first of them."""
    assert protocol.task.candidates is not None
    return protocol.task.candidates[:, 1:]


def codes_to_find(protocol: LeaveLastOutEvaluation) -> NDArray[np.int64]:
    """Return the codes of the pairs of users and movies that are held out."""
    task = protocol.task
    return task.users * task.fit.n_items + task.relevant.indices


def test_the_metrics_are_those_of_a_ranking_made_by_hand(two_users: Interactions) -> None:
    table = np.zeros((2, 200), dtype=np.float32)
    # User 0: the films seen before score highest, then two others, then the target: full rank 2 once seen are out.
    table[0, [0, 1, 2]] = 9.0
    table[0, [10, 11]] = 5.0
    table[0, 3] = 4.0
    # User 1: 15 films before the target.
    table[1, 50:65] = 7.0
    table[1, 5] = 6.0
    protocol = LeaveLastOutEvaluation.prepare(two_users, seed=1)
    negatives = negatives_of(protocol)
    row = protocol.judge(Recording(table))
    assert row.test_users == 2
    assert row.full_ndcg_10 == pytest.approx(1 / log2(4) / 2)
    assert row.recall_20 == 1.0
    # User 0's list: 10, 11, 3 and the seven lowest indices unseen (4 to 9, 12). User 1's: ten of 50 to 64.
    assert row.coverage_10 == pytest.approx((3 + 7 + 10) / 200)
    above = [np.isin(negatives[0], [10, 11]).sum(), np.isin(negatives[1], range(50, 65)).sum()]
    assert row.hr_10 == np.mean([rank < 10 for rank in above])
    assert row.ndcg_10 == pytest.approx(np.mean([1 / log2(rank + 2) if rank < 10 else 0 for rank in above]))


def test_a_recommender_is_fitted_without_the_test_and_asked_with_what_came_before(two_users: Interactions) -> None:
    protocol = LeaveLastOutEvaluation.prepare(two_users, seed=1)
    recorder = Recording(np.zeros((2, 200), dtype=np.float32))
    protocol.fit(recorder, seed=0)
    protocol.judge(recorder)
    ((fitted_on, _),) = recorder.fitted
    assert fitted_on.items.tolist() == [0, 1, 2, 4]
    (batch,) = recorder.asked
    assert [row.nonzero()[0].tolist() for row in batch.history.toarray()] == [[0, 1, 2], [4]]


def test_negatives_are_the_same_for_all_and_none_was_ever_met(two_users: Interactions) -> None:
    protocol = LeaveLastOutEvaluation.prepare(two_users, seed=1)
    negatives = negatives_of(protocol)
    assert negatives.shape == (2, 99)
    assert not np.isin(negatives[0], [0, 1, 2, 3]).any()
    assert not np.isin(negatives[1], [4, 5]).any()
    np.testing.assert_array_equal(negatives, negatives_of(LeaveLastOutEvaluation.prepare(two_users, seed=1)))


def test_features_are_read_as_of_the_held_out_rows_own_time() -> None:
    interactions, _ = two_tastes()
    features = features_of(interactions)
    protocol = LeaveLastOutEvaluation.prepare(interactions, features, seed=1)
    recorder = Recording(np.zeros((interactions.n_users, interactions.n_items), dtype=np.float32), uses_features=True)
    protocol.fit(recorder, seed=0)
    protocol.judge(recorder)
    given = recorder.fitted[0][1]
    assert given is not None
    test = np.flatnonzero(np.isin(interactions.codes(), codes_to_find(protocol)))
    kept = np.setdiff1d(np.arange(len(interactions)), test)
    np.testing.assert_array_equal(given.user_values, features.user_values[kept])
    asked = recorder.asked[0]
    row = test[7]
    np.testing.assert_array_equal(asked.user_features[7], features.user_values[row])
    assert isinstance(asked.item_features, ItemsAsOf)
    assert asked.item_features.times[7] == interactions.timestamps[row]
    assert asked.item_features.histories == features.item_histories


def test_a_recommender_that_scores_everything_alike_gains_nothing(two_users: Interactions) -> None:
    protocol = LeaveLastOutEvaluation.prepare(two_users, seed=1)
    row = protocol.judge(Recording(np.ones((2, 200), dtype=np.float32)))
    assert (row.hr_10, row.ndcg_10, row.full_ndcg_10, row.recall_20) == (0, 0, 0, 0)


def test_a_catalogue_with_fewer_than_99_films_left_uses_what_there_is() -> None:
    interactions, _ = two_tastes()
    protocol = LeaveLastOutEvaluation.prepare(interactions, seed=1)
    rows = [
        protocol.judge(recommender, fit_seconds=protocol.fit(recommender, seed=1))
        for recommender in (Popularity(), Ease(EaseConfig(l2=5.0)))
    ]
    assert [row.recommender for row in rows] == ["popularity", "ease"]
    # Every film is equally popular by construction, so popularity cannot find the held-out one, EASE can.
    assert rows[1].hr_10 > rows[0].hr_10
    assert all(row.fit_seconds >= 0 and row.score_seconds >= 0 for row in rows)


def test_nobody_to_hold_out_is_an_error() -> None:
    with pytest.raises(ValueError, match="no user has two interactions"):
        LeaveLastOutEvaluation.prepare(Interactions.of([0, 1], [0, 1]), seed=1)


def test_a_history_recommender_is_asked_with_the_times_and_stars_of_the_past() -> None:
    interactions, _ = two_tastes()
    protocol = LeaveLastOutEvaluation.prepare(interactions, seed=1)
    recorder = Recording(np.zeros((interactions.n_users, interactions.n_items), dtype=np.float32))
    protocol.judge(recorder)
    (batch,) = recorder.asked
    assert batch.history_times is not None
    to_find = codes_to_find(protocol)
    past = interactions.take(~np.isin(interactions.codes(), to_find))
    order = np.argsort(past.codes(), kind="stable")
    assert batch.history.data.tolist() == past.ratings[order].tolist()
    assert batch.history_times.tolist() == past.timestamps[order].tolist()
