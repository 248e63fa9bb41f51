"""What people are expected to like: the scores of all films for each of several requests, made in one go.

One reading of features, one product of the model for all whom it can score. What a request costs alone is mostly what
it costs to ask at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable
from bento.features.online_store import UserFeatures
from bento.recommendation.blending import Blend
from bento.recommendation.shipped_models import CONTENT
from bento.recommendation.user_profile import Taste, taste_from, taste_of
from bento.schemas.recommendations import Fallback, ItemSource, Met
from bento.store.user_state import NOBODY, AppHistory
from models.base import Recommender
from models.data.batch import UserBatch
from models.runtime.errors import UnknownUser
from models.serving.inference import KnowsLikeness, ScoresEach

logger = logging.getLogger("marquee.answers")

Source = Literal["collaborative", "content", "popular", "similar"]
_Cause = Literal["unknown_user", "no_features", "feature_store_unavailable", "no_history", "no_words"]

#: How many of a user's newest ratings in the app the likeness is taken from: a row of scores each.
FRESH = 200
#: How far they move the scores of a model that does not read the history, in standard deviations of those scores.
_NUDGE = 0.5


@dataclass(frozen=True, slots=True)
class Person:
    """Who is asked for: a user with what the app's store says of him, or nobody's user with a history sent along.

    ``app`` is None where the app's store could not be read.
    """

    user_id: int | None
    history: Sequence[Met] = ()
    app: AppHistory | None = NOBODY


@dataclass(frozen=True, slots=True)
class Scored:
    """What somebody is expected to like: ``scores`` float32[1, n_items], those of films he has met too.

    ``source`` and ``fallback`` say what gave them, ``batch`` is what it was asked with, ``features`` what was read.
    ``recommender`` is the model that was asked; ``blend`` what the films' words are in the scores where they count
    beside it, and ``weight`` how much they count, None where not.
    """

    taste: Taste
    batch: UserBatch
    scores: NDArray[np.float32]
    source: Source
    features: UserFeatures | None
    fallback: Fallback | None
    recommender: Recommender
    blend: Blend | None = None
    weight: float | None = None

    def sources(self, items: NDArray[np.int64]) -> list[ItemSource]:
        """Return the source that contributed most to each item's score."""
        rest: ItemSource = "collaborative" if self.source == "similar" else self.source
        if self.blend is None:
            return [rest] * len(items)
        return [CONTENT if given else rest for given in self.blend.from_content()[items].tolist()]


def scored_for(served: Served, person: Person) -> Scored:
    """Score all items for one person."""
    return scored_each(served, [person])[0]


def scored_each(served: Served, people: Sequence[Person]) -> list[Scored]:
    """Score all items for each person: by the model, by similarity to what they rated, or else by popularity."""
    tastes = [taste_of_person(served, person) for person in people]
    features, unreadable = _features(served, tastes)
    fallbacks = [
        _popular_instead(served, person, taste, own, unreadable)
        for person, taste, own in zip(people, tastes, features, strict=True)
    ]
    batches = [batch_of(served, taste, own) for taste, own in zip(tastes, features, strict=True)]
    made: dict[int, tuple[NDArray[np.float32], Source, Fallback | None]] = {}
    for places in _askable(tastes, fallbacks):
        made |= _by_model(served, people, tastes, batches, places)
    for place, fallback in enumerate(fallbacks):
        if fallback is not None:
            scores = np.asarray(served.bundle.popularity.score(batches[place]), dtype=np.float32)
            made[place] = scores[0], "popular", fallback
    return [
        Scored(taste, batch, made[place][0][None], made[place][1], own, made[place][2], served.bundle.recommender)
        for place, (taste, batch, own) in enumerate(zip(tastes, batches, features, strict=True))
    ]


def taste_of_person(served: Served, person: Person) -> Taste:
    """Return the taste of a user or, without a user id, of the history that the person sends."""
    if person.user_id is None:
        return taste_from(served, person.history)
    return taste_of(served, person.user_id, person.app or NOBODY)


def _features(served: Served, tastes: Sequence[Taste]) -> tuple[list[UserFeatures | None], bool]:
    """Read each person's online features, None for one the bundle does not know; also return whether that failed."""
    found: list[UserFeatures | None] = [None] * len(tastes)
    known = [place for place, taste in enumerate(tastes) if taste.user >= 0]
    if served.features is None or not known:
        return found, False
    try:
        read = served.features.read_many([int(served.user_keys[tastes[place].user]) for place in known])
    except FeatureStoreUnavailable as error:
        # The error names files and addresses: for the operator's log, not for the caller.
        logger.warning("%s", error)
        return found, True
    for place, features in zip(known, read, strict=True):
        found[place] = features
    return found, False


def _popular_instead(
    served: Served, person: Person, taste: Taste, features: UserFeatures | None, unreadable: bool
) -> Fallback | None:
    """Why somebody gets popular films, None where the model or likeness can answer."""
    if person.user_id is None and not len(taste.fresh):
        return popular_instead("no_history", "No film of the history is among those of the served model.")
    if taste.user < 0 and not len(taste.fresh):
        return popular_instead(
            "unknown_user",
            f"User {person.user_id} is not among the {len(served.bundle.users)} users that the served model was"
            " trained on.",
        )
    if taste.user >= 0 and unreadable:
        return popular_instead("feature_store_unavailable", "The online feature store could not be read.")
    if features is not None and not features.found:
        return popular_instead("no_features", f"User {person.user_id} has no features in the online feature store.")
    return None


