"""Starts the newest promoted bento: ``python -m bento.serve [--port N] [--host H]``."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from bento.auth.access_policy import check_settings
from bento.errors import ServingError
from bento.packaging.build import BuiltBento, bentoml_environment, promoted_bento
from environment import PathError
from settings import Settings, command_settings

HOST = "127.0.0.1"


class AddressTaken(ServingError):
    """The server's address cannot be listened on."""


def server_home(settings: Settings, port: int) -> Path:
    """Make a ``BENTOML_HOME`` for one server: the store's bentos and models, and its own folder of metrics.

    BentoML empties its home's folder of metrics when a server starts, even while another one is writing there.
    """
    home = settings.bentoml / "servers" / str(port)
    home.mkdir(parents=True, exist_ok=True)
    for name in ("bentos", "models"):
        link = home / name
        if not link.is_symlink():
            link.symlink_to(Path("../..") / name, target_is_directory=True)
    return home


def serve_command(bento: BuiltBento, *, host: str, port: int) -> list[str]:
    """Return the command line that serves a bento of the store."""
    # Requests take milliseconds: a shutdown that lasts longer waits for idle connections only.
    graceful = ["--timeout-graceful-shutdown", "5"]
    return [sys.executable, "-m", "bentoml", "serve", bento.tag, "--host", host, "--port", str(port), *graceful]


def serve_environment(settings: Settings, port: int) -> dict[str, str]:
    """Return the environment of a server on a port."""
    variables = bentoml_environment(settings, bentoml_home=server_home(settings, port))
    if settings.traces_url:
        # BentoML makes the spans, of none of the requests unless it is told a share.
        others = variables.get("BENTOML_CONFIG_OPTIONS", "")
        variables["BENTOML_CONFIG_OPTIONS"] = f"{others} tracing.sample_rate={settings.traces_share}".strip()
    return variables


def serve(settings: Settings, *, host: str = HOST, port: int | None = None) -> NoReturn:
    """Replace this process by the server of the promoted bento.

    Raises ``BuildError`` when none is built, ``AddressTaken`` when something listens there already, ``UnsafeSettings``
    when others reach the address and nothing keeps them out.
    """
    check_settings(settings, host)
    bento = promoted_bento(settings)
    port = port or settings.serve_port
    _check_free(host, port)
    print(
        f"serving {bento.tag} on http://{host}:{port} (API reference on that page; ready in about 15 seconds)",
        flush=True,
    )
    os.chdir(settings.home)
    command = serve_command(bento, host=host, port=port)
    os.execve(command[0], command, serve_environment(settings, port))


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        # As the server does, for the port of one that has just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressTaken(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what listens there, or set MARQUEE_SERVE_PORT"
            ) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1, with a message, when there is nothing to serve."""
    settings = command_settings()
    parser = argparse.ArgumentParser(prog="python -m bento.serve", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=settings.serve_port)
    options = parser.parse_args(arguments)
    try:
        serve(settings, host=options.host, port=options.port)
    except (ServingError, PathError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
