"""Which films are like one: by who met them, by their words, or by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento.bundles.loaded_bundle import Served
from bento.recommendation.blending import Blend, blended
from bento.recommendation.scoring_plan import Way
from bento.recommendation.shipped_models import CONTENT, shipped_model
from bento.schemas.recommendations import ItemSource, Likeness
from models.base import Recommender
from models.serving.bundle import Bundle

#: What the content weighs in hybrid likeness.
HALF = 0.5


@dataclass(frozen=True, slots=True)
class LikeOne:
    """Likeness to one film: ``scores`` float32[n_items] by ``model``, ``blend`` where the content counts beside it."""

    scores: NDArray[np.float32]
    model: Recommender
    blend: Blend | None = None

    def source(self, from_content: bool) -> ItemSource:
        """Return the source of a movie's score; ``from_content``: the content gave the larger part."""
        if from_content or self.model.name == CONTENT:
            return CONTENT
        return "popular" if self.model.name == "popularity" else "collaborative"

    def sources(self, items: NDArray[np.int64]) -> list[ItemSource]:
        """Return the source that contributed most to each item's score."""
        given = np.zeros(len(self.scores), dtype=bool) if self.blend is None else self.blend.from_content()
        return [self.source(one) for one in given[items].tolist()]


def way_of_likeness(bundle: Bundle, by: Likeness, model: str | None) -> Way:
    """Return the way to compare movies; ``model`` is the model whose similarity counts, None for the promoted one.

    Raises ``RequestRefused`` (400) for a model that the bundle does not ship.
    """
    if by == "content":
        return Way(shipped_model(bundle, CONTENT))
    chosen = shipped_model(bundle, model)
    return Way(chosen, shipped_model(bundle, CONTENT), HALF) if by == "hybrid" else Way(chosen)


def likeness_by(served: Served, way: Way, item: int) -> LikeOne:
    """How like one film all are, itself too, in the way that is asked for."""
    asked = np.array([item])
    own = np.array(way.model.similarities(asked)[0], dtype=np.float32)
    if way.content is None or way.weight is None:
        return LikeOne(own, way.model)
    # Likeness to itself is no likeness to others: it would only narrow the scale.
    others, content = np.arange(len(own)) != item, way.content.similarities(asked)[0]
    blend = blended(own, content, way.weight, way.content, known=served.facts.votes > 0, among=others)
    return LikeOne(blend.scores, way.model, blend)
