from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from models.algorithms.ials import Als, AlsConfig
from models.algorithms.rating.base import Forecast
from models.algorithms.rating.bayesian_mf import BayesianMF, BayesianMFConfig
from models.algorithms.rating.gibbs import Prior, Rated, Whims
from models.algorithms.rating.side_information import (
    Activity,
    directions_of_meetings,
    directions_of_table,
    latest_user_values,
    unit_rows,
)
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent
from models.evaluation.benchmarks import RatingProblem, read_problem
from models.registry import load_recommender
from models.runtime.errors import RecommenderError

SMALL = BayesianMFConfig(factors=3, burn_in=30, samples=40, meetings=5)
N_USERS, N_ITEMS, HELD_USERS = 150, 60, 20
#: Films without a rating, of the liked and of the disliked genre.
UNRATED = (N_ITEMS, N_ITEMS + 1)


@dataclass(frozen=True)
class World:
    """Stars from a model of two tastes, biases, a liked genre, and users who are exact or whimsical."""

    fit: Interactions
    held: Interactions
    strangers: Interactions
    features: TrainingFeatures
    whimsical: np.ndarray


def _rows(users: np.ndarray, items: np.ndarray, stars: np.ndarray, part: np.ndarray) -> Interactions:
    return Interactions.of(users[part], items[part], stars[part], n_users=N_USERS, n_items=N_ITEMS + 2)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(5)
    tastes, films = rng.normal(size=(N_USERS, 2)) * 0.6, rng.normal(size=(N_ITEMS, 2))
    liked = np.arange(N_ITEMS) % 2 == 0
    means = 3.3 + rng.normal(size=(N_USERS, 1)) * 0.3 + np.where(liked, 0.7, -0.7) + tastes @ films.T
    whimsical = np.arange(N_USERS) % 3 == 0
    stars = means + rng.normal(size=means.shape) * np.where(whimsical, 0.9, 0.3)[:, None]
    users, items = np.nonzero(rng.random(means.shape) < 0.6)
    values = stars[users, items]
    strange, held = users >= N_USERS - HELD_USERS, rng.random(len(users)) < 0.25
    fit = _rows(users, items, values, ~strange & ~held)
    genres = pl.DataFrame(
        {"item": np.arange(N_ITEMS + 2), "word": ["genre:Liked" if i % 2 == 0 else "genre:Not" for i in range(62)]}
    )
    content = ItemContent.of(genres, np.full(N_ITEMS + 2, 1990, dtype=np.float32))
    features = TrainingFeatures(np.empty((len(fit), 0), dtype=np.float32), (), (), content)
    return World(
        fit, _rows(users, items, values, ~strange & held), _rows(users, items, values, strange), features, whimsical
    )


@pytest.fixture(scope="module")
def fitted(world: World) -> BayesianMF:
    return BayesianMF(SMALL).fit(world.fit, world.features, seed=1)


def _rmse(predicted: np.ndarray, rows: Interactions) -> float:
    return float(np.sqrt(np.mean((predicted - rows.ratings) ** 2)))


def _batch(items: list[int], stars: list[float]) -> UserBatch:
    history = csr_array((np.array(stars, dtype=np.float32), (np.zeros(len(items), int), items)), (1, N_ITEMS + 2))
    return UserBatch(np.array([-1]), history)


def test_held_out_stars_are_predicted_nearly_as_well_as_their_noise_allows(world: World, fitted: BayesianMF) -> None:
    predicted = fitted.predict(world.held.users, world.held.items)
    exact = ~world.whimsical[world.held.users]
    assert _rmse(predicted[exact], world.held.take(exact)) < 0.3 * 1.25
    als = Als(AlsConfig(factors=2)).fit(world.fit, seed=1)
    assert _rmse(predicted, world.held) < _rmse(als.predict(world.held.users, world.held.items), world.held) - 0.02


def test_the_interval_holds_as_many_ratings_as_it_says(world: World, fitted: BayesianMF) -> None:
    forecast = fitted.forecast(world.held.users, world.held.items)
    np.testing.assert_allclose(forecast.mean, fitted.predict(world.held.users, world.held.items), rtol=1e-4, atol=1e-4)
    whimsical = world.whimsical[world.held.users]
    for level in (0.5, 0.8, 0.95):
        low, high = forecast.interval(level)
        inside = (world.held.ratings >= low) & (world.held.ratings <= high)
        # Some 1,200 ratings: two standard deviations of a share are .03, and .04 in a group.
        assert inside.mean() == pytest.approx(level, abs=0.05)
        for group in (whimsical, ~whimsical):
            assert inside[group].mean() == pytest.approx(level, abs=0.08)
    assert forecast.deviation[whimsical].mean() > 1.7 * forecast.deviation[~whimsical].mean()


