"""The trial: nothing of what is asked is learnt from, and every arm is fitted on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.popularity import Popularity
from models.data.features import FeatureHistory
from models.data.interactions import Interactions
from models.evaluation.protocols.global_temporal import Temporal
from models.evaluation.runner import judge
from models.promotion.backtest import Figures, RecipeVersion, make_trial, new_films
from models.runtime.errors import RecommenderError
from tests.unit.models.examples import features_of, two_tastes


def rows(seed: int = 0, users: int = 80, items: int = 40) -> Interactions:
    """Two tastes over a year; users come and go."""
    rng = np.random.default_rng(seed)
    met = rng.random((users, items)) < np.where((np.arange(users)[:, None] + np.arange(items)) % 2 == 0, 0.5, 0.05)
    user, item = np.nonzero(met)
    times = rng.integers(0, 365, len(user)) * 86_400 + rng.integers(0, 86_400, len(user))
    return Interactions.of(user, item, 1 + (user + item) % 5, times, n_users=users, n_items=items)


EASE = RecipeVersion.of(Ease(EaseConfig(l2=10.0)))


@pytest.mark.parametrize("min_users", [1, 10_000])
def test_nothing_that_is_asked_or_later_is_learnt_from(min_users: int) -> None:
    data = rows()
    trial = make_trial(data, min_users=min_users)
    wanted = {
        (int(trial.asked[row]), int(item))
        for row in range(len(trial.task))
        for item in trial.task.relevant.indices[trial.task.relevant.indptr[row] : trial.task.relevant.indptr[row + 1]]
    }
    learnt = trial.task.fit
    assert wanted.isdisjoint(zip(learnt.users.tolist(), learnt.items.tolist(), strict=True))
    assert len(wanted) + len(learnt) == len(data)
    times = dict(zip(zip(data.users.tolist(), data.items.tolist(), strict=True), data.timestamps.tolist(), strict=True))
    for user, item in wanted:
        own = learnt.timestamps[learnt.users == user]
        assert (own <= times[user, item]).all()
    if min_users == 1:
        assert learnt.timestamps.max() < min(times[pair] for pair in wanted)


def test_a_temporal_split_with_too_few_users_gives_way_to_the_last_rating_of_each() -> None:
    data = rows()
    enough = make_trial(data, min_users=1)
    assert (enough.protocol, enough.too_small) == ("temporal", None)
    users = int(enough.warm.sum())
    assert make_trial(data, min_users=users).protocol == "temporal"
    small = make_trial(data, min_users=users + 1)
    assert small.protocol == "leave-last-out"
    assert small.too_small == f"the temporal split has {users} users with a past, fewer than {users + 1}"


@pytest.mark.parametrize("min_users", [1, 10_000])
def test_rows_of_an_older_state_may_be_learnt_from_only_before_the_cut(min_users: int) -> None:
    data = rows()
    trial = make_trial(data, min_users=min_users)
    allowed = trial.may_learn(data)
    learnt = set(zip(trial.task.fit.users.tolist(), trial.task.fit.items.tolist(), strict=True))
    kept = data.take(allowed)
    assert set(zip(kept.users.tolist(), kept.items.tolist(), strict=True)) == learnt


def test_an_older_state_that_differs_only_after_the_cut_is_the_same_to_the_trial() -> None:
    data = rows()
    trial = make_trial(data, min_users=1)
    cut = Temporal().cut(data)
    earlier = data.take(data.timestamps < cut + 5 * 86_400)
    assert len(earlier) < len(data)
    assert trial.same_as_older(earlier)
    assert not trial.same_as_older(data.take(data.timestamps < cut - 5 * 86_400))
    other_stars = Interactions.of(
        data.users, data.items, 6 - data.ratings, data.timestamps, n_users=data.n_users, n_items=data.n_items
    )
    assert not trial.same_as_older(other_stars)


def test_the_same_recipe_gives_the_same_figures_and_the_same_digest() -> None:
    data = rows()
    first, second = (make_trial(data, min_users=1) for _ in range(2))
    assert first.digest() == second.digest()
    one, two = (trial.judge(trial.fit(EASE, seed=1)) for trial in (first, second))
    assert np.array_equal(one.ndcg, two.ndcg, equal_nan=True)
    assert first.digest() != make_trial(rows(seed=1), min_users=1).digest()


def test_a_recipe_on_half_of_the_older_rows_is_judged_on_the_same_users() -> None:
    data = rows()
    trial = make_trial(data, min_users=1)
    full = trial.judge(trial.fit(EASE, seed=0))
    fewer = trial.on_older(data.take(np.arange(len(data)) % 4 == 0))
    half = fewer.judge(fewer.fit(EASE, seed=0))
    assert half.ndcg.shape == full.ndcg.shape
    assert np.nanmean(half.ndcg[trial.warm]) < np.nanmean(full.ndcg[trial.warm])


def test_films_met_since_are_recommended_by_neither() -> None:
    data = rows()
    trial = make_trial(data, min_users=1)
    fewer = trial.on_older(data.take(np.arange(len(data)) % 4 == 0))
    lists = judge(fewer.fit(RecipeVersion.of(Popularity()), seed=0), fewer.task, ("ndcg_10",)).lists
    met = trial.task.fit.matrix().toarray() > 0
    assert not met[trial.asked[:, None], np.maximum(lists, 0)][lists >= 0].any()


@pytest.mark.parametrize("min_users", [1, 10_000])
def test_a_recipe_with_features_is_judged_with_those_known_at_the_moment_of_asking(min_users: int) -> None:
    interactions, _ = two_tastes()
    features = features_of(interactions)
    n = interactions.n_users
    times = np.repeat([0, 10**9], n)
    history = FeatureHistory.of(
        np.tile(np.arange(n), 2), times, np.repeat([[1.0, 2.0], [9.0, 9.0]], n, axis=0), features.user_names
    )
    trial = make_trial(interactions, features, history, min_users=min_users)
    assert trial.task.user_features is not None
    if min_users == 1:
        assert (trial.task.user_features == [1.0, 2.0]).all()
    recipe = RecipeVersion.of(NeuMF(NeuMFConfig(epochs=1, batch_size=256)))
    judged = trial.judge(trial.fit(recipe, seed=0))
    assert not np.isnan(judged.ndcg[trial.warm]).any()
    fewer = trial.on_older(interactions.take(np.arange(len(interactions)) % 2 == 0))
    assert fewer.judge(fewer.fit(recipe, seed=0)).ndcg.shape == judged.ndcg.shape


def test_new_films_are_the_last_tenth_to_come_and_the_unrated() -> None:
    times = np.arange(20) * 100
    fit = Interactions.of(np.zeros(20), np.arange(20), None, times, n_items=22)
    assert np.flatnonzero(new_films(fit)).tolist() == [18, 19, 20, 21]


def test_found_new_films_are_counted_for_each_user() -> None:
    data = rows()
    trial = make_trial(data, min_users=1)
    judged = trial.judge(trial.fit(RecipeVersion.of(Popularity()), seed=0))
    assert (judged.found_new <= trial.relevant_new).all()


def test_a_recipe_is_its_name_its_settings_and_its_code() -> None:
    other = RecipeVersion.of(Ease(EaseConfig(l2=11.0)))
    assert EASE.digest != other.digest
    assert EASE.digest != RecipeVersion(EASE.name, EASE.settings, "another").digest
    assert EASE.make().config == EaseConfig(l2=10.0)
    assert RecipeVersion(EASE.name, EASE.settings, "another").present() == EASE
    assert RecipeVersion.of(NeuMF()).make().config == NeuMFConfig()


def test_a_recipe_that_the_code_no_longer_has_says_so() -> None:
    with pytest.raises(RecommenderError, match="has no setting strength"):
        RecipeVersion("ease", {"strength": 1.0}, "code").make()
    with pytest.raises(RecommenderError, match="unknown recommender 'oracle'"):
        RecipeVersion("oracle", {}, "code").present()


def test_figures_come_back_from_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    kept = Figures(np.array([0.5, np.nan]), np.array([1.0, np.nan]))
    kept.save(tmp_path / "figures.npz")
    found = Figures.load(tmp_path / "figures.npz")
    assert np.array_equal(found.ndcg, kept.ndcg, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.npz"]
