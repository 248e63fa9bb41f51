"""From the training data and what is served to the gate's decision, and the decision's files in the model store.

``models/gate.json`` is the newest decision; ``models/decisions/<version>.json`` the one that a bundle was made by, with
the figures of its recipe beside it, so that a later recipe can be paired with it user by user.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.algorithms.content_scores import fit_content
from models.base import Recommender
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.protocols.base import ProtocolError
from models.evaluation.protocols.global_temporal import Temporal
from models.promotion.backtest import Figures, RecipeVersion, Trial, features_of_pairs, make_trial
from models.promotion.gate import Champion, Decision, Panel, Rules, decide
from models.registry import load_recommender
from models.runtime.checkpoints import Checkpoint
from models.runtime.errors import RecommenderError
from models.runtime.progress import ProgressCallback
from models.serving.bundle import (
    Bundle,
    BundleError,
    FeatureSet,
    is_held,
    load_bundle,
    read_pointer,
    write_bundle,
    write_pointer,
)
from models.serving.rating_inference import ServedStars
from orchestration.storage.warehouse import hold
from orchestration.training.dataset import TrainingData, item_content, training_snapshot
from settings import Settings

if TYPE_CHECKING:
    from models.algorithms.rating.bayesian_mf import BayesianMF

#: The layout of a decision's file; a reader refuses any other.
SCHEMA_VERSION = 1

Tell = Callable[[str], None]
#: Hears of each fit that was made for a trial: its recipe, the trial, what was fitted, its figures and seconds.
Log = Callable[[RecipeVersion, Trial, Recommender, Figures, float], None]


class PromotionError(RuntimeError):
    """A decision cannot be made or followed; the message says why."""


@dataclass(frozen=True)
class Served:
    """What is served now: the bundle, the recipe of its weights, and its figures in the trial that let it in.

    ``figures`` is None where no decision is on file for it. ``figure_users`` int64[Q] are the user keys of the figures,
    ``protocol`` the trial's.
    """

    bundle: Bundle
    recipe: RecipeVersion
    figures: Figures | None
    figure_users: NDArray[np.int64]
    protocol: str | None


@dataclass(frozen=True)
class Outcome:
    """A decision with all that is written of it: the recipe to serve, the trial, the figures of that recipe.

    ``keeps`` is the version whose weights stay. With ``refits`` they do not, for they know somebody who asked to be
    forgotten: the recipe is fitted again on what that version knows of everybody else.
    """

    decision: Decision
    recipe: RecipeVersion
    keeps: str | None
    snapshot_kept: Mapping[str, Any] | None
    trial: Mapping[str, Any]
    notes: tuple[str, ...]
    figures: Figures
    figure_users: NDArray[np.int64]
    fit_seconds: Mapping[str, float]
    refits: bool = False


@dataclass(frozen=True)
class FitData:
    """What the recipe of a decision is fitted on, and ``note``: what is written beside its weights of that."""

    interactions: Interactions
    features: TrainingFeatures
    note: Mapping[str, Any]


def rules_of(settings: Settings) -> Rules:
    """Return the gate's rules as the settings have them."""
    return Rules(tolerance=settings.gate_tolerance, segment_share=settings.gate_segment_share, seed=settings.seed)


def gate_file(settings: Settings) -> Path:
    """Return the path of the newest decision."""
    return settings.models / "gate.json"


def built_pointer(settings: Settings) -> Path:
    """Return the file that names the bundle written last, whether it passed its checks or not."""
    return settings.models / "built.json"


def fitted_folder(settings: Settings) -> Path:
    """Where the recipe that the gate promoted lies, fitted on every rating."""
    return settings.evaluation / "fitted"


def rating_folder(settings: Settings) -> Path:
    """Where the model of stars lies that goes into every bundle."""
    return settings.evaluation / "rating"


def decision_file(settings: Settings, version: str) -> Path:
    """Return the path of the decision that a bundle was made by."""
    return settings.models / "decisions" / f"{version}.json"


