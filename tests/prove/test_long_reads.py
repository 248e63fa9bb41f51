"""Long proof: an analyst with a long read transaction open during 20 publications, and processes that open the copy."""

from __future__ import annotations

import json
from pathlib import Path

from settings import Settings
from tests.unit.publishing.generations import read_through

PUBLICATIONS = 20


def test_twenty_publications_disturb_no_reader(tmp_path: Path) -> None:
    counts = read_through(Settings(home=tmp_path / "home"), PUBLICATIONS)
    report = Settings().reports / "long_reads.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(counts))
    print(report.read_text())
