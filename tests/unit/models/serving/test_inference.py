from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from models.algorithms.content_scores import fit_content
from models.algorithms.ease import Ease
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.data.item_content import ItemContent
from models.registry import configured
from models.runtime.errors import RecommenderError, UnknownUser
from models.serving.inference import (
    KnowsLikeness,
    ScoresEach,
    ServedEase,
    ServedForm,
    ServedIals,
    load_served_form,
    put_in_order,
)
from models.serving.rating_inference import ServedStars, foretell
from tests.unit.models.examples import ITEMS, batch_of, features_of, two_tastes

FORMS = {
    "ials": ("ials", {"factors": 8, "sweeps": 3}),
    "itemknn": ("itemknn", {"neighbours": 4}),
    "content": ("content", {}),
    "ease": ("ease", {"l2": 5.0, "max_items": 15}),
    "ease by rows": ("ease", {"l2": 5.0, "max_items": 15}),
    "neumf": ("neumf", {"epochs": 2, "use_features": True}),
    "neumf without features": ("neumf", {"epochs": 2, "use_features": False}),
}


def _pair(case: str, folder: Path) -> tuple[Recommender, Recommender, UserBatch]:
    """Return the recommender, its served form, and a batch of users whose histories are of different lengths."""
    name, settings = FORMS[case]
    interactions, _ = two_tastes()
    features = features_of(interactions)
    fitted = configured(name, settings).fit(interactions, features if name in ("neumf", "content") else None, seed=1)
    fitted.save(folder / name)
    if case.endswith("by rows"):
        put_in_order(folder / name)
    whole = batch_of(interactions, np.arange(12), features)
    history = whole.history.toarray()
    history[np.arange(12)[:, None] * 2 > np.arange(history.shape[1])] = 0
    return (
        fitted,
        load_served_form(folder / name),
        UserBatch(whole.users, csr_array(history), whole.user_features, whole.item_features),
    )


@pytest.mark.parametrize("case", FORMS)
def test_a_served_form_says_what_its_recommender_says(case: str, tmp_path: Path) -> None:
    fitted, form, batch = _pair(case, tmp_path)
    assert isinstance(form, ServedForm)
    assert (form.uses_features, form.uses_history) == (fitted.uses_features, fitted.uses_history)
    expected = fitted.score(batch)
    assert np.ptp(expected) > 0.01
    assert form.score(batch) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # Again, for what the first batch made is kept.
    assert form.score(batch.take(slice(3, 5))) == pytest.approx(expected[3:5], rel=1e-3, abs=1e-4)
    items = np.array([0, 3, 17, 19])
    assert form.similarities(items) == pytest.approx(fitted.similarities(items), rel=1e-3, abs=1e-5)
    if fitted.uses_history:
        for user in (0, 4):
            one = batch.take(slice(user, user + 1))
            assert form.contributions(one, items) == pytest.approx(fitted.contributions(one, items), rel=1e-3, abs=1e-4)
        nobody = UserBatch(np.array([-1]), csr_array((1, fitted.n_items), dtype=np.float32))
        assert form.score(nobody) == pytest.approx(fitted.score(nobody), abs=1e-5)
    else:
        with pytest.raises(UnknownUser):
            form.score(UserBatch(np.array([-1]), csr_array((1, fitted.n_items), dtype=np.float32)))
    if isinstance(form, KnowsLikeness):
        others = np.array([2, 5])
        assert form.likeness(items, others) == pytest.approx(fitted.similarities(items)[:, others], abs=1e-5)
        weights = np.array([0.5, -2.0], dtype=np.float32)
        expected = np.stack([weights @ fitted.similarities(others), -fitted.similarities(items[:1])[0]])
        sums = [(others, weights), (items[:1], np.array([-1.0], dtype=np.float32))]
        assert form.weighted(sums) == pytest.approx(expected, abs=1e-5)


def test_users_who_come_one_by_one_are_scored_together_and_explained_alone(tmp_path: Path) -> None:
    fitted, form, batch = _pair("ials", tmp_path)
    assert isinstance(form, ScoresEach)
    ones = [batch.take(slice(user, user + 1)) for user in (0, 7, 4)]
    assert form.score_each(ones) == pytest.approx(fitted.score(batch)[[0, 7, 4]], rel=1e-3, abs=1e-4)
    items = np.array([0, 3, 17])
    for one in (ones[1], batch.take(slice(2, 3)), ones[0]):
        assert form.contributions(one, items) == pytest.approx(fitted.contributions(one, items), rel=1e-3, abs=1e-4)


def test_arrays_in_order_are_mapped_and_those_of_before_are_read(tmp_path: Path) -> None:
    fitted = Ease().fit(two_tastes()[0])
    for name in ("before", "in_order"):
        fitted.save(tmp_path / name)
    put_in_order(tmp_path / "in_order")
    forms = {name: ServedEase.load(tmp_path / name) for name in ("before", "in_order")}
    assert {name: form._file is not None for name, form in forms.items()} == {"before": False, "in_order": True}
    assert forms["in_order"]._weights.flags.aligned
    with np.load(tmp_path / "before/weights.npz") as before, np.load(tmp_path / "in_order/weights.npz") as after:
        assert before.files == after.files
        assert all(np.array_equal(before[name], after[name]) for name in before.files)
    first = (tmp_path / "in_order/weights.npz").read_bytes()
    put_in_order(tmp_path / "in_order")
    assert (tmp_path / "in_order/weights.npz").read_bytes() == first


