"""Answers about one user and one film: the stars that he would give it, and what speaks for it."""

from __future__ import annotations

from http import HTTPStatus

import numpy as np

from bento.bundles.loaded_bundle import Served
from bento.errors import RequestRefused
from bento.recommendation.answers import film_named, named, provenance_of
from bento.recommendation.explanations import reasons_told
from bento.recommendation.scoring import Person, scored_for
from bento.recommendation.user_profile import taste_of
from bento.schemas.recommendations import (
    ExplainRequest,
    ExplainResponse,
    Fallback,
    Interval,
    PredictRatingRequest,
    PredictRatingResponse,
)
from bento.store.user_state import NOBODY, AppHistory
from models.data.batch import UserBatch
from models.serving.rating_inference import HIGHEST, LOWEST, foretell

#: Stars from which a film is one that the user likes.
LIKED = 3.7
#: How likely a rating is within the interval that an answer names.
LEVEL = 0.8
#: How many films and words an explanation names at most.
_FILMS, _WORDS = 10, 10


def predict_rating(served: Served, request: PredictRatingRequest, app: AppHistory | None) -> PredictRatingResponse:
    """Predict the rating that a user would give a movie, from all their ratings but that of the movie itself.

    Raises ``RequestRefused``: 404 for a movie that the model does not have, 503 if the bundle cannot predict ratings.
    """
    item = film_named(served, request.movie_id)
    head = served.bundle.rating
    if head is None:
        raise RequestRefused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The served bundle has no model of stars.",
            "Train and promote one of this version (`make run`).",
        )
    taste = taste_of(served, request.user_id, app or NOBODY)
    told = foretell(head, UserBatch(np.array([-1]), taste.history), np.array([[item]]))
    own = taste.history.data[taste.history.indices == item]
    used = taste.history.nnz - len(own)
    mean = float(np.clip(told.mean[0, 0], LOWEST, HIGHEST))
    low, high = (float(np.clip(bound[0, 0], LOWEST, HIGHEST)) for bound in told.interval(LEVEL))
    return PredictRatingResponse(
        user_id=request.user_id,
        movie=named(served, item),
        predicted=mean,
        interval=Interval(low=low, high=high, level=LEVEL),
        would_like=mean >= LIKED,
        chance=float(told.chance_of(LIKED)[0, 0]),
        own_rating=float(own[0]) if len(own) else None,
        ratings_used=used,
        fallback=None if used else _stranger(request.user_id),
        provenance=provenance_of(served.bundle, None, None if app is None else len(taste.fresh)),
    )


def _stranger(user_id: int) -> Fallback:
    return Fallback(
        used="averages",
        cause="unknown_user",
        reason=f"No other rating of user {user_id} is known. This is what people give the film.",
    )


def explain(served: Served, request: ExplainRequest, app: AppHistory | None) -> ExplainResponse:
    """Explain which of a user's ratings and what of a movie's content speak for the movie.

    Raises ``RequestRefused`` (404) for a movie that the model does not have.
    """
    item = film_named(served, request.movie_id)
    scored = scored_for(served, Person(request.user_id, app=app))
    taste, scores = scored.taste, scored.scores[0]
    out = np.zeros(len(scores), dtype=bool)
    out[taste.history.indices] = out[taste.dismissed] = True
    [reason] = reasons_told(served, scored, np.array([item]), _FILMS, _WORDS, always=False)
    return ExplainResponse.model_validate(
        {
            "user_id": request.user_id,
            "movie": named(served, item),
            "met": bool((taste.history.indices == item).any()),
            "dismissed": bool((taste.dismissed == item).any()),
            "score": float(scores[item]),
            # Of equal scores the first film comes first, as in the list.
            "rank": None if out[item] else 1 + int((_before(scores, item) & ~out).sum()),
            "source": scored.sources(np.array([item]))[0],
            "reason": reason,
            "fallback": scored.fallback,
            "provenance": provenance_of(served.bundle, scored.features, None if app is None else len(taste.fresh)),
        }
    )


def _before(scores: np.ndarray, item: int) -> np.ndarray:
    return np.asarray((scores > scores[item]) | ((scores == scores[item]) & (np.arange(len(scores)) < item)))