def test_chances_and_intervals_of_a_forecast_are_those_of_the_normal_distribution() -> None:
    forecast = Forecast(np.array([3.7, 4.7], dtype=np.float32), np.array([1.0, 0.5], dtype=np.float32))
    np.testing.assert_allclose(forecast.chance_of(3.7), [0.5, 0.97725], atol=1e-4)
    low, high = forecast.interval(0.8)
    np.testing.assert_allclose(low, [3.7 - 1.28155, 4.7 - 0.64078], atol=1e-4)
    np.testing.assert_allclose(high, [3.7 + 1.28155, 4.7 + 0.64078], atol=1e-4)


def test_users_who_were_not_in_the_training_are_answered_from_their_history(world: World, fitted: BayesianMF) -> None:
    rows = world.strangers
    told = np.random.default_rng(0).random(len(rows)) < 0.7
    known = rows.take(told)
    history = csr_array((known.ratings, (known.users, known.items)), (N_USERS, N_ITEMS + 2))[N_USERS - HELD_USERS :]
    scores = fitted.score(UserBatch(np.full(HELD_USERS, -1), csr_array(history)))
    asked = rows.take(~told)
    personal = _rmse(scores[asked.users - (N_USERS - HELD_USERS), asked.items], asked)
    nameless = _rmse(fitted.predict(np.full(len(asked), -1), asked.items), asked)
    assert personal < 0.8 * nameless


def test_a_user_of_the_training_is_answered_as_a_stranger_with_the_same_history(
    world: World, fitted: BayesianMF
) -> None:
    mine = world.fit.take(world.fit.users == 7)
    stranger = fitted.score(_batch(mine.items.tolist(), mine.ratings.tolist()))[0]
    np.testing.assert_allclose(
        stranger, fitted.predict(np.full(N_ITEMS + 2, 7), np.arange(N_ITEMS + 2)), rtol=1e-3, atol=1e-3
    )


def test_a_new_rating_counts_at_once_and_in_its_direction(fitted: BayesianMF) -> None:
    before = fitted.score(_batch([2, 4], [4.0, 3.0]))[0]
    low, high = (fitted.score(_batch([2, 4, 6], [4.0, 3.0, stars]))[0] for stars in (1.0, 5.0))
    alike = fitted.similar(np.array([6]), 5)[0][0]
    assert (high[alike] > low[alike]).all()
    assert not np.array_equal(before, high)


def test_more_ratings_make_the_interval_narrower(fitted: BayesianMF) -> None:
    asked = np.array([[30, 31, 32, 33]])
    few, many = (
        fitted.forecast_batch(_batch(list(range(n)), [3.0 + 0.5 * (-1) ** i for i in range(n)]), asked) for n in (1, 25)
    )
    assert (many.deviation < few.deviation).all()


def test_a_film_without_a_rating_is_predicted_from_its_content(world: World, fitted: BayesianMF) -> None:
    assert world.fit.item_counts()[list(UNRATED)].tolist() == [0, 0]
    forecast = fitted.forecast([3, 3, 3], [*UNRATED, 0])
    assert forecast.mean[0] > forecast.mean[1] + 0.7
    assert forecast.deviation[0] > 1.5 * forecast.deviation[2]
    blind = BayesianMF(SMALL).fit(world.fit, seed=1).predict([3, 3], UNRATED)
    assert abs(blind[0] - blind[1]) < 0.4


def test_who_a_stranger_is_counts_before_his_first_rating() -> None:
    rng = np.random.default_rng(2)
    users, items = np.nonzero(rng.random((200, 30)) < 0.5)
    kind = np.arange(200) % 2
    stars = 3 + np.where(kind[users] == items % 2, 1.0, -1.0) + rng.normal(size=len(users)) * 0.3
    rows = Interactions.of(users, items, stars, n_users=200, n_items=30)
    features = TrainingFeatures(kind[users].astype(np.float32)[:, None], ("kind",), ())
    fitted = BayesianMF(SMALL).fit(rows, features, seed=0)
    blank = csr_array((2, 30), dtype=np.float32)
    scores = fitted.score(UserBatch(np.array([-1, -1]), blank, np.array([[0.0], [1.0]], dtype=np.float32)))
    even = np.arange(30) % 2 == 0
    assert scores[0, even].min() > scores[0, ~even].max()
    assert scores[1, ~even].min() > scores[1, even].max()


