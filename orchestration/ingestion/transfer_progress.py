"""How far a transfer is, how fast it goes and how long it will take: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm

from orchestration.storage.disk_space import readable


class Pace(Protocol):
    """What shows a transfer's progress while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, size: int) -> None:
        """Count ``size`` more bytes."""
        ...


class Bar:
    """A tqdm bar, for a terminal."""

    def __init__(self, name: str, have: int, total: int | None) -> None:
        self._bar = tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True, mininterval=0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, size: int) -> None:
        """Count ``size`` more bytes."""
        self._bar.update(size)


class Lines:
    """A line at the start, every ``every_s`` seconds, and at the end, for a log."""

    def __init__(
        self,
        name: str,
        have: int,
        total: int | None,
        tell: Callable[[str], None],
        *,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._have, self._total, self._tell = name, have, total, tell
        self._every_s, self._clock = every_s, clock
        self._received = 0

    def __enter__(self) -> Self:
        self._started = self._told = self._clock()
        size = "size not stated" if self._total is None else readable(self._total)
        rest = f", from {readable(self._have)} on" if self._have else ""
        self._tell(f"fetching {self._name} ({size}{rest})")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._tell(f"{self._name}: fetched {readable(self._received)} in {self._clock() - self._started:.0f} s")

    def add(self, size: int) -> None:
        """Count ``size`` more bytes."""
        self._received += size
        now = self._clock()
        if now - self._told < self._every_s:
            return
        self._told = now
        rate = self._received / (now - self._started)
        so_far = self._have + self._received
        line = f"{self._name}: {readable(so_far)}"
        if self._total:
            left_s = (self._total - so_far) / rate
            line += f" of {readable(self._total)} ({so_far / self._total:.0%}), {_clocked(left_s)} left"
        self._tell(f"{line}, {readable(rate)}/s")


def show_pace(name: str, have: int, total: int | None, tell: Callable[[str], None]) -> Pace:
    """Return the display that suits standard error: ``have`` of ``total`` bytes are there already; None is unknown."""
    return Bar(name, have, total) if sys.stderr.isatty() else Lines(name, have, total, tell)


def _clocked(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
