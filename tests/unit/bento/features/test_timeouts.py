from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from bento.errors import FeatureStoreUnavailable
from bento.features.online_store import UserFeatures
from bento.features.timeouts import WithDeadline
from tests.unit.bento.conftest import RecordingReader, features_of

KNOWN = features_of([1.0, 2.0])


class _Hanging(RecordingReader):
    """Answers no sooner than it is let go."""

    def __init__(self) -> None:
        super().__init__(KNOWN)
        self.go = threading.Event()

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        self.go.wait()
        return super().read_many(user_keys)

    def forget(self, user_key: int, now: datetime) -> None:
        self.go.wait()


@pytest.fixture
def hanging() -> Iterator[_Hanging]:
    reader = _Hanging()
    yield reader
    reader.go.set()


def test_what_answers_in_time_is_passed_on_as_it_is() -> None:
    reader = WithDeadline(RecordingReader(KNOWN), deadline_s=60)
    assert reader.read_many([5])[0] is KNOWN
    ahead = asyncio.run(reader.read_ahead([5, 6]))
    assert ahead.read_many([6])[0] is KNOWN
    broken = WithDeadline(RecordingReader(FeatureStoreUnavailable("gone")), deadline_s=60)
    for ask in (lambda: broken.read_many([5])[0], lambda: asyncio.run(broken.read_ahead([5])).read_many([5])[0]):
        with pytest.raises(FeatureStoreUnavailable, match="gone"):
            ask()


def test_a_store_that_hangs_is_given_up_and_further_readings_are_refused_until_it_answers(hanging: _Hanging) -> None:
    reader = WithDeadline(hanging, deadline_s=0.01, most=2)
    with pytest.raises(FeatureStoreUnavailable, match="in time"):
        reader.read_many([5])[0]
    with pytest.raises(FeatureStoreUnavailable, match="in time"):
        asyncio.run(reader.read_ahead([6])).read_many([6])[0]
    for _ in range(3):
        with pytest.raises(FeatureStoreUnavailable, match="hangs"):
            reader.read_many([7])[0]
    begun = [thread for thread in threading.enumerate() if thread.name == "online-features"]
    assert len(begun) == 2
    hanging.go.set()
    for thread in begun:
        thread.join()
    assert WithDeadline(hanging, deadline_s=60).read_many([7])[0] is KNOWN
    assert 7 in hanging.asked


def test_a_deletion_does_not_wait_for_a_store_that_hangs_either(hanging: _Hanging) -> None:
    with pytest.raises(FeatureStoreUnavailable, match="in time"):
        WithDeadline(hanging, deadline_s=0.01).forget(5, datetime.now(UTC))


def test_other_requests_are_answered_while_one_waits(hanging: _Hanging) -> None:
    reader = WithDeadline(hanging, deadline_s=60)

    async def both() -> UserFeatures:
        waiting = asyncio.ensure_future(reader.read_ahead([5]))
        # The loop is free, or this line would not be reached before the deadline.
        await asyncio.sleep(0)
        hanging.go.set()
        return (await waiting).read_many([5])[0]

    assert asyncio.run(both()) is KNOWN
