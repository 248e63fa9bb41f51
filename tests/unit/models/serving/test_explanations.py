from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.algorithms.content_based import ContentBased
from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.hybrid import Hybrid, HybridConfig
from models.algorithms.ials import Ials, IalsConfig
from models.algorithms.itemknn import ItemKnn, ItemKnnConfig
from models.algorithms.popularity import Popularity
from models.base import LEFT_OUT, Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.registry import RECOMMENDERS, load_recommender, recommender_class
from models.runtime.errors import RecommenderError
from models.serving.explanations import Reason, reasons_for, text_of
from tests.unit.models.algorithms.test_conformance import MAKERS
from tests.unit.models.examples import ITEMS, features_of, two_tastes


def _uneven() -> tuple[Interactions, TrainingFeatures]:
    """60 users of two tastes who met a random half of their films and some of the others'."""
    rng = np.random.default_rng(4)
    own = (np.arange(60) % 2)[:, None] == np.arange(ITEMS)[None, :] // (ITEMS // 2)
    users, items = np.nonzero(rng.random((60, ITEMS)) < np.where(own, 0.6, 0.15))
    rows = Interactions.of(users, items, timestamps=rng.permutation(len(users)), n_users=60, n_items=ITEMS)
    return rows, features_of(rows)


def _one(rows: Interactions, user: int, without: int | None = None) -> UserBatch:
    history = rows.matrix()[[user]].toarray()
    if without is not None:
        history[0, without] = 0
    return UserBatch(np.array([user]), csr_array(history))


#: Fitted on the uneven tastes: every recommender that reads the history and explains itself by it.
EXPLAINING = {name: make for name, make in MAKERS.items() if make().uses_history}


@pytest.fixture(scope="module", params=EXPLAINING)
def fitted(request: pytest.FixtureRequest) -> tuple[Recommender, Interactions]:
    rows, features = _uneven()
    return EXPLAINING[request.param]().fit(rows, features, seed=2), rows


def test_every_recommender_that_reads_the_history_explains_itself() -> None:
    assert {make().name for make in EXPLAINING.values()} == {
        name for name in RECOMMENDERS if recommender_class(name).uses_history
    }


def test_removing_the_named_item_lowers_the_score(fitted: tuple[Recommender, Interactions]) -> None:
    recommender, rows = fitted
    named = 0
    for user in range(20):
        batch = _one(rows, user)
        items = recommender.recommend(batch, 3)[0][0]
        before = recommender.score(batch)[0, items]
        for item, score, reason in zip(items, before, reasons_for(recommender, batch, items), strict=True):
            for film, weight in reason.items[:1]:
                assert weight > 0
                assert rows.matrix()[user, film] == 1
                assert recommender.score(_one(rows, user, without=film))[0, item] < score
                named += 1
    assert named >= 50


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (lambda: Ease(EaseConfig(l2=5.0)), 1e-4),
        (lambda: ItemKnn(ItemKnnConfig(neighbours=9, shrinkage=1.0)), 1e-4),
        (ContentBased, 1e-4),
        # The L2 weight of the user's factors falls with a rating less, which the closed form leaves aside.
        (lambda: Ials(IalsConfig(factors=8, regularization=1e-4)), 2e-2),
    ],
    ids=["ease", "itemknn", "content", "ials"],
)
def test_what_the_weights_tell_is_what_leaving_out_an_entry_costs(
    make: Callable[[], Recommender], tolerance: float
) -> None:
    rows, features = _uneven()
    recommender = make().fit(rows, features, seed=2)
    items = np.arange(ITEMS)
    for user in (0, 1, 7):
        batch = _one(rows, user)
        told = recommender.contributions(batch, items)
        measured = Recommender.contributions(recommender, batch, items)
        np.testing.assert_allclose(told, measured, atol=tolerance * np.abs(measured).max())


def test_the_last_entry_costs_the_whole_score() -> None:
    rows, features = _uneven()
    batch = UserBatch(np.array([-1]), csr_array(([1.0], [3], [0, 1]), shape=(1, ITEMS)))
    for recommender in (ContentBased(), Ease(EaseConfig(l2=5.0))):
        recommender.fit(rows, features)
        items = np.array([4, 5])
        np.testing.assert_allclose(
            recommender.contributions(batch, items)[:, 0], recommender.score(batch)[0, items], rtol=1e-5
        )


