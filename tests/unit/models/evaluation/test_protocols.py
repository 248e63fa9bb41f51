from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.algorithms.popularity import Popularity
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.protocols.base import Histories, ProtocolError, RankingProtocol, RankingTask
from models.evaluation.protocols.cold_start import ColdStart
from models.evaluation.protocols.global_temporal import Temporal
from models.evaluation.protocols.leave_last_out import LeaveLastOut
from models.evaluation.protocols.random_75_25 import Random7525
from models.evaluation.protocols.random_80_10_10 import Random811
from models.evaluation.protocols.rating_folds import RatingFolds, rating_task
from models.evaluation.protocols.splitters import recbole_counts
from models.evaluation.protocols.strong_generalization import StrongGeneralisation
from models.evaluation.runner import judge, report
from tests.unit.models.evaluation.test_comparison import Recording

PROTOCOLS: tuple[RankingProtocol, ...] = (
    Random7525(),
    Random811(min_rating=2.0),
    LeaveLastOut(),
    Temporal(),
    StrongGeneralisation(),
    ColdStart(),
)


def _random(seed: int, n_users: int = 60, n_items: int = 150) -> Interactions:
    """Users of very unequal activity, stars from 1 to 5, few distinct times."""
    rng = np.random.default_rng(seed)
    codes = np.unique((rng.random(1_500) ** 2 * n_users).astype(int) * n_items + rng.integers(0, n_items, 1_500))
    codes = rng.permutation(codes)
    stars = rng.integers(1, 6, len(codes))
    times = rng.integers(0, 400, len(codes)) + 1_000
    return Interactions.of(codes // n_items, codes % n_items, stars, times, n_users=n_users, n_items=n_items)


def _pairs(matrix: Any, users: np.ndarray) -> set[tuple[int, int]]:
    rows = np.repeat(users, np.diff(matrix.indptr))
    return set(zip(rows.tolist(), matrix.indices.tolist(), strict=True))


def _asked(task: RankingTask) -> np.ndarray:
    assert task.identities is not None
    return task.identities


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(3))
class TestEveryRankingProtocol:
    def test_nothing_that_is_to_be_found_is_learnt_told_or_hidden(self, protocol: RankingProtocol, seed: int) -> None:
        rows = _random(seed)
        task = protocol.split(rows, seed=seed)
        users = _asked(task)
        assert (users == task.users)[task.users >= 0].all()
        met = rows.matrix().toarray() > 0
        assert met[users][task.history.toarray() > 0].all()
        relevant = _pairs(task.relevant, users)
        learnt = set(zip(task.fit.users.tolist(), task.fit.items.tolist(), strict=True))
        assert relevant
        assert not relevant & learnt
        assert not task.relevant.multiply(task.history).nnz
        if task.hidden is not None:
            assert not task.relevant.multiply(task.hidden).nnz
            # What a user is told by is hidden too.
            assert task.hidden.multiply(task.history).nnz == task.history.nnz
        everything = set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
        assert relevant | learnt <= everything

    def test_the_validation_knows_nothing_of_the_test(self, protocol: RankingProtocol, seed: int) -> None:
        rows = _random(seed)
        task = protocol.split(rows, seed=seed)
        watched = protocol.validation(task, seed=seed)
        learnt = set(task.fit.codes().tolist())
        assert set(watched.fit.codes().tolist()) <= learnt
        assert not watched.relevant.multiply(watched.history).nnz
        if isinstance(protocol, Random811):
            # Its own part: what the test's ranking hides beside the history, and nothing of the test.
            assert task.hidden is not None
            assert watched.relevant.nnz == task.hidden.nnz - task.history.nnz
            sought = _pairs(task.relevant, task.users)
            assert not sought & _pairs(watched.relevant, watched.users)
            return
        assert len(watched.fit) < len(task.fit)
        known = watched.users >= 0
        codes = np.repeat(watched.users, np.diff(watched.relevant.indptr)) * task.fit.n_items + watched.relevant.indices
        assert set(codes[np.repeat(known, np.diff(watched.relevant.indptr))].tolist()) <= learnt
        assert set(np.unique(watched.relevant.indices).tolist()) <= set(np.unique(task.fit.items).tolist())

    def test_the_order_of_the_rows_changes_nothing(self, protocol: RankingProtocol, seed: int) -> None:
        rows = _random(seed)
        shuffled = rows.take(np.random.default_rng(seed).permutation(len(rows)))
        task, again = protocol.split(rows, seed=seed), protocol.split(shuffled, seed=seed)
        assert set(task.fit.codes().tolist()) == set(again.fit.codes().tolist())
        np.testing.assert_array_equal(task.users, again.users)
        np.testing.assert_array_equal(task.relevant.toarray(), again.relevant.toarray())
        np.testing.assert_array_equal(task.history.toarray(), again.history.toarray())
        np.testing.assert_array_equal(task.history_times, again.history_times)

    def test_everybody_has_something_to_find(self, protocol: RankingProtocol, seed: int) -> None:
        task = protocol.split(_random(seed), seed=seed)
        assert np.diff(task.relevant.indptr).min() >= 1


