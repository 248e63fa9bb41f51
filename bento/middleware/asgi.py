"""The one ASGI layer around every route, BentoML's and those under ``/v1``.

It has the guard judge each request before any route sees it, gives each answer a request id and security headers,
refuses bodies that are too large before they are read, makes every error an RFC 9457 problem, and notes what came of
each request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from bento.api.dependencies import utc_now
from bento.api.problem_details import MEDIA_TYPE, problem
from bento.auth.access_policy import Guard, Verdict
from bento.auth.principal import note_caller
from bento.middleware.access_log import RequestLog
from bento.telemetry import Arrival, note_arrival

logger = logging.getLogger("marquee.front")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Bytes of the largest body that is taken: a history of 10,000 movies has some hundred thousand.
MAX_BODY = 1_000_000
#: The same under ``/v1``, where a body has a few values.
MAX_RESOURCE_BODY = 16_384
#: Lists, objects and values by name in a body. A parser needs longer for many small ones than for one large text: for
#: 300,000 empty lists a fifth of a second, in which nothing else is done.
MAX_NESTED, MAX_NAMED = 11_000, 21_000
#: Seconds from a request to the beginning of its answer, unless the settings say otherwise.
TIMEOUT_S = 30.0
#: A caller's own id is taken over where it can do no harm in a log.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: On every answer.
SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"geolocation=(), camera=(), microphone=()"),
]
#: Answers are of one person and of one moment.
_OF_DATA: Headers = [(b"cache-control", b"no-store"), (b"content-security-policy", b"default-src 'none'")]
#: Pages load from this service alone; the style sheet of the API reference has its icons in itself.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_OF_PAGES: Headers = [(b"content-security-policy", _POLICY.encode())]


_NOT_STARTED = Verdict(HTTPStatus.SERVICE_UNAVAILABLE, "Not ready: the service has not started yet.")
#: Also without the resources' path in front, where people look for them.
_SHORT = {"/login": "/v1/login", "/refresh": "/v1/refresh"}


class Front:
    """Wraps an ASGI app.

    ``state.guard`` judges and ``state.requests`` takes note once the service has started; ``state.request_timeout_s``
    is when a request is answered 504.
    """

    def __init__(self, app: App, state: Any) -> None:
        self._app = app
        self._state = state
        #: What still runs for requests that were answered without it: the event loop itself holds a task only weakly.
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no such routes, and nobody would look at who opens one.
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        # Of a header that comes twice the last one counts, here and for every route.
        headers = {name.lower(): value for name, value in scope["headers"]}
        guard: Guard | None = getattr(self._state, "guard", None)
        verdict = _NOT_STARTED if guard is None else guard.judge(scope, headers)
        answer = _Answer(scope, send, _request_id(scope), verdict, guard)
        came, at = Arrival(answer.request_id, began), utc_now()
        if guard is not None:
            came = replace(came, charge=partial(guard.charge, verdict))
        try:
            await self._answer_in_time(scope, receive, headers, verdict, answer, came)
        finally:
            log: RequestLog | None = getattr(self._state, "requests", None)
            if log is not None:
                role = None if verdict.caller is None else verdict.caller.role
                log.note(scope, came, at, time.perf_counter() - began, answer.status, role)

    async def _answer_in_time(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        verdict: Verdict,
        answer: _Answer,
        came: Arrival,
    ) -> None:
        """Answer, or say that it takes too long: in a task of its own, for a thread that hangs cannot be cancelled."""
        timeout_s: float = getattr(self._state, "request_timeout_s", TIMEOUT_S)
        task = asyncio.ensure_future(self._answer(scope, receive, headers, verdict, answer, came))
        try:
            done, _ = await asyncio.wait((task, answer.begun), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if done:
                await task
                return
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._late.add(task)
        task.add_done_callback(self._forget)
        task.cancel()
        await answer.give_up(timeout_s)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a request that was answered 504 failed later: %s", type(error).__name__)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        verdict: Verdict,
        answer: _Answer,
        came: Arrival,
    ) -> None:
        if verdict.status is not None:
            await answer.refuse(verdict.status, verdict.detail, verdict.headers)
            return
        kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if scope["method"] in ("POST", "PUT", "PATCH") and kind != b"application/json":
            await answer.refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A body is application/json.")
            return
        length = headers.get(b"content-length", b"0")
        if length != b"0" or b"transfer-encoding" in headers:
            most = MAX_RESOURCE_BODY if scope["path"].startswith("/v1/") else MAX_BODY
            too_large = length.isdigit() and int(length) > most
            body = None if too_large else await _read(receive, most)
            if body is None:
                detail = f"A body of this route has at most {most} bytes."
                await answer.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
                return
            if body.count(b"[") + body.count(b"{") > MAX_NESTED or body.count(b":") > MAX_NAMED:
                detail = f"A body has at most {MAX_NESTED} lists and objects, and {MAX_NAMED} values in them by name."
                await answer.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
                return
            receive = _replay(body, receive)
        if verdict.caller is not None:
            note_caller(verdict.caller)
        note_arrival(came)
        if scope["path"] in _SHORT:
            path = _SHORT[scope["path"]]
            scope = {**scope, "path": path, "raw_path": path.encode()}
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if answer.started:
                raise
            logger.exception("request %s failed", answer.request_id)
            await answer.refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "An unexpected error has occurred; the log has it under the request id.",
            )
        finally:
            for act in came.afterwards:
                act()


class _Answer:
    """What goes back to the caller: an error is held until it is whole, then rewritten."""

    def __init__(self, scope: Scope, send: Send, request_id: str, verdict: Verdict, guard: Guard | None) -> None:
        self.request_id = request_id
        #: As nginx says of a caller who is gone before there is an answer.
        self.status = 499
        self._verdict, self._guard = verdict, guard
        self.started = False
        #: Done once something of the answer is sent, or held to be rewritten.
        self.begun = asyncio.get_running_loop().create_future()
        self._given_up = False
        self._path = str(scope["path"])
        self._send = send
        self._held: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Take a message of the app."""
        if not self._given_up:
            await self._take(message)

    async def give_up(self, timeout_s: float) -> None:
        """Answer that it takes too long; what the app says later is not sent."""
        self._given_up = True
        await self.refuse(HTTPStatus.GATEWAY_TIMEOUT, f"The answer took longer than {timeout_s:g} s.")

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, int(message["status"])
            if not self.begun.done():
                self.begun.set_result(None)
            if self._guard is not None:
                self._guard.answered(self._verdict, message["status"])
            is_problem = (_header(message["headers"], b"content-type") or b"").startswith(MEDIA_TYPE.encode())
            if message["status"] >= HTTPStatus.BAD_REQUEST and not is_problem:
                self._held = message
            else:
                await self._send({**message, "headers": self._headers(message["headers"])})
        elif self._held is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._rewrite(self._held)

    async def refuse(self, status: HTTPStatus, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a problem of this layer's own; without a body where the status has none."""
        await self._take({"type": "http.response.start", "status": status.value, "headers": list(headers)})
        body = b"" if status == HTTPStatus.NO_CONTENT else json.dumps({"detail": detail}).encode()
        await self._take({"type": "http.response.body", "body": body})

    async def _rewrite(self, start: Message) -> None:
        try:
            said = json.loads(self._body)
        except ValueError:
            said = self._body.decode("utf-8", "replace")
        document = problem(start["status"], said, instance=self._path, request_id=self.request_id)
        if start["status"] == HTTPStatus.UNAUTHORIZED and _header(start["headers"], b"www-authenticate") is None:
            start["headers"] = [*start["headers"], (b"www-authenticate", b'Bearer realm="marquee"')]
        body = json.dumps(document, ensure_ascii=False).encode()
        kept = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-type", b"content-length")
        ]
        about = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await self._send({**start, "headers": self._headers([*kept, *about])})
        await self._send({"type": "http.response.body", "body": body})

    def _headers(self, given: Headers) -> Headers:
        """Return the app's headers and the layer's; those that the app has set stay as they are."""
        is_page = (_header(given, b"content-type") or b"").startswith((b"text/html", b"text/css", b"text/javascript"))
        there = {name.lower() for name, _ in given}
        wanted = [
            *self._verdict.cors,
            *SECURITY_HEADERS,
            *(_OF_PAGES if is_page else _OF_DATA),
            (b"x-request-id", self.request_id.encode()),
        ]
        return [*given, *(header for header in wanted if header[0] not in there)]


def _request_id(scope: Scope) -> str:
    asked = _header(scope["headers"], b"x-request-id")
    request_id = asked.decode() if asked and _REQUEST_ID.fullmatch(asked) else secrets.token_hex(16)
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def _header(headers: Headers, name: bytes) -> bytes | None:
    return next(_values(headers, name), None)


def _values(headers: Headers, name: bytes) -> Iterator[bytes]:
    return (value for key, value in headers if key.lower() == name)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Read a whole body; return None once it is longer than ``limit``."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was already read, then what the real one gives."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
