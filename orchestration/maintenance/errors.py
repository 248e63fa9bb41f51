"""What upkeep says to the person who called it."""

from __future__ import annotations


class UpkeepError(RuntimeError):
    """Upkeep cannot do what was asked; the message says why, and what was left as it was."""


def spoken_size(size: int) -> str:
    """Bytes as people read them.

    >>> spoken_size(999), spoken_size(12_345_678)
    ('999 B', '12.3 MB')
    """
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
