"""Choosing a configuration on a validation cut from what may be learnt from; the test is never looked at."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.evaluation.protocols.base import RankingProtocol, RankingTask
from models.evaluation.runner import judge
from models.registry import configured


@dataclass(frozen=True, slots=True)
class Choice:
    """The values that were best, and the validation's figure of every combination that was tried."""

    best: dict[str, Any]
    tried: tuple[tuple[dict[str, Any], float], ...]


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid's values, the last field running fastest.

    >>> combinations({"l2": [1, 2], "max_items": [9]})
    [{'l2': 1, 'max_items': 9}, {'l2': 2, 'max_items': 9}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def choose(
    name: str,
    grid: Mapping[str, Sequence[Any]],
    protocol: RankingProtocol,
    task: RankingTask,
    *,
    seed: int,
    base: Mapping[str, Any] | None = None,
) -> Choice:
    """Fit each combination on the validation's own training and take the one best on the protocol's primary metric.

    Of equally good ones the first. ``base`` are fields that all share.
    """
    watched = protocol.validation(task, seed=seed)
    tried = []
    for values in combinations(grid):
        fitted = configured(name, {**(base or {}), **values}).fit(watched.fit, watched.features, seed=seed)
        figures = judge(fitted, watched, (protocol.primary,)).by_user[protocol.primary]
        tried.append((values, float(np.nanmean(figures))))
    best = max(tried, key=lambda one: one[1])[0]
    return Choice(best, tuple(tried))
