"""How many requests a caller may send: a leaky bucket each (the generic cell rate algorithm), in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimit:
    """Lets ``per_minute`` requests of one caller through, all of them at once where he was quiet before.

    One number a caller is kept, of the ``remembered`` latest; ``clock`` gives seconds that never go back.
    """

    def __init__(
        self, per_minute: int, *, remembered: int = 50_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._step = 60.0 / per_minute
        self._per_minute = per_minute
        self._remembered = remembered
        self._clock = clock
        #: When each bucket will be empty.
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str, cost: int = 1) -> float:
        """Count a request as ``cost`` of them; 0 where it may go on, else the seconds until it may.

        One that costs more than a minute's requests counts as these, for it could never be sent.
        """
        now = self._clock()
        empty_at = max(self._empty_at.get(caller, now), now) + self._step * min(cost, self._per_minute)
        if empty_at - now > 60.0 + 1e-9:
            return empty_at - now - 60.0
        self._empty_at[caller] = empty_at
        self._empty_at.move_to_end(caller)
        if len(self._empty_at) > self._remembered:
            self._empty_at.popitem(last=False)
        return 0.0

    def give_back(self, caller: str) -> None:
        """Take a request back that was counted and is not to count."""
        if caller in self._empty_at:
            self._empty_at[caller] -= self._step
