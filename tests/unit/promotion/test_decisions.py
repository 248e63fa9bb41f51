"""The gate on real folders: first run, refresh, challenger, refusal, changed code, and going back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bento.bundles.hot_reload import ServedBundle
from bento.store import users as people
from bento.store.database import Store
from bento.store.tables import APP
from models.algorithms.ease import Ease, EaseConfig
from models.algorithms.itemknn import ItemKnn, ItemKnnConfig
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bayesian_mf import BayesianMF
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.comparison import LeaveLastOutEvaluation
from models.promotion.backtest import Figures, RecipeVersion, Trial
from models.runtime.progress import Progress
from models.serving.bundle import Bundle, FeatureSet, is_held, load_bundle, read_former, read_pointer, write_pointer
from orchestration.defs.training.assets import save_whole
from orchestration.maintenance.__main__ import main
from orchestration.maintenance.errors import UpkeepError
from orchestration.maintenance.rollback import release, roll_back
from orchestration.promotion.decisions import (
    PromotionError,
    Space,
    decision_file,
    digest_of,
    fit_data,
    fitted_folder,
    gate_file,
    history_of,
    judge_candidates,
    make_bundle,
    pointer_is_behind,
    promote,
    read_decision,
    recipe_of,
    replay,
    served_now,
    spoken_decision,
    weights_stay,
    write_decision,
)
from orchestration.training.dataset import TRAINING_FILE, TrainingData, item_content
from settings import Settings

POPULARITY = RecipeVersion.of(Popularity())
EASE = RecipeVersion.of(Ease(EaseConfig(l2=10.0)))
KNN = RecipeVersion.of(ItemKnn())
DAY = 86_400
USERS, FILMS = 120, 40


def tastes(days: int = 300, *, first_film: int = 0, films: int = FILMS, seed: int = 0) -> TrainingData:
    """Two tastes over some days: who likes even films and who likes odd ones. A user's rows spread over all of it."""
    rng = np.random.default_rng(seed)
    liked = (np.arange(USERS)[:, None] + np.arange(first_film, first_film + films)) % 2 == 0
    user, item = np.nonzero(rng.random((USERS, films)) < np.where(liked, 0.6, 0.05))
    times = rng.integers(0, 300, len(user)) * DAY
    kept = times < days * DAY
    return data_of(user[kept], item[kept], times[kept], first_film=first_film, films=films)


def data_of(
    user: np.ndarray, item: np.ndarray, times: np.ndarray, *, first_film: int = 0, films: int = FILMS
) -> TrainingData:
    order = np.lexsort((item, times, user))
    interactions = Interactions.of(
        user[order], item[order], np.full(len(user), 4.0), times[order], n_users=USERS, n_items=films
    )
    keys = np.arange(first_film, first_film + films) + 900
    items = pl.DataFrame(
        {
            "movie_key": keys,
            "movie_id": pl.Series(keys - 800, dtype=pl.Int32),
            "movie_ids": [[int(key) - 800] for key in keys],
            "title": [f"Film {key}" for key in keys],
            "year": pl.Series([1990] * films, dtype=pl.Int32),
            "genres": [["Drama"]] * films,
            "imdb_id": [f"tt{key:07d}" for key in keys],
            "link_url": [f"https://example.org/{key}" for key in keys],
            "link_kind": ["imdb_title"] * films,
            "rating_count": interactions.item_counts(),
        }
    )
    return TrainingData(
        items=items,
        users=pl.DataFrame({"user_id": np.arange(USERS) + 1, "user_key": np.arange(USERS) + 500}),
        interactions=interactions,
        features=TrainingFeatures(
            np.zeros((len(user), 1), dtype=np.float32),
            ("age",),
            (FeatureHistory.of(np.arange(films), np.zeros(films), (keys / 1000.0)[:, None], ["length"]),),
            item_content(items),
        ),
        user_history=FeatureHistory.of(np.arange(USERS), np.zeros(USERS), np.zeros((USERS, 1)), ["age"]),
    )