def read_decision(path: Path) -> dict[str, Any]:
    """Read a decision's file; raise ``PromotionError`` where it is missing or of another layout."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PromotionError(f"{path}: the gate has decided nothing yet (the file is missing)") from error
    except json.JSONDecodeError as error:
        raise PromotionError(f"{path}: not JSON ({error})") from error
    if found.get("schema_version") != SCHEMA_VERSION:
        raise PromotionError(f"{path}: of another layout than {SCHEMA_VERSION}")
    return found


def recipe_of(decision: Mapping[str, Any]) -> RecipeVersion:
    """Return the recipe that is served after a decision."""
    told = decision["recipe"]
    return RecipeVersion(told["name"], told["settings"], told["code"])


def refuse_unchecked(decision: Mapping[str, Any]) -> None:
    """Raise ``PromotionError`` where the gate refused the data themselves."""
    if decision["refused"]:
        raise PromotionError(f"the gate refused the data: {'; '.join(decision['refused'])}")


def write_decision(
    settings: Settings, outcome: Outcome | None, lineage: Mapping[str, Any], refused: Sequence[str]
) -> None:
    """Write ``gate.json`` and the figures beside it; no outcome where the data themselves were refused."""
    settings.models.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "refused": list(refused),
        "promoted": False,
        "reasons": list(refused),
        "lineage": dict(lineage),
    }
    if outcome is not None:
        decision = outcome.decision
        document |= {
            "way": decision.way,
            "promoted": decision.promoted,
            "label": decision.recipe,
            "recipe": {**asdict(outcome.recipe), "digest": outcome.recipe.digest},
            "keeps": outcome.keeps,
            "refits": outcome.refits,
            "snapshot_kept": outcome.snapshot_kept,
            "reasons": list(decision.reasons),
            "notes": list(outcome.notes),
            "table": list(decision.table),
            "segments": [
                {"segment": part.name, "judged": part.judged, **asdict(part.paired)} for part in decision.segments
            ],
            "trial": dict(outcome.trial),
            "rules": asdict(rules_of(settings)),
            "fit_seconds": dict(outcome.fit_seconds),
        }
        _write_figures(gate_file(settings).with_suffix(".npz"), outcome.figures, outcome.figure_users)
    _write_json(gate_file(settings), document)


def file_decision(settings: Settings, version: str) -> None:
    """Keep the newest decision as the one that a bundle was made by."""
    source, target = gate_file(settings), decision_file(settings, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".npz", ".json"):
        aside = target.with_name(f".{target.stem}{suffix}.part")
        aside.write_bytes(source.with_suffix(suffix).read_bytes())
        aside.replace(target.with_suffix(suffix))


def digest_of(decision: Mapping[str, Any]) -> str:
    """Return a digest of what follows from a decision, as a data version: equal if the same is served."""
    if decision["refused"]:
        told: list[Any] = ["refused", *decision["refused"]]
    else:
        told = [decision["promoted"], decision["recipe"]["digest"], decision["snapshot_kept"]]
        if decision.get("refits"):
            told.append(decision["keeps"])
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def served_now(settings: Settings) -> Served | None:
    """Return what the pointer names, with its record; None where nothing is served or it is no longer whole."""
    try:
        version = read_pointer(settings.serving_pointer)
        bundle = load_bundle(settings.models / version)
    except (BundleError, RecommenderError):
        return None
    try:
        decision = read_decision(decision_file(settings, version))
        figures, users = _read_figures(decision_file(settings, version).with_suffix(".npz"))
    except (PromotionError, OSError):
        return Served(bundle, RecipeVersion.of(bundle.recommender), None, np.empty(0, dtype=np.int64), None)
    trial = decision["trial"]
    own = figures if len(users) else None
    return Served(bundle, recipe_of(decision), own, users, trial.get("figures_of", trial["protocol"]))


def summary(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a decision that a bundle carries along."""
    return {key: decision[key] for key in ("way", "promoted", "label", "recipe", "reasons", "notes", "trial")}


