"""Long proof: 32 callers at once: no failed request, no answer that is another caller's, a worker that does not grow.

``MARQUEE_PROVE_REQUESTS`` (default 40,000) says how many are asked in all.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.prove.killing import write_report
from tests.prove.loading import ask_under_load
from tests.prove.served import make_served_home

#: What a worker may grow by once it has settled: the allocator's own unrest, far from a leak of an answer's bytes.
_GROWTH = 0.10


def test_32_callers_at_once_each_get_their_own_answers_and_the_worker_does_not_grow(tmp_path: Path) -> None:
    wanted = int(os.environ.get("MARQUEE_PROVE_REQUESTS") or 40_000)
    home = make_served_home(tmp_path / "home")
    started = time.monotonic()
    done = ask_under_load(home.settings, tmp_path / "service.log", requests=wanted, callers=32)
    seconds = time.monotonic() - started
    found = {
        "answers": dict(done.answers),
        "wrong": done.wrong,
        "settled_mb": round(done.settled_bytes / 1e6),
        "end_mb": round(done.end_bytes / 1e6),
        "seconds": round(seconds, 1),
    }
    print(found, flush=True)
    write_report("load", found)
    assert not done.wrong
    assert sum(done.answers.values()) == wanted // 32 * 32
    assert done.end_bytes < (1 + _GROWTH) * done.settled_bytes
