"""Long proof: at least 10,000 requests made from both OpenAPI documents: no 5xx, no status that is not documented.

``MARQUEE_PROVE_CASES`` (default 300) says how many are drawn a route at most; ``MARQUEE_SEED`` draws them.
"""

from __future__ import annotations

import os
from pathlib import Path

from bento.client import serving
from tests.prove.fuzzing import CHECKS, fuzz, inject
from tests.prove.killing import write_report
from tests.prove.served import make_served_home


def test_no_request_that_can_be_made_up_gets_a_5xx_or_a_status_that_is_not_documented(tmp_path: Path) -> None:
    home = make_served_home(tmp_path / "home")
    drawn, seed = int(os.environ.get("MARQUEE_PROVE_CASES") or 300), home.settings.seed
    with serving(home.settings, log=tmp_path / "service.log") as client:
        harmful = inject(client.url)
        made_up = fuzz(client.url, tmp_path, max_examples=drawn, seed=seed)
    found = {
        "schemathesis_cases": made_up.cases,
        "injection_cases": harmful.cases,
        "seed": seed,
        "checks": CHECKS,
        "wrong": [*made_up.wrong, *harmful.wrong],
    }
    print(found, flush=True)
    write_report("fuzzing", found)
    assert found["wrong"] == []
    assert made_up.cases >= 10_000
