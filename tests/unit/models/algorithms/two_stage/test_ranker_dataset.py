"""What the ranker learns from: which rows are held, of whom what is told, and what stands in a list."""

from __future__ import annotations

import numpy as np
import pytest

from models.algorithms.two_stage.ranker_dataset import LIST_SIZE, Asked, candidates, held_rows, newcomers, some, told
from models.data.interactions import Interactions
from models.data.sequences import Timelines


def timelines_of(lengths: list[int], first_time: int = 1) -> Timelines:
    """Users who met items 0, 1, 2, … one after the other."""
    items = np.concatenate([np.arange(length) for length in lengths])
    users = np.repeat(np.arange(len(lengths)), lengths)
    return Timelines(Interactions.of(users, items, None, items + first_time), seed=0)


def test_the_last_rows_are_held_but_no_more_than_a_quarter() -> None:
    timelines = timelines_of([2, 8, 40])
    held = held_rows(timelines, 3)
    assert [(timelines.users[row], timelines.items[row]) for row in held] == [
        (0, 1),
        (1, 6),
        (1, 7),
        (2, 37),
        (2, 38),
        (2, 39),
    ]


def test_newcomers_are_told_of_up_to_half_of_what_they_met_and_the_rest_is_to_be_found() -> None:
    timelines = timelines_of([5, 20])
    asked = told(timelines, np.array([True, True]), 99, np.random.default_rng(0))
    known = [timelines.before(asked.rows).items[a:b].tolist() for a, b in _bounds(timelines, asked)]
    assert known == [[0], [0], [0, 1], [0, 1], [0, 1, 2, 3], list(range(8))]
    of, targets = asked.targets(timelines)
    assert targets[of == 0].tolist() == [1, 2, 3, 4]
    assert targets[of == 5].tolist() == list(range(8, 20))


def _bounds(timelines: Timelines, asked: Asked) -> list[tuple[int, int]]:
    bounds = timelines.before(asked.rows).bounds
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def test_who_is_no_newcomer_or_has_rows_without_a_time_is_not_asked_for() -> None:
    timelines = timelines_of([20, 20], first_time=1)
    assert set(timelines.users[told(timelines, np.array([False, True]), 99, np.random.default_rng(0)).rows]) == {1}
    # The first row has time 0, which is none: what stands first is not what came first.
    timelines = timelines_of([20, 20], first_time=0)
    assert len(told(timelines, np.array([True, True]), 99, np.random.default_rng(0))) == 0


def test_a_tenth_are_newcomers_and_the_seed_says_who() -> None:
    timelines = timelines_of([2] * 5_000)
    found = newcomers(timelines, 1)
    assert 0.08 < found.mean() < 0.12
    np.testing.assert_array_equal(found, newcomers(timelines, 1))
    assert (found != newcomers(timelines, 2)).any()


def test_of_too_many_moments_some_are_drawn() -> None:
    asked = Asked(np.arange(10), np.arange(10) + 1)
    drawn = some(asked, 4, np.random.default_rng(0))
    assert len(drawn) == 4
    assert (drawn.stops == drawn.rows + 1).all()
    assert some(asked, 10, np.random.default_rng(0)) is asked


def test_a_list_has_the_targets_and_the_best_and_says_what_the_drawn_ones_stand_for() -> None:
    n_items = 1_000
    timelines = timelines_of([3])
    pasts = timelines.before(np.array([2]))
    # The best by the blend come first, apart from the two of the history; the target is the worst of all.
    blend = -np.arange(n_items, dtype=np.float32)[None]
    chosen, relevant, offsets = candidates(
        blend, pasts, np.array([0]), np.array([n_items - 1]), np.random.default_rng(0)
    )
    assert chosen.shape == (1, LIST_SIZE)
    assert len(set(chosen[0].tolist())) == LIST_SIZE
    assert chosen[0][relevant[0]].tolist() == [n_items - 1]
    known = np.isin(chosen[0], [0, 1])
    assert np.isneginf(offsets[0][known]).all()
    best = np.isin(chosen[0], np.arange(2, 201)) | relevant[0]
    assert best.sum() == 200
    assert (offsets[0][best] == 0).all()
    # 798 others, of which 200 were drawn.
    assert offsets[0][~best & ~known] == pytest.approx(np.log(798 / 200), abs=1e-5)


def test_a_small_catalogue_is_in_every_list_whole() -> None:
    timelines = timelines_of([3])
    pasts = timelines.before(np.array([1]))
    blend = np.zeros((1, 5), dtype=np.float32)
    chosen, relevant, offsets = candidates(blend, pasts, np.array([0, 0]), np.array([1, 2]), np.random.default_rng(0))
    assert sorted(chosen[0].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(chosen[0][relevant[0]].tolist()) == [1, 2]
    assert np.isneginf(offsets[0][chosen[0] == 0]).all()
    assert (offsets[0][chosen[0] != 0] == 0).all()
