"""Leave the last one out: the protocol of He et al. 2017, and the full ranking beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.negative_sampling import distinct_negatives
from models.data.splits import last_rows
from models.evaluation.protocols.base import ProtocolError, RankingProtocol, RankingTask, task_of

#: Sampled negatives a user, as in He et al. 2017.
NEGATIVES = 99


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

    def held_out(self, interactions: Interactions) -> NDArray[np.int64]:
        """Return the rows to be found, one a user in the order of the users."""
        last = last_rows(interactions)
        if self.judged is not None:
            last = last[self.judged[interactions.users[last]]]
        return last[np.argsort(interactions.users[last], kind="stable")]

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Hold out each user's last row, and draw negatives with ``seed`` outside everything the user met."""
        last = self.held_out(interactions)
        if len(last) == 0:
            raise ProtocolError("no user has two interactions with known times, so there is none to hold out")
        negatives = distinct_negatives(interactions, interactions.users[last], NEGATIVES, seed=seed)
        candidates = np.column_stack([interactions.items[last], negatives])
        fit = interactions.take(_all_but(last, len(interactions)))
        return task_of(fit, interactions.take(last), candidates=candidates)

    def split_with(self, interactions: Interactions, features: TrainingFeatures, *, seed: int) -> RankingTask:
        """Return the task with the features of users and items as of each held-out row's time."""
        last = self.held_out(interactions)
        return replace(
            self.split(interactions, seed=seed),
            features=features.take(_all_but(last, len(interactions))),
            user_features=features.user_values[last],
            asked_at=interactions.timestamps[last],
        )


def _all_but(rows: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    kept = np.ones(n, dtype=bool)
    kept[rows] = False
    return kept
