"""Rating prediction: a given train and test file, or five folds of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.data.interactions import Interactions
from models.evaluation.protocols.base import ProtocolError, RatingProtocol, RatingTask


@dataclass(frozen=True)
class RatingFolds(RatingProtocol):
    """Rows in ``folds`` parts at random, each predicted after a fit on the others (Surprise's ``KFold``)."""

    name: ClassVar[str] = "rating-5-fold"

    folds: int = 5

    def split(self, interactions: Interactions, *, seed: int) -> tuple[RatingTask, ...]:
        """Every row is in exactly one test; ``ProtocolError`` for fewer rows than folds."""
        if len(interactions) < self.folds:
            raise ProtocolError(f"{len(interactions)} ratings cannot make {self.folds} folds")
        places = np.empty(len(interactions), dtype=np.int64)
        shuffle = np.random.default_rng(seed).permutation(len(interactions))
        places[np.argsort(interactions.codes(), kind="stable")[shuffle]] = np.arange(len(interactions))
        fold = places % self.folds
        return tuple(
            RatingTask(interactions.take(fold != part), interactions.take(fold == part)) for part in range(self.folds)
        )


def rating_task(train: Interactions, test: Interactions) -> RatingTask:
    """Build the task of two given parts; raise ``ProtocolError`` if a test pair is in the train part too."""
    if np.isin(test.codes(), train.codes()).any():
        raise ProtocolError("a pair of the test is in the train file too")
    return RatingTask(train, test)