def make_bundle(
    settings: Settings,
    decision: Mapping[str, Any],
    data: TrainingData,
    *,
    features: FeatureSet,
    data_snapshot: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    rating: BayesianMF | None = None,
    credits: pl.DataFrame | None = None,
    film_map: pl.DataFrame | None = None,
) -> str:
    """Write the bundle that follows from a decision, and the decision as its record; returns its version.

    A promoted recipe's weights lie in :func:`fitted_folder`; others stay those of the bundle that the decision keeps,
    and so does its model of stars, which ``rating`` is otherwise; both are fitted again where that bundle knows
    somebody who asked to be forgotten. ``credits`` are who made the films, and ``film_map``
    where they lie, as of today; the films' words are those of today either way.
    """
    refuse_unchecked(decision)
    told = {**evaluation, "decision": summary(decision)}
    if decision["promoted"]:
        from models.algorithms.popularity import Popularity

        version = write_bundle(
            settings.models,
            recommender=load_recommender(fitted_folder(settings)),
            popularity=Popularity().fit(data.interactions),
            items=data.items,
            users=data.users,
            interactions=data.interactions,
            item_features=data.latest_item_features(),
            features=features,
            data_snapshot=data_snapshot,
            evaluation=told,
            rating=rating,
            credits=credits,
            film_map=film_map,
            content=fit_content(data.interactions, data.features.item_content),
        )
    else:
        kept = kept_bundle(settings, decision)
        if decision.get("refits"):
            kept = _refitted(settings, kept)
        version = bundle_kept(settings, kept, data, features, told, credits, film_map)
    file_decision(settings, version)
    return version


def bundle_kept(
    settings: Settings,
    base: Bundle,
    data: TrainingData,
    features: FeatureSet,
    evaluation: Mapping[str, Any],
    credits: pl.DataFrame | None = None,
    film_map: pl.DataFrame | None = None,
) -> str:
    """Write the bundle of weights that stay: as it was, with the films' facts and features of today; its version.

    The history stays, too: it is what the weights were trained on, and the data after it are those that were refused.
    Where the features are no longer those that the weights were trained with, the films' stay as they were.
    """
    assert not isinstance(base.rating, ServedStars)
    facts = [name for name in base.items.columns if name != "movie_key"]
    today = data.items.select("movie_key", *(name for name in facts if name in data.items.columns))
    joined = base.items.join(today, on="movie_key", how="left", maintain_order="left", suffix="_today")
    known = base.items["movie_key"].is_in(data.items["movie_key"].to_list())
    items = joined.select(
        "movie_key",
        *(
            pl.when(pl.Series(known)).then(pl.col(f"{name}_today")).otherwise(pl.col(name)).alias(name)
            if name in today.columns
            else pl.col(name)
            for name in facts
        ),
    )
    values, described = base.item_features, base.features
    same = (features.service_hash, features.item_names) == (described.service_hash, described.item_names)
    if values is not None and same:
        place = _places(data.items["movie_key"].to_numpy(), base.items["movie_key"].to_numpy())
        values = np.where(known.to_numpy()[:, None], data.latest_item_features()[place], values)
        described = replace(described, snapshot_time=features.snapshot_time)
    interactions = _own_rows(base)
    return write_bundle(
        settings.models,
        recommender=base.recommender,
        popularity=base.popularity,
        items=items,
        users=base.users,
        interactions=interactions,
        item_features=values,
        features=described,
        data_snapshot=base.manifest["data_snapshot"],
        evaluation=evaluation,
        rating=base.rating,
        credits=credits,
        film_map=film_map,
        # Of the facts that are served: a film that today's catalogue no longer has keeps its words with its title.
        content=fit_content(interactions, None if data.features.item_content is None else item_content(items)),
    )


def kept_bundle(settings: Settings, decision: Mapping[str, Any]) -> Bundle:
    """Return the bundle whose weights or rows a decision keeps.

    It is removed once another one stands in its place, where it knows somebody who asked to be forgotten; what follows
    from the decision after that, goes on from the one that was made by it.
    """
    version = decision["keeps"]
    if not (settings.models / version).is_dir():
        with suppress(BundleError, PromotionError):
            built = read_pointer(settings.models / "built.json")
            if read_decision(decision_file(settings, built)) == decision:
                version = built
    return load_bundle(settings.models / version)