@dataclass
class Home:
    """A home in which the assets from the gate to the pointer run one after the other, without Dagster."""

    settings: Settings
    snapshot: str = "first"
    service_hash: str = "abc"
    rating: BayesianMF | None = None
    #: Called between the asset `fitted_model` and the asset `model_bundle`.
    on_fitted: Callable[[], None] = lambda: None

    def decide(self, data: TrainingData, *recipes: RecipeVersion) -> dict[str, Any]:
        """Run what the asset `gate` does and return its decision."""
        outcome = judge_candidates(self.settings, data, recipes, served_now(self.settings), tell=lambda _: None)
        write_decision(self.settings, outcome, {"data": self.snapshot}, [])
        return read_decision(gate_file(self.settings))

    def follow(self, data: TrainingData) -> str:
        """Run the assets `fitted_model`, `model_bundle` and `promoted_model`; return the version served then."""
        decision = read_decision(gate_file(self.settings))
        if not weights_stay(decision):
            source = fit_data(self.settings, decision, data)
            fitted = recipe_of(decision).make().fit(source.interactions, source.features)
            save_whole(fitted, fitted_folder(self.settings), source.note)
        self.on_fitted()
        version = make_bundle(
            self.settings,
            decision,
            data,
            features=FeatureSet("service", self.service_hash, ("age",), ("length",), f"{data.snapshot_time}"),
            data_snapshot={"tables": self.snapshot},
            evaluation={"rows": []},
            rating=self.rating,
        )
        write_pointer(self.settings.models / "built.json", version)
        return promote(self.settings, version, tell=lambda _: None)

    def run(self, data: TrainingData, *recipes: RecipeVersion, snapshot: str = "first") -> tuple[dict[str, Any], str]:
        """All of them: the decision and the version that is served."""
        self.snapshot = snapshot
        decision = self.decide(data, *recipes)
        return decision, self.follow(data)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    # No user is new here, so that the temporal split is large enough to judge by.
    return Home(Settings(home=tmp_path, gate_min_users=50, recipes=()))


def test_the_first_run_promotes_the_best_and_says_why(home: Home) -> None:
    decision, version = home.run(tastes(), POPULARITY, EASE)
    assert (decision["way"], decision["promoted"]) == ("first", True)
    assert recipe_of(decision) == EASE
    assert load_bundle(home.settings.models / version).recommender.name == "ease"
    assert decision["trial"]["protocol"] == "temporal"
    assert decision["trial"]["warm_users"] > 50
    assert decision["lineage"] == {"data": "first"}
    assert read_decision(decision_file(home.settings, version)) == decision
    assert EASE.label in spoken_decision(home.settings)[0]


def test_where_too_few_users_have_a_past_the_last_rating_of_each_decides_and_the_decision_says_so(home: Home) -> None:
    home.settings = home.settings.model_copy(update={"gate_min_users": USERS + 1})
    decision, _ = home.run(tastes(), POPULARITY, EASE)
    assert decision["trial"]["protocol"] == "leave-last-out"
    assert "users with a past, fewer than 121" in decision["notes"][0]
    assert recipe_of(decision) == EASE


def test_the_same_run_again_ties_and_changes_nothing(home: Home) -> None:
    data = tastes()
    first, version = home.run(data, POPULARITY, EASE)
    again, served = home.run(data, POPULARITY, EASE)
    assert (again["way"], again["promoted"]) == ("refresh", True)
    assert served == version
    assert digest_of(again) == digest_of(first)
    assert any("a refresh ties" in note for note in again["notes"])


def test_a_refresh_with_newer_ratings_that_ties_is_promoted_with_newer_weights(home: Home) -> None:
    _, before = home.run(tastes(days=292), POPULARITY, EASE)
    decision, after = home.run(tastes(), POPULARITY, EASE, snapshot="second")
    assert (decision["way"], decision["promoted"]) == ("refresh", True)
    assert after != before
    assert load_bundle(home.settings.models / after).manifest["data_snapshot"] == {"tables": "second"}


