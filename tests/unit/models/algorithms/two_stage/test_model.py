"""The flagship: its closed forms against equations, what its ranker learns, and that a new rating or film counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.neumf.model import torch_threads
from models.algorithms.two_stage import model as flagship
from models.algorithms.two_stage.candidate_scorers import fit_first_stage
from models.algorithms.two_stage.graph_filter import spectral
from models.algorithms.two_stage.linear_scorers import comes_near, comes_next, goes_with
from models.algorithms.two_stage.model import Flagship, FlagshipConfig
from models.algorithms.two_stage.ranker import RankerConfig, train_ranker
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.data.sequences import Timelines
from models.runtime.errors import RecommenderError
from tests.unit.models.examples import content_of_tastes, features_of, two_tastes

_SMALL = FlagshipConfig(
    l2=5.0, next_l2=1.0, factors=8, hidden=16, epochs=15, batch_size=64, min_items=1, learning_rate=0.02
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small steps are slower on several threads, the more so beside other tests."""
    with torch_threads(1):
        yield


def chains(n_users: int = 80, n_items: int = 12, length: int = 6, seed: int = 0) -> Interactions:
    """Users who meet items in a ring, each one after the one before it, from a random start."""
    starts = np.random.default_rng(seed).integers(0, n_items, n_users)
    steps = np.arange(length)
    items = (starts[:, None] + steps) % n_items
    return Interactions.of(
        np.repeat(np.arange(n_users), length),
        items.ravel(),
        None,
        np.tile(steps * 3_600 + 1_000_000, n_users),
        n_items=n_items,
    )


def histories(items: list[list[int]], n_items: int) -> UserBatch:
    """Users met by nobody before, who met these items an hour apart."""
    lengths = [len(one) for one in items]
    order = np.concatenate([np.argsort(one) for one in items]).astype(np.int64)
    times = np.concatenate([np.arange(length) for length in lengths])
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate([np.sort(one) for one in items])
    history = csr_array((np.ones(len(flat)), flat, bounds), shape=(len(items), n_items))
    stamps = 1_000_000 + 3_600 * (times[np.repeat(bounds[:-1], lengths) + order])
    return UserBatch(np.full(len(items), -1), history, history_times=stamps)


