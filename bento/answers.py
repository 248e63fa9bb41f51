"""From a request to its answer, over one loaded bundle: plain functions that know neither HTTP nor BentoML."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bento.catalogue import Catalogue
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.features import UserFeatures
from bento.schemas import (
    Fallback,
    Provenance,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
)
from bento.store.history import NOBODY, AppHistory
from bento.store.tables import FIRST_APP_USER_ID
from models.bundle import Bundle
from models.reasons import Reason, reasons_for, reasons_of, text_of
from models.recommender import Recommender, UnknownUser, UserBatch, mask_seen, top_k

logger = logging.getLogger("marquee.answers")

Source = Literal["collaborative", "popular", "similar"]

#: How many of a user's newest ratings in the app the likeness is taken from: a row of scores each.
_FRESH = 200
#: How far they move the scores of a model that does not read the history, in standard deviations of those scores.
_NUDGE = 0.5


class FeatureReader(Protocol):
    """Whoever knows a user's features now."""

    def read(self, user_key: int) -> UserFeatures:
        """The features, or ``FeatureStoreUnavailable``."""
        ...

    def forget(self, user_key: int, now: datetime) -> None:
        """Have no features of a user any more, or ``FeatureStoreUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle with its features' reader, and its films as Python values, which one request reads a few of."""

    bundle: Bundle
    features: FeatureReader | None
    catalogue: Catalogue
    user_keys: NDArray[np.int64]

    @classmethod
    def of(cls, bundle: Bundle, features: FeatureReader | None) -> Served:
        """Prepare a bundle; ``features`` may be None only where its recommender uses none."""
        return cls(bundle, features, Catalogue.of(bundle), bundle.users["user_key"].to_numpy().astype(np.int64))


@dataclass(frozen=True, slots=True)
class Taste:
    """What one user has met: the bundle's history with the app's ratings folded in, as one row.

    ``user`` is the bundle's index, -1 for who is not in it. ``fresh`` and ``fresh_stars`` are the films that he rated
    in the app and the model has, the last written last; ``dismissed`` those he sent away.
    """

    user: int
    history: csr_array
    fresh: NDArray[np.int64]
    fresh_stars: NDArray[np.float32]
    dismissed: NDArray[np.int64]


def taste_of(served: Served, user_id: int, app: AppHistory = NOBODY) -> Taste:
    """Fold what the app's store says of a user into what the bundle knows; a later rating stands for the one before."""
    bundle, place = served.bundle, served.catalogue.by_key
    user = -1 if app.forgotten else bundle.user_index.get(user_id, -1)
    known = slice(int(bundle.history.indptr[user]), int(bundle.history.indptr[user + 1])) if user >= 0 else slice(0, 0)
    told = [(place[key], stars) for key, stars in app.ratings if key in place]
    fresh = np.array([item for item, _ in told], dtype=np.int64)
    fresh_stars = np.array([stars for _, stars in told], dtype=np.float32)
    old = np.asarray(bundle.history.indices[known], dtype=np.int64)
    # Of the app's own people its store knows all: what is not there was taken back after the training.
    stays = ~np.isin(old, fresh) & (not app.known or user_id < FIRST_APP_USER_ID)
    items = np.concatenate([old[stays], fresh])
    stars = np.concatenate([bundle.history.data[known][stays], fresh_stars]).astype(np.float32)
    order = np.argsort(items)
    return Taste(
        user,
        csr_array((stars[order], items[order], np.array([0, len(items)])), shape=(1, len(bundle.items))),
        fresh,
        fresh_stars,
        np.array([place[key] for key in app.dismissed if key in place], dtype=np.int64),
    )


def recommend(served: Served, request: RecommendRequest, app: AppHistory | None = NOBODY) -> RecommendResponse:
    """The best films for a user that he has neither rated nor dismissed.

    What he did in the app counts at once: in the history of a model that reads it, else as likeness to what he rated.
    Popular films, and why, where neither can answer. ``app`` is None where the app's store could not be read.
    """
    bundle = served.bundle
    taste = taste_of(served, request.user_id, app or NOBODY)
    fallback: Fallback | None = None
    features: UserFeatures | None = None
    if taste.user < 0 and not len(taste.fresh):
        fallback = _popular(
            "unknown_user",
            f"User {request.user_id} is not among the {len(bundle.users)} users that the served model was trained on.",
        )
    elif taste.user >= 0 and served.features is not None:
        try:
            features = served.features.read(int(served.user_keys[taste.user]))
        except FeatureStoreUnavailable as error:
            # The error names files and addresses: for the operator's log, not for the caller.
            logger.warning("%s", error)
            fallback = _popular("feature_store_unavailable", "The online feature store could not be read.")
        else:
            if not features.found:
                fallback = _popular(
                    "no_features", f"User {request.user_id} has no features in the online feature store."
                )
    values = features.values[None] if features is not None and features.found else None
    batch = UserBatch(np.array([taste.user]), taste.history, values, bundle.item_features)
    source: Source = "popular" if bundle.recommender.name == "popularity" else "collaborative"
    if fallback is None:
        try:
            scores = _model_scores(bundle.recommender, batch, taste)
        except UnknownUser:
            scores, source = _likeness(bundle.recommender, taste), "similar"
            fallback = Fallback(
                used="likeness",
                cause="new_user",
                reason=f"User {request.user_id} is not yet among the users that the served model was trained on. These"
                " are films like those that he rated well.",
            )
    else:
        scores, source = bundle.popularity.score(batch), "popular"
    scores = mask_seen(scores, taste.history)
    scores[0, taste.dismissed] = -np.inf
    found, best = top_k(scores, request.k)
    reasons = _reasons(served, batch, taste, found[0], best[0], source)
    return RecommendResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(served, found[0], best[0], source, reasons),
            "fallback": fallback,
            "provenance": _provenance(bundle, features, None if app is None else len(taste.fresh)),
        }
    )


