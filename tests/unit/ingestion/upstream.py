"""A web server on this machine that stands where GroupLens and IMDb do, well or badly behaved."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass
class Asked:
    """One request and its answer: ``sent`` counts the bytes of the body that were handed to the connection."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class Upstream:
    """Serves ``folder`` at ``url`` while it is entered.

    ``manner`` says how, and ``first`` how the first requests are answered, one each; ``asked`` holds every request and
    ``requests`` the paths of those for content. ``validators`` are the ones that it sends and honours: ``etag`` (or
    ``weak etag``) and ``last-modified``.

    Manners: ``well``; ``missing``; ``forbidden``; ``failing`` (503); ``busy`` (429); ``cutting`` (the connection, half
    way); ``damaging`` (half the file, as if it were all); ``answering with a page``; ``cut after N`` and ``stall after
    N`` (bytes of this answer); ``ignoring ranges``; ``another part`` and ``a part without saying which``; ``a part of
    any version`` (whatever If-Range says); ``no such part`` (416 for any part); ``stating more`` and ``stating less``
    than there is, ``stating a petabyte``, ``stating nothing``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.manner = "well"
        self.first: list[str] = []
        self.validators = {"etag", "last-modified"}
        self.retry_after: str | None = None
        self.asked: list[Asked] = []
        #: Ends what stalls.
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[str]:
        return [asked.path for asked in self.asked if asked.method == "GET"]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away, which is what they are here to do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, upstream: Upstream, *args: object) -> None:
        self.upstream = upstream
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(self.upstream.manner)

    def do_GET(self) -> None:
        self._answer(self.upstream.first.pop(0) if self.upstream.first else self.upstream.manner)

    def _answer(self, manner: str) -> None:
        upstream = self.upstream
        self.asked = Asked(self.command, self.path, dict(self.headers.items()))
        upstream.asked.append(self.asked)
        file = upstream.folder / self.path.partition("?")[0].lstrip("/")
        failures = {"missing": 404, "forbidden": 403, "failing": 503, "busy": 429}
        if manner in failures or not file.is_file():
            waits = {"Retry-After": upstream.retry_after} if upstream.retry_after and manner != "missing" else {}
            self._send(failures.get(manner, 404), waits, b"")
            return
        if manner == "answering with a page":
            page = b"<html>Please log in</html>"
            self._send(200, {}, page, len(page))
            return
        body = file.read_bytes()
        stated = self._validators(file, body)
        if manner == "damaging":
            self._send(200, stated, body[: len(body) // 2], len(body) // 2)
        elif self._is_unchanged(stated):
            self._send(304, stated, b"")
        elif (first := self._first_byte_asked(manner, stated)) and manner != "ignoring ranges":
            self._send_part(manner, stated, body, first)
        else:
            claims = {"stating more": len(body) + 100, "stating less": len(body) // 2, "stating a petabyte": 10**15}
            claimed = None if manner == "stating nothing" else claims.get(manner, len(body))
            self._send(200, stated, body, claimed, **self._breaks(manner, len(body)))

    def _send_part(self, manner: str, stated: dict[str, str], body: bytes, first: int) -> None:
        size = len(body)
        if manner == "no such part" or first >= size:
            self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
        elif manner == "another part":
            said = stated | {"Content-Range": f"bytes {first - 1}-{size - 1}/{size}"}
            self._send(206, said, body[first - 1 :], size - first + 1)
        elif manner == "a part without saying which":
            self._send(206, stated, body[first:], size - first)
        else:
            said = stated | {"Content-Range": f"bytes {first}-{size - 1}/{size}"}
            self._send(206, said, body[first:], size - first, **self._breaks(manner, size))

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        claimed: int | None = 0,
        *,
        cut: int | None = None,
        stall: int | None = None,
    ) -> None:
        self.asked.status = status
        self.send_response(status)
        if status != 304 and claimed is not None:
            self.send_header("Content-Length", str(claimed))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        ends = [end for end in (cut, stall) if end is not None]
        sent = body[: ends[0]] if ends else body
        # Before the write, which a reader that has enough may cut off.
        self.asked.sent = len(sent)
        self.wfile.write(sent)
        if stall is not None:
            self.wfile.flush()
            self.upstream.released.wait(30)

    def _breaks(self, manner: str, size: int) -> dict[str, int]:
        if manner == "cutting":
            return {"cut": size // 2}
        found = re.fullmatch(r"(cut|stall) after (\d+)", manner)
        return {found[1]: int(found[2])} if found else {}

    def _validators(self, file: Path, body: bytes) -> dict[str, str]:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        wanted = self.upstream.validators
        stated = {"ETag": etag} if "etag" in wanted else {"ETag": f"W/{etag}"} if "weak etag" in wanted else {}
        if "last-modified" in wanted:
            stated["Last-Modified"] = formatdate(file.stat().st_mtime, usegmt=True)
        return stated

    def _is_unchanged(self, stated: dict[str, str]) -> bool:
        if (known := self.headers.get("If-None-Match")) is not None:
            return known == stated.get("ETag")
        since = self.headers.get("If-Modified-Since")
        if since is None or "Last-Modified" not in stated:
            return False
        return parsedate_to_datetime(stated["Last-Modified"]) <= parsedate_to_datetime(since)

    def _first_byte_asked(self, manner: str, stated: dict[str, str]) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = None if manner == "a part of any version" else self.headers.get("If-Range")
        strong = {value for value in stated.values() if not value.startswith("W/")}
        return int(found[1]) if found and (condition is None or condition in strong) else 0

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