def test_a_loaded_one_forecasts_the_same(fitted: BayesianMF, world: World, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = load_recommender(tmp_path)
    assert isinstance(loaded, BayesianMF)
    pairs = world.held.users[:50], world.held.items[:50]
    np.testing.assert_array_equal(loaded.forecast(*pairs).deviation, fitted.forecast(*pairs).deviation)


def test_pairs_outside_the_training_are_refused(fitted: BayesianMF) -> None:
    with pytest.raises(RecommenderError, match="index outside"):
        fitted.predict([0], [N_ITEMS + 2])
    with pytest.raises(RecommenderError, match="index outside"):
        fitted.predict([N_USERS], [0])
    with pytest.raises(RecommenderError, match="index outside"):
        fitted.forecast_batch(_batch([1], [3.0]), [[N_ITEMS + 2]])


class TestDraws:
    def test_a_row_is_drawn_from_its_posterior(self) -> None:
        rng = np.random.default_rng(3)
        d, n, m = 3, 6_000, 5
        others, weights = rng.normal(size=(m, d)), rng.uniform(0.5, 3.0, m)
        stars, own = rng.normal(size=m), 1.7
        prior, expected = Prior((), d), rng.normal(size=d)
        prior.precision = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 3.0]])
        design = np.column_stack([np.ones(m), others[:, 1:]])
        precision = own * design.T @ (weights[:, None] * design) + prior.precision
        right = own * design.T @ (weights * (stars - others[:, 0])) + prior.precision @ expected
        # Every row has the same ratings, so that the rows are so many draws from one distribution.
        rated = Rated(csr_array(np.tile(stars.astype(np.float32), (n, 1))))
        drawn = rated.draw(others, weights, np.full(n, own), prior, np.tile(expected, (n, 1)), rng)
        np.testing.assert_allclose(drawn.mean(axis=0), np.linalg.solve(precision, right), atol=0.03)
        np.testing.assert_allclose(np.cov(drawn.T), np.linalg.inv(precision), atol=0.02)

    def test_a_prior_finds_the_weights_and_the_precision_that_made_the_vectors(self) -> None:
        rng = np.random.default_rng(4)
        n, d = 3_000, 3
        table = rng.normal(size=(n, 4)).astype(np.float32)
        weights, mean = rng.normal(size=(4, d)), np.array([1.0, -2.0, 0.5])
        covariance = np.array([[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]])
        vectors = mean + table @ weights + rng.multivariate_normal(np.zeros(d), covariance, n)
        group = directions_of_table(table)
        prior = Prior([group], d)
        found = []
        for step in range(60):
            expected = prior.draw(vectors, rng)
            if step >= 20:
                found.append((group.basis @ prior.weights[0], prior.mean, np.linalg.inv(prior.precision)))
        for draws, truth in zip(zip(*found, strict=True), (weights, mean, covariance), strict=True):
            np.testing.assert_allclose(np.mean(draws, axis=0), truth, atol=0.05)
        np.testing.assert_allclose(expected, mean + table @ weights, atol=0.3)

    def test_whims_find_the_precision_of_each_user(self) -> None:
        rng = np.random.default_rng(6)
        truth = rng.gamma(5.0, 1 / 2.5, 500)
        counts = np.full(500, 200)
        squares = rng.chisquare(counts) / truth
        whims, found, shapes = Whims(500), [], []
        for step in range(300):
            whims.draw(counts, squares, rng)
            if step >= 100:
                found.append(whims.precision)
                shapes.append(whims.shape)
        assert np.corrcoef(np.mean(found, axis=0), truth)[0, 1] > 0.95
        assert np.mean(shapes) == pytest.approx(5.0, abs=1.5)

    def test_relative_whims_keep_their_mean_at_one(self) -> None:
        rng = np.random.default_rng(7)
        truth = rng.gamma(8.0, 1 / 8.0, 400)
        counts = np.where(np.arange(400) < 380, 150, 0)
        squares = np.where(counts > 0, rng.chisquare(150, 400) / truth, 0.0)
        whims, found = Whims(400, relative=True), []
        for step in range(300):
            whims.draw(counts, squares, rng)
            if step >= 100:
                found.append(whims.precision)
        means = np.mean(found, axis=0)
        assert np.corrcoef(means[:380], truth[:380])[0, 1] > 0.9
        assert means[380:].mean() == pytest.approx(1.0, abs=0.05)


