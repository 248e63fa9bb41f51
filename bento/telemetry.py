"""The request that is being answered: its id, when it came, and what is to be done once its answer is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

#: Asked every few seconds by whoever watches; counted, and not written down.
WATCHED = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request; ``began`` in seconds of ``time.perf_counter``. ``afterwards`` is called after the answer.

    ``charge`` counts the request as so many more in its caller's limit; it returns the seconds to wait, 0 for none.
    ``stages`` are the seconds that parts of the answer took so far: ``store``, ``features``, ``model``, ``body``.
    """

    request_id: str
    began: float
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    charge: Callable[[int], float] = field(default=lambda more: 0.0)


_ARRIVAL: ContextVar[Arrival] = ContextVar("arrival")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the time of a block to a stage of the request; outside of a request nobody counts. Less what is inside it."""
    came = _ARRIVAL.get(None)
    if came is None:
        yield
        return
    # Copied in one step: a thread that was not waited for may still be counting.
    stages, before, start = came.stages, sum(list(came.stages.values())), time.perf_counter()
    try:
        yield
    finally:
        inside = sum(list(stages.values())) - before
        stages[name] = stages.get(name, 0.0) + time.perf_counter() - start - inside


def arrival() -> Arrival:
    """Return the request being answered; raise ``LookupError`` if the layer around the routes is missing."""
    return _ARRIVAL.get()


def note_arrival(came: Arrival) -> None:
    """Have ``arrival`` know it for the rest of this request."""
    _ARRIVAL.set(came)
