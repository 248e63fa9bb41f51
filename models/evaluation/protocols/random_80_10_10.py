"""8:1:1 at random within each user, all items ranked: RecBole's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from models.data.interactions import Interactions
from models.evaluation.protocols.base import Histories, ProtocolError, RankingProtocol, RankingTask, task_of
from models.evaluation.protocols.splitters import recbole_counts, shuffled_places


@dataclass(frozen=True)
class Random811(RankingProtocol):
    """Of the rows with ``min_rating`` or more: 80 % learnt from, 10 % validation, 10 % to be found.

    As in RecBole neither what was learnt nor the validation is ranked, and the validation is not learnt from::

        user a:  t t V t t t t T t t      train, Validation, Test, in no order
        user b:  t T                      RecBole gives the test its row first
    """

    name: ClassVar[str] = "random-8-1-1"
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_10", "recall_10", "mrr_10", "hr_10", "precision_10")
    primary: ClassVar[str] = "ndcg_10"

    min_rating: float = 3.0

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Ask for the test part, and hide the validation part from the ranking."""
        rows = interactions.take(interactions.ratings >= self.min_rating)
        places = shuffled_places(rows, seed)
        ends = np.cumsum(recbole_counts(rows.user_counts(), (0.8, 0.1, 0.1)), axis=1)[rows.users]
        part = (places[:, None] >= ends).sum(axis=1)
        return task_of(rows.take(part == 0), rows.take(part == 2), hidden=rows.take(part == 1))

    def _validation(self, task: RankingTask, *, seed: int) -> RankingTask:
        """Return the protocol's own validation part: the same fit, asked for what the test's ranking leaves out."""
        if task.hidden is None:
            return self.split(task.fit, seed=seed)
        met = csr_array(task.history > 0).astype(np.float32)
        held = csr_array((task.hidden - met) > 0).astype(np.float32)
        held.eliminate_zeros()
        asked = np.flatnonzero(np.diff(held.indptr) > 0)
        if len(asked) == 0:
            raise ProtocolError("nobody has a validation row")
        history, times = Histories.of(task.fit).of_users(task.users[asked])
        return RankingTask(
            task.fit,
            task.users[asked],
            history,
            times,
            csr_array(held[asked]),
            identities=None if task.identities is None else task.identities[asked],
        )
