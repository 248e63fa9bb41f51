"""Rows of interactions to hold out, so that no row that is learnt from is later than its user's held-out one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.data.interactions import Interactions


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
