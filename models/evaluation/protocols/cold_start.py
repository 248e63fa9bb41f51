"""Cold start: users known by their first 1, 2 or 5 ratings, and films that nobody has rated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from models.data.interactions import Interactions
from models.evaluation.protocols.base import Histories, ProtocolError, RankingProtocol, RankingTask, matrix_of
from models.evaluation.protocols.splitters import places_in_user, shuffled_places

#: The films are segment ``films``, the users known by n ratings ``users_n``.
FILMS = "films"


@dataclass(frozen=True)
class ColdStart(RankingProtocol):
    """A fifth of the users and a tenth of the films are in no row of the fit; both are then asked for.

    ::

                       films learnt        films held
        learnt user:   t t t t t t         F F        F: to be ranked among the held films alone, t is his history
        held user:     h n n n n T T T     . .        known by the first row (h), by two or by five (h n ...)

    What a held user should find are his rows after the fifth, whether he is known by one or by five, among the learnt
    films that he did not rate before: the three figures differ by what the recommender is told alone. His first rows
    are the earliest ones; of one second, or where no time is known, they are drawn. ``judged`` bool[n_users]: users
    whose times are known, the only ones that are held out. The films are drawn at random and not the newest ones, so
    this measures what content is worth, not how tastes move on.
    """

    name: ClassVar[str] = "cold-start"
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_10", "recall_10", "hr_10")
    primary: ClassVar[str] = "ndcg_10"

    user_share: float = 0.2
    film_share: float = 0.1
    known_by: tuple[int, ...] = (1, 2, 5)
    judged: NDArray[np.bool_] | None = None

    def split(self, interactions: Interactions, *, seed: int) -> RankingTask:
        """Users, films and the order of rows of one second are drawn with ``seed``."""
        rng = np.random.default_rng(seed)
        rated = interactions.item_counts() > 0
        films = _draw(rng, np.flatnonzero(rated), self.film_share, "films")
        held_film = np.zeros(interactions.n_items, dtype=bool)
        held_film[films] = True
        warm = interactions.take(~held_film[interactions.items])
        most = max(self.known_by)
        enough = warm.user_counts() >= 2 * most
        if self.judged is not None:
            enough &= self.judged
        held = _draw(rng, np.flatnonzero(enough), self.user_share, f"users with {2 * most} ratings")
        of_held = np.isin(warm.users, held)
        fit = warm.take(~of_held)
        cold = warm.take(of_held)
        places = _earliest(cold, seed)
        relevant = matrix_of(cold.take(places >= most), held)

        new = interactions.take(held_film[interactions.items])
        known = fit.user_counts()[new.users] > 0
        readers = np.unique(new.users[known]).astype(np.int64)
        told = [Histories.of(cold.take(places < count)).of_users(held) for count in self.known_by]
        told.append(Histories.of(fit).of_users(readers))
        first = matrix_of(cold.take(places < most), held)
        n = len(self.known_by)
        segments = np.repeat(np.arange(n + 1), [len(held)] * n + [len(readers)])
        return RankingTask(
            fit,
            np.concatenate([np.full(n * len(held), -1), readers]).astype(np.int64),
            csr_array(vstack([history for history, _ in told], format="csr")),
            np.concatenate([times for _, times in told]),
            csr_array(vstack([relevant] * n + [matrix_of(new, readers)], format="csr")),
            hidden=csr_array(vstack([first] * n + [matrix_of(fit, readers)], format="csr")),
            identities=np.concatenate([*[held] * n, readers]).astype(np.int64),
            pools=np.stack([rated & ~held_film, held_film]),
            pool_of=(segments == n).astype(np.int64),
            segments={f"users_{count}": segments == place for place, count in enumerate(self.known_by)}
            | {FILMS: segments == n},
        )


def _draw(rng: np.random.Generator, among: NDArray[np.int64], share: float, what: str) -> NDArray[np.int64]:
    count = round(share * len(among))
    if count == 0:
        raise ProtocolError(f"too few {what} to hold any out")
    return np.sort(rng.choice(among, count, replace=False)).astype(np.int64)


def _earliest(rows: Interactions, seed: int) -> NDArray[np.int64]:
    """int64[N]: the place of each row in its user's order in time, drawn within a second."""
    lots = shuffled_places(rows, seed)
    order = np.empty(len(rows))
    order[np.lexsort((lots, rows.timestamps))] = np.arange(len(rows))
    return places_in_user(rows, order)
