"""How a request wants films scored: by which model of the bundle, and how much the films' words count beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bento.bundles.loaded_bundle import Served
from bento.recommendation.blending import blended
from bento.recommendation.scoring import Person, Scored, batch_of, popular_instead, scored_each, taste_of_person
from bento.recommendation.shipped_models import CONTENT, shipped_model
from bento.recommendation.user_profile import Taste
from bento.schemas.recommendations import Fallback
from models.base import Recommender
from models.serving.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Way:
    """``model`` scores; ``content``, where it is wanted beside it, with ``weight``, which is None where none was."""

    model: Recommender
    content: Recommender | None = None
    weight: float | None = None


def way_of(bundle: Bundle, model: str | None, blend: float) -> Way:
    """Return the requested way; raise ``RequestRefused`` (400) for a model that the bundle does not ship."""
    chosen = shipped_model(bundle, model)
    if blend <= 0:
        return Way(chosen)
    content = shipped_model(bundle, CONTENT)
    if blend >= 1 or chosen is content:
        return Way(content, weight=blend)
    return Way(chosen, content, blend)


def scored_by(served: Served, people: Sequence[Person], ways: Sequence[Way]) -> list[Scored]:
    """Score each person in their way; all those for the promoted model are scored together."""
    promoted = [place for place, way in enumerate(ways) if way.model is served.bundle.recommender]
    made = dict(zip(promoted, scored_each(served, [people[place] for place in promoted]), strict=True))
    return [
        _blended(served, made[place] if place in made else _by_another(served, person, way.model), way)
        for place, (person, way) in enumerate(zip(people, ways, strict=True))
    ]


def _by_another(served: Served, person: Person, model: Recommender) -> Scored:
    """Score a person with a model other than the promoted one: it reads no features, only the person's history."""
    taste = taste_of_person(served, person)
    batch = batch_of(served, taste, None)
    scores = np.array(model.score(batch), dtype=np.float32)
    if model.name != CONTENT:
        return Scored(taste, batch, scores, "popular", None, None, model)
    if scores.any():
        return Scored(taste, batch, scores, "content", None, None, model)
    popular = np.array(served.bundle.popularity.score(batch), dtype=np.float32)
    return Scored(taste, batch, popular, "popular", None, _wordless(person, taste), model)


def _wordless(person: Person, taste: Taste) -> Fallback:
    whom = "Who sent this history" if person.user_id is None else f"User {person.user_id}"
    if taste.history.nnz:
        return popular_instead("no_words", f"{whom} has met no film that shares a word with another.")
    nobody = person.user_id is not None and taste.user < 0
    return popular_instead("unknown_user" if nobody else "no_history", f"{whom} has met no film of the served model.")


def _blended(served: Served, scored: Scored, way: Way) -> Scored:
    """Blend the content's scores into a person's; they stay as they are where the content has nothing to say."""
    if way.content is None:
        return scored if scored.fallback is not None else replace(scored, weight=way.weight)
    content = way.content.score(scored.batch)[0]
    if way.weight is None or not content.any():
        return scored
    own = np.log1p(scored.scores[0]) if scored.source == "popular" else scored.scores[0]
    blend = blended(own, content, way.weight, way.content, known=served.facts.votes > 0)
    fallback = scored.fallback
    if fallback is not None:
        fallback = fallback.model_copy(update={"reason": f"{fallback.reason} The films' words count beside that."})
    return replace(scored, scores=blend.scores[None], blend=blend, weight=way.weight, fallback=fallback)
