"""A caller of HTTP that costs little: one connection kept open a caller, bodies made before the clock starts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Refused(RuntimeError):
    """An answer that is not a success; no figure can be made of it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as bytes: what is sent as it is."""

    data: bytes

    @classmethod
    def of(cls, method: str, path: str, body: Mapping[str, Any] | None = None) -> Asked:
        """Build a request, with a JSON body if one is given."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n"
        kind = "" if body is None else "content-type: application/json\r\n"
        return cls(f"{head}{kind}\r\n".encode() + content)


@dataclass(frozen=True, slots=True)
class Answered:
    """When the request was sent and the whole answer there (seconds of ``perf_counter``), and its body."""

    sent: float
    done: float
    body: bytes

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.done - self.sent

    def json(self) -> Any:
        """Parse the body as JSON."""
        return json.loads(self.body)


class Caller:
    """One connection; an async context manager. Raises ``Refused`` for any status but a 2xx."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port

    async def __aenter__(self) -> Caller:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, asked: Asked) -> Answered:
        """Send one request and read its answer."""
        sent = time.perf_counter()
        self._writer.write(asked.data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            body = await self._reader.readexactly(length)
        elif b"transfer-encoding: chunked" in head:
            body = await self._chunks()
        else:
            body = b""
        done = time.perf_counter()
        if head[9:10] != b"2":
            raise Refused(f"{asked.data[:80]!r}: {head[:12]!r} {body[:300]!r}")
        return Answered(sent, done, body)

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            length = int(await self._reader.readline(), 16)
            chunk = await self._reader.readexactly(length + 2)
            if not length:
                return body
            body += chunk[:-2]


async def ask_all(port: int, asked: Sequence[Asked], callers: int) -> tuple[float, list[Answered]]:
    """All requests by so many callers at once, each waiting for its answer: seconds for all, and the answers."""
    waiting = iter(asked)
    found: list[Answered] = []

    async def go_on(caller: Caller) -> None:
        for one in waiting:
            answer = await caller.ask(one)
            found.append(answer)

    open_callers = [await Caller(port).__aenter__() for _ in range(callers)]
    try:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for caller in open_callers:
                group.create_task(go_on(caller))
        return time.perf_counter() - started, found
    finally:
        for caller in open_callers:
            await caller.__aexit__()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all values do not exceed.

    >>> quantile([3.0, 1.0, 2.0, 4.0], 0.5), quantile([3.0, 1.0], 0.99)
    (2.0, 3.0)
    """
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1e6) * len(ordered) // 1_000_000) - 1))]