def test_a_temporal_split_learns_nothing_later_than_what_it_asks_for() -> None:
    rows = _random(1)
    task = Temporal().split(rows, seed=0)
    test = np.setdiff1d(np.arange(len(rows)), np.flatnonzero(np.isin(rows.codes(), task.fit.codes())))
    assert task.fit.timestamps.max() < rows.timestamps[test].min()
    assert task.history_times.max() <= task.fit.timestamps.max()
    assert len(task.fit) == pytest.approx(0.9 * len(rows), abs=10)


def test_users_without_a_past_are_apart() -> None:
    rows = Interactions.of([0, 0, 0, 0, 1], [0, 1, 2, 3, 4], timestamps=[1, 2, 3, 9, 9], n_items=6)
    task = Temporal(share=0.6).split(rows, seed=0)
    assert task.users.tolist() == [0, -1]
    assert task.apart is not None
    assert task.apart.tolist() == [False, True]
    assert task.history.toarray()[1].sum() == 0


def test_a_global_cut_needs_times() -> None:
    with pytest.raises(ProtocolError, match="needs times"):
        Temporal().split(Interactions.of([0, 0], [0, 1]), seed=0)


def test_strong_generalisation_learns_nothing_at_all_of_the_users_it_asks_for() -> None:
    rows = _random(2)
    task = StrongGeneralisation().split(rows, seed=5)
    assert (task.users == -1).all()
    held = _asked(task)
    assert not np.isin(task.fit.users, held).any()
    told, sought = np.diff(task.history.indptr), np.diff(task.relevant.indptr)
    assert (told + sought).tolist() == rows.user_counts()[held].tolist()
    np.testing.assert_array_equal(told, np.rint(0.8 * rows.user_counts()[held]))