def broken(days: int = 300) -> TrainingData:
    """Return the rows with the movies shuffled in all but the last tenth of the time, as by a join that went wrong."""
    good = tastes(days)
    rows = good.interactions
    cut = np.quantile(rows.timestamps, 0.9)
    films = np.where(rows.timestamps < cut, np.random.default_rng(1).permutation(rows.items), rows.items)
    codes, first = np.unique(rows.users.astype(np.int64) * FILMS + films, return_index=True)
    return data_of(codes // FILMS, codes % FILMS, rows.timestamps[first])


def test_a_refresh_whose_data_make_the_recipe_worse_is_refused_and_the_old_weights_stay(home: Home) -> None:
    good = tastes()
    _, before = home.run(good, EASE)
    weights = load_bundle(home.settings.models / before).recommender
    renamed = replace(broken(), items=good.items.with_columns(title=pl.lit("Renamed")))
    decision, after = home.run(renamed, EASE, snapshot="second")
    assert (decision["way"], decision["promoted"], decision["keeps"]) == ("refresh", False, before)
    assert "the newer data make" in decision["reasons"][0]
    kept = load_bundle(home.settings.models / after)
    assert after != before
    assert set(kept.items["title"]) == {"Renamed"}
    assert "title:renamed" in _words(kept)
    # What it was trained on is what it says, and its answers are the same.
    assert kept.manifest["data_snapshot"] == {"tables": "first"}
    batch = kept.batch(range(USERS))
    assert np.array_equal(kept.recommender.score(batch), weights.score(batch))
    assert read_pointer(home.settings.serving_pointer) == after


def _words(bundle: Bundle) -> list[str]:
    """Return the words of a bundle's content that its first movie has."""
    assert bundle.content is not None
    told = bundle.content.word_weights(bundle.batch([0]), np.array([0]))
    assert told is not None
    return list(told.names)


def test_a_promoted_bundle_orders_the_films_by_their_words_too_where_these_are_known(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    assert _words(load_bundle(home.settings.models / version)) == ["decade:1990", "genre:Drama", "title:film"]
    known = tastes(seed=1)
    wordless = replace(known, features=replace(known.features, item_content=None))
    decision = home.decide(tastes(), EASE)
    for promoted in (True, False):
        gate_file(home.settings).write_text(json.dumps(decision | {"promoted": promoted, "keeps": version}))
        assert load_bundle(home.settings.models / home.follow(wordless)).content is None


def test_kept_weights_keep_the_words_of_films_that_the_catalogue_no_longer_has(home: Home) -> None:
    _, before = home.run(tastes(), EASE)
    decision = home.decide(tastes(), EASE)
    gate_file(home.settings).write_text(json.dumps(decision | {"promoted": False, "keeps": before}))
    kept = load_bundle(home.settings.models / home.follow(tastes(first_film=4, films=FILMS)))
    assert kept.items["movie_key"].to_list()[0] == 900
    assert _words(kept) == ["decade:1990", "genre:Drama", "title:film"]


def test_so_it_is_where_the_last_ratings_decide_although_the_candidate_is_fitted_already(home: Home) -> None:
    """The fitted candidate knows the newer data, so it must not stand for the recipe on the older ones."""
    home.settings = home.settings.model_copy(update={"gate_min_users": USERS + 1})
    _, before = home.run(tastes(), EASE)
    bad = broken()
    home.settings.features.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(home.settings.features / TRAINING_FILE, metadata={"fct_ratings": "bad"})
    folder = home.settings.evaluation / "ease"
    protocol = LeaveLastOutEvaluation.prepare(bad.interactions, bad.features, seed=home.settings.seed)
    fitted = EASE.make()
    protocol.fit(fitted, seed=home.settings.seed)
    fitted.save(folder)
    note = {"recipe": EASE.digest, "seed": home.settings.seed, "data": {"fct_ratings": "bad"}}
    (folder / "fit.json").write_text(json.dumps(note))
    decision, _ = home.run(bad, EASE, snapshot="second")
    assert (decision["trial"]["protocol"], decision["promoted"]) == ("leave-last-out", False)
    assert decision["keeps"] == before


def test_the_same_refusal_again_gives_the_same_bundle(home: Home) -> None:
    home.run(tastes(), EASE)
    bad = broken()
    first, version = home.run(bad, EASE, snapshot="second")
    again, served = home.run(bad, EASE, snapshot="second")
    assert (served, again["promoted"]) == (version, False)
    assert digest_of(again) == digest_of(first)


def test_after_a_refusal_good_data_are_let_in_again(home: Home) -> None:
    home.run(tastes(), EASE)
    home.run(broken(), EASE, snapshot="second")
    decision, version = home.run(tastes(), EASE, snapshot="third")
    assert decision["promoted"]
    assert load_bundle(home.settings.models / version).manifest["data_snapshot"] == {"tables": "third"}


def test_kept_weights_take_new_features_of_their_films_in_their_own_order(home: Home) -> None:
    """The newer catalogue begins with other films, so that a row in the wrong place would be seen."""
    _, before = home.run(tastes(), EASE)
    later = tastes(first_film=-3, films=FILMS + 3)
    decision = home.decide(tastes(), EASE)
    decision |= {"promoted": False, "keeps": before, "snapshot_kept": {}}
    gate_file(home.settings).write_text(json.dumps(decision))
    kept = load_bundle(home.settings.models / home.follow(later))
    assert kept.items["movie_key"].to_list() == [900 + film for film in range(FILMS)]
    assert kept.item_features is not None
    assert kept.item_features[:, 0] == pytest.approx(kept.items["movie_key"].to_numpy() / 1000.0)
    assert kept.items["rating_count"].to_list() == later.items["rating_count"].to_list()[3:]


def test_kept_weights_keep_their_features_where_these_mean_something_else_now(home: Home) -> None:
    data = tastes()
    _, before = home.run(data, EASE)
    decision = home.decide(data, EASE)
    gate_file(home.settings).write_text(json.dumps(decision | {"promoted": False, "keeps": before}))
    home.service_hash = "of another meaning"
    kept = load_bundle(home.settings.models / home.follow(data))
    assert kept.features.service_hash == "abc"


def ask_to_be_forgotten(home: Home, *user_ids: int) -> None:
    """Do what `DELETE /v1/users/{user_id}` does in the app's store."""
    store = Store(home.settings.app_store)
    try:
        with store.writing() as session:
            for user_id in user_ids:
                people.forget_user(session, people.Who(APP, user_id), datetime(2026, 1, 1, tzinfo=UTC))
    finally:
        store.close()


def without(data: TrainingData, *user_ids: int) -> TrainingData:
    """Return the data of a run after these users have left: no table has them any more."""
    stays = ~np.isin(np.arange(1, USERS + 1), user_ids)
    place = np.where(stays, np.cumsum(stays) - 1, -1)
    kept, rows = stays[data.interactions.users], data.interactions
    return replace(
        data,
        users=data.users.filter(pl.Series(stays)),
        interactions=replace(rows.take(kept), users=place[rows.users[kept]].astype(np.int32), n_users=int(stays.sum())),
        features=data.features.take(kept),
        user_history=FeatureHistory.of(
            np.arange(stays.sum()), np.zeros(stays.sum()), np.zeros((stays.sum(), 1)), ["age"]
        ),
    )


def rows_of(bundle: Bundle) -> set[tuple[int, int, int]]:
    """Who met what when, by the keys."""
    met = bundle.history.tocoo()
    users, items = bundle.users["user_key"].to_numpy()[met.row], bundle.items["movie_key"].to_numpy()[met.col]
    return set(zip(users.tolist(), items.tolist(), bundle.history_times.tolist(), strict=True))


def test_an_erasure_does_not_let_in_data_that_the_gate_refused(home: Home) -> None:
    """Somebody is trained on, others poison the data until these are refused, and then the first one leaves."""
    home.rating = fit_rating_head(tastes().interactions, seed=1)
    _, before = home.run(tastes(), EASE)
    known = rows_of(load_bundle(home.settings.models / before))
    poisoned, refused = home.run(broken(), EASE, snapshot="second")
    assert not poisoned["promoted"]
    ask_to_be_forgotten(home, 7)
    home.rating = fit_rating_head(without(broken(), 7).interactions, seed=1)
    decision, after = home.run(without(broken(), 7), EASE, snapshot="third")
    assert (decision["promoted"], decision["keeps"], recipe_of(decision)) == (False, refused, EASE)
    served = load_bundle(home.settings.models / after)
    assert 506 not in served.users["user_key"].to_list()
    assert rows_of(served) == {row for row in known if row[0] != 506}
    assert served.manifest["data_snapshot"] == {"tables": "first"}
    # All that is fitted is fitted on those rows alone.
    older = history_of(served, np.arange(USERS - 1), np.arange(FILMS), USERS - 1, FILMS)
    batch = served.batch(range(USERS - 1))
    np.testing.assert_allclose(served.recommender.score(batch), EASE.make().fit(older).score(batch), atol=1e-5)
    np.testing.assert_array_equal(served.popularity.score(batch), Popularity().fit(older).score(batch))
    assert isinstance(served.rating, BayesianMF)
    stars = fit_rating_head(older, seed=home.settings.seed)
    np.testing.assert_array_equal(served.rating.score(batch), stars.score(batch))
    assert "506" not in decision_file(home.settings, after).read_text()
    with np.load(decision_file(home.settings, after).with_suffix(".npz")) as figures:
        assert 506 not in figures["users"]


def test_after_an_erasure_the_gate_goes_on_from_the_weights_without_who_left(home: Home) -> None:
    home.run(tastes(), EASE)
    ask_to_be_forgotten(home, 7)
    bad = without(broken(), 7)
    _, after = home.run(bad, EASE, snapshot="second")
    again, same = home.run(bad, EASE, snapshot="second")
    assert (again["promoted"], again["keeps"], same) == (False, after, after)
    ask_to_be_forgotten(home, 7, 8, 9)
    bad = without(broken(), 7, 8, 9)
    third, fewer = home.run(bad, EASE, snapshot="second")
    assert digest_of(third) != digest_of(again)
    assert len(load_bundle(home.settings.models / fewer).users) == USERS - 3
    good, _ = home.run(without(tastes(), 7, 8, 9), EASE, snapshot="fourth")
    assert (good["way"], good["promoted"]) == ("refresh", True)


def test_an_erasure_after_a_renewal_was_refused_fits_the_present_code_on_the_older_rows(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    forget_code(home, version)
    path = decision_file(home.settings, version).with_suffix(".npz")
    with np.load(path) as stored:
        better = {name: stored[name] for name in stored.files}
    np.savez(path, **{**better, "ndcg": better["ndcg"] + 0.05})
    ask_to_be_forgotten(home, 7)
    decision, after = home.run(without(broken(), 7), POPULARITY, EASE, snapshot="second")
    assert (decision["way"], decision["promoted"], recipe_of(decision)) == ("renewal", False, EASE)
    served = load_bundle(home.settings.models / after)
    known = rows_of(load_bundle(home.settings.models / version))
    assert rows_of(served) == {row for row in known if row[0] != 506}
    champion = served_now(home.settings)
    assert champion is not None
    assert champion.recipe == EASE
    assert champion.figures is not None


def test_without_a_successor_of_its_code_the_best_on_the_older_rows_is_fitted(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    path = decision_file(home.settings, version)
    told = json.loads(path.read_text())
    told["recipe"] |= {"code": "gone", "settings": {"gone": 1}}
    path.write_text(json.dumps(told))
    ask_to_be_forgotten(home, 7)
    knn = RecipeVersion.of(ItemKnn(ItemKnnConfig(neighbours=1)))
    decision, after = home.run(without(broken(), 7), POPULARITY, knn, snapshot="second")
    means = {row["recipe"]: row["mean"] for row in decision["table"]}
    best = max((POPULARITY, knn), key=lambda recipe: means[recipe.label])
    assert (decision["way"], decision["promoted"], recipe_of(decision)) == ("none", False, best)
    assert len(load_bundle(home.settings.models / after).users) == USERS - 1


def test_who_leaves_while_the_weights_are_fitted_stays_until_the_next_run(home: Home) -> None:
    """The bundle goes with the weights that were fitted, whatever the list of the forgotten says by then."""
    home.run(tastes(), EASE)
    ask_to_be_forgotten(home, 7)
    home.on_fitted = lambda: ask_to_be_forgotten(home, 8)
    _, after = home.run(without(broken(), 7), EASE, snapshot="second")
    assert len(load_bundle(home.settings.models / after).users) == USERS - 1
    home.on_fitted = lambda: None
    _, later = home.run(without(broken(), 7, 8), EASE, snapshot="third")
    assert len(load_bundle(home.settings.models / later).users) == USERS - 2


def test_the_bundle_can_be_made_again_after_the_one_that_knew_who_left_was_removed(home: Home) -> None:
    """A change of the movies' facts alone makes the bundle anew, and by then the older one is erased."""
    _, before = home.run(tastes(), EASE)
    ask_to_be_forgotten(home, 7)
    bad = without(broken(), 7)
    _, after = home.run(bad, EASE, snapshot="second")
    shutil.rmtree(home.settings.models / before)
    assert home.follow(bad) == after
    renamed = home.follow(replace(bad, items=bad.items.with_columns(title=pl.lit("Renamed"))))
    served = load_bundle(home.settings.models / renamed)
    assert set(served.items["title"]) == {"Renamed"}
    assert rows_of(served) == rows_of(load_bundle(home.settings.models / after))


def test_where_everybody_has_left_refused_data_stay_out_and_the_error_says_so(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    ask_to_be_forgotten(home, *range(1, USERS + 1))
    with pytest.raises(PromotionError, match=f"{version} knows only people who asked to be forgotten"):
        home.decide(broken(), EASE)
    assert read_pointer(home.settings.serving_pointer) == version


def test_a_challenger_that_is_worse_is_refused_and_the_champion_is_refreshed(home: Home) -> None:
    data = tastes()
    home.run(data, EASE)
    decision, version = home.run(data, POPULARITY, EASE)
    assert recipe_of(decision) == EASE
    assert load_bundle(home.settings.models / version).recommender.name == "ease"


def test_a_challenger_that_ties_is_refused(home: Home) -> None:
    data = tastes()
    home.run(data, EASE)
    twin = RecipeVersion.of(Ease(EaseConfig(l2=10.0, max_items=11_000)))
    decision, _ = home.run(data, EASE, twin)
    assert recipe_of(decision) == EASE
    assert any(twin.label in reason and "not better beyond the interval" in reason for reason in decision["reasons"])


def test_a_challenger_that_is_surely_better_takes_over(home: Home) -> None:
    data = tastes()
    _, first = home.run(data, POPULARITY)
    decision, second = home.run(data, POPULARITY, EASE)
    assert (decision["way"], recipe_of(decision)) == ("challenger", EASE)
    assert load_bundle(home.settings.models / second).recommender.name == "ease"
    assert read_former(home.settings.serving_pointer) == (first,)


def test_a_champion_that_no_longer_competes_is_still_compared_with(home: Home) -> None:
    data = tastes()
    home.run(data, EASE)
    decision, _ = home.run(data, POPULARITY)
    assert recipe_of(decision) == EASE
    assert {row["recipe"] for row in decision["table"]} == {POPULARITY.label, EASE.label}


def forget_code(home: Home, version: str) -> None:
    """As if the bundle had been fitted by code that has changed since."""
    path = decision_file(home.settings, version)
    told = json.loads(path.read_text())
    told["recipe"]["code"] = "gone"
    path.write_text(json.dumps(told))


def test_changed_code_with_the_same_figures_takes_over_on_newer_data(home: Home) -> None:
    _, version = home.run(tastes(days=292), POPULARITY, EASE)
    forget_code(home, version)
    decision, served = home.run(tastes(), POPULARITY, EASE, snapshot="second")
    assert (decision["way"], decision["promoted"]) == ("renewal", True)
    assert recipe_of(decision) == EASE
    assert served != version
    assert any("is gone" in note for note in decision["notes"])


def test_a_replay_gives_the_figures_of_the_trial_that_let_the_recipe_in(home: Home) -> None:
    """To the bit, for a recipe whose fit draws random numbers; after films have come and gone, of the same users."""
    neumf = RecipeVersion.of(NeuMF(NeuMFConfig(epochs=2, batch_size=256, factors=4)))
    first = tastes(days=280)
    decision, version = home.run(first, neumf)
    with np.load(decision_file(home.settings, version).with_suffix(".npz")) as stored:
        told = {name: stored[name] for name in stored.files}
    bundle = load_bundle(home.settings.models / version)
    later = tastes(first_film=-2, films=FILMS - 3)
    for data in (first, later):
        trial = replay(bundle, data, decision["trial"]["protocol"])
        keys = bundle.users["user_key"].to_numpy()[trial.asked]
        assert keys.tolist() == told["users"].tolist()
        if data is first:
            figures = trial.judge(trial.fit(neumf, seed=home.settings.seed))
            warm = ~np.isnan(figures.ndcg)
            assert np.array_equal(figures.ndcg[warm], told["ndcg"][warm])


def test_what_a_renewal_puts_on_file_can_be_replayed_in_its_turn(home: Home) -> None:
    _, first = home.run(tastes(days=292), EASE)
    forget_code(home, first)
    renewal, second = home.run(tastes(), POPULARITY, EASE, snapshot="second")
    assert (renewal["way"], second != first) == ("renewal", True)
    forget_code(home, second)
    again, third = home.run(tastes(), POPULARITY, EASE, snapshot="third")
    assert (again["way"], again["promoted"], recipe_of(again)) == ("renewal", True, EASE)
    assert third != second
    heir = next(row for row in again["table"] if row["recipe"] == EASE.label)
    assert (heir["paired_low"], heir["paired_high"]) == (0.0, 0.0)


def test_changed_code_that_is_worse_than_the_figures_on_file_is_refused(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    forget_code(home, version)
    path = decision_file(home.settings, version).with_suffix(".npz")
    with np.load(path) as stored:
        better = {name: stored[name] for name in stored.files}
    better["ndcg"] = better["ndcg"] + 0.05
    np.savez(path, **better)
    decision, served = home.run(tastes(), POPULARITY, EASE, snapshot="second")
    assert (decision["promoted"], decision["keeps"]) == (False, version)
    assert served == version
    assert recipe_of(decision).code == "gone"


def test_without_a_record_the_served_recipe_under_the_present_code_stands_for_it(home: Home) -> None:
    data = tastes()
    default = RecipeVersion.of(Ease(EaseConfig(l2=10.0)))
    _, version = home.run(data, default)
    decision_file(home.settings, version).unlink()
    decision, _ = home.run(data, POPULARITY, default)
    assert (decision["way"], recipe_of(decision)) == ("refresh", default)
    assert "no decision is on file" in decision["notes"][0]


def test_films_that_vanished_and_came_have_their_places_in_one_index(home: Home) -> None:
    before = tastes()
    _, version = home.run(before, EASE)
    later = tastes(first_film=4, films=FILMS)
    space = Space.of(later, load_bundle(home.settings.models / version))
    assert space.interactions.n_items == space.older.n_items == FILMS + 4
    # Film 4 was the fifth and is the first; films 0 to 3 are behind the rest.
    assert (space.older.item_counts()[: FILMS - 4] == before.interactions.item_counts()[4:]).all()
    assert (space.older.item_counts()[-4:] == before.interactions.item_counts()[:4]).all()
    assert (space.user_keys == later.user_keys).all()
    content = space.features.item_content
    assert content is not None
    assert content.counts.sum(axis=1).tolist() == [4.0] * FILMS + [0.0] * 4
    decision, served = home.run(later, EASE, snapshot="second")
    assert decision["way"] == "refresh"
    if decision["promoted"]:
        assert load_bundle(home.settings.models / served).items["movie_key"].to_list()[0] == 904


def test_a_served_bundle_that_is_damaged_is_no_champion(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    (home.settings.models / version / "users.parquet").unlink()
    assert home.decide(tastes(), EASE)["way"] == "first"


def test_a_rerun_fits_nothing_that_was_judged_before(home: Home) -> None:
    data, told = tastes(), []
    judge_candidates(home.settings, data, [POPULARITY, EASE], None, tell=told.append)
    assert told == [f"judging {POPULARITY.label}", f"judging {EASE.label}"]
    told.clear()
    judge_candidates(home.settings, data, [POPULARITY, EASE, KNN], None, tell=told.append)
    assert told == [f"judging {KNN.label}"]


def test_a_fit_of_the_gate_that_was_cut_off_goes_on_and_leaves_no_state(home: Home) -> None:
    recipe = RecipeVersion.of(NeuMF(NeuMFConfig(epochs=4, patience=0, use_features=False, batch_size=256)))
    data, epochs = tastes(), []

    def cut_off(step: Progress) -> None:
        epochs.append(step.step)
        if step.total == 4 and step.step == 2 and len(epochs) < 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_candidates(home.settings, data, [recipe], None, tell=lambda _: None, progress=cut_off)
    assert list(home.settings.checkpoints.iterdir())
    outcome = judge_candidates(home.settings, data, [recipe], None, tell=lambda _: None, progress=cut_off)
    # Popularity has one step; the network's first two epochs are not trained again.
    assert epochs == [1, 1, 2, 3, 4]
    assert not list(home.settings.checkpoints.iterdir())
    undisturbed = replace(home, settings=home.settings.model_copy(update={"home": home.settings.home / "other"}))
    whole = judge_candidates(undisturbed.settings, data, [recipe], None, tell=lambda _: None)
    np.testing.assert_array_equal(outcome.figures.ndcg, whole.figures.ndcg)


def test_every_fit_of_a_trial_is_told_of_once(home: Home) -> None:
    data, heard = tastes(), []

    def hear(recipe: RecipeVersion, trial: Trial, fitted: Any, figures: Figures, seconds: float) -> None:
        heard.append((recipe, trial.protocol, fitted.name, len(figures.ndcg)))

    for _ in range(2):
        outcome = judge_candidates(home.settings, data, [EASE], None, tell=lambda _: None, log=hear)
    users = outcome.trial["users_asked"]
    assert heard == [(POPULARITY, "temporal", "popularity", users), (EASE, "temporal", "ease", users)]


def test_a_candidate_that_was_fitted_for_the_comparison_is_not_fitted_again(home: Home) -> None:
    """By the last rating of each user the trial's training part is the comparison's."""
    home.settings = home.settings.model_copy(update={"gate_min_users": USERS + 1})
    data, told = tastes(), []
    home.settings.features.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(home.settings.features / TRAINING_FILE, metadata={"fct_ratings": "v1"})
    folder = home.settings.evaluation / "ease"
    protocol = LeaveLastOutEvaluation.prepare(data.interactions, data.features, seed=home.settings.seed)
    fitted = EASE.make()
    protocol.fit(fitted, seed=home.settings.seed)
    fitted.save(folder)
    note = {"recipe": EASE.digest, "seed": home.settings.seed, "data": {"fct_ratings": "v1"}}

    def fits(told_of_it: dict[str, Any]) -> set[str]:
        (folder / "fit.json").write_text(json.dumps(told_of_it))
        shutil.rmtree(home.settings.evaluation / "gate", ignore_errors=True)
        told.clear()
        judge_candidates(
            home.settings, data, [EASE], None, tell=lambda _: None, log=lambda recipe, *_: told.append(recipe.name)
        )
        return set(told)

    assert fits(note) == {"popularity"}
    assert fits({**note, "data": {"fct_ratings": "v2"}}) == {"popularity", "ease"}
    assert fits({**note, "recipe": "another"}) == {"popularity", "ease"}


def test_data_that_failed_a_check_are_neither_fitted_nor_bundled_nor_promoted(home: Home) -> None:
    data = tastes()
    _, version = home.run(data, EASE)
    write_decision(home.settings, None, {}, ["marts/fct_ratings: its check expectations failed"])
    with pytest.raises(PromotionError, match="its check expectations failed"):
        home.follow(data)
    assert read_pointer(home.settings.serving_pointer) == version


def test_a_bundle_that_no_decision_let_in_is_not_promoted(home: Home) -> None:
    _, version = home.run(tastes(), EASE)
    decision_file(home.settings, version).unlink()
    with pytest.raises(PromotionError, match="the gate has not decided on it"):
        promote(home.settings, version, tell=lambda _: None)


@pytest.fixture
def three(home: Home) -> tuple[Home, list[str]]:
    """Return a home that has served three versions, the last one now, and the versions."""
    versions = [home.run(tastes(), EASE, snapshot=name)[1] for name in ("first", "second", "third")]
    assert len(set(versions)) == 3
    return home, versions


def test_a_rollback_goes_back_one_version_at_a_time(three: tuple[Home, list[str]]) -> None:
    home, (first, second, third) = three
    assert read_former(home.settings.serving_pointer) == (second, first)
    assert roll_back(home.settings, None, tell=lambda _: None) == second
    assert read_pointer(home.settings.serving_pointer) == second
    assert roll_back(home.settings, None, tell=lambda _: None) == first
    with pytest.raises(UpkeepError, match=f"{first} is the first that was served.*{third}"):
        roll_back(home.settings, None, tell=lambda _: None)
    assert read_pointer(home.settings.serving_pointer) == first


def test_a_rollback_passes_over_a_version_that_is_damaged(three: tuple[Home, list[str]]) -> None:
    home, (first, second, _) = three
    weights = home.settings.models / second / "recommender" / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:-1])
    told: list[str] = []
    assert roll_back(home.settings, None, tell=told.append) == first
    assert any(second in line and "hash differs" in line for line in told)


def test_a_rollback_to_what_cannot_be_served_leaves_the_pointer(three: tuple[Home, list[str]]) -> None:
    home, (_, second, third) = three
    shutil.rmtree(home.settings.models / second)
    for version in (second, "../elsewhere", "ease-000000000000"):
        with pytest.raises(UpkeepError, match=f"{third} is still served"):
            roll_back(home.settings, version, tell=lambda _: None)
    assert not is_held(home.settings.serving_pointer)


def test_a_running_server_follows_a_rollback(three: tuple[Home, list[str]]) -> None:
    home, (first, _, third) = three
    settings = home.settings
    served = ServedBundle(pointer=settings.serving_pointer, models=settings.models, feast=settings.feast)
    served.refresh()
    assert served.current is not None
    assert served.current.bundle.version == third
    roll_back(settings, first, tell=lambda _: None)
    served.refresh()
    assert served.current.bundle.version == first


def test_runs_leave_the_pointer_where_a_rollback_put_it_until_it_is_let_go(three: tuple[Home, list[str]]) -> None:
    home, (first, _, _) = three
    roll_back(home.settings, first, tell=lambda _: None)
    decision, served = home.run(tastes(), EASE, snapshot="fourth")
    assert served == first
    assert decision["promoted"]
    newest = read_pointer(home.settings.models / "built.json")
    assert newest != first
    assert any(f"{first} is held since a rollback" in line for line in spoken_decision(home.settings))
    assert not pointer_is_behind(home.settings)
    release(home.settings, tell=lambda _: None)
    assert read_pointer(home.settings.serving_pointer) == first
    assert pointer_is_behind(home.settings)
    assert promote(home.settings, newest, tell=lambda _: None) == newest


def test_the_command_rolls_back_and_lets_go(
    three: tuple[Home, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, (first, second, _) = three
    monkeypatch.setenv("MARQUEE_HOME", str(home.settings.home))
    (home.settings.home / "home.json").write_text(json.dumps({"format": 2, "edition": "sample"}))
    assert main(["rollback"]) == 0
    assert f"{second} is now" in capsys.readouterr().out
    assert main(["rollback", first]) == 0
    assert is_held(home.settings.serving_pointer)
    assert main(["rollback", "--release"]) == 0
    assert not is_held(home.settings.serving_pointer)
    assert main(["rollback", "nothing"]) == 1
    assert first in capsys.readouterr().err