def weights_stay(decision: Mapping[str, Any]) -> bool:
    """Whether nothing is to be fitted after a decision."""
    return not decision["promoted"] and not decision.get("refits", False)


def fit_data(settings: Settings, decision: Mapping[str, Any], data: TrainingData) -> FitData:
    """Return what the recipe of a decision is fitted on: today's data where they were let in.

    Where they were refused and the served weights know somebody who asked to be forgotten, it is what these weights
    know of everybody else.
    """
    if decision["promoted"]:
        return FitData(data.interactions, data.features, {})
    bundle = _without_forgotten(settings, kept_bundle(settings, decision))
    older, features, _ = own_data(bundle, data)
    snapshot = {name: table for name, table in bundle.manifest["data_snapshot"].items() if name != "edition"}
    keys = bundle.users["user_key"].to_list()
    return FitData(older, features, {"data": snapshot, "kept_from": bundle.version, "user_keys": keys})


def _refitted(settings: Settings, bundle: Bundle) -> Bundle:
    """Return a bundle with the weights that were fitted again on some of its users, and without the others.

    These are the users of :func:`fit_data` and not those of this moment: somebody may have left since.
    """
    from models.algorithms.popularity import Popularity
    from models.algorithms.rating.bundled_rating_model import fit_rating_head

    note = json.loads((fitted_folder(settings) / "fit.json").read_text(encoding="utf-8"))
    kept = bundle.of_users(bundle.users["user_key"].is_in(note["user_keys"]).to_numpy())
    known = _own_rows(kept)
    return replace(
        kept,
        recommender=load_recommender(fitted_folder(settings)),
        popularity=Popularity().fit(known),
        rating=None if bundle.rating is None else fit_rating_head(known, seed=settings.seed),
    )


def promote(settings: Settings, version: str, *, tell: Tell) -> str:
    """Move the pointer to a version, unless it is held; returns the version that is served then.

    Raises ``PromotionError`` for a bundle that no decision let in.
    """
    if not decision_file(settings, version).is_file():
        raise PromotionError(f"{version} cannot be promoted: the gate has not decided on it")
    with hold(settings.serving_lock, timeout_s=settings.lock_timeout_s, tell=tell, what="the pointer"):
        try:
            if is_held(settings.serving_pointer):
                served = read_pointer(settings.serving_pointer)
                if served != version:
                    tell(f"{served} is held since a rollback: {version} is not promoted")
                return served
        except BundleError:
            pass
        write_pointer(settings.serving_pointer, version)
    return version


def spoken_decision(settings: Settings) -> list[str]:
    """Describe the newest decision in lines for a terminal, and whether the pointer is held."""
    try:
        decision = read_decision(gate_file(settings))
    except PromotionError:
        return []
    lines = [f"gate, {decision.get('way', 'refused')}: {decision['reasons'][0]}"]
    lines += [f"   {reason}" for reason in (*decision["reasons"][1:], *decision.get("notes", ()))]
    try:
        if is_held(settings.serving_pointer):
            served = read_pointer(settings.serving_pointer)
            lines.append(f"{served} is held since a rollback; `make rollback RELEASE=1` lets the next run promote")
    except BundleError:
        pass
    return lines


def pointer_is_behind(settings: Settings) -> bool:
    """Whether the pointer names another version than the newest bundle although nobody holds it."""
    try:
        newest = read_pointer(settings.models / "built.json")
        return not is_held(settings.serving_pointer) and read_pointer(settings.serving_pointer) != newest
    except BundleError:
        return False


