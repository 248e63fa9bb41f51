"""Work in threads: it sees its request, ends soon after nobody waits for it, and does not pile up without end."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar

import pytest

from bento.errors import RequestRefused
from bento.recommendation.compute_pool import Abandoned, ComputePool, check_wanted

_WHO: ContextVar[str] = ContextVar("who")


def test_work_runs_in_another_thread_and_sees_the_context_of_its_request() -> None:
    async def ask() -> tuple[str, int]:
        _WHO.set("ann")
        return await ComputePool("test").run(lambda: (_WHO.get(), threading.get_ident()))

    who, thread = asyncio.run(ask())
    assert who == "ann"
    assert thread != threading.get_ident()


def test_work_that_nobody_waits_for_ends_at_its_next_look_and_what_waits_is_not_begun() -> None:
    begun, ended = threading.Event(), threading.Event()
    others: list[int] = []

    def work() -> None:
        begun.set()
        try:
            while True:
                check_wanted()
                time.sleep(0.001)
        except Abandoned:
            ended.set()
            raise

    async def ask() -> None:
        pool = ComputePool("test")
        task = asyncio.ensure_future(pool.run(work))
        waiting = asyncio.ensure_future(pool.run(lambda: others.append(1)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        for one in (waiting, task):
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        assert await asyncio.to_thread(ended.wait, 20)
        assert await pool.run(lambda: 5) == 5

    asyncio.run(ask())
    assert others == []


def test_outside_of_a_pool_all_work_is_wanted() -> None:
    check_wanted()


def test_more_work_than_may_wait_is_refused_with_503_until_there_is_room() -> None:
    free = threading.Event()

    async def ask() -> int:
        pool = ComputePool("test", threads=1, max_waiting=1)
        tasks = [asyncio.ensure_future(pool.run(free.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestRefused) as refused:
            await pool.run(lambda: 0)
        free.set()
        await asyncio.gather(*tasks)
        assert await pool.run(lambda: 7) == 7
        return refused.value.status

    assert asyncio.run(ask()) == 503
