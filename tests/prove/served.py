"""A small home with a built bento, and its service as a process that may be killed, for the proofs of the service."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from bento.client import MarqueeClient
from bento.packaging.build import build, promoted_bento
from bento.serve import HOST, serve_command, serve_environment
from models.serving.bundle import write_pointer
from settings import Settings
from tests.integration.served_home import ServedHome, make_home


def make_served_home(folder: Path) -> ServedHome:
    """Bundles of NeuMF, which is promoted and built, and of EASE."""
    home = make_home(folder, recommenders=("neumf", "ease"))
    write_pointer(home.settings.serving_pointer, home.versions["neumf"])
    build(home.settings, home.bundle_path("neumf"))
    return home


class KilledService:
    """The service on one port, started and killed as often as is wanted."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings, self._log = settings, log
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port = int(probe.getsockname()[1])
        self.url = f"http://{HOST}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                serve_command(promoted_bento(self._settings), host=HOST, port=self._port),
                cwd=self._settings.home,
                env=serve_environment(self._settings, self._port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with MarqueeClient(self.url) as client:
            client.wait_until_ready(process=self._process)

    @property
    def pid(self) -> int:
        """The process id of the server, whose children are the workers."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL for the server and its workers, at once.

        A worker leads a session of its own: a signal to the server's group would leave it serving.
        """
        if self._process is None:
            return
        whole: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            whole = [server, *server.children(recursive=True)]
        for process in whole:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(whole)
        self._process = None


@contextlib.contextmanager
def killed_service(settings: Settings, log: Path) -> Iterator[KilledService]:
    """Yield a service that is not started yet, and kill it at the end."""
    service = KilledService(settings, log)
    try:
        yield service
    finally:
        service.kill()