def judge_candidates(
    settings: Settings,
    data: TrainingData,
    recipes: Sequence[RecipeVersion],
    served: Served | None,
    *,
    tell: Tell,
    progress: ProgressCallback | None = None,
    log: Log | None = None,
) -> Outcome:
    """Fit and judge every recipe in one trial and decide. Finished fits are kept for a rerun."""
    arms = _Arms(settings, tell, progress, log)
    if served is not None and served.figures is None and _present(served.recipe) is None:
        # Neither its code nor its figures: there is nothing to compare with.
        served = None
    if served is None:
        trial = _trial_of(settings, data)
        figures = arms.figures(trial, recipes, fitted=True)
        outcome = _outcome(settings, trial, data.user_keys, figures, recipes, None, None, ())
    elif _present(served.recipe) == served.recipe:
        outcome = _beside_refitted(settings, data, recipes, served, arms)
    else:
        outcome = _beside_figures_on_file(settings, data, recipes, served, arms)
    if served is not None and not outcome.decision.promoted:
        outcome = _without_who_is_forgotten(settings, outcome, data, recipes, served, arms)
    arms.forget_others()
    return replace(outcome, fit_seconds=arms.seconds)


def _trial_of(settings: Settings, data: TrainingData) -> Trial:
    return make_trial(data.interactions, data.features, data.user_history, min_users=settings.gate_min_users)


def _beside_refitted(
    settings: Settings, data: TrainingData, recipes: Sequence[RecipeVersion], served: Served, arms: _Arms
) -> Outcome:
    """Decide with the champion's recipe fitted again, on the present data and on those that the served weights know."""
    label = served.recipe.label
    notes: tuple[str, ...] = ()
    if served.figures is None:
        notes = ("no decision is on file for what is served: its recipe under the present code stands for it",)
    trial = _trial_of(settings, data)
    figures = arms.figures(trial, [*recipes, served.recipe], fitted=True)
    space = Space.of(data, served.bundle)
    wide = trial
    if space.interactions.n_users > data.interactions.n_users or space.interactions.n_items > data.interactions.n_items:
        wide = make_trial(space.interactions, space.features, data.user_history, min_users=settings.gate_min_users)
    before = None
    if wide.same_as_older(space.older):
        notes = (*notes, "before the cut the data are those that the served weights know: a refresh ties")
    else:
        before = arms.figures(wide.on_older(space.older), [served.recipe], which=" on older data")[label]
    champion = Champion(label, figures[label], older=before)
    return _outcome(settings, trial, data.user_keys, figures, recipes, served, champion, notes)


def _beside_figures_on_file(
    settings: Settings, data: TrainingData, recipes: Sequence[RecipeVersion], served: Served, arms: _Arms
) -> Outcome:
    """Decide where the champion's code is gone: judge all on its own data, where its figures are on file."""
    assert served.figures is not None
    present = _present(served.recipe)
    trial = replay(served.bundle, data, served.protocol or Temporal.name)
    keys = served.bundle.users["user_key"].to_numpy().astype(np.int64)
    told = _aligned(served.figures, served.figure_users, keys[trial.asked])
    competing = [*recipes, *([] if present is None else [present])]
    figures = arms.figures(trial, competing)
    notes = (f"the code of {served.recipe.label} is gone: all are judged on the data that it was trained on",)
    champion = Champion(served.recipe.label, told, refitted=False, heir=None if present is None else present.label)
    outcome = _outcome(settings, trial, keys, figures, competing, served, champion, notes)
    if not outcome.decision.promoted:
        return outcome
    # What goes on file are its figures on the data that it will be trained on.
    own = _trial_of(settings, data)
    now = arms.figures(own, [outcome.recipe], fitted=True)[outcome.recipe.label]
    facts = {**outcome.trial, "figures_of": own.protocol}
    return replace(outcome, figures=now, figure_users=data.user_keys[own.asked], trial=facts)


def replay(bundle: Bundle, data: TrainingData, protocol: str) -> Trial:
    """Recreate the trial that let a bundle's recipe in, on :func:`own_data`."""
    older, features, user_history = own_data(bundle, data)
    wanted = 1 if protocol == Temporal.name else len(older) + 1
    return replace(make_trial(older, features, user_history, min_users=wanted), too_small=None)


