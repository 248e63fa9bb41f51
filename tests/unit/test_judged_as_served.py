"""A recommender is asked alike by the gate, by the comparison, by the service and by the mart of all users' lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bento.bundles import hot_reload as following
from bento.features.online_store import UserFeatures
from bento.recommendation.scoring import Person, scored_each
from bento.schemas.recommendations import Met
from models.algorithms.popularity import Popularity
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.comparison import LeaveLastOutEvaluation
from models.promotion.backtest import Trial, make_trial
from models.registry import configured
from models.runtime.errors import RecommenderError
from models.serving.bundle import Bundle, FeatureSet, load_bundle, write_bundle
from orchestration.analytics.batch_recommendations import write_suggestions
from settings import BARS, RECIPES
from tests.unit.models.examples import ITEMS, USERS, content_of_tastes, two_tastes

#: One step of each fit, and small layers.
TINY: dict[str, dict[str, Any]] = {
    "ials": {"factors": 4, "sweeps": 1},
    "bpr": {"factors": 4, "epochs": 1},
    "neumf": {"epochs": 1, "patience": 0, "batch_size": 256},
    "flagship": {"factors": 4, "hidden": 8, "epochs": 1, "batch_size": 64, "min_items": 1, "ranker_epochs": 2},
}
#: What a batch may lack.
OPTIONAL = ("user_features", "item_features", "history_times")
#: From here on users come after all others have gone.
NEWCOMER, LATER = USERS - 3, 20 * 86_400


@dataclass(frozen=True)
class Data:
    """Interactions with features that are one person's or movie's whatever the moment, so that all paths see the same.

    ``of_users`` float32[USERS, 2] are the features of each user.
    """

    interactions: Interactions
    features: TrainingFeatures
    of_users: NDArray[np.float32]

    @property
    def user_history(self) -> FeatureHistory:
        since = np.where(np.arange(USERS) >= NEWCOMER, LATER, 0)
        return FeatureHistory.of(np.arange(USERS), since, self.of_users, self.features.user_names)


class Online:
    """An online store that holds the features of every user, opened as the service opens its own."""

    is_server = False

    def __init__(self, of_users: NDArray[np.float32], wanted: FeatureSet) -> None:
        self._of_users, self._wanted = of_users, wanted

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        return [UserFeatures(self._of_users[key - 500], (), datetime(2020, 1, 1, tzinfo=UTC)) for key in user_keys]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    rows, _ = two_tastes()
    late = rows.users >= NEWCOMER
    stamps = rows.timestamps + np.where(late, LATER, 0)
    rows = Interactions.of(rows.users, rows.items, rows.ratings, stamps, n_users=USERS, n_items=ITEMS)
    of_users = rng.normal(size=(USERS, 2)).astype(np.float32)
    length = FeatureHistory.of(np.arange(ITEMS), np.full(ITEMS, -1), rng.normal(size=(ITEMS, 1)), ["length"])
    features = TrainingFeatures(of_users[rows.users], ("age", "mood"), (length,), content_of_tastes(ITEMS))
    return Data(rows, features, of_users)


@dataclass
class Recipe:
    """A recipe fitted on all but each user's last rating, and the bundle that is served of it."""

    fitted: Recommender
    evaluation: LeaveLastOutEvaluation
    trial: Trial
    temporal: Trial
    folder: Path


@pytest.fixture(scope="module", params=dict.fromkeys((*BARS, *RECIPES)))
def recipe(request: pytest.FixtureRequest, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    fitted = configured(request.param, TINY.get(request.param, {}))
    evaluation = LeaveLastOutEvaluation.prepare(data.interactions, data.features, seed=1)
    evaluation.fit(fitted, seed=1)
    trials = [make_trial(data.interactions, data.features, data.user_history, min_users=n) for n in (USERS + 1, 1)]
    known = trials[0].task.fit
    folder = tmp_path_factory.mktemp(request.param)
    version = write_bundle(
        folder,
        recommender=fitted,
        popularity=Popularity().fit(known),
        items=pl.DataFrame(
            {
                "movie_key": range(900, 900 + ITEMS),
                "movie_id": range(100, 100 + ITEMS),
                "title": [f"Movie {item}" for item in range(ITEMS)],
                "year": [1980] * ITEMS,
                "genres": [["Drama"]] * ITEMS,
                "imdb_id": [None] * ITEMS,
                "link_url": ["https://example.org"] * ITEMS,
                "link_kind": ["imdb_title"] * ITEMS,
                "rating_count": known.item_counts(),
            }
        ),
        users=pl.DataFrame({"user_id": range(USERS), "user_key": range(500, 500 + USERS)}),
        interactions=known,
        item_features=data.features.items_as_of(np.arange(ITEMS), np.zeros(ITEMS)),
        features=FeatureSet("service", "abc", ("user_features__age", "user_features__mood"), ("length",)),
    )
    return Recipe(fitted, evaluation, *trials, folder / version)


@dataclass
class Asked:
    """The batches that a recommender was asked with, and its scores of each user by index."""

    batches: list[UserBatch]
    scores: dict[int, NDArray[np.float32]]

    def of(self, user: int) -> UserBatch:
        """Return the batch with a user in it, cut to that user."""
        for batch in self.batches:
            for row in np.flatnonzero(batch.users == user):
                return batch.take(slice(int(row), int(row) + 1))
        raise AssertionError(f"user {user} was not asked for")


@contextmanager
def recorded(recommender: Recommender) -> Iterator[Asked]:
    """Note what a recommender is asked with, whichever way it scores."""
    asked = Asked([], {})
    score = recommender.score

    def noted(batch: UserBatch) -> NDArray[np.float32]:
        asked.batches.append(batch)
        found = score(batch)
        asked.scores |= {int(user): np.array(row) for user, row in zip(batch.users, found, strict=True)}
        return found

    def noted_each(batches: Sequence[UserBatch]) -> NDArray[np.float32]:
        return np.concatenate([noted(batch) for batch in batches])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "score", noted)
        if hasattr(recommender, "score_each"):
            patch.setattr(recommender, "score_each", noted_each)
        yield asked


