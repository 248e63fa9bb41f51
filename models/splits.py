"""Splits of interactions into what is learnt from and what is asked for, as row indices.

Nothing leaks: a held-out row is in no other part, and no row that is learnt from is later than its user's held-out one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.interactions import Interactions


@dataclass(frozen=True, slots=True)
class LeaveLastOut:
    """Each user's last interaction is the test, the one before the validation, the rest the training.

    Row indices int64 into the interactions, ascending. With a user's rows in time order::

        user a:  t t t t V T        train, Validation, Test
        user b:  t V T
        user c:  t T                two rows: no validation
        user d:  t                  a single row is never held out, else nothing would be known of the user
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def fit(self) -> NDArray[np.int64]:
        """Everything but the test: what a model is fitted on before it is judged by the test."""
        return np.sort(np.concatenate([self.train, self.validation]))


def last_rows(interactions: Interactions) -> NDArray[np.int64]:
    """int64: the row of each user's last interaction, of users with at least two; ascending.

    Of several rows at the user's latest second the one with the highest item index is the last, whatever the order of
    the rows: a bulk import gives dozens of ratings one time.
    """
    order = np.lexsort((interactions.items, interactions.timestamps, interactions.users))
    users = interactions.users[order]
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True)) if len(order) else np.empty(0, dtype=np.int64)
    enough = interactions.user_counts()[users[ends]] >= 2
    return np.sort(order[ends[enough]]).astype(np.int64)


def leave_last_out(interactions: Interactions) -> LeaveLastOut:
    """The leave-last-one-out split of He et al. 2017, with the validation cut the same way from what is left."""
    test = last_rows(interactions)
    fit = _without(len(interactions), test)
    validation = fit[last_rows(interactions.take(fit))]
    return LeaveLastOut(_without(len(interactions), np.concatenate([test, validation])), validation, test)


def _without(n_rows: int, rows: NDArray[Any]) -> NDArray[np.int64]:
    kept = np.ones(n_rows, dtype=bool)
    kept[rows] = False
    return np.flatnonzero(kept).astype(np.int64)