def test_a_film_outside_the_weights_has_no_reason_in_the_history() -> None:
    rows, _ = two_tastes()
    few = rows.take(rows.items != 3)
    ease = Ease(EaseConfig(l2=5.0)).fit(few)
    batch = _one(rows, 0)
    assert 3 in batch.history.indices
    weights = ease.contributions(batch, np.array([3, 1]))
    assert weights[0].tolist() == [0.0] * batch.history.nnz
    assert weights[1, list(batch.history.indices).index(3)] == 0


def test_the_words_that_weigh_are_those_that_the_film_shares_with_the_history() -> None:
    rows, features = _uneven()
    content = ContentBased().fit(rows, features)
    batch = _one(rows, 0)
    (reason,) = reasons_for(content, batch, np.array([2]))
    assert [name for name, _ in reason.words] == ["genre:taste0"]
    # The cosine is the sum over the words.
    words = content.word_weights(batch, np.array([2]))
    assert words.weights.sum() == pytest.approx(content.score(batch)[0, 2], rel=1e-5)


def test_a_hybrids_reason_names_films_and_words() -> None:
    rows, features = _uneven()
    hybrid = Hybrid(HybridConfig(settings={"l2": 5.0}, weight=0.4)).fit(rows, features)
    (reason,) = reasons_for(hybrid, _one(rows, 0), np.array([2]))
    assert len(reason.items) == 3
    assert reason.words[0][0] == "genre:taste0"


class _Cubed(Ease):
    """A model whose weights tell nothing: it is explained by leaving out."""

    def score(self, batch: UserBatch) -> np.ndarray:
        return super().score(batch) ** 3

    contributions = Recommender.contributions


def test_any_other_model_is_explained_by_leaving_out_its_newest_entries() -> None:
    n_items = LEFT_OUT + 30
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((80, n_items)) < 0.9)
    rows = Interactions.of(users, items, n_users=80, n_items=n_items)
    model = _Cubed(EaseConfig(l2=5.0)).fit(rows)
    history = rows.matrix()[[0]]
    times = np.arange(history.nnz)[::-1].copy()
    asked = np.setdiff1d(np.arange(n_items), history.indices)[:2]
    weights = model.contributions(UserBatch(np.array([0]), history, history_times=times), asked)
    assert history.nnz > LEFT_OUT
    # The first entries are the newest ones here.
    assert (weights[:, :LEFT_OUT] != 0).all()
    assert (weights[:, LEFT_OUT:] == 0).all()
    left = history.toarray()
    left[0, history.indices[5]] = 0
    batch = UserBatch(np.array([0]), csr_array(left))
    whole = model.score(UserBatch(np.array([0]), history))
    np.testing.assert_allclose(weights[:, 5], (whole - model.score(batch))[0, asked], rtol=1e-3, atol=1e-7)


def test_a_model_that_does_not_read_the_history_gives_no_reason() -> None:
    rows, _ = two_tastes()
    popular = Popularity().fit(rows)
    assert reasons_for(popular, _one(rows, 0), np.array([1, 2])) == [Reason(), Reason()]
    with pytest.raises(RecommenderError, match="do not come from the history"):
        popular.contributions(_one(rows, 0), np.array([1]))


def test_several_users_at_once_are_refused() -> None:
    rows, _ = two_tastes()
    ease = Ease(EaseConfig(l2=5.0)).fit(rows)
    with pytest.raises(RecommenderError, match="one user at a time"):
        ease.contributions(UserBatch(np.arange(2), rows.matrix()[:2]), np.array([1]))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Reason(((0, 1.0),)), "Because you rated Heat."),
        (Reason(((0, 1.0), (1, 0.5), (2, 0.1))), "Because you rated Heat, Alien and Ran."),
        (Reason(((1, 1.0),), (("tag:space", 0.4),)), 'Because you rated Alien; tagged "space".'),
        (Reason((), (("genre:War", 0.4), ("title:war", 0.1))), 'Like what you rated: genre War, "war" in the title.'),
        (Reason(), None),
    ],
)
def test_a_reason_reads_as_a_sentence(reason: Reason, text: str | None) -> None:
    assert text_of(reason, ("Heat", "Alien", "Ran").__getitem__) == text


def test_a_loaded_model_gives_the_same_reasons(fitted: tuple[Recommender, Interactions], tmp_path: Path) -> None:
    recommender, rows = fitted
    recommender.save(tmp_path)
    batch = _one(rows, 0)
    items = np.array([2, 11])
    assert reasons_for(load_recommender(tmp_path), batch, items) == reasons_for(recommender, batch, items)