class TestColdStart:
    def test_held_users_and_films_are_in_no_row_of_the_fit(self) -> None:
        task = ColdStart().split(_random(2), seed=5)
        assert task.pools is not None
        assert task.pool_of is not None
        warm, new = task.pools
        assert not (warm & new).any()
        assert not new[task.fit.items].any()
        assert not np.isin(task.fit.users, _asked(task)[task.users < 0]).any()
        # Nor is anybody told by a held film, or asked for one among the others.
        assert not new[task.history.indices].any()
        pools = task.pools[task.pool_of]
        assert pools[task.relevant.toarray() > 0].all()

    def test_a_held_user_is_told_by_his_earliest_ratings_and_should_find_the_same_whatever_is_told(self) -> None:
        rows = _random(2)
        task = ColdStart().split(rows, seed=5)
        assert task.segments is not None
        assert list(task.segments) == ["users_1", "users_2", "users_5", "films"]
        sizes = {name: np.diff(task.history[np.flatnonzero(part)].indptr) for name, part in task.segments.items()}
        assert [set(sizes[f"users_{n}"].tolist()) for n in (1, 2, 5)] == [{1}, {2}, {5}]
        sought = [task.relevant[np.flatnonzero(task.segments[f"users_{n}"])].toarray() for n in (1, 2, 5)]
        np.testing.assert_array_equal(sought[0], sought[1])
        np.testing.assert_array_equal(sought[0], sought[2])
        times = np.zeros((rows.n_users, rows.n_items))
        times[rows.users, rows.items] = rows.timestamps
        stops = task.history.indptr
        for place in np.flatnonzero(task.segments["users_5"]):
            told = task.history_times[stops[place] : stops[place + 1]]
            later = times[_asked(task)[place]][task.relevant[[place]].indices]
            assert told.max() <= later.min()

    def test_users_whose_times_are_unknown_are_not_held_out(self) -> None:
        rows = _random(2)
        known = np.arange(rows.n_users) % 2 == 0
        task = ColdStart(judged=known).split(rows, seed=1)
        assert known[_asked(task)[task.users < 0]].all()

    def test_new_films_are_ranked_among_one_another_and_the_first_ratings_of_a_new_user_never(self) -> None:
        rows = _random(2)
        task = ColdStart().split(rows, seed=5)
        assert task.segments is not None
        assert task.pools is not None
        assert task.hidden is not None
        flat = Recording(np.ones((rows.n_users, rows.n_items), dtype=np.float32))
        lists = judge(flat, task, ("ndcg_10",)).lists
        films = lists[task.segments["films"]]
        assert task.pools[1][films[films >= 0]].all()
        for name in ("users_1", "users_2", "users_5"):
            for place in np.flatnonzero(task.segments[name]):
                shown = lists[place][lists[place] >= 0]
                assert task.pools[0][shown].all()
                assert not np.isin(shown, task.hidden[[place]].indices).any()

    def test_each_question_has_its_own_figures_and_pairs(self) -> None:
        task = ColdStart().split(_random(2), seed=5)
        assert task.segments is not None
        popular = Popularity().fit(task.fit)
        judgement = judge(popular, task, ("ndcg_10", "hr_10"))
        found = report(judgement, task, "ndcg_10")
        for name, part in task.segments.items():
            assert found[f"ndcg_10_{name}"] == pytest.approx(judgement.by_user["ndcg_10"][part].mean())
            assert found["test_users"][name] == part.sum()
        # Nobody rated the films: all alike, and the relevant ones last.
        assert found["ndcg_10_films"] < found["by_chance"]["films"]

    def test_chance_is_what_random_orders_come_to(self) -> None:
        task = ColdStart(film_share=0.3).split(_random(2), seed=5)
        rng = np.random.default_rng(0)
        figures = []
        for _ in range(60):
            table = rng.random((task.fit.n_users, task.fit.n_items)).astype(np.float32)
            random = Recording(table)
            figures.append(report(judge(random, task, ("ndcg_10",)), task, "ndcg_10"))
        for name, expected in figures[0]["by_chance"].items():
            assert np.mean([one[f"ndcg_10_{name}"] for one in figures]) == pytest.approx(expected, rel=0.15)


def test_last_ones_whose_time_is_unknown_are_learnt_from_and_not_asked_for() -> None:
    rows = Interactions.of([0, 0, 1, 1], [0, 1, 2, 3], timestamps=[1, 2, 0, 0], n_items=200)
    task = LeaveLastOut(judged=np.array([True, False])).split(rows, seed=0)
    assert task.users.tolist() == [0]
    assert sorted(task.fit.items.tolist()) == [0, 2, 3]
    assert task.candidates is not None
    assert task.candidates[0, 0] == 1
    assert not np.isin(task.candidates[0, 1:], [0, 1]).any()


def test_ratings_below_the_bound_are_in_no_part_of_8_1_1() -> None:
    rows = _random(3)
    task = Random811(min_rating=4.0).split(rows, seed=1)
    assert task.fit.ratings.min() >= 4
    parts = len(task.fit) + task.relevant.nnz + (task.hidden.nnz - task.history.nnz)  # type: ignore[union-attr]
    assert parts == (rows.ratings >= 4).sum()


@pytest.mark.parametrize(
    ("rows", "parts"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (9, [7, 1, 1]), (30, [24, 3, 3])]
)
def test_recboles_parts_are_never_empty_but_for_want_of_rows(rows: int, parts: list[int]) -> None:
    assert recbole_counts(np.array([rows]), (0.8, 0.1, 0.1)).tolist() == [parts]


@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_in_exactly_one_fold_and_never_in_what_that_fold_learns(seed: int) -> None:
    rows = _random(seed)
    folds = RatingFolds().split(rows, seed=seed)
    tests = [fold.test.codes() for fold in folds]
    assert np.sort(np.concatenate(tests)).tolist() == np.sort(rows.codes()).tolist()
    for fold in folds:
        assert not np.isin(fold.test.codes(), fold.fit.codes()).any()
        assert len(fold.fit) + len(fold.test) == len(rows)
    assert max(map(len, tests)) - min(map(len, tests)) <= 1


