"""Which films are like one: by who met them, by their words, or by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento.blend import blended
from bento.schemas import ItemSource, Likeness
from bento.shipped import CONTENT, shipped_model
from models.bundle import Bundle

#: What the content weighs in hybrid likeness.
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Alike:
    """How like one film all are: ``scores`` float32[n_items], -inf for itself and for what is not like it at all.

    ``by`` says what they come from, ``model`` whose likeness it is, with the weight ``blend`` of the content beside it
    (None: without). ``from_content`` bool[n_items]: whether the content gave the larger part of the score.
    """

    scores: NDArray[np.float32]
    by: Likeness
    model: str
    blend: float | None
    from_content: NDArray[np.bool_]

    def sources(self, items: NDArray[np.int64]) -> list[ItemSource]:
        """What gave each of the items its score, or the larger part of it."""
        rest: ItemSource = "popular" if self.model == "popularity" else "collaborative"
        return [CONTENT if given else rest for given in self.from_content[items].tolist()]


def alike(bundle: Bundle, item: int, by: Likeness, model: str | None) -> Alike:
    """The likeness of all films to one; ``model`` is whose, the promoted one's for None.

    ``RequestRefused`` (400) for a model that the bundle does not ship.
    """
    chosen = shipped_model(bundle, CONTENT if by == "content" else model)
    if chosen.name == CONTENT and by == "behaviour":
        by = "content"
    likeness = np.array(chosen.similarities(np.array([item]))[0], dtype=np.float32)
    given = np.full(len(likeness), chosen.name == CONTENT)
    if by == "hybrid":
        words = shipped_model(bundle, CONTENT)
        # Likeness to itself is no likeness to others: it would only narrow the scale.
        others = np.arange(len(likeness)) != item
        blend = blended(likeness, words.similarities(np.array([item]))[0], HALF, words, among=others)
        likeness, given = blend.scores, blend.from_content()
    elif by == "content":
        # A film that shares no word is not alike, wherever it stands in the catalogue.
        likeness[likeness <= 0] = -np.inf
    likeness[item] = -np.inf
    return Alike(likeness, by, chosen.name, HALF if by == "hybrid" else None, given)