def popular_instead(cause: _Cause, reason: str) -> Fallback:
    """Popular films, and why."""
    return Fallback(used="popularity", cause=cause, reason=f"{reason} These are popular films.")


def batch_of(served: Served, taste: Taste, features: UserFeatures | None) -> UserBatch:
    """Return what a model is asked with, as the promotion gate asks it: unknown features of a user are NaN."""
    values = None
    if features is not None and features.found:
        values = features.values[None]
    elif served.features is not None:
        values = np.full((1, len(served.bundle.features.user_names)), np.nan, dtype=np.float32)
    return UserBatch(np.array([taste.user]), taste.history, values, served.bundle.item_features, taste.times)


def _askable(tastes: Sequence[Taste], fallbacks: Sequence[Fallback | None]) -> Iterator[list[int]]:
    """Whom the model is asked for together: those whom the bundle knows, who may have features, and the others."""
    asked = [place for place, fallback in enumerate(fallbacks) if fallback is None]
    for places in (
        [place for place in asked if tastes[place].user >= 0],
        [place for place in asked if tastes[place].user < 0],
    ):
        if places:
            yield places


def _by_model(
    served: Served,
    people: Sequence[Person],
    tastes: Sequence[Taste],
    batches: Sequence[UserBatch],
    places: Sequence[int],
) -> dict[int, tuple[NDArray[np.float32], Source, Fallback | None]]:
    """Return the model's scores for these people, moved towards their fresh ratings if it does not read the history.

    If it does not know them, the scores are similarities to what they rated.
    """
    recommender = served.bundle.recommender
    other: dict[str, Source] = {"popularity": "popular", CONTENT: "content"}
    source: Source = other.get(recommender.name, "collaborative")
    fresh = [tastes[place] for place in places]
    try:
        scores = _scores(recommender, [batches[place] for place in places])
    except UnknownUser:
        likeness = _likeness_each(recommender, fresh)
        return {
            place: (row, "similar", _like_what_was_rated(people[place]))
            for place, row in zip(places, likeness, strict=True)
        }
    if not recommender.uses_history and recommender.name != "popularity":
        moved = [row for row, taste in enumerate(fresh) if len(taste.fresh)]
        for row, alike in zip(moved, _likeness_each(recommender, [fresh[row] for row in moved]), strict=True):
            scores[row] += np.float32(_NUDGE) * scores[row].std() * alike
    return {place: (row, source, None) for place, row in zip(places, scores, strict=True)}


def _scores(recommender: Recommender, batches: Sequence[UserBatch]) -> NDArray[np.float32]:
    """float32[len(batches), n_items], one's own to change: the model's scores of the one user in each batch."""
    if isinstance(recommender, ScoresEach):
        return recommender.score_each(batches)
    return np.array(recommender.score(_stacked(batches)), dtype=np.float32)


def _stacked(batches: Sequence[UserBatch]) -> UserBatch:
    """Batches as one; those that bring features and those that bring none do not go together."""
    if len(batches) == 1:
        return batches[0]
    values = [batch.user_features for batch in batches if batch.user_features is not None]
    times = [batch.history_times for batch in batches if batch.history_times is not None]
    return UserBatch(
        np.concatenate([batch.users for batch in batches]),
        csr_array(vstack([batch.history for batch in batches], format="csr")),
        np.concatenate(values) if values else None,
        batches[0].item_features,
        np.concatenate(times),
    )


def _like_what_was_rated(person: Person) -> Fallback:
    whom = "Who sent this history" if person.user_id is None else f"User {person.user_id}"
    return Fallback(
        used="likeness",
        cause="new_user",
        reason=f"{whom} is not yet among the users that the served model was trained on. These are films like those"
        " that he rated well.",
    )


def _likeness_each(recommender: Recommender, tastes: Sequence[Taste]) -> Iterator[NDArray[np.float32]]:
    """float32[n_items] of each: how like every film is to those that he rated well in the app, unlike the others.

    Between -1 and 1, whatever the model's scale of likeness.
    """
    sums = [(taste.fresh[-FRESH:], weight_of_stars(taste)) for taste in tastes]
    if not sums:
        return
    if isinstance(recommender, KnowsLikeness):
        rows: Iterable[NDArray[np.float32]] = recommender.weighted(sums)
    else:
        rows = (weights @ recommender.similarities(items) for items, weights in sums)
    for row in rows:
        yield np.asarray(row / max(float(np.abs(row).max()), 1e-9), dtype=np.float32)


def weight_of_stars(taste: Taste) -> NDArray[np.float32]:
    """Return the weight of each of the user's newest ratings in the app: above 0 for a movie that they liked.

    The zero is halfway between the middle of the scale and the most common rating, so that no rating weighs nothing.
    """
    return np.asarray((taste.fresh_stars[-FRESH:] - np.float32(3.25)) / np.float32(2.75), dtype=np.float32)