def test_given_parts_that_overlap_are_refused() -> None:
    rows = _random(1)
    with pytest.raises(ProtocolError, match="in the train file too"):
        rating_task(rows, rows.take(np.arange(3)))


def test_a_history_has_the_stars_and_times_of_its_rows() -> None:
    rows = Interactions.of([1, 0, 1, 1], [3, 2, 0, 3], [5, 2, 4, 1], [30, 20, 10, 5], n_users=3, n_items=4)
    stars, times = Histories.of(rows).of_users(np.array([1, -1, 2, 0]))
    # Of the two rows of (1, 3) the later one counts.
    assert stars.toarray().tolist() == [[4, 0, 0, 5], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]]
    assert times.tolist() == [10, 30, 20]


class TestJudging:
    def test_the_figures_are_those_of_a_ranking_made_by_hand(self) -> None:
        # Three quarters of user 0's 8 rows are learnt from; the two others are to be found.
        rows = Interactions.of([0] * 8, np.arange(8), n_items=30)
        task = Random7525().split(rows, seed=1)
        sought = task.relevant.indices
        table = np.zeros((1, 30), dtype=np.float32)
        table[0, task.fit.items] = 9.0
        table[0, [20, sought[0]]] = 5.0, 4.0
        figures = judge(Recording(table), task, ("ndcg_10", "recall_10", "precision_10")).by_user
        # The second place is one of two; the other one has score 0, and everything else with 0 comes before it.
        assert figures["recall_10"].tolist() == [0.5]
        assert figures["precision_10"].tolist() == [0.1]
        assert figures["ndcg_10"] == pytest.approx([(1 / np.log2(3)) / (1 + 1 / np.log2(3))])

    def test_scoring_everything_alike_finds_nothing(self) -> None:
        task = Random7525().split(_random(1), seed=1)
        flat = Recording(np.ones((task.fit.n_users, task.fit.n_items), dtype=np.float32))
        assert judge(flat, task, ("hr_10",)).by_user["hr_10"].sum() == 0

    def test_users_apart_are_not_in_the_means(self) -> None:
        rows = Interactions.of([0, 0, 0, 0, 1], [0, 1, 2, 3, 4], timestamps=[1, 2, 3, 9, 9], n_items=40)
        task = Temporal(share=0.6).split(rows, seed=0)
        table = np.zeros((2, 40), dtype=np.float32)
        table[:, 3] = 1.0
        found = report(judge(Recording(table), task, ("hr_10",)), task, "hr_10")
        assert (found["hr_10"], found["test_users"]) == (1.0, 1)
        assert found["new_users"] == {"hr_10": 0.0, "test_users": 1}

    def test_a_recommender_is_given_the_features_of_those_it_is_asked_for(self) -> None:
        rows = Interactions.of([0, 0, 0, 0, 1], [0, 1, 2, 3, 4], timestamps=[1, 2, 3, 9, 9], n_items=40)
        counts = FeatureHistory.of([3, 3], [2, 5], [[1.0], [2.0]], ["count"])
        features = TrainingFeatures(np.empty((3, 1), dtype=np.float32), ("age",), (counts,))
        task = replace(
            Temporal(share=0.6).split(rows, seed=0),
            features=features,
            user_features=np.array([[20.0], [30.0]], dtype=np.float32),
            asked_at=np.array([4, 6]),
        )
        table = Recording(np.zeros((2, 40), dtype=np.float32))
        judge(table, task, ("hr_10",))
        told = {
            int(batch.users[0]): (batch.user_features, batch.item_features)
            for batch in table.asked  # the known user and the new one apart
        }
        for user, age, count in ((0, 20.0, 1.0), (-1, 30.0, 2.0)):
            users, items = told[user]
            assert users is not None
            assert users.tolist() == [[age]]
            # Each is asked for apart, so that there is one moment and one table.
            assert isinstance(items, np.ndarray)
            assert items[3].tolist() == [count]
            assert np.isnan(items[2]).all()
