"""What every recommender must do, whichever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.bpr import Bpr, BprConfig
from models.algorithms.content_based import ContentBased
from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.ease_sparse import EaseSparse, EaseSparseConfig
from models.algorithms.hybrid import Hybrid, HybridConfig
from models.algorithms.ials import Als, AlsConfig, Ials, IalsConfig
from models.algorithms.itemknn import ItemKnn, ItemKnnConfig
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bayesian_mf import BayesianMF, BayesianMFConfig
from models.algorithms.rating.svd import Svd, SvdConfig, Svdpp, SvdppConfig
from models.algorithms.two_stage.model import Flagship, FlagshipConfig
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.registry import RATING_RECOMMENDERS, RECOMMENDERS, load_recommender, make_recommender
from models.runtime.errors import RecommenderError, UnknownUser
from models.runtime.progress import Progress
from models.serving.inference import load_served_form
from tests.unit.models.examples import ITEMS, USERS, batch_of, features_of, liked_tastes, two_tastes

_SMALL = {
    "batch_size": 128, "negatives": 4, "epochs": 15, "patience": 15, "learning_rate": 0.05, "weight_decay": 0.05,
    "threads": 1,
}  # fmt: skip

_FLAGSHIP = {
    "l2": 5.0, "next_l2": 5.0, "factors": 8, "hidden": 16, "epochs": 15, "batch_size": 64, "min_items": 1,
    "learning_rate": 0.02,
}  # fmt: skip

_STARS = {"factors": 8, "epochs": 150, "learning_rate": 0.05, "batch_size": 100}

MAKERS: dict[str, Callable[[], Recommender]] = {
    "popularity": Popularity,
    "ease": lambda: Ease(EaseConfig(l2=5.0)),
    "ease_sparse": lambda: EaseSparse(EaseSparseConfig(l2=5.0, neighbours=9)),
    "itemknn": lambda: ItemKnn(ItemKnnConfig(neighbours=9, shrinkage=1.0)),
    "content": ContentBased,
    "ials": lambda: Ials(IalsConfig(factors=8, regularization=0.05)),
    "hybrid": lambda: Hybrid(HybridConfig(settings={"l2": 5.0}, weight=0.3, popularity=0.02)),
    "hybrid of ials": lambda: Hybrid(
        HybridConfig(collaborative="ials", settings={"factors": 8, "regularization": 0.05}, weight=0.3)
    ),
    "flagship": lambda: Flagship(FlagshipConfig(**_FLAGSHIP)),
    "flagship of sets": lambda: Flagship(FlagshipConfig(**_FLAGSHIP, task="any", encoders=2)),
    "bpr": lambda: Bpr(BprConfig(factors=8, epochs=60, batch_size=128, learning_rate=0.03, weight_decay=0.2)),
    "neumf": lambda: NeuMF(NeuMFConfig(**_SMALL)),
    "neumf without features": lambda: NeuMF(NeuMFConfig(**_SMALL, use_features=False)),
    "neumf with pretraining": lambda: NeuMF(
        NeuMFConfig(**_SMALL, use_features=False, pretrain=True, pretrain_learning_rate=0.01)
    ),
    "neumf in half precision": lambda: NeuMF(NeuMFConfig(**_SMALL, precision="bfloat16")),
    "svd": lambda: Svd(SvdConfig(**_STARS)),
    "svdpp": lambda: Svdpp(SvdppConfig(**{**_STARS, "learning_rate": 0.01, "init_std": 0.2})),
    "als": lambda: Als(AlsConfig(factors=4)),
    "bmf": lambda: BayesianMF(BayesianMFConfig(factors=4, burn_in=20, samples=20, meetings=5)),
}
#: They know users by their index alone.
BY_INDEX = ("neumf", "bpr")


@pytest.fixture(scope="module", params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], Recommender]:
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def known(make: Callable[[], Recommender]) -> tuple[Interactions, np.ndarray]:
    """Return what a kind of recommender can learn from: ratings, or interactions alone."""
    return liked_tastes() if make().name in RATING_RECOMMENDERS else two_tastes()


@pytest.fixture(scope="module")
def fitted(make: Callable[[], Recommender], known: tuple[Interactions, np.ndarray]) -> Recommender:
    return make().fit(known[0], features_of(known[0]), seed=3)


@pytest.fixture(scope="module")
def everybody(known: tuple[Interactions, np.ndarray]) -> UserBatch:
    return batch_of(known[0], np.arange(USERS), features_of(known[0]))


class TestEveryRecommender:
    def test_finds_the_known_answer(
        self, fitted: Recommender, everybody: UserBatch, known: tuple[Interactions, np.ndarray]
    ) -> None:
        interactions, missing = known
        items, _ = fitted.recommend(everybody, 1)
        if isinstance(fitted, Popularity):
            counts = np.where(everybody.history.toarray() > 0, -1, interactions.item_counts())
            assert items[:, 0].tolist() == counts.argmax(axis=1).tolist()
        else:
            assert (items[:, 0] == missing).mean() >= 0.95

    def test_scores_every_item_for_every_user_as_float32(self, fitted: Recommender, everybody: UserBatch) -> None:
        scores = fitted.score(everybody)
        assert scores.shape == (USERS, ITEMS)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_a_batch_answers_as_single_users_do(self, fitted: Recommender, everybody: UserBatch) -> None:
        together = fitted.score(everybody)
        alone = np.concatenate([fitted.score(everybody.take(slice(u, u + 1))) for u in range(USERS)])
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)

    def test_says_truly_whether_the_history_of_the_batch_counts(
        self, fitted: Recommender, everybody: UserBatch
    ) -> None:
        strangers = replace(everybody, history=csr_array(everybody.history.shape, dtype=np.float32))
        counts = not np.array_equal(fitted.score(strangers), fitted.score(everybody))
        assert counts == fitted.uses_history

    def test_says_truly_whether_the_features_of_the_batch_count(
        self, fitted: Recommender, everybody: UserBatch, tmp_path: Path
    ) -> None:
        """Serving reads features for a recommender that says so alone, and what is saved is what is served."""
        scores = fitted.score(everybody)
        counts = False
        for left_out in ({"user_features": None}, {"item_features": None}):
            try:
                counts |= not np.array_equal(fitted.score(replace(everybody, **left_out)), scores)
            except RecommenderError:
                counts = True
        assert fitted.uses_features == counts
        fitted.save(tmp_path)
        assert load_recommender(tmp_path).uses_features == counts
        assert load_served_form(tmp_path).uses_features == counts

    def test_never_recommends_what_was_seen(self, fitted: Recommender, everybody: UserBatch) -> None:
        items, scores = fitted.recommend(everybody, ITEMS)
        seen = everybody.history.toarray() > 0
        for user, row in enumerate(items):
            assert set(row[row >= 0]) == set(np.flatnonzero(~seen[user]))
        assert np.isneginf(scores[items < 0]).all()

    def test_recommends_seen_items_when_asked_to(self, fitted: Recommender, everybody: UserBatch) -> None:
        items, _ = fitted.recommend(everybody, ITEMS, exclude_seen=False)
        assert (np.sort(items, axis=1) == np.arange(ITEMS)).all()

    def test_orders_by_score_then_index(self, fitted: Recommender, everybody: UserBatch) -> None:
        items, scores = fitted.recommend(everybody, 8)
        for row, best in zip(items, scores, strict=True):
            pairs = [(-s, i) for s, i in zip(best.tolist(), row.tolist(), strict=True) if i >= 0]
            assert pairs == sorted(pairs)

    def test_k_beyond_the_catalogue_is_padded(self, fitted: Recommender, everybody: UserBatch) -> None:
        items, _ = fitted.recommend(everybody.take(slice(0, 1)), ITEMS + 5)
        assert items.shape == (1, ITEMS + 5)
        assert (items[0, -5:] == -1).all()

    def test_refuses_k_below_one(self, fitted: Recommender, everybody: UserBatch) -> None:
        with pytest.raises(RecommenderError, match="k must be at least 1"):
            fitted.recommend(everybody, 0)

    def test_the_same_seed_gives_the_same_scores(
        self,
        make: Callable[[], Recommender],
        fitted: Recommender,
        everybody: UserBatch,
        known: tuple[Interactions, np.ndarray],
    ) -> None:
        interactions, _ = known
        again = make().fit(interactions, features_of(interactions), seed=3)
        np.testing.assert_array_equal(again.score(everybody), fitted.score(everybody))

    def test_saved_and_loaded_it_scores_the_same(
        self, fitted: Recommender, everybody: UserBatch, tmp_path: Path
    ) -> None:
        fitted.save(tmp_path)
        loaded = load_recommender(tmp_path)
        assert type(loaded) is type(fitted)
        assert loaded.config == fitted.config
        assert loaded.learning_curve == fitted.learning_curve
        np.testing.assert_array_equal(loaded.score(everybody), fitted.score(everybody))
        for of_loaded, of_fitted in zip(loaded.similar(np.arange(3), 4), fitted.similar(np.arange(3), 4), strict=True):
            np.testing.assert_array_equal(of_loaded, of_fitted)

    def test_saves_the_same_bytes_twice(self, fitted: Recommender, tmp_path: Path) -> None:
        for folder in ("first", "second"):
            fitted.save(tmp_path / folder)
        for file in ("recommender.json", "weights.npz"):
            assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()

    def test_a_loader_refuses_another_schema_version(self, fitted: Recommender, tmp_path: Path) -> None:
        fitted.save(tmp_path)
        manifest = json.loads((tmp_path / "recommender.json").read_text())
        (tmp_path / "recommender.json").write_text(json.dumps(manifest | {"schema_version": 99}))
        with pytest.raises(RecommenderError, match="schema version 99"):
            load_recommender(tmp_path)

    def test_leaves_an_item_out_of_its_own_neighbours(self, fitted: Recommender) -> None:
        items, _ = fitted.similar(np.arange(ITEMS), ITEMS - 1)
        assert items.shape == (ITEMS, ITEMS - 1)
        assert not (items == np.arange(ITEMS)[:, None]).any()

    def test_finds_neighbours_of_the_same_taste(self, fitted: Recommender) -> None:
        items, _ = fitted.similar(np.array([0, ITEMS - 1]), 5)
        if isinstance(fitted, Popularity):
            # It knows no likeness: everybody's neighbours are the popular films.
            popular = np.argsort(-two_tastes()[0].item_counts(), kind="stable")
            assert items[1].tolist() == popular[popular != ITEMS - 1][:5].tolist()
            return
        assert (items[0] < ITEMS // 2).mean() >= 0.8
        assert (items[1] >= ITEMS // 2).mean() >= 0.8

    def test_refuses_an_item_outside_the_catalogue(self, fitted: Recommender) -> None:
        with pytest.raises(RecommenderError, match="item index outside"):
            fitted.similar(np.array([ITEMS]), 3)

    def test_an_unknown_user_is_answered_or_named(self, fitted: Recommender, everybody: UserBatch) -> None:
        one = everybody.take(slice(0, 1))
        unknown = UserBatch(np.array([-1]), one.history, one.user_features, one.item_features)
        if fitted.name in BY_INDEX:
            with pytest.raises(UnknownUser):
                fitted.recommend(unknown, 3)
        else:
            if fitted.name in RATING_RECOMMENDERS and not fitted.uses_history:
                one = everybody.take(slice(1, 2))
                stranger = fitted.score(UserBatch(np.array([-1]), one.history))[0]
                assert not np.array_equal(stranger, fitted.score(one)[0])
                return
            # The others read the history alone, so a stranger with the same history gets the same films.
            np.testing.assert_array_equal(fitted.recommend(unknown, 3)[0], fitted.recommend(one, 3)[0])

    def test_a_user_without_history_is_answered(self, fitted: Recommender, everybody: UserBatch) -> None:
        one = everybody.take(slice(0, 1))
        blank = csr_array((1, ITEMS), dtype=np.float32)
        items, _ = fitted.recommend(UserBatch(one.users, blank, one.user_features, one.item_features), 5)
        assert (items >= 0).all()

    def test_states_its_memory_before_it_starts(self, make: Callable[[], Recommender]) -> None:
        small, large = (make().fit_memory(users, 1_000, users * 100) for users in (1_000, 100_000))
        assert 0 < small <= large
        # ml-25m: 162,541 users, 62,423 films, 25 million ratings, in the memory of a large desktop.
        assert make().fit_memory(162_541, 62_423, 25_000_095) < 12 * 2**30

    def test_refuses_to_learn_from_nothing(self, make: Callable[[], Recommender]) -> None:
        with pytest.raises(RecommenderError, match="no interaction"):
            make().fit(Interactions.of([], [], n_users=3, n_items=3))

    def test_reports_its_progress(self, make: Callable[[], Recommender]) -> None:
        interactions, _ = two_tastes()
        few = interactions.take(np.arange(60))
        steps: list[Progress] = []
        make().fit(few, features_of(few), progress=steps.append)
        assert [step.step for step in steps] == list(range(1, len(steps) + 1))
        assert 1 <= len(steps) <= steps[-1].total


def test_every_registered_recommender_is_held_to_the_contract() -> None:
    assert {maker().name for maker in MAKERS.values()} == set(RECOMMENDERS)
    assert [make_recommender(name).name for name in RECOMMENDERS] == list(RECOMMENDERS)


@pytest.mark.parametrize("name", ["flagship", "bmf"])
def test_features_are_asked_for_only_where_the_last_fit_had_some(name: str) -> None:
    few = liked_tastes()[0].take(np.arange(60))
    recommender = MAKERS[name]().fit(few, features_of(few), seed=3)
    assert recommender.uses_features
    assert not recommender.fit(few, seed=3).uses_features


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecommenderError, match="popularity, itemknn, content, ease"):
        make_recommender("oracle")


def test_a_batch_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(RecommenderError, match="2 users, but 1 rows of history"):
        UserBatch(np.array([0, 1]), csr_array((1, 4), dtype=np.float32))
