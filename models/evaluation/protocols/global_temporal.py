"""One global cut in time, as production lives it: learn from the past, be asked about the future."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.data.interactions import Interactions
from models.evaluation.protocols.base import ProtocolError, RankingProtocol, RankingTask, task_of


@dataclass(frozen=True)
class Temporal(RankingProtocol):
    """Everything before the moment at which ``share`` of the rows are past is learnt from, the rest is to be found.

    All rows of the cut's second are future. Users without a past are reported apart; items without one stay in::

        warm user:  t t t | T T      train, Test
        new user:         | T T T    apart
        gone user:  t t t |          only learnt from
    """

    name: ClassVar[str] = "temporal"
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_10", "recall_10", "recall_20", "hr_10", "map_10")
    primary: ClassVar[str] = "ndcg_10"

    share: float = 0.9

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Nothing is drawn; ``ProtocolError`` when the times are not known or are all one."""
        past = interactions.timestamps < self.cut(interactions)
        if not past.any():
            raise ProtocolError("no row is earlier than the cut: a temporal split needs times")
        return task_of(interactions.take(past), interactions.take(~past))

    def cut(self, interactions: Interactions) -> int:
        """Epoch seconds of the first moment that is future."""
        times = np.sort(interactions.timestamps)
        return int(times[int(self.share * len(times))])