def own_data(bundle: Bundle, data: TrainingData) -> tuple[Interactions, TrainingFeatures, FeatureHistory]:
    """Return what a bundle was trained on, in its own index, with the present features and users' features in time.

    The order of the rows and the sizes of the index are those of that time, on which a fit's random numbers depend.
    """
    n_users, n_items = bundle.history.shape
    users = _places(data.user_keys, bundle.users["user_key"].to_numpy())
    items = _places(data.items["movie_key"].to_numpy(), bundle.items["movie_key"].to_numpy())
    of_user, of_item = _inverse(users, len(data.users)), _inverse(items, len(data.items))
    rows, features = data.interactions, data.features
    kept = (of_user[rows.users] >= 0) & (of_item[rows.items] >= 0)
    present = Interactions.of(
        of_user[rows.users[kept]],
        of_item[rows.items[kept]],
        rows.ratings[kept],
        rows.timestamps[kept],
        n_users=n_users,
        n_items=n_items,
    )
    known = replace(
        features.take(kept),
        item_histories=tuple(_moved(history, of_item) for history in features.item_histories),
        item_content=None if features.item_content is None else features.item_content.take(items),
    )
    older = _own_rows(bundle)
    return older, features_of_pairs(older, present, known), _moved(data.user_history, of_user)


def _own_rows(bundle: Bundle) -> Interactions:
    n_users, n_items = bundle.history.shape
    return history_of(bundle, np.arange(n_users), np.arange(n_items), n_users, n_items)


def history_of(
    bundle: Bundle, users: NDArray[np.int64], items: NDArray[np.int64], n_users: int, n_items: int
) -> Interactions:
    """Return what a bundle was trained on, in the training set's order, with ``users`` and ``items`` as its indices."""
    rows = np.repeat(np.arange(bundle.history.shape[0]), np.diff(bundle.history.indptr))
    user, item, times = users[rows], items[bundle.history.indices], bundle.history_times
    order = np.lexsort((item, times, user))
    return Interactions.of(
        user[order], item[order], bundle.history.data[order], times[order], n_users=n_users, n_items=n_items
    )


@dataclass(frozen=True)
class Space:
    """One index space for the present data and those of a bundle: what vanished since has its place behind the rest.

    ``interactions`` are the present ones with their ``features``, ``older`` the bundle's, ``user_keys`` int64[n_users].
    """

    interactions: Interactions
    features: TrainingFeatures
    older: Interactions
    user_keys: NDArray[np.int64]

    @classmethod
    def of(cls, data: TrainingData, bundle: Bundle) -> Space:
        """Bring both together by the keys, which are never given twice."""
        user_keys, users = _joined(data.user_keys, bundle.users["user_key"].to_numpy())
        movie_keys, items = _joined(data.items["movie_key"].to_numpy(), bundle.items["movie_key"].to_numpy())
        older = history_of(bundle, users, items, len(user_keys), len(movie_keys))
        present = replace(data.interactions, n_users=len(user_keys), n_items=len(movie_keys))
        content = data.features.item_content
        places = np.where(np.arange(len(movie_keys)) < len(data.items), np.arange(len(movie_keys)), -1)
        widened = None if content is None else content.take(places)
        return cls(present, replace(data.features, item_content=widened), older, user_keys)


class _Arms:
    """Fits recipes in trials and keeps their figures in files, so that a rerun goes on where one was cut off."""

    def __init__(self, settings: Settings, tell: Tell, progress: ProgressCallback | None, log: Log | None) -> None:
        self._settings, self._tell, self._progress, self._log = settings, tell, progress, log
        self._folder = settings.evaluation / "gate"
        self._used: set[str] = set()
        self.seconds: dict[str, float] = {}

    def figures(
        self, trial: Trial, recipes: Sequence[RecipeVersion], *, which: str = "", fitted: bool = False
    ) -> dict[str, Figures]:
        """Return the figures of recipes by label, with popularity's for users whom a recipe cannot answer, as served.

        ``fitted``: the trial is of the present data, so that the candidates of the comparison may be used again.
        """
        from models.algorithms.popularity import Popularity

        digest = trial.digest()
        popular = self._one(trial, digest, RecipeVersion.of(Popularity()), which, fitted)
        return {recipe.label: self._one(trial, digest, recipe, which, fitted).backed_by(popular) for recipe in recipes}

    def _one(self, trial: Trial, digest: str, recipe: RecipeVersion, which: str, fitted: bool) -> Figures:
        path = self._folder / f"{digest}-{recipe.digest}-{self._settings.seed}.npz"
        self._used.add(path.name)
        if path.is_file():
            return Figures.load(path)
        self._tell(f"judging {recipe.label}{which}")
        started = time.perf_counter()
        folder = self._settings.evaluation / recipe.name
        if fitted and trial.protocol != Temporal.name and fitted_for(self._settings, folder, trial, recipe):
            figures = trial.judge(load_recommender(folder))
            state = Checkpoint()
        else:
            recommender = trial.fit(
                recipe, seed=self._settings.seed, progress=self._progress, checkpoints=self._settings.checkpoints
            )
            state = recommender.checkpoint
            seconds = time.perf_counter() - started
            figures = trial.judge(recommender)
            if self._log is not None:
                self._log(recipe, trial, recommender, figures, seconds)
        self.seconds[recipe.label + which] = round(time.perf_counter() - started, 2)
        figures.save(path)
        state.remove()
        return figures

    def forget_others(self) -> None:
        """Remove figures that this decision did not ask for."""
        for path in self._folder.glob("*.npz"):
            if path.name not in self._used:
                path.unlink()


