"""Features from an online store that is a server: asked in threads of their own, and waited for only so long.

A store that hangs must neither hold the event loop nor gather threads without end: once ``MOST`` readings hang, the
next ones are refused at once, until one of them comes back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from bento.errors import FeatureStoreUnavailable
from bento.features.online_store import UserFeatures
from bento.telemetry import stage

#: Seconds that an answer waits for the online store; then it is made without features.
DEADLINE_S = 0.25
#: Readings that may be under way at once.
MOST = 64

Result = TypeVar("Result")


class _Reader(Protocol):
    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]: ...

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None: ...

    def forget(self, user_key: int, now: datetime) -> None: ...


class WithDeadline:
    """A reader of features whose every call ends within ``deadline_s``, by ``FeatureStoreUnavailable`` if need be."""

    def __init__(self, reader: _Reader, deadline_s: float = DEADLINE_S, most: int = MOST) -> None:
        self._reader, self._deadline_s = reader, deadline_s
        self._free = threading.BoundedSemaphore(most)

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        """Return the features of several users, in their order."""
        return self._waited(lambda: self._reader.read_many(user_keys))

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        """Have the store hold these features of users by key."""
        self._waited(lambda: self._reader.push(rows, now))

    def forget(self, user_key: int, now: datetime) -> None:
        """Have no features of a user any more."""
        self._waited(lambda: self._reader.forget(user_key, now))

    async def read_ahead(self, user_keys: Sequence[int]) -> ReadAhead:
        """Read the features of these users, or keep the error, while other requests are answered."""
        try:
            # The thread that reads is of no request, so that the waiting counts.
            with stage("features"):
                begun = asyncio.wrap_future(self._begun(lambda: self._reader.read_many(user_keys)))
                found = await asyncio.wait_for(begun, self._deadline_s)
        except (TimeoutError, FeatureStoreUnavailable) as error:
            return ReadAhead(_unavailable(error))
        return ReadAhead(dict(zip(user_keys, found, strict=True)))

    def _waited(self, act: Callable[[], Result]) -> Result:
        try:
            return self._begun(act).result(self._deadline_s)
        except (TookTooLong, TimeoutError) as error:
            raise _unavailable(error) from error

    def _begun(self, act: Callable[[], Result]) -> Future[Result]:
        if not self._free.acquire(blocking=False):
            raise FeatureStoreUnavailable("the online feature store hangs: all readings that may be are under way")
        told: Future[Result] = Future()
        told.set_running_or_notify_cancel()

        def run() -> None:
            try:
                found = act()
            except BaseException as error:
                told.set_exception(error)
            else:
                told.set_result(found)
            finally:
                self._free.release()

        # One that hangs does not keep the process from ending.
        threading.Thread(target=run, name="online-features", daemon=True).start()
        return told


@dataclass(frozen=True, slots=True)
class ReadAhead:
    """A reader of what was read already: features by key, or why there are none."""

    found: Mapping[int, UserFeatures] | FeatureStoreUnavailable

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        """Return the features of several users, in their order."""
        if isinstance(self.found, FeatureStoreUnavailable):
            raise self.found
        return [self.found[key] for key in user_keys]

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        """Refused: what was read cannot be written."""
        raise FeatureStoreUnavailable("features that were read ahead cannot be written")

    def forget(self, user_key: int, now: datetime) -> None:
        """Refused: what was read cannot be written."""
        raise FeatureStoreUnavailable("features that were read ahead cannot be written")


def _unavailable(error: Exception) -> FeatureStoreUnavailable:
    if isinstance(error, FeatureStoreUnavailable):
        return error
    return FeatureStoreUnavailable("the online feature store did not answer in time")
