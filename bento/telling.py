"""Why each film of an answer is there, as arguments of a ``Reason`` of the schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.scoring import FRESH, Scored, weight_of_stars
from bento.served import Served
from bento.taste import Taste
from models.reasons import FILMS, WORDS, Reason, reasons_for, reasons_of, text_of
from models.recommender import Recommender
from models.served_forms import KnowsLikeness


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
    recommender, taste = served.bundle.recommender, scored.taste
    if scored.source == "popular":
        return [_rated_by(count) for count in scored.scores[0, items].tolist()]
    if scored.source == "collaborative" and recommender.uses_history:
        reasons = reasons_for(recommender, scored.batch, items, films, words)
    elif scored.source == "similar":
        # What made the scores is the likeness to the ratings in the app, each of which is a summand. That a film is
        # unlike what he did not like raises it too, and would be no reason that anybody understands.
        fresh = taste.fresh[-FRESH:]
        likeness = np.maximum(weight_of_stars(taste), 0) * recommender.similarities(fresh)[:, items].T
        reasons = reasons_of(fresh, likeness, None, films, words)
    else:
        met = np.asarray(taste.history.indices, dtype=np.int64)
        reasons = reasons_of(met, _liked(taste) * _likeness_to(recommender, met, items), None, films, words)
    cards = served.catalogue.cards
    told = [_reason(reason, cards) for reason in reasons]
    if not always:
        return told
    votes = served.facts.votes
    return [_rated_by(int(votes[item])) if one is None else one for item, one in zip(items, told, strict=True)]


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
