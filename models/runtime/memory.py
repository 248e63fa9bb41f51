"""What the process held at its peak, so that a table can say it of each model."""

from __future__ import annotations

import resource
from pathlib import Path

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def reset_peak_memory() -> bool:
    """Start a new peak from what is held now; False where the system cannot (then the peak is since the start)."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes of memory that the process held at most since the last reset."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def held_memory() -> int:
    """Bytes of memory that the process holds now; where the system does not say, those of its peak."""
    return _status("VmRSS") or peak_memory()


def _status(field: str) -> int:
    """Bytes of a line of the process's status; 0 where there is none."""
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
