"""A web server on this machine that stands where GroupLens and IMDb do, well or badly behaved."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class Upstream:
    """Serves ``folder`` at ``url`` while it is entered; ``manner`` says how, ``requests`` holds the paths asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.manner = "well"
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, upstream: Upstream, *args: object) -> None:
        self.upstream = upstream
        super().__init__(*args, directory=str(upstream.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        upstream = self.upstream
        upstream.requests.append(self.path)
        if upstream.manner == "missing":
            self.send_error(404)
        elif upstream.manner == "forbidden":
            self.send_error(403)
        elif upstream.manner == "failing" or (upstream.manner == "failing once" and len(upstream.requests) == 1):
            self.send_error(503)
        elif upstream.manner in ("cutting", "damaging"):
            body = (upstream.folder / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            # A cut body is shorter than stated; a damaged one is what the server has.
            self.send_header("Content-Length", str(len(body) if upstream.manner == "cutting" else len(body) // 2))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
        elif upstream.manner == "answering with a page":
            body = b"<html>Please log in</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
