"""The request that is being answered: its id, when it came, and what is to be done once its answer is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request; ``began`` in seconds of ``time.perf_counter``. ``afterwards`` is called after the answer."""

    request_id: str
    began: float
    afterwards: list[Callable[[], None]] = field(default_factory=list)


_ARRIVAL: ContextVar[Arrival] = ContextVar("arrival")


def arrival() -> Arrival:
    """The request that is being answered; ``LookupError`` where the layer around the routes is missing."""
    return _ARRIVAL.get()


def note_arrival(came: Arrival) -> None:
    """Have ``arrival`` know it for the rest of this request."""
    _ARRIVAL.set(came)
