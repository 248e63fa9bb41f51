"""How `make ui` ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestration.ui import NoRoomForSockets, folder_for_sockets, run_to_its_end
from settings import PROJECT_ROOT

#: A server like `dagster dev`: it has a child of its own that no signal but SIGKILL ends, and names it in a file.
SERVER = """\
trap '{on_interrupt}' INT
python - "$1" <<'PYTHON' &
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
with open(sys.argv[1] + ".part", "w") as note:
    note.write(str(os.getpid()))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
PYTHON
while true; do sleep 0.1; done
"""


def start(note: Path, on_interrupt: str) -> subprocess.Popen[bytes]:
    """Start a process that runs the server as `make ui` runs dagster; return it once the server's child is there."""
    command = ["bash", "-c", SERVER.replace("{on_interrupt}", on_interrupt), "server", str(note)]
    code = f"import sys; from orchestration.ui import run_to_its_end; sys.exit(run_to_its_end({command!r}, grace_s=1))"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, env={**os.environ, "PATH": path})
    deadline = time.monotonic() + 60
    while not note.exists():
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    return parent


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("on_interrupt", ["exit 0", ""], ids=["obedient", "deaf"])
def test_whatever_ends_the_parent_no_descendant_stays_behind(
    tmp_path: Path, ending: signal.Signals, on_interrupt: str
) -> None:
    note = tmp_path / "pid"
    parent = start(note, on_interrupt)
    child = int(note.read_text())
    assert is_alive(child)
    parent.send_signal(ending)
    assert parent.wait(timeout=30) == 0
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_server_started_from_the_background_of_a_shell_hears_that_it_is_to_end(tmp_path: Path) -> None:
    """There SIGINT is ignored to begin with; a server that stayed deaf would only end with the grace."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        parent = start(tmp_path / "pid", f'echo heard > "{tmp_path}/heard"; exit 0')
    finally:
        signal.signal(signal.SIGINT, before)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=30) == 0
    assert (tmp_path / "heard").exists()


def test_a_server_that_ends_by_itself_gives_its_status() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert run_to_its_end(["bash", "-c", "exit 7"]) == 7
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_sockets_have_room_for_their_names_however_long_the_temporary_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = folder_for_sockets()
    assert folder != long
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        name = file.name
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)
    Path(name).unlink()


def test_a_machine_without_a_short_temporary_folder_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(NoRoomForSockets, match="set TMPDIR to one of at most 95 bytes"):
        folder_for_sockets()
