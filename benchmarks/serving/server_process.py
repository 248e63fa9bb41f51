"""A server as a child process on a port of its own: when it was ready, and what its worker holds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bento.packaging.build import bentoml_environment
from environment import process_environment
from settings import PROJECT_ROOT, Settings

HOST = "127.0.0.1"
#: Many times what a start takes on idle processors.
_PATIENCE_S = 300.0
_SERVICE = "benchmarks.serving.instrumented_service:Measured"
_PLAIN = "benchmarks.serving.baseline_fastapi"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; ``ready_s`` are the seconds from its start until it did."""

    port: int
    ready_s: float
    process: psutil.Process

    def worker_bytes(self) -> int:
        """Resident bytes of the process that answers: the largest of all."""
        whole = [self.process, *self.process.children(recursive=True)]
        return max(one.memory_info().rss for one in whole)

    def cpu_s(self) -> float:
        """Seconds of processor that server and workers have used."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(one.user + one.system for one in times)


@contextlib.contextmanager
def marquee(settings: Settings) -> Iterator[Server]:
    """Run the service with its constant route, over the bundle that the home's pointer names."""
    port = _free_port()
    environment = bentoml_environment(settings, bentoml_home=settings.home / "bentoml-bench")
    # The code is this working copy's, not a built bento's; so is what its caller has put beside it.
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", HOST, "--port", str(port)]
    with _running(command, port, "/readyz", environment, settings.home / "serving.log") as server:
        yield server


@contextlib.contextmanager
def plain(settings: Settings, bundle: Path) -> Iterator[Server]:
    """Run the baseline service over the item vectors of a bundle."""
    port = _free_port()
    command = [sys.executable, "-m", _PLAIN, str(bundle), "--port", str(port)]
    environment = {**process_environment(settings), "OMP_NUM_THREADS": "1"}
    with _running(command, port, "/ready", environment, settings.home / "plain.log") as server:
        yield server


@contextlib.contextmanager
def _running(
    command: Sequence[str], port: int, ready: str, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() - started > _PATIENCE_S:
                end = log.read_text(errors="replace").splitlines()[-30:]
                raise RuntimeError(f"{command[2]} does not answer:\n" + "\n".join(end))
            time.sleep(0.02)
        yield Server(port, time.perf_counter() - started, psutil.Process(process.pid))
    finally:
        # A worker leads a session of its own: the server's group alone would leave it serving.
        with contextlib.suppress(psutil.NoSuchProcess):
            whole = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            for left in (one for one in [*whole, psutil.Process(process.pid)] if one.is_running()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
        process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
