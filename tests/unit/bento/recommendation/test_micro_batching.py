"""Requests that come at the same time are answered in one go, each with its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bento.recommendation.micro_batching import Together


class Doubling:
    """Answers numbers by their doubles and remembers what was asked together; 13 cannot be answered."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        if 13 in numbers:
            raise ValueError("13 is no number")
        return [2 * number for number in numbers]


def test_what_comes_in_one_turn_is_asked_together_and_each_gets_its_own() -> None:
    doubling = Doubling()

    async def ask() -> list[int]:
        together = Together(doubling, most=4)
        return await asyncio.gather(*(together.ask(number) for number in range(6)))

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10]
    assert doubling.asked == [[0, 1, 2, 3], [4, 5]]


def test_one_caller_waits_for_nobody() -> None:
    doubling = Doubling()

    async def ask() -> list[int]:
        together = Together(doubling)
        return [await together.ask(number) for number in (7, 8)]

    assert asyncio.run(ask()) == [14, 16]
    assert doubling.asked == [[7], [8]]


def test_a_request_that_fails_takes_no_other_along() -> None:
    doubling = Doubling()

    async def ask() -> list[int | BaseException]:
        together = Together(doubling)
        return await asyncio.gather(*(together.ask(number) for number in (12, 13, 14)), return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, third) == (24, 28)
    assert isinstance(second, ValueError)
    assert doubling.asked == [[12, 13, 14], [12], [13], [14]]


def test_who_hangs_up_is_not_answered_and_the_others_are() -> None:
    doubling = Doubling()

    async def ask() -> int:
        together = Together(doubling)
        gone, stays = (asyncio.ensure_future(together.ask(number)) for number in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    assert asyncio.run(ask()) == 4
    assert doubling.asked[-1] == [2]