def fitted_for(settings: Settings, folder: Path, trial: Trial, recipe: RecipeVersion) -> bool:
    """Whether a candidate that lies there was fitted by this recipe on just this trial's training part."""
    note = folder / "fit.json"
    if not note.is_file():
        return False
    told = json.loads(note.read_text())
    fitted = json.loads((folder / "recommender.json").read_text())
    return bool(
        told.get("recipe") == recipe.digest
        and told.get("seed") == settings.seed
        and told.get("data") == training_snapshot(settings.features)
        and (fitted["n_users"], fitted["n_items"]) == (trial.task.fit.n_users, trial.task.fit.n_items)
    )


def _without_forgotten(settings: Settings, bundle: Bundle) -> Bundle:
    """Return the bundle without the users who asked to be forgotten, its weights as they are."""
    from orchestration.ingestion.app_store import forgotten_people
    from orchestration.privacy.erasure import ids_of

    gone = ids_of(forgotten_people(settings.app_store), bundle.manifest)
    return bundle.of_users(~bundle.users["user_id"].is_in(gone).to_numpy())


def _without_who_is_forgotten(
    settings: Settings,
    outcome: Outcome,
    data: TrainingData,
    recipes: Sequence[RecipeVersion],
    served: Served,
    arms: _Arms,
) -> Outcome:
    """Have the served weights fitted again where they know somebody who asked to be forgotten, and not stay.

    The recipe is the served one, under the present code; where that has none, the best of the others on the rows that
    the served weights know, for then these are what all were judged on. Nobody judged the refused data to be better,
    so they have no part in it.
    """
    bundle = _without_forgotten(settings, served.bundle)
    if len(bundle.users) == len(served.bundle.users):
        return outcome
    if not bundle.history.nnz:
        raise PromotionError(
            f"{served.bundle.version} knows only people who asked to be forgotten, and there is nothing to put in its"
            f" place: {'; '.join(outcome.decision.reasons)}"
        )
    means = {str(row["recipe"]): row["mean"] for row in outcome.decision.table}
    recipe = _present(served.recipe) or max(recipes, key=lambda other: means[other.label] or 0.0)
    facts = dict(outcome.trial)
    nothing = np.empty(0)
    figures, users = Figures(nothing, nothing), np.empty(0, dtype=np.int64)
    try:
        trial = replay(bundle, data, served.protocol or Temporal.name)
    except ProtocolError:
        # Too few are left to ask; the next gate says that there are no figures on file.
        pass
    else:
        figures = arms.figures(trial, [recipe], which=" without who is forgotten")[recipe.label]
        users = bundle.users["user_key"].to_numpy().astype(np.int64)[trial.asked]
        facts["figures_of"] = trial.protocol
    reason = (
        f"the served weights know somebody who asked to be forgotten: {recipe.label} is fitted again on what they know"
        " of everybody else, and the newer data stay out"
    )
    stays = "the old weights stay"
    others = [other.removesuffix(f": {stays}") for other in outcome.decision.reasons if other != stays]
    return replace(
        outcome,
        decision=replace(outcome.decision, recipe=recipe.label, reasons=(reason, *others)),
        recipe=recipe,
        trial=facts,
        figures=figures,
        figure_users=users,
        refits=True,
    )


