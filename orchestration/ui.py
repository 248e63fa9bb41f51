"""``make ui``: the Dagster web page with its daemon, on the home of ``MARQUEE_HOME``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from environment import PathError, adopt_environment
from orchestration.storage.home import HomeError, heal, prepare
from orchestration.storage.warehouse import WarehouseBusy, hold
from settings import PROJECT_ROOT, command_settings

#: What asks us to end: a terminal's Ctrl-C, a service manager, a closed terminal.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


#: A socket's name has at most 107 bytes, 12 of which are for the file that Dagster makes: `/tmp` and eight more.
_LONGEST_FOLDER = 95


class NoRoomForSockets(RuntimeError):
    """No folder of temporary files has a name that is short enough for a socket in it."""


def main() -> int:
    """Prepare the home, then run ``dagster dev`` (web server, daemon, code servers) until it ends or we are told to."""
    settings = command_settings()
    try:
        # A swap or a migration is one process's work. Where a run holds the home, it has done both.
        with suppress(WarehouseBusy), hold(settings.run_lock, timeout_s=0, what="this home"):
            heal(settings.home)
            prepare(settings)
        prepare(settings)
        adopt_environment(settings)
        os.environ["TMPDIR"] = str(folder_for_sockets())
        from orchestration.lib.dagster_instance import open_instance
        from orchestration.lib.dbt_project import dbt_project

        # Where its settings are wrong that is said here, in one line, and not by each of Dagster's processes.
        open_instance(settings).dispose()
        dbt_project(settings)
    except (HomeError, PathError, NoRoomForSockets) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Dagster UI on http://127.0.0.1:{settings.ui_port}, state in {settings.home}; Ctrl-C ends it", flush=True)
    dagster = Path(sys.executable).with_name("dagster")
    command = [str(dagster), "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(settings.ui_port)]
    return run_to_its_end(command)


def folder_for_sockets() -> Path:
    """Return a folder of temporary files in which Dagster's sockets have room for their names.

    Raises ``NoRoomForSockets``.
    """
    given = tempfile.gettempdir()
    for name in (given, os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        if name and len(os.fsencode(name)) <= _LONGEST_FOLDER and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    raise NoRoomForSockets(
        f"{given} is too long a name for the sockets of Dagster's processes, which lie in the folder of temporary"
        f" files: set TMPDIR to one of at most {_LONGEST_FOLDER} bytes."
    )


def run_to_its_end(command: Sequence[str], *, grace_s: float = 20.0) -> int:
    """Run a command and leave none of its descendants behind. Returns its exit status, 0 when we were told to end.

    ``dagster dev`` stops its servers on SIGINT alone: on SIGTERM they live on without it. So every ending is handed on
    as SIGINT, and what is left of its process group after ``grace_s`` seconds is killed.
    """
    told: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        told.append(number)
        child.send_signal(signal.SIGINT)

    # Blocked until the handler stands, or an ending that comes at once would be lost with the child left alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    with subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        start_new_session=True,
        preexec_fn=_hear_endings,
    ) as child:
        for number in ENDINGS:
            signal.signal(number, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        deadline: float | None = None
        while child.poll() is None:
            if told and deadline is None:
                deadline = time.monotonic() + grace_s
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(0.2)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return 0 if told else child.returncode


def _hear_endings() -> None:
    """In the child: a shell starts what runs in its background with SIGINT ignored, and Python leaves that as it is."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


if __name__ == "__main__":
    sys.exit(main())
