"""Strong generalisation: whole users are held out of the fit and told by 80 % of their rows (Liang et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.data.interactions import Interactions
from models.evaluation.protocols.base import Histories, ProtocolError, RankingProtocol, RankingTask, matrix_of
from models.evaluation.protocols.splitters import first_share, shuffled_places


@dataclass(frozen=True)
class StrongGeneralisation(RankingProtocol):
    """A tenth of the users (at most 10,000) is in no row of the fit; 80 % of their rows is history, the rest sought.

    ::

        learnt user:  t t t t t
        held user:    h h T h h      History that is told when asked, Test; nothing learnt

    Users with fewer than five rows are learnt from only. Items that nobody else rated stay in the ranking.
    """

    name: ClassVar[str] = "strong-generalisation"
    metrics: ClassVar[tuple[str, ...]] = ("recall_capped_20", "recall_capped_50", "ndcg_100")
    primary: ClassVar[str] = "ndcg_100"

    share: float = 0.1
    most: int = 10_000

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Draw the held-out users and their rows with ``seed``."""
        eligible = np.flatnonzero(interactions.user_counts() >= 5)
        count = min(self.most, round(self.share * len(eligible)))
        if count == 0:
            raise ProtocolError("too few users with five ratings to hold any out")
        held = np.sort(np.random.default_rng(seed).choice(eligible, count, replace=False)).astype(np.int64)
        of_held = np.isin(interactions.users, held)
        told = first_share(interactions, shuffled_places(interactions, seed), 0.8)
        history, times = Histories.of(interactions.take(of_held & told)).of_users(held)
        return RankingTask(
            interactions.take(~of_held),
            np.full(len(held), -1, dtype=np.int64),
            history,
            times,
            matrix_of(interactions.take(of_held & ~told), held),
            identities=held,
        )
