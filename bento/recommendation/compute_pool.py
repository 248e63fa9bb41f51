"""Work that takes the processor, in threads of its own: the event loop does nothing but reading and writing.

Otherwise one large request keeps all others waiting, health checks and the deadline itself among them.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from bento.errors import RequestRefused

#: Pieces of work that may wait for a thread; each belongs to a request that somebody waits for.
MAX_WAITING = 256

Result = TypeVar("Result")


class Abandoned(Exception):
    """Nobody waits for the result any more: the deadline has passed."""


_ABANDONED: contextvars.ContextVar[threading.Event] = contextvars.ContextVar("abandoned")


def check_wanted() -> None:
    """Raise ``Abandoned`` once nobody waits for what this thread computes; to be called between its parts."""
    event = _ABANDONED.get(None)
    if event is not None and event.is_set():
        raise Abandoned


class ComputePool:
    """A bounded number of threads with a bounded number of pieces of work that wait for them."""

    def __init__(self, name: str, threads: int = 1, max_waiting: int = MAX_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threading.BoundedSemaphore(threads + max_waiting)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns. It sees the context of the caller, and is told when he stops waiting.

        ``RequestRefused`` (503) where too much waits already.
        """
        if not self._free.acquire(blocking=False):
            raise RequestRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, "The service is overloaded.", "Send the request again in some seconds."
            )
        abandoned, context = threading.Event(), contextvars.copy_context()
        context.run(_ABANDONED.set, abandoned)
        future = self._pool.submit(context.run, work)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def close(self) -> None:
        """Take nothing more; what has begun ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, _: Future[Result]) -> None:
        self._free.release()
