"""A real browser without a screen, spoken to over its own protocol."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

#: What a report says of itself once it is drawn, or could not be: asked of the page that is loaded by then.
DRAWN = """
new Promise(resolve => {
  const look = () => {
    const body = document.body;
    if (document.title.startsWith("Marquee") && body && (body.dataset.drawn || body.dataset.failed)) resolve({
      drawn: body.dataset.drawn || body.dataset.failed,
      plots: document.querySelectorAll("svg.marks").length,
      wide: document.documentElement.scrollWidth,
      requests: performance.getEntriesByType("resource").map(entry => entry.name),
    });
    else setTimeout(look, 50);
  };
  look();
})
"""


@contextmanager
def browser(profile: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Chromium with one empty page; yields what sends a command to the page and returns its result."""
    started = subprocess.Popen(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        note = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (note.exists() and note.read_text().count("\n")):
            assert started.poll() is None, "chromium ended"
            assert time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.05)
        port = int(note.read_text().splitlines()[0])
        pages = httpx.get(f"http://127.0.0.1:{port}/json", timeout=60, trust_env=False).json()
        place = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        numbers = itertools.count(1)
        with connect(place, max_size=None, proxy=None) as socket:

            def ask(method: str, **parameters: Any) -> dict[str, Any]:
                number = next(numbers)
                socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
                while True:
                    answer: dict[str, Any] = json.loads(socket.recv(timeout=120))
                    if answer.get("id") == number:
                        assert "error" not in answer, answer
                        result: dict[str, Any] = answer["result"]
                        return result

            yield ask
    finally:
        started.kill()
        started.wait()
