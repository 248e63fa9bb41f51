"""The layer around all routes, around an app of a few lines: when an answer takes too long."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

from bento.middleware.asgi import Front


async def _ask(app: Any, body: bytes | None = b"", timeout_s: float = 0.1) -> list[dict[str, Any]]:
    """Send a request to an app and return the messages it sends back; a ``body`` of None never arrives."""
    sent: list[dict[str, Any]] = []
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"content-length", b"2")]}

    async def receive() -> dict[str, Any]:
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    guard = SimpleNamespace(
        judge=lambda scope, headers: SimpleNamespace(status=None, caller=None, cors=(), headers=()),
        answered=lambda verdict, status: None,
        charge=lambda verdict, more: 0.0,
    )
    await Front(app, SimpleNamespace(guard=guard, request_timeout_s=timeout_s))(scope, receive, send)
    return sent


async def _say(send: Any, text: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


def _is_timeout(sent: list[dict[str, Any]]) -> None:
    start, body = sent
    assert start["status"] == 504
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert json.loads(body["body"])["request_id"].encode() == headers[b"x-request-id"]


def test_an_answer_that_takes_too_long_is_a_problem_with_all_headers() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    _is_timeout(asyncio.run(_ask(slow)))


def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async def quick(scope: Any, receive: Any, send: Any) -> None:
        await _say(send, b"quick")

    _is_timeout(asyncio.run(_ask(quick, body=None)))


def test_the_deadline_fires_while_a_thread_hangs_that_cannot_be_cancelled() -> None:
    free = threading.Event()
    late: list[str] = []

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        thread = asyncio.get_running_loop().run_in_executor(None, free.wait)
        while not thread.done():
            try:
                await asyncio.shield(thread)
            except asyncio.CancelledError:
                late.append("cancelled")
        await _say(send, b"too late")
        late.append("said")

    async def ask() -> None:
        sent = await _ask(hangs)
        _is_timeout(sent)
        free.set()
        while "said" not in late:
            await asyncio.sleep(0.001)
        # What comes later is not sent.
        _is_timeout(sent)

    asyncio.run(ask())
    assert late == ["cancelled", "said"]


def test_an_answer_that_has_begun_in_time_may_take_longer() -> None:
    async def in_pieces(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": b"whole"})

    sent = asyncio.run(_ask(in_pieces))
    assert [message.get("status", message.get("body")) for message in sent] == [200, b"whole"]