def test_what_comes_next_solves_the_normal_equations() -> None:
    rows = Interactions.of([0, 0, 0, 1, 1], [0, 1, 2, 1, 2], None, [1, 2, 3, 1, 2])
    found = comes_next(
        Timelines(rows, seed=0), rows, l2=2.0, decay=1.0, window=5, max_items=9, max_rows=99, seed=0
    ).weights
    e = np.exp(-1.0)
    past, target = np.array([[1, 0, 0], [e, 1, 0], [0, 1, 0]]), np.array([[0, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert found == pytest.approx(np.linalg.solve(past.T @ past + 2 * np.eye(3), past.T @ target), abs=1e-5)


def test_what_comes_near_solves_the_normal_equations() -> None:
    rows = Interactions.of([0, 0, 0, 1, 1, 1], [0, 1, 2, 1, 2, 0], None, [1, 2, 3, 1, 2, 0])
    found = comes_near(Timelines(rows, seed=0), rows, l2=2.0, decay=1.0, max_items=9, max_rows=99, seed=0).weights
    e = np.exp(-1.0)
    # User 1's item 0 has no time and is near to nothing.
    beside = np.array([[0, 1, e], [1, 0, 1], [e, 1, 0], [0, 0, 1], [0, 1, 0]])
    target = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert found == pytest.approx(np.linalg.solve(beside.T @ beside + 2 * np.eye(3), beside.T @ target), abs=1e-5)


def test_what_histories_share_at_large_is_the_projection_on_their_first_singular_vectors() -> None:
    met = np.random.default_rng(0).random((30, 8)) < np.linspace(0.2, 0.9, 8)
    met[:, 0] = True
    rows = Interactions.of(*np.nonzero(met))
    matrix = rows.matrix().toarray()
    of_users, of_items = np.sqrt(matrix.sum(axis=1)), np.sqrt(matrix.sum(axis=0))
    first = np.linalg.svd(matrix / of_users[:, None] / of_items)[2][:3]
    expected = (matrix / of_items) @ first.T @ first * of_items
    found = spectral(rows, rank=3, seed=0)
    assert found.score(rows.matrix()) == pytest.approx(expected, abs=1e-4)
    assert found.score(rows.matrix(), np.array([2, 0])) == pytest.approx(expected[:, [2, 0]], abs=1e-4)


def test_a_history_without_an_order_has_other_parts_and_their_blend_may_be_all() -> None:
    rows, missing = two_tastes()
    config = replace(_SMALL, task="any", near_l2=5.0, spectral_rank=4, ranker_hidden=0, use_features=False)
    fitted = Flagship(config).fit(rows, features_of(rows), seed=1)
    assert fitted.parts == ("together", "near", "latent", "spectral", "words", "encoder")
    lists = fitted.recommend(UserBatch(np.array([-1, -1]), rows.matrix()[[0, 1]]), 1)[0]
    assert lists[:, 0].tolist() == missing[:2].tolist()


def test_only_the_most_rated_items_have_weights_and_the_others_score_nothing() -> None:
    rows = Interactions.of([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], n_items=4)
    weights = goes_with(rows, l2=1.0, max_items=2)
    assert weights.items.tolist() == [0, 1]
    scores = weights.score(csr_array(np.array([[1.0, 0, 1, 0]])))
    assert scores[0, 1] > 0
    assert scores[0, 2:].tolist() == [0, 0]


def test_it_finds_what_comes_next_where_what_goes_together_cannot_tell() -> None:
    rows = chains()
    fitted = Flagship(_SMALL).fit(rows, seed=1)
    batch = histories([[3, 4, 5], [5, 4, 3]], rows.n_items)
    assert fitted.recommend(batch, 1)[0][0].tolist() == [6]
    assert fitted.score(batch)[0].tolist() != fitted.score(batch)[1].tolist()


def test_a_new_rating_changes_the_next_recommendations_without_a_fit() -> None:
    rows = chains()
    fitted = Flagship(_SMALL).fit(rows, seed=1)
    before, after = (fitted.recommend(histories([items], rows.n_items), 3)[0][0] for items in ([2, 3], [2, 3, 8]))
    assert 9 in after.tolist()
    assert before.tolist() != after.tolist()


def test_a_film_that_nobody_rated_is_placed_by_its_words() -> None:
    rows, _ = two_tastes()
    # One more film of the second taste, which nobody met, and one of the first.
    wide = Interactions.of(
        rows.users, rows.items, rows.ratings, rows.timestamps, n_users=rows.n_users, n_items=rows.n_items + 2
    )
    content = content_of_tastes(rows.n_items)
    names = list(content.names)
    extra = np.zeros((2, len(names)), dtype=np.float32)
    extra[0, names.index("genre:taste1")] = extra[1, names.index("genre:taste0")] = 1
    counts = csr_array(np.vstack([content.counts.toarray(), extra]))
    features = replace(
        features_of(wide), item_content=replace(content, counts=counts, years=np.append(content.years, [1990, 1990]))
    )
    fitted = Flagship(replace(_SMALL, use_features=False, word_share=0.3, min_items=2)).fit(wide, features, seed=1)
    batch = UserBatch(np.array([-1, -1]), wide.matrix()[[0, 1]])
    scores = fitted.score(batch)
    first, second = rows.n_items + 1, rows.n_items
    assert scores[0, first] > scores[0, second]
    assert scores[1, second] > scores[1, first]


def test_the_ranker_learns_which_part_to_believe() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 20, 2)).astype(np.float32)
    relevant = inputs[..., 1] == inputs[..., 1].max(axis=1, keepdims=True)
    start, offsets = np.full(2, 0.3, np.float32), np.zeros((300, 20), np.float32)
    ranker, curve = train_ranker(inputs, relevant, offsets, RankerConfig(), start=start, seed=1)
    found = ranker.score(inputs).argmax(axis=1) == relevant.argmax(axis=1)
    assert found.mean() > 0.9
    assert curve[-1]["watched_loss"] < curve[0]["watched_loss"]


def test_what_is_learnt_is_left_out_where_the_last_input_says_so() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 20, 3)).astype(np.float32)
    inputs[..., 2] = 0.0
    relevant = inputs[..., 1] == inputs[..., 1].max(axis=1, keepdims=True)
    start, offsets = np.array([0.3, 0.0, 0.0], np.float32), np.zeros((300, 20), np.float32)
    ranker, _ = train_ranker(inputs, relevant, offsets, RankerConfig(), start=start, damped=True, seed=1)
    assert (ranker.score(inputs).argmax(axis=1) == relevant.argmax(axis=1)).mean() > 0.9
    inputs[..., 2] = 1.0
    assert ranker.score(inputs) == pytest.approx(0.3 * inputs[..., 0], abs=1e-6)