def _model_scores(recommender: Recommender, batch: UserBatch, taste: Taste) -> NDArray[np.float32]:
    """The model's scores; one that does not read the history is moved towards what the app's ratings are like."""
    scores = recommender.score(batch)
    if recommender.uses_history or recommender.name == "popularity" or not len(taste.fresh):
        return scores
    spread = np.float32(_NUDGE) * scores.std()
    return np.asarray(scores + spread * _likeness(recommender, taste), dtype=np.float32)


def _likeness(recommender: Recommender, taste: Taste) -> NDArray[np.float32]:
    """float32[1, n_items]: how like each film is to those that the user rated well in the app, and unlike the others.

    Between -1 and 1, whatever the model's scale of likeness.
    """
    scores = _taste(taste) @ recommender.similarities(taste.fresh[-_FRESH:])
    return np.asarray(scores / max(float(np.abs(scores).max()), 1e-9), dtype=np.float32)[None]


def _taste(taste: Taste) -> NDArray[np.float32]:
    """What each of the user's newest ratings in the app says of taste: above 0 for a film that he liked.

    Counted from halfway between the middle of the scale and what people mostly give, so that no rating weighs nothing.
    """
    return (taste.fresh_stars[-_FRESH:] - np.float32(3.25)) / np.float32(2.75)


def _reasons(
    served: Served,
    batch: UserBatch,
    taste: Taste,
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
    source: Source,
) -> list[dict[str, object] | None]:
    """Why each film of a row of ``recommend``, as arguments of a ``Reason``; None where the scores do not tell."""
    recommender, items = served.bundle.recommender, found[found >= 0]
    if source == "popular":
        return [{"text": f"Rated by {score:.0f} users.", "films": [], "words": []} for score in scores[: len(items)]]
    if source == "collaborative" and recommender.uses_history:
        reasons = reasons_for(recommender, batch, items)
    elif len(taste.fresh):
        # What moved the scores is the likeness to the ratings in the app, each of which is a summand. That a film is
        # unlike what he did not like raises it too, and would be no reason that anybody understands.
        likeness = recommender.similarities(taste.fresh[-_FRESH:])[:, items]
        reasons = reasons_of(taste.fresh[-_FRESH:], np.maximum(_taste(taste), 0) * likeness.T)
    else:
        return [None] * len(items)
    cards = served.catalogue.cards
    return [_reason(reason, cards) for reason in reasons]


def _reason(reason: Reason, cards: Sequence[Mapping[str, Any]]) -> dict[str, object] | None:
    text = text_of(reason, lambda item: str(cards[item]["title"]))
    if text is None:
        return None
    films = [
        {"movie_id": cards[item]["movie_id"], "title": cards[item]["title"], "weight": weight}
        for item, weight in reason.items
    ]
    words = [(name.partition(":"), weight) for name, weight in reason.words]
    return {
        "text": text,
        "films": films,
        "words": [{"kind": kind, "word": word, "weight": weight} for (kind, _, word), weight in words],
    }


def similar(served: Served, request: SimilarRequest) -> SimilarResponse:
    """The films most like one; ``RequestRefused`` (404) for a film that the bundle does not have."""
    bundle = served.bundle
    item = bundle.item_index.get(request.movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"Movie {request.movie_id} is not among the {len(bundle.items)} films of the served model.",
            "Use a movieId of the edition the model was trained on; a film without ratings at that time is not in it.",
        )
    found, scores = bundle.recommender.similar(np.array([item]), request.k)
    source: Source = "popular" if bundle.recommender.name == "popularity" else "similar"
    return SimilarResponse.model_validate(
        {
            "movie_id": request.movie_id,
            "items": _items(served, found[0], scores[0], source),
            "fallback": None,
            "provenance": _provenance(bundle, None, 0),
        }
    )


def _popular(cause: Literal["unknown_user", "no_features", "feature_store_unavailable"], reason: str) -> Fallback:
    return Fallback(used="popularity", cause=cause, reason=f"{reason} These are popular films.")


def _items(
    served: Served,
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
    source: Source,
    reasons: Sequence[dict[str, object] | None] | None = None,
) -> list[dict[str, object]]:
    """The films of a row of ``recommend`` or ``similar``, without its padding, as arguments of an ``Item``.

    Left to the answer to validate as a whole: that takes 1 microsecond an item, making each by itself 3 to 5.
    """
    count = int((found >= 0).sum())
    told = [None] * count if reasons is None else reasons
    rows = enumerate(zip(found[:count].tolist(), scores[:count].tolist(), told, strict=True), start=1)
    return [
        {**served.catalogue.cards[item], "rank": rank, "score": score, "source": source, "reason": reason}
        for rank, (item, score, reason) in rows
    ]


def _provenance(bundle: Bundle, features: UserFeatures | None, app_ratings: int | None) -> Provenance:
    found = features is not None and features.found
    return Provenance(
        model_version=bundle.version,
        recommender=bundle.recommender.name,
        data_snapshot=dict(bundle.manifest["data_snapshot"]),
        feature_service=bundle.features.service or None,
        feature_hash=bundle.features.service_hash or None,
        feature_timestamp=_utc(features.timestamp) if features is not None else None,
        missing_features=list(features.missing) if features is not None and found else [],
        app_ratings=app_ratings,
    )


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