def test_a_recommender_without_a_form_is_served_as_it_is(tmp_path: Path) -> None:
    Popularity().fit(two_tastes()[0]).save(tmp_path / "popularity")
    assert isinstance(load_served_form(tmp_path / "popularity"), Popularity)


def test_weights_of_another_shape_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    Ease().fit(two_tastes()[0]).save(tmp_path)
    with np.load(tmp_path / "weights.npz") as stored:
        items, weights = stored["items"], stored["weights"]
    np.savez(tmp_path / "weights.npz", items=items[:-1], weights=weights)
    with pytest.raises(RecommenderError, match="not a plain array"):
        ServedEase.load(tmp_path)
    with pytest.raises(RecommenderError, match="holds a ease, not a ials"):
        ServedIals.load(tmp_path)


def test_the_served_model_of_stars_tells_what_the_fitted_one_tells(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    stars = np.clip(np.round(2 * (3 + rng.normal(size=(80, 30)) + (np.arange(30) % 2))) / 2, 0.5, 5.0)
    users, items = np.nonzero(rng.random(stars.shape) < 0.5)
    rows = Interactions.of(users, items, stars[users, items], n_users=80, n_items=30)
    head = fit_rating_head(rows, seed=1)
    head.save(tmp_path / "rating")
    served = ServedStars(tmp_path / "rating")
    history = csr_array(rows.matrix().multiply(stars.astype(np.float32)))[:6]
    nobody = csr_array((1, 30), dtype=np.float32)
    for met in (csr_array(history), nobody):
        batch = UserBatch(np.full(met.shape[0], -1), csr_array(met, dtype=np.float32))
        asked = np.tile(np.array([0, 7, 29]), (met.shape[0], 1))
        expected, told = foretell(head, batch, asked), foretell(served, batch, asked)
        assert told.mean == pytest.approx(expected.mean, abs=2e-3)
        assert told.deviation == pytest.approx(expected.deviation, rel=5e-3)
    with pytest.raises(RecommenderError, match=r"outside 0\.\.29"):
        served.forecast_batch(UserBatch(np.array([-1]), nobody), np.array([[30]]))
    Ease().fit(rows).save(tmp_path / "ease")
    with pytest.raises(RecommenderError, match="tells no intervals"):
        ServedStars(tmp_path / "ease")


def test_the_words_of_the_served_form_weigh_what_the_fitted_ones_do_and_a_film_without_a_word_is_like_none(
    tmp_path: Path,
) -> None:
    interactions, _ = two_tastes()
    words = pl.DataFrame({"item": [0, 1, 1, 2], "word": ["genre:a", "genre:a", "tag:b", "tag:b"]})
    fitted = fit_content(interactions, ItemContent.of(words, np.full(ITEMS, np.nan, dtype=np.float32)))
    assert fitted is not None
    fitted.save(tmp_path)
    form = load_served_form(tmp_path)
    batch = UserBatch(np.array([-1]), csr_array(np.eye(1, ITEMS, dtype=np.float32)))
    told, expected = form.word_weights(batch, np.array([1, 3])), fitted.word_weights(batch, np.array([1, 3]))
    assert told is not None
    assert list(told.names) == list(expected.names) == ["genre:a", "tag:b"]
    assert told.weights == pytest.approx(expected.weights)
    assert form.similarities(np.array([3])).tolist() == [[0.0] * ITEMS]
    assert form.score(batch)[0, :4] == pytest.approx([1.0, np.sqrt(0.5), 0.0, 0.0], abs=1e-6)


def test_films_of_which_no_two_share_a_word_have_no_content_part() -> None:
    interactions, _ = two_tastes()
    own = pl.DataFrame({"item": np.arange(ITEMS), "word": [f"tag:{item}" for item in range(ITEMS)]})
    assert fit_content(interactions, ItemContent.of(own, np.zeros(ITEMS, dtype=np.float32))) is None
    assert fit_content(interactions, ItemContent.of(own.clear(), np.zeros(ITEMS, dtype=np.float32))) is None
    assert fit_content(interactions, None) is None


def test_what_is_served_of_the_usual_recipes_never_imports_torch_or_sklearn(tmp_path: Path) -> None:
    for case in FORMS:
        _pair(case, tmp_path / case)
    folders = [str(tmp_path / case / name) for case, (name, _) in FORMS.items()]
    code = (
        "import sys; from pathlib import Path; import models.serving.bundle;"
        " from models.serving.inference import load_served_form;"
        " [load_served_form(Path(folder)) for folder in sys.argv[1:]]; print({'torch', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
