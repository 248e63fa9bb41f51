"""``python -m benchmarks.models``: NeuMF's speed beside plain code, and what each fit holds beside what it states.

Markdown on standard output, JSON into the folder of reports.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.models.memory import LARGE, SIZES, fit_peaks
from benchmarks.models.training_speed import training_speed

PARTS = ("training", "memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--users", type=int, default=1_000, help="of the training's generated interactions")
    parser.add_argument("--items", type=int, default=1_700)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="memory at the smaller size alone")
    parser.add_argument("--large", action="store_true", help="memory at 62,000 films alone (an hour)")
    parser.add_argument("--reports", type=Path, help="where JSON is kept; without it none is")
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {}
    if "training" in given.parts:
        report["training"] = training_speed(given.users, given.items, given.rows, rounds=given.rounds, seed=given.seed)
    if "memory" in given.parts:
        report["memory"] = fit_peaks((LARGE,) if given.large else SIZES[:1] if given.small else SIZES)
    print(markdown(report))
    if given.reports is not None:
        given.reports.mkdir(parents=True, exist_ok=True)
        path = given.reports / f"bench-models-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"report: {path}", file=sys.stderr)
    return 0


def markdown(report: Mapping[str, Any]) -> str:
    """Return the parts that were run as Markdown tables."""
    lines: list[str] = []
    if "training" in report:
        speed = report["training"]
        size = f"{speed['interactions']:,} interactions, {speed['pairs_a_fit']:,} pairs a fit"
        lines += [
            f"{size}, {speed['threads']} thread, median of {speed['rounds']} rounds in turn",
            "",
            "| NeuMF's network | pairs/s | times the best plain one |",
            "|---|---|---|",
        ]
        ratios = speed["times_as_fast_as_the_best_plain"]
        lines += [f"| {name} | {value:,} | {ratios.get(name, '')} |" for name, value in speed["pairs_a_second"].items()]
        lines.append("")
    if "memory" in report:
        lines += ["| fit | films | interactions | stated MB | measured MB |", "|---|---|---|---|---|"]
        lines += [
            f"| {row['case']} | {row['items']:,} | {row['interactions']:,} | {row['stated_bytes'] / 1e6:,.0f} "
            f"| {row['measured_bytes'] / 1e6:,.0f} |"
            for row in report["memory"]
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