def _outcome(
    settings: Settings,
    trial: Trial,
    user_keys: NDArray[np.int64],
    figures: Mapping[str, Figures],
    recipes: Sequence[RecipeVersion],
    served: Served | None,
    champion: Champion | None,
    notes: tuple[str, ...],
) -> Outcome:
    decision = decide(figures, Panel.of(trial), champion, rules_of(settings))
    if trial.too_small is not None:
        notes = (f"{trial.too_small}: judged by each user's last rating instead", *notes)
    facts = {"protocol": trial.protocol, **trial.facts}
    if decision.promoted:
        known = {recipe.label: recipe for recipe in (*recipes, *([] if served is None else [served.recipe]))}
        asked = user_keys[trial.asked]
        return Outcome(decision, known[decision.recipe], None, None, facts, notes, figures[decision.recipe], asked, {})
    assert served is not None, "what is first is promoted"
    facts |= {"figures_of": served.protocol or trial.protocol}
    nothing = np.empty(0)
    return Outcome(
        decision,
        served.recipe,
        served.bundle.version,
        served.bundle.manifest["data_snapshot"],
        facts,
        notes,
        served.figures or Figures(nothing, nothing),
        served.figure_users,
        {},
    )


def _present(recipe: RecipeVersion) -> RecipeVersion | None:
    """Return the recipe under the present code; None where that lacks its recommender or one of its settings."""
    try:
        return recipe.present()
    except RecommenderError:
        return None


def _places(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[len(wanted)]: where each wanted key is among ``keys``, -1 for none."""
    order = np.argsort(keys, kind="stable")
    places = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
    return np.where(keys[places] == wanted, places, -1).astype(np.int64)


def _inverse(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """int64[size]: which of ``places`` names each number below ``size``, -1 for none."""
    found = np.full(size, -1, dtype=np.int64)
    found[places[places >= 0]] = np.flatnonzero(places >= 0)
    return found


def _moved(history: FeatureHistory, places: NDArray[np.int64]) -> FeatureHistory:
    """Return a history in another index: ``places`` of each key there, -1 for a key that it lacks."""
    kept = places[history.keys] >= 0
    return FeatureHistory.of(places[history.keys[kept]], history.times[kept], history.values[kept], history.names)


def _joined(keys: NDArray[np.int64], others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys with those of ``others`` that they lack behind them, and the place of each of ``others``."""
    vanished = np.setdiff1d(others, keys)
    both = np.concatenate([keys, vanished]).astype(np.int64)
    order = np.argsort(both, kind="stable")
    return both, order[np.searchsorted(both[order], others)].astype(np.int64)


def _aligned(figures: Figures, users: NDArray[np.int64], wanted: NDArray[np.int64]) -> Figures:
    """Figures of users in the order wanted, NaN for those who have none."""
    if not len(users):
        nothing = np.full(len(wanted), np.nan)
        return Figures(nothing, nothing)
    order = np.argsort(users, kind="stable")
    places = order[np.minimum(np.searchsorted(users[order], wanted), len(users) - 1)]
    known = users[places] == wanted
    return Figures(*(np.where(known, values[places], np.nan) for values in (figures.ndcg, figures.found_new)))


def _write_figures(path: Path, figures: Figures, users: NDArray[np.int64]) -> None:
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as stream:
        np.savez(stream, allow_pickle=False, users=users, ndcg=figures.ndcg, found_new=figures.found_new)
    aside.replace(path)


def _read_figures(path: Path) -> tuple[Figures, NDArray[np.int64]]:
    with np.load(path, allow_pickle=False) as stored:
        return Figures(stored["ndcg"], stored["found_new"]), stored["users"]


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _without_nan(value: Any) -> Any:
    """JSON has neither NaN nor infinity: None says that there is no such number."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