def by_gate(recipe: Recipe, trial: Trial) -> Asked:
    with recorded(recipe.fitted) as asked:
        trial.judge(recipe.fitted)
    return asked


def by_comparison(recipe: Recipe) -> Asked:
    with recorded(recipe.fitted) as asked:
        recipe.evaluation.judge(recipe.fitted)
    return asked


def by_service(recipe: Recipe, data: Data, people: Sequence[Person]) -> Asked:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "OnlineUserFeatures", lambda _, wanted: Online(data.of_users, wanted))
        served = following.load_served(recipe.folder, recipe.folder)
    with recorded(served.bundle.recommender) as asked:
        scored_each(served, people)
    return asked


def by_mart(recipe: Recipe, data: Data, path: Path) -> Asked:
    bundle: Bundle = load_bundle(recipe.folder)
    keys = np.arange(500, 500 + USERS)
    columns = {name: data.of_users[:, place] for place, name in enumerate(data.features.user_names)}
    with recorded(bundle.recommender) as asked:
        write_suggestions(bundle, pl.DataFrame({"user_key": keys, **columns}), keys, path)
    return asked


def that_count(recommender: Recommender, batch: UserBatch) -> set[str]:
    """Return the optional fields without which the scores of a batch change or cannot be computed."""
    scores, found = recommender.score(batch), set()
    for field in OPTIONAL:
        try:
            same = np.array_equal(recommender.score(replace(batch, **{field: None})), scores)
        except RecommenderError:
            same = False
        if not same:
            found.add(field)
    return found


def test_every_path_asks_for_a_known_user_with_all_that_counts(recipe: Recipe, data: Data, tmp_path: Path) -> None:
    """The same state of the same users is asked about four times: fields, stars and scores are the same."""
    paths = {
        "gate": by_gate(recipe, recipe.trial),
        "comparison": by_comparison(recipe),
        "service": by_service(recipe, data, [Person(user) for user in range(USERS)]),
        "mart": by_mart(recipe, data, tmp_path / "lists.parquet"),
    }
    counts = that_count(recipe.fitted, paths["gate"].batches[0])
    assert "user_features" in counts or not recipe.fitted.uses_features
    for path, asked in paths.items():
        lacking = {field for batch in asked.batches for field in counts if getattr(batch, field) is None}
        assert not lacking, f"the {path} asks without {lacking}"
        assert sorted(asked.scores) == list(range(USERS)), path
        for user in range(0, USERS, 7):
            ours, judged = asked.of(user).history, paths["gate"].of(user).history
            np.testing.assert_array_equal(ours.toarray(), judged.toarray(), err_msg=path)
        for user, scores in asked.scores.items():
            np.testing.assert_allclose(scores, paths["gate"].scores[user], rtol=1e-3, atol=1e-4, err_msg=path)


def test_the_gate_and_the_service_ask_alike_for_a_user_that_the_fit_lacks(recipe: Recipe, data: Data) -> None:
    """Nothing is known of a newcomer's features: both say so, or leave them out, to the same scores."""
    if recipe.fitted.name in ("bpr", "neumf"):
        assert not recipe.fitted.uses_history
        return
    judged = by_gate(recipe, recipe.temporal).of(-1)
    met = [Met(movie_id=100 + item, rating=4.0) for item in (3, 1, 2)]
    served = by_service(recipe, data, [Person(None, met)]).of(-1)
    counts = that_count(recipe.fitted, replace(served, user_features=data.of_users[:1]))
    for field in counts:
        assert getattr(judged, field) is not None
        assert getattr(served, field) is not None
    if "user_features" in counts:
        assert np.isnan(judged.user_features).all()
        assert np.isnan(served.user_features).all()
