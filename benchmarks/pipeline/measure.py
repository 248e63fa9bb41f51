"""What a process with all its children costs: wall time and the peak of their memory together."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Between two looks at the memory: short against any stage worth measuring.
_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Cost:
    """Wall seconds, CPU seconds and peak bytes of resident memory of a process and its children together."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def run_measured(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], log: Path) -> Cost:
    """Run a command with its output going to ``log`` and measure it.

    The peak is the largest sum seen over the process's session, shared pages counted once a process, and at least the
    high-water mark of the largest process at the last look. (``ru_maxrss`` will not do: a process starts with that of
    its parent, which has generated the input.) Raises ``RuntimeError`` with the log's end when it fails.
    """
    started = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command), cwd=cwd, env=dict(env), stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        peak = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(_INTERVAL_S):
                peak = max(peak, session_memory(process.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        done.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end = log.read_text(errors="replace").splitlines()[-30:]
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n" + "\n".join(end))
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak)


def session_memory(session: int) -> int:
    """Resident bytes of a session's processes, summed, or the most that one of them ever had; 0 without ``/proc``."""
    total = highest = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The command, in brackets, may hold spaces; the session is the fourth field after it.
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int((entry / "statm").read_text().split()[1]) * _PAGE
                highest = max(highest, _high_water(entry))
        except (OSError, IndexError):
            # Gone between the listing and the look.
            continue
    return max(total, highest)


def _high_water(process: Path) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
