"""HTTP as the server reads it, with bounds that hold before any request is made of it.

httptools bounds neither the number nor the size of headers and keeps all of them in memory; the layer around the routes
(``asgi``) sees a request only once they are whole.
"""

from __future__ import annotations

import asyncio
import http
import json
import secrets
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bento.api.problem_details import MEDIA_TYPE, problem
from bento.middleware.asgi import SECURITY_HEADERS

#: Header lines of a request.
MAX_HEADERS = 100
#: Bytes of its request line and headers together; also of what may come between two parts of a body.
MAX_HEAD_BYTES = 32 * 1024
#: Seconds from the opening of a connection, or the first byte of a later request, to the end of its headers.
HEAD_TIMEOUT_S = 10.0
#: The parser gets no more at once, so that the count of bytes is not far behind what it keeps.
_PIECE = 4 * 1024


class _TooManyHeaders(Exception):
    """The parser passes it on as an error of the request."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a request whose headers are too many, too large or too slow, with a problem, and hangs up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Bytes since the parser last gave something whole: headers, a part of a body, the end of a request.
        self._pending_bytes = 0
        self._awaits_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, piece by piece, until there is too much of it."""
        for start in range(0, len(data), _PIECE):
            if self._awaits_head:
                # Also for line feeds in place of a request.
                self._start_timer()
            piece = data[start : start + _PIECE]
            self._pending_bytes += len(piece)
            super().data_received(piece)
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                # Hung up, or handed over to a web socket, which looks after itself.
                return
            if self._pending_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
                return

    def on_message_begin(self) -> None:
        """Give the headers of one more request their time."""
        super().on_message_begin()
        self._start_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one more header, or a trailer of a body in chunks."""
        if len(self.headers) >= MAX_HEADERS:
            raise _TooManyHeaders
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._pending_bytes, self._awaits_head = 0, False
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        self._pending_bytes, self._awaits_head = 0, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too many headers."""
        if self.headers is not None and len(self.headers) >= MAX_HEADERS:
            self._refuse_head()
        else:
            self._refuse(http.HTTPStatus.BAD_REQUEST, "This is no valid HTTP request.")

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._refuse_slow_head)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_slow_head(self) -> None:
        self._head_timer = None
        if self._pending_bytes:
            self._refuse(http.HTTPStatus.REQUEST_TIMEOUT, f"The headers took longer than {HEAD_TIMEOUT_S:g} s.")
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(
            http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"A request has at most {MAX_HEADERS} headers, and {MAX_HEAD_BYTES} bytes in them and its first line.",
        )

    def _refuse(self, status: http.HTTPStatus, detail: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # Another answer is under way on this connection, or half of one is sent: nothing can be said in between.
            self.transport.close()
            return
        request_id = secrets.token_hex(16)
        body = json.dumps(problem(status, {"detail": detail}, instance="", request_id=request_id)).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *SECURITY_HEADERS,
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(line + head + b"\r\n" + body)
        self.transport.close()


def bound_headers() -> None:
    """Have uvicorn read HTTP by ``BoundedHttpProtocol`` from now on, for BentoML lets nobody choose the protocol."""
    protocol = f"{BoundedHttpProtocol.__module__}:{BoundedHttpProtocol.__qualname__}"
    uvicorn.config.HTTP_PROTOCOLS["auto"] = protocol
