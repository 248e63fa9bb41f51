"""Requests that come at the same time are answered together, for most of what one costs is shared by several.

Nothing waits for others to come: what the event loop has at hand when it turns to answering is taken as it is, and
what comes meanwhile is next. One caller at a time is answered as before; the more there are, the more are answered in
one go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger("marquee.serving")

#: Requests that are answered in one go at most: each waits for all of them.
MOST = 16

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Gathers what is asked in one turn of the event loop. ``answer_all`` gives an answer each, in the order asked.

    Where it fails for several, each is asked for alone, so that one request does not take the others along. It is under
    way ``most_at_once`` times at most.
    """

    def __init__(
        self,
        answer_all: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        most: int = MOST,
        most_at_once: int = 1,
    ) -> None:
        self._answer_all, self._most, self._most_at_once = answer_all, most, most_at_once
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer to one request; raise what ``answer_all`` raises for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._begin, loop)
        self._waiting.append((asked, answer))
        return await answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting or len(self._answering) >= self._most_at_once:
            return
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        if self._waiting:
            loop.call_soon(self._begin, loop)
        task = loop.create_task(self._answer(taken))
        # The loop itself holds a task only weakly.
        self._answering.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._begin(task.get_loop())

    async def _answer(self, taken: Sequence[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        # Who has hung up is not answered.
        taken = [(asked, future) for asked, future in taken if not future.done()]
        if not taken:
            return
        try:
            answers = await self._answer_all([asked for asked, _ in taken])
        except Exception as error:
            if len(taken) == 1:
                _settle(taken[0][1], error)
                return
            logger.warning("%s requests could not be answered together (%s): one by one", len(taken), error)
            for one in taken:
                await self._answer([one])
            return
        for (_, future), answer in zip(taken, answers, strict=True):
            _settle(future, answer)


def _settle(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