class TestSideInformation:
    def test_directions_turn_their_own_rows_into_their_coordinates(self) -> None:
        rng = np.random.default_rng(0)
        table = rng.normal(size=(50, 6)).astype(np.float32)
        table[:, 5] = table[:, 0] + table[:, 1]
        found = directions_of_table(table)
        assert found.coordinates.shape == (50, 5)
        np.testing.assert_allclose(table @ found.basis, found.coordinates, atol=1e-4)
        products = found.coordinates.T @ found.coordinates
        np.testing.assert_allclose(products, np.diag(found.squares), atol=1e-8)
        np.testing.assert_allclose(found.coordinates @ found.basis.T, table, atol=1e-4)

    @pytest.mark.parametrize("rank", [4, 30])
    def test_meetings_keep_their_strongest_directions(self, rank: int) -> None:
        met = csr_array((np.random.default_rng(1).random((60, 40)) < 0.3).astype(np.float32))
        found = directions_of_meetings(met, rank)
        assert found.coordinates.shape == (60, rank)
        np.testing.assert_allclose(unit_rows(met) @ found.basis, found.coordinates, atol=1e-4)
        values = np.linalg.svd(unit_rows(met).toarray(), compute_uv=False)
        np.testing.assert_allclose(np.sqrt(found.squares), values[:rank], rtol=1e-4)
        again = directions_of_meetings(met, rank)
        np.testing.assert_array_equal(again.coordinates, found.coordinates)

    def test_what_was_known_last_of_a_user_counts(self) -> None:
        rows = Interactions.of([2, 0, 2], [0, 0, 1], timestamps=[9, 1, 5], n_users=3, n_items=2)
        features = TrainingFeatures(np.array([[7.0], [1.0], [5.0]], dtype=np.float32), ("age",), ())
        np.testing.assert_array_equal(latest_user_values(rows, features), np.array([[1.0], [np.nan], [7.0]]))

    def test_activity_is_measured_on_the_trainings_scale(self) -> None:
        activity = Activity.of(np.array([0, 9, 99]))
        columns = activity.columns(np.array([9, 10**9]))
        assert columns[0, 0] == pytest.approx(0.0, abs=1e-6)
        assert columns[1].tolist() == [3.0, 8.0]


class TestLeaks:
    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Path]:
        """Two parts of ml-latest-small's layout with a tag for each rating, whose words name the pair."""
        codes = np.random.default_rng(0).choice(30 * 40, 600, replace=False)
        rows = [(1 + c // 40, c % 40, 1 + c % 5, 1_000 + t) for t, c in enumerate(codes.tolist())]
        tags = [f"{user},{film},pair {user} {film},{time}" for user, film, _, time in rows]
        (tmp_path / "tags.csv").write_text("\n".join(["userId,movieId,tag,timestamp", *tags]))
        films = [f"{film},Film (1990),Drama" for film in range(40)]
        (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
        header = "userId,movieId,rating,timestamp"
        parts = {"train": rows[:500], "test": rows[500:], "ratings": rows}
        for name, part in parts.items():
            (tmp_path / f"{name}.csv").write_text("\n".join([header, *(",".join(map(str, row)) for row in part)]))
        return {name: tmp_path / f"{name}.csv" for name in parts}

    def test_the_stars_to_predict_change_no_prediction(self, files: dict[str, Path]) -> None:
        wanted = {kind: files[kind] for kind in ("train", "test")}
        predicted = []
        for turned in (False, True):
            if turned:
                rows = [line.split(",") for line in files["test"].read_text().splitlines()]
                lines = [",".join([*row[:2], str(6 - int(row[2])), row[3]]) for row in rows[1:]]
                files["test"].write_text("\n".join([",".join(rows[0]), *lines]))
            problem = read_problem("rating", wanted)
            assert isinstance(problem, RatingProblem)
            (task,) = problem.cut(1)
            model = BayesianMF(SMALL).fit(task.fit, task.features, seed=1)
            predicted.append((model.predict(task.test.users, task.test.items), task.test.ratings))
        assert not np.array_equal(predicted[0][1], predicted[1][1])
        np.testing.assert_array_equal(predicted[0][0], predicted[1][0])

    @pytest.mark.parametrize("protocol", ["rating", "rating-5-fold"])
    def test_no_rating_protocol_tells_a_tag_of_what_is_to_be_predicted(
        self, files: dict[str, Path], protocol: str
    ) -> None:
        kinds = ("train", "test") if protocol == "rating" else ("ratings",)
        for task in read_problem(protocol, {kind: files[kind] for kind in kinds}).cut(2):  # type: ignore[union-attr]
            assert task.features is not None
            content = task.features.item_content
            assert content is not None
            told = [name.split()[1:] for name in content.names if name.startswith("tag:")]
            # Users are indices by their ids, which begin with 1; so are films, all of which are rated.
            codes = {(int(user) - 1) * task.fit.n_items + int(film) for user, film in told}
            assert codes
            assert not codes & set(task.test.codes().tolist())