def test_a_drawn_candidate_counts_for_all_that_it_stands_for() -> None:
    # Of a hundred and fifty items with a high input three are drawn; the three with a low one are all there.
    inputs = np.zeros((400, 6, 1), dtype=np.float32)
    inputs[:, 3:, 0] = 1.0
    relevant = np.zeros((400, 6), dtype=bool)
    which = np.random.default_rng(0).integers(0, 6, 400)
    relevant[np.arange(400), which] = True
    plain, weighted = np.zeros((400, 6), np.float32), np.zeros((400, 6), np.float32)
    weighted[:, 3:] = np.log(50.0)
    asked = np.array([[0.0], [1.0]], dtype=np.float32)
    gaps = []
    for offsets in (plain, weighted):
        start = np.full(1, 0.3, np.float32)
        ranker, _ = train_ranker(inputs, relevant, offsets, RankerConfig(epochs=60), start=start, seed=1)
        scores = ranker.score(asked)
        gaps.append(scores[1] - scores[0])
    assert gaps[1] < gaps[0] - 2.0


def test_the_shorter_a_history_the_more_counts_what_many_watch_where_that_is_better() -> None:
    # Nothing follows from anything here, so a lone rating says nothing, and what many watch is all there is to know.
    rng = np.random.default_rng(0)
    n_users, n_items, each = 200, 30, 12
    chances = 1.0 / np.arange(1, n_items + 1)
    items = np.stack([rng.choice(n_items, each, replace=False, p=chances / chances.sum()) for _ in range(n_users)])
    rows = Interactions.of(
        np.repeat(np.arange(n_users), each), items.ravel(), None, np.tile(1 + np.arange(each), n_users), n_items=n_items
    )
    by_chance = Flagship(_SMALL).fit(rows, seed=1)
    assert by_chance.recommend(histories([[20]], n_items), 3)[0][0].tolist() == [0, 1, 2]
    # A ring is all order: what comes next is known after one entry.
    in_a_ring = Flagship(_SMALL).fit(chains(n_users=200, length=8), seed=1)
    assert in_a_ring.recommend(histories([[7]], 12), 1)[0][0].tolist() == [8]


def test_with_nothing_to_hold_out_the_plain_blend_ranks(tmp_path: Path) -> None:
    one_each = Interactions.of([0, 1, 2], [0, 1, 1], None, [5, 6, 7], n_items=3)
    fitted = Flagship(_SMALL).fit(one_each, seed=1)
    fitted.save(tmp_path)
    batch = histories([[0]], 3)
    assert np.isfinite(fitted.score(batch)).all()
    assert Flagship.load(tmp_path).score(batch) == pytest.approx(fitted.score(batch))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(RecommenderError, match="neither 'next' nor 'any'"):
        Flagship(replace(_SMALL, task="all")).fit(chains(), seed=1)


def test_a_user_without_a_history_gets_what_is_popular() -> None:
    rows, _ = two_tastes()
    popular = Interactions.of(
        np.append(rows.users, np.arange(40)), np.append(rows.items, np.zeros(40)), n_users=60, n_items=rows.n_items
    )
    fitted = Flagship(replace(_SMALL, task="any")).fit(popular, seed=1)
    nobody = UserBatch(np.array([-1]), csr_array((1, rows.n_items)))
    assert np.isfinite(fitted.score(nobody)).all()


def test_the_first_stage_that_the_ranker_saw_is_let_go_before_the_last_one_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Both at once, beside the ranker's lists, were 10.8 GiB at 62,000 films.
    fitted, held = Flagship(_SMALL), {}

    def watched(*given: Any, name: str, **more: Any) -> Any:
        held[name] = fitted._stage
        return fit_first_stage(*given, name=name, **more)

    monkeypatch.setattr(flagship, "fit_first_stage", watched)
    fitted.fit(chains(), seed=1)
    assert held == {"held": None, "whole": None}
    assert fitted._ranker is not None


def test_products_in_bfloat16_train_an_encoder_that_ranks_alike() -> None:
    batch = histories([[3, 4, 5], [9, 10, 11]], 12)
    scores = []
    for precision in ("float32", "bfloat16"):
        fitted = Flagship(replace(_SMALL, precision=precision)).fit(chains(), seed=1)
        assert fitted.recommend(batch, 1)[0].tolist() == [[6], [0]]
        scores.append(fitted.score(batch))
    assert (scores[0] != scores[1]).any()
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.99


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(RecommenderError, match="none of auto, cpu, cuda"):
        Flagship(replace(_SMALL, device="gpu")).fit(chains(), seed=1)


def test_a_state_of_an_earlier_recipe_is_refused_with_the_remedy() -> None:
    fitted = Flagship(_SMALL).fit(chains(), seed=1)
    facts, arrays = fitted._state()
    del facts["short"]
    with pytest.raises(RecommenderError, match="fit it again"):
        fitted._restore(facts | {"width": 16.0}, arrays)
