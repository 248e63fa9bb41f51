"""Long proof: SIGKILLs of a run and its children at random moments; each time the plain command heals.

``MARQUEE_PROVE_KILLS`` (default 50) says how many; ``MARQUEE_SEED`` draws the moments.
"""

from __future__ import annotations

import os
import random
from dataclasses import asdict
from pathlib import Path

from settings import Settings
from tests.prove.killing import KillBench, Killed, write_report

#: How often each case is drawn. A change of edition takes twice as long as the others.
WEIGHTS = {"empty": 4, "changed": 4, "edition": 2}


def test_after_each_kill_readers_lose_nothing_and_the_plain_command_gives_the_undisturbed_result(
    tmp_path: Path,
) -> None:
    wanted, seed = int(os.environ.get("MARQUEE_PROVE_KILLS") or 50), Settings().seed
    draw = random.Random(seed)
    bench = KillBench(tmp_path)
    for case in bench.cases:
        bench.undisturbed(case)
    done: list[Killed] = []
    too_late = 0
    while len(done) < wanted:
        [case] = draw.choices(bench.cases, weights=[WEIGHTS[case.name] for case in bench.cases])
        after_s = draw.uniform(0.3, bench.undisturbed_s[case.name])
        bench.begin(case)
        story = bench.kill(case, after_s)
        if story is None:
            too_late += 1
            continue
        published, served = bench.published_state(case), bench.served_state()
        last = next((line.strip() for line in reversed(story.splitlines()) if line.strip()), "")
        rerun_s = bench.finish(case)
        bench.assert_as_undisturbed(case)
        assert bench.published_state(case) == "after"
        done.append(Killed(case.name, round(after_s, 2), last, published, served, round(rerun_s, 1)))
        print(f"kill {len(done)} of {wanted}: {asdict(done[-1])}", flush=True)
        write_report(
            "kills",
            {
                "kills": len(done),
                "wanted": wanted,
                "seed": seed,
                "ended_before_the_kill": too_late,
                "undisturbed_s": {name: round(seconds, 1) for name, seconds in bench.undisturbed_s.items()},
                "all": [asdict(killed) for killed in done],
            },
        )
