"""The bounds of a request's headers, asked of a real uvicorn over raw sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import uvicorn

from bento.middleware import http_protocol
from bento.middleware.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS, BoundedHttpProtocol


async def _count(scope: Any, receive: Any, send: Any) -> None:
    """Answer how many headers and bytes of a body a request had."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    said = json.dumps({"headers": len(scope["headers"]), "body": len(body)}).encode()
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(_count, port=0, http=BoundedHttpProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        yield int(listening.getsockname()[1])
        server.should_exit = True
        thread.join()


def _answers(port: int, pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """Everything that came back until the server hung up, and how many bytes were sent before it did."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        came = b""
        try:
            while piece := connection.recv(65_536):
                came += piece
        except ConnectionError:
            pass
    return came, sent


def _is_problem(came: bytes, status: int) -> None:
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), came[:200]
    for header in (b"content-type: application/problem+json", b"x-content-type-options: nosniff", b"connection: close"):
        assert header in head
    said = json.loads(body)
    assert (said["status"], said["request_id"].encode() in head) == (status, True)


def test_one_endless_header_is_refused_before_it_ends(port: int) -> None:
    came, _ = _answers(port, [b"GET / HTTP/1.1\r\nhost: x\r\na: ", b"a" * MAX_HEAD_BYTES])
    _is_problem(came, 431)
    came, sent = _answers(port, [b"GET / HTTP/1.1\r\nhost: x\r\na: ", *[b"a" * 65_536] * 640])
    assert sent < 20_000_000
    assert came == b"" or came.startswith(b"HTTP/1.1 431 ")


def test_an_endless_path_is_refused_before_it_ends(port: int) -> None:
    came, _ = _answers(port, [b"GET /" + b"a" * MAX_HEAD_BYTES])
    _is_problem(came, 431)


def test_as_many_headers_as_may_be_are_taken_and_one_more_is_refused(port: int) -> None:
    lines = [b"a%d: 1\r\n" % number for number in range(MAX_HEADERS - 2)]
    taken = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + b"".join(lines)
    came, _ = _answers(port, [taken + b"\r\n"])
    assert came.startswith(b"HTTP/1.1 200 ")
    assert json.loads(came.partition(b"\r\n\r\n")[2])["headers"] == MAX_HEADERS
    came, _ = _answers(port, [taken, b"one: more\r\n\r\n"])
    _is_problem(came, 431)
    came, _ = _answers(port, [b"GET / HTTP/1.1\r\n", *[b"a: 1\r\n" * 1_000] * 200])
    assert came == b"" or came.startswith(b"HTTP/1.1 431 ")


def test_a_body_is_no_header_however_large_it_is(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    came, _ = _answers(port, [(head + b"b" * 900_000) * 2 + last])
    assert came.count(b'{"headers": 2, "body": 900000}') == 2
    assert came.endswith(b'{"headers": 2, "body": 0}')


def test_what_stands_between_the_parts_of_a_body_is_bounded_too(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    endless = {"chunk extension": b"5;a=" + b"a" * 70_000, "trailer": b"5\r\nhello\r\n0\r\na: " + b"a" * 70_000}
    for what, body in endless.items():
        came, _ = _answers(port, [head, body])
        assert b"200 OK" not in came, what
    many = b"5\r\nhello\r\n0\r\n" + b"a: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n"
    assert b"200 OK" not in _answers(port, [head, many])[0]


def test_headers_that_do_not_end_in_time_are_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.2)
    _is_problem(_answers(port, [b"GET / HTTP/1.1\r\nhost: x\r\n"])[0], 408)
    assert _answers(port, []) == (b"", 0)
    # The second request of a connection, and line feeds in place of one.
    for second in (b"GET / HTTP/1.1\r\n", b"\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            came = b""
            while not came.endswith(b"}"):
                came += connection.recv(65_536)
            connection.sendall(second)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_what_is_no_http_is_a_problem_too(port: int) -> None:
    _is_problem(_answers(port, [b"hello\r\n\r\n"])[0], 400)
