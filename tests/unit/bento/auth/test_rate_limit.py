from __future__ import annotations

from bento.auth.rate_limit import RateLimit


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_may_send_a_minutes_requests_at_once_and_then_one_a_step() -> None:
    clock = Clock()
    limit = RateLimit(6, clock=clock)
    assert [limit.wait("ann") for _ in range(6)] == [0.0] * 6
    assert limit.wait("ann") == 10.0
    assert limit.wait("bob") == 0.0
    clock.now += 9.0
    assert abs(limit.wait("ann") - 1.0) < 1e-9
    clock.now += 1.0
    assert [limit.wait("ann") for _ in range(2)] == [0.0, 10.0]


def test_a_request_that_is_given_back_does_not_count() -> None:
    limit = RateLimit(1, clock=Clock())
    for _ in range(5):
        assert limit.wait("ann") == 0.0
        limit.give_back("ann")
    assert limit.wait("ann") == 0.0
    assert limit.wait("ann") > 0.0


def test_a_request_that_costs_more_counts_as_several() -> None:
    clock = Clock()
    limit = RateLimit(6, clock=clock)
    assert limit.wait("ann", 5) == 0.0
    assert limit.wait("ann", 2) == 10.0
    assert limit.wait("ann", 1) == 0.0
    # One that costs more than a minute's requests takes all of them, and is not refused for ever.
    clock.now += 60.0
    assert limit.wait("ann", 100) == 0.0
    assert limit.wait("ann") == 10.0


def test_only_the_latest_callers_are_remembered() -> None:
    limit = RateLimit(1, remembered=2, clock=Clock())
    for name in ("ann", "bob", "eve"):
        assert limit.wait(name) == 0.0
    assert limit.wait("eve") > 0.0
    assert limit.wait("ann") == 0.0
