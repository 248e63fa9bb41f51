"""75/25 at random within each user, all items ranked: the benchmark of the recommenders repository on ml-100k."""

from __future__ import annotations

from typing import ClassVar

from models.data.interactions import Interactions
from models.evaluation.protocols.base import RankingProtocol, RankingTask, task_of
from models.evaluation.protocols.splitters import first_share, shuffled_places


class Random7525(RankingProtocol):
    """Three quarters of each user's rows are learnt from, the rest is to be found; what was learnt is not ranked.

    ::

        user a:  t t t T  T t t t      train, Test, in no order
        user b:  t t                   round(0.75 * 2) = 2: nothing to find, not asked for
    """

    name: ClassVar[str] = "random-75-25"
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_10", "precision_10", "recall_10", "map_10")
    primary: ClassVar[str] = "ndcg_10"

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Of ties in the scores an irrelevant item comes first; everything else as in ``python_evaluation``."""
        train = first_share(interactions, shuffled_places(interactions, seed), 0.75)
        return task_of(interactions.take(train), interactions.take(~train))
