"""Why each film of an answer is there, as arguments of a ``Reason`` of the schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.bundles.loaded_bundle import Served
from bento.recommendation.blending import Blend
from bento.recommendation.scoring import FRESH, Scored, weight_of_stars
from bento.recommendation.user_profile import Taste
from models.base import Recommender, WordWeights
from models.serving.explanations import FILMS, WORDS, Reason, reasons_for, reasons_of, text_of
from models.serving.inference import KnowsLikeness


def reasons_told(
    served: Served,
    scored: Scored,
    items: NDArray[np.int64],
    films: int = FILMS,
    words: int = WORDS,
    *,
    always: bool = True,
) -> list[dict[str, object] | None]:
    """Why each of ``items`` int64[k] has its score, as arguments of a ``Reason``.

    At most so many films and words are named. Where nothing of the user speaks for a film, its reason is how many
    users rated it, or with ``always`` off None.
    """
    recommender, taste = scored.recommender, scored.taste
    if scored.blend is not None:
        reasons = _blended_reasons(scored, scored.blend, items, films, words)
    elif scored.source == "popular":
        return [_rated_by(count) for count in scored.scores[0, items].tolist()]
    elif scored.source in ("collaborative", "content") and recommender.uses_history:
        reasons = reasons_for(recommender, scored.batch, items, films, words)
    elif scored.source == "similar":
        reasons = reasons_of(taste.fresh[-FRESH:], _like_fresh(recommender, taste, items), None, films, words)
    else:
        met = np.asarray(taste.history.indices, dtype=np.int64)
        reasons = reasons_of(met, _liked(taste) * _likeness_to(recommender, met, items), None, films, words)
    cards = served.catalogue.cards
    told = [_reason(reason, cards) for reason in reasons]
    if not always:
        return told
    votes = served.facts.votes
    return [_rated_by(int(votes[item])) if one is None else one for item, one in zip(items, told, strict=True)]


def _blended_reasons(scored: Scored, blend: Blend, items: NDArray[np.int64], films: int, words: int) -> list[Reason]:
    """Return the reasons of both parts of a blend, in units of its score, with the user's mean and deviation fixed.

    A reason is empty for a movie that is listed more for its popularity than for its words.
    """
    met = np.asarray(scored.taste.history.indices, dtype=np.int64)
    told = blend.words.word_weights(scored.batch, items)
    if told is not None:
        told = WordWeights(told.weights * np.float32(blend.content_unit), told.names)
    weights = blend.content_unit * blend.words.contributions(scored.batch, items) + _own_weights(scored, blend, items)
    reasons = reasons_of(met, np.asarray(weights, dtype=np.float32), told, films, words)
    given = scored.sources(items)
    return [Reason() if source == "popular" else one for one, source in zip(reasons, given, strict=True)]


def _own_weights(scored: Scored, blend: Blend, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[k, h]: what each film of the history gives to the model's part of a blend.

    Of a model that does not read the history it is that part, where it raises the score, dealt out by likeness.
    """
    taste, recommender = scored.taste, scored.recommender
    met = np.asarray(taste.history.indices, dtype=np.int64)
    if scored.source == "popular":
        return np.zeros((len(items), len(met)), dtype=np.float32)
    if scored.source == "collaborative" and recommender.uses_history:
        # Of a film that nobody met the model's score does not count.
        counts = np.where(blend.own[items] != 0, np.float32(blend.own_unit), np.float32(0.0))
        return np.asarray(counts[:, None] * recommender.contributions(scored.batch, items), dtype=np.float32)
    if scored.source == "similar":
        likeness = np.zeros((len(items), len(met)), dtype=np.float32)
        likeness[:, np.searchsorted(met, taste.fresh[-FRESH:])] = _like_fresh(recommender, taste, items)
    else:
        likeness = _liked(taste) * _likeness_to(recommender, met, items)
    likeness = np.maximum(likeness, 0)
    whole = np.maximum(likeness.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(likeness / whole * np.maximum(blend.own[items], 0)[:, None], dtype=np.float32)


def _like_fresh(recommender: Recommender, taste: Taste, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[k, fresh]: what each of the newest ratings in the app gives to the likeness that the scores are.

    That a film is unlike what he did not like raises it too, and would be no reason that anybody understands.
    """
    likeness = recommender.similarities(taste.fresh[-FRESH:])[:, items].T
    return np.asarray(np.maximum(weight_of_stars(taste), 0) * likeness, dtype=np.float32)


def _rated_by(count: float) -> dict[str, object]:
    return {"text": f"Rated by {count:.0f} users.", "films": [], "words": []}


def _liked(taste: Taste) -> NDArray[np.float32]:
    """float32[h]: how far above the middle each film of the history was rated; by who is strict, above his own."""
    stars = np.asarray(taste.history.data, dtype=np.float32)
    middle = min(3.25, float(stars.mean())) if len(stars) else 3.25
    return np.maximum(stars - np.float32(middle - 0.25), 0) / np.float32(2.75)


def _likeness_to(recommender: Recommender, met: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[k, h]: how like each of the items is to each film that was met, as the model has it.

    For a model that learnt its users and does not read their histories: its vectors know what goes to the same people.
    """
    if isinstance(recommender, KnowsLikeness):
        return recommender.likeness(met, items).T
    return np.asarray(recommender.similarities(items)[:, met], dtype=np.float32)


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
