"""Long proof: 10,000 acknowledged writes under concurrency 16 with three SIGKILLs: none lost, none doubled.

``MARQUEE_PROVE_WRITES`` (default 10,000) says how many.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.prove.killing import write_report
from tests.prove.served import make_served_home
from tests.prove.writing import write_and_kill


def test_acknowledged_writes_outlive_three_kills_and_are_done_once(tmp_path: Path) -> None:
    wanted = int(os.environ.get("MARQUEE_PROVE_WRITES") or 10_000)
    home = make_served_home(tmp_path / "home")
    started = time.monotonic()
    done = write_and_kill(home.settings, tmp_path / "service.log", writes=wanted, writers=16, kills=3)
    found = {
        "acknowledged": done.acknowledged,
        "kills": done.kills,
        "sent_again": done.sent_again,
        "replayed": done.replayed,
        "lost": done.lost,
        "doubled": done.doubled,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(found, flush=True)
    write_report("writes", found)
    # Whoever was writing at a kill had to send again, or nothing was killed.
    assert done.sent_again >= 3
    assert (done.acknowledged, done.kills, done.lost, done.doubled) == (wanted, 3, [], [])
