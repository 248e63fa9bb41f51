"""Leave the last one out: the protocol of He et al. 2017, and the full ranking beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.evaluation import NEGATIVES
from models.interactions import Interactions
from models.negatives import distinct_negatives
from models.protocols.contract import ProtocolError, RankingProtocol, RankingTask, task_of
from models.splits import last_rows


@dataclass(frozen=True)
class LeaveLastOut(RankingProtocol):
    """Each user's last row is to be found, among 99 items that the user never met and among all.

    ``judged`` bool[n_users]: users whose order in time is known; the others are learnt from whole::

        user a:  t t t t T      train, Test, in time order
        user b:  t t ?          a time is missing: all is learnt from
    """

    name: ClassVar[str] = "leave-last-out"
    metrics: ClassVar[tuple[str, ...]] = ("hr_10", "ndcg_10", "full_ndcg_10", "full_recall_20")
    primary: ClassVar[str] = "ndcg_10"

    judged: NDArray[np.bool_] | None = None

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """The negatives are drawn with ``seed``, outside everything that a user met."""
        last = last_rows(interactions)
        if self.judged is not None:
            last = last[self.judged[interactions.users[last]]]
        if len(last) == 0:
            raise ProtocolError("no user has two interactions with known times, so there is none to hold out")
        last = last[np.argsort(interactions.users[last], kind="stable")]
        held = np.zeros(len(interactions), dtype=bool)
        held[last] = True
        negatives = distinct_negatives(interactions, interactions.users[last], NEGATIVES, seed=seed)
        candidates = np.column_stack([interactions.items[last], negatives])
        return task_of(interactions.take(~held), interactions.take(last), candidates=candidates)
