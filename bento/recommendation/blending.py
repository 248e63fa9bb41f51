"""Scores of a model and of the films' words on one scale and weighed, as ``hybrid`` does it, for one person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.algorithms.hybrid import moments
from models.base import Recommender


@dataclass(frozen=True, slots=True)
class Blend:
    """A score as a sum: ``own`` and ``content`` float32[n_items] are what the model and the films' words give to it.

    ``own_unit`` and ``content_unit`` are what a score of 1 of either counts, its weight over the deviation of its
    scores. ``words`` is the model of the words.
    """

    own: NDArray[np.float32]
    content: NDArray[np.float32]
    own_unit: float
    content_unit: float
    words: Recommender

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32[n_items]: the sum."""
        return np.asarray(self.own + self.content, dtype=np.float32)

    def from_content(self) -> NDArray[np.bool_]:
        """bool[n_items]: whether the words gave the larger part."""
        return np.asarray(self.content > self.own)


def blended(
    own: NDArray[np.float32],
    content: NDArray[np.float32],
    weight: float,
    words: Recommender,
    *,
    known: NDArray[np.bool_] | None = None,
    among: NDArray[np.bool_] | None = None,
) -> Blend:
    """Scores float32[n_items] of both, the content's with ``weight`` and the others with the rest.

    Each are first standard deviations from their mean over the films ``among`` bool[n_items] (None: all), of the model
    over those of them alone that it has ``known``: of the others it can say nothing. Any other film's part is 0.
    """
    films = np.ones(len(own), dtype=bool) if among is None else among
    own_part, own_unit = _weighed(own, films if known is None else films & known, 1 - weight)
    content_part, content_unit = _weighed(content, films, weight)
    return Blend(own_part, content_part, own_unit, content_unit, words)


def _weighed(scores: NDArray[np.float32], of: NDArray[np.bool_], weight: float) -> tuple[NDArray[np.float32], float]:
    mean, deviation = moments(scores[None, of])
    unit = weight / float(deviation[0])
    return np.where(of, (scores - mean[0]) * np.float32(unit), np.float32(0.0)).astype(np.float32), unit
