"""Long proof: 20 model swaps under load: no failed request, each answer entirely of one version.

``MARQUEE_PROVE_SWAPS`` (default 20) says how many.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.prove.killing import write_report
from tests.prove.served import make_served_home
from tests.prove.swapping import swap_under_load


def test_swaps_under_load_fail_no_request_and_mix_no_answer(tmp_path: Path) -> None:
    wanted = int(os.environ.get("MARQUEE_PROVE_SWAPS") or 20)
    home = make_served_home(tmp_path / "home")
    started = time.monotonic()
    done = swap_under_load(home, tmp_path / "service.log", swaps=wanted, callers=8)
    found = {
        "swaps": done.swaps,
        "requests": done.requests,
        "answers": dict(done.answers),
        "failed": done.failed,
        "mixed": done.mixed,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(found, flush=True)
    write_report("swaps", found)
    assert (done.swaps, done.failed, done.mixed) == (wanted, [], [])
    assert set(done.answers) == set(home.versions.values())
