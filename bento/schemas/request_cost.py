"""What a request may ask for at once, and what it counts for in a caller's limit and in the choice of a thread.

The unit is about what `/recommend` takes for a list of usual length: 5 to 20 ms of a processor.
"""

from __future__ import annotations

import math

#: Movies that one `/recommend_batch` may list over all its users, and with a reason for each; both take half a second.
MAX_BATCH_MOVIES = 10_000
MAX_BATCH_REASONS = 2_000
_USERS, _MOVIES, _REASONS, _HISTORY = 10, 500, 100, 1_000


def cost_of(*, users: int = 1, movies: int, reasons: bool = False, history: int = 0) -> int:
    """Units of a request for so many movies over all its users, from a history sent along of so many movies.

    >>> cost_of(movies=20, reasons=True), cost_of(movies=500, reasons=True), cost_of(users=200, movies=200)
    (1, 5, 20)
    """
    listed = movies / (_REASONS if reasons else _MOVIES)
    return max(1, math.ceil(max(users / _USERS, listed, history / _HISTORY)))
