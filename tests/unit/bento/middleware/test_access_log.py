"""What a request took: stages without what is inside them, and routes as the documents name them."""

from __future__ import annotations

import asyncio

import pytest

from bento.telemetry import Arrival, note_arrival, stage


def test_a_stage_counts_without_the_stages_inside_it_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 4.0, 10.0, 20.0, 22.0])
    monkeypatch.setattr("bento.telemetry.time.perf_counter", lambda: next(moments))

    async def answered() -> dict[str, float]:
        came = Arrival("id", 0.0)
        note_arrival(came)
        with stage("model"), stage("features"):
            pass
        with stage("model"):
            pass
        return came.stages

    # The model from 0 to 10 with the features from 1 to 4 in it, then from 20 to 22.
    assert asyncio.run(answered()) == {"features": 3.0, "model": 9.0}


def test_outside_of_a_request_nobody_counts() -> None:
    async def elsewhere() -> None:
        with stage("store"):
            pass

    asyncio.run(elsewhere())
