"""What was measured, as JSON values and as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: The stage that leads from raw files to checked marts, as a run does: all in one process.
CHECKED_MARTS = "checked_marts"
#: The stage whose parts are the analyses, each with the seconds that it took.
ANALYSES = "analyses"

#: Size -> stage -> its runs, each with ``wall_s``, ``peak_bytes``, ``rows`` and ``parts``.
Runs = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def machine(threads: int, memory: str) -> dict[str, Any]:
    """Describe the machine that the measurements were taken on."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory_bytes / 1e9, 1),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
        "duckdb_memory": memory,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def median(runs: Sequence[Mapping[str, Any]], figure: str) -> float:
    """Return the median of a figure over the runs of a stage."""
    return float(statistics.median(run[figure] for run in runs))


def summary(runs: Runs) -> list[dict[str, Any]]:
    """One row a size: seconds from raw files to checked marts, those of the script, their ratio, the highest memory.

    Only sizes at which all of the stages were run; ``growth`` is against the smallest of them, in time and in ratings.
    """
    rows: list[dict[str, Any]] = []
    for size, stages in runs.items():
        if not {CHECKED_MARTS, "by_hand"} <= stages.keys():
            continue
        seconds = median(stages[CHECKED_MARTS], "wall_s")
        by_hand = median(stages["by_hand"], "wall_s")
        row = {
            "size": size,
            "ratings": stages[CHECKED_MARTS][0]["ratings"],
            "checked_marts_s": seconds,
            "by_hand_s": by_hand,
            "ratio": seconds / by_hand,
            # What a machine that carries other load distorts less.
            "cpu_ratio": median(stages[CHECKED_MARTS], "cpu_s") / median(stages["by_hand"], "cpu_s"),
            "peak_bytes": max(run["peak_bytes"] for run in stages[CHECKED_MARTS]),
            "by_hand_peak_bytes": max(run["peak_bytes"] for run in stages["by_hand"]),
        }
        first = rows[0] if rows else row
        row["growth"] = seconds / first["checked_marts_s"]
        row["growth_of_ratings"] = row["ratings"] / first["ratings"]
        rows.append(row)
    return rows


def markdown(facts: Mapping[str, Any], runs: Runs) -> str:
    """Return the report as Markdown."""
    measured_on = (
        f"{facts['cores']} cores, {facts['memory_gb']} GB, {facts['processor']}; Python {facts['python']};"
        f" DuckDB with {facts['threads']} threads and {facts['duckdb_memory']}."
    )
    method = (
        "Each stage is a process of its own that calls what the assets call, versions of tables included, without"
        " Dagster's event log. Memory is that of the process with all its children; a stage that was run several times"
        " shows the median time and the highest memory. The input is in the page cache. The marts that only analysts"
        " ask (dbt's tag `analysts`) are a stage of their own; neither the pipeline nor the script makes them."
    )
    lines = [
        measured_on,
        "",
        method,
        "",
        "| size | stage | rows | time | CPU time | rows/s | peak memory |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for size, stages in runs.items():
        for stage, done in stages.items():
            seconds, rows = median(done, "wall_s"), done[0]["rows"]
            lines.append(
                f"| {size} | {stage} | {rows:,} | {seconds:.1f} s | {median(done, 'cpu_s'):.1f} s |"
                f" {rows / seconds:,.0f} | {max(run['peak_bytes'] for run in done) / 1e9:.2f} GB |"
            )
    rows_of = summary(runs)
    if rows_of:
        beside = (
            "From raw files to checked marts, in one process as a run does it, beside the hand-written script (no raw"
            " tables, checks or versions):"
        )
        lines += [
            "",
            beside,
            "",
            "| size | pipeline | by hand | ratio | of CPU | peak memory | by hand | time against the first | ratings |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['size']} | {row['checked_marts_s']:.1f} s | {row['by_hand_s']:.1f} s | {row['ratio']:.2f} |"
            f" {row['cpu_ratio']:.2f} | {row['peak_bytes'] / 1e9:.2f} GB | {row['by_hand_peak_bytes'] / 1e9:.2f} GB |"
            f" {row['growth']:.2f} | {row['growth_of_ratings']:.2f} |"
            for row in rows_of
        ]
    asked = slowest_analyses(runs)
    if asked:
        lines += [
            "",
            "The analyses that take longest, asked of the published copy (median of several times):",
            "",
            "| size | analysis | time | analyses |",
            "|---|---|---:|---:|",
        ]
        lines += [f"| {size} | {name} | {seconds * 1000:.0f} ms | {count} |" for size, name, seconds, count in asked]
    slow = _slowest(runs)
    if slow:
        lines += [
            "",
            "The slowest parts of the largest size:",
            "",
            "| stage | part | rows | time |",
            "|---|---|---:|---:|",
        ]
        lines += [f"| {stage} | {part['name']} | {part['rows']:,} | {part['seconds']:.1f} s |" for stage, part in slow]
    return "\n".join(lines)


def slowest_analyses(runs: Runs, most: int = 5) -> list[tuple[str, str, float, int]]:
    """Size, name and seconds of the analyses that take longest, the slowest first, and how many were asked."""
    found = []
    for size, stages in runs.items():
        parts = stages[ANALYSES][-1]["parts"] if stages.get(ANALYSES) else []
        slow = sorted(parts, key=lambda part: part["seconds"], reverse=True)[:most]
        found += [(size, part["name"], float(part["seconds"]), len(parts)) for part in slow]
    return found


def _slowest(runs: Runs, most: int = 12) -> list[tuple[str, Mapping[str, Any]]]:
    if not runs:
        return []
    stages = runs[list(runs)[-1]]
    parts = [(stage, part) for stage, done in stages.items() if stage != ANALYSES for part in done[-1]["parts"]]
    return sorted(parts, key=lambda found: found[1]["seconds"], reverse=True)[:most]
