"""Progress of a fit, as a recommender tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a fit: ``step`` of ``total`` (an epoch for NeuMF), and the figures known by then."""

    step: int
    total: int
    metrics: Mapping[str, float]


ProgressCallback = Callable[[Progress], None]
