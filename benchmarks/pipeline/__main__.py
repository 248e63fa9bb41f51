"""``make bench``: the pipeline's stages at several sizes, in turn with one hand-written script for the same marts.

Input is generated once and kept. Markdown on standard output, JSON under ``$MARQUEE_HOME/reports``, the story on
standard error. Exit status: 0, or 1 when the script's marts are not the pipeline's; a stage that fails raises.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.pipeline.compare import differences
from benchmarks.pipeline.measure import run_measured
from benchmarks.pipeline.report import CHECKED_MARTS, machine, markdown, summary
from benchmarks.pipeline.sizes import IMDB_SHARE, RATINGS, generate, size_of
from benchmarks.pipeline.stages import STAGES, by_hand_database, checked_home
from environment import process_environment
from settings import PROJECT_ROOT, Settings, command_settings


def say(line: str) -> None:
    """One line of the story."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _options(arguments)
    settings = command_settings()
    folder: Path = options.folder or settings.home / "bench"
    sizes = [size_of(ratings, options.imdb_share) for ratings in sorted(options.ratings)]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    different: dict[str, str] = {}
    for size in sizes:
        files, manifest = generate(folder, size, say)
        if options.generate_only:
            continue
        file_rows = {file.file: file.rows for file in manifest.files}
        runs[size.name] = {stage: [] for stage in STAGES if stage in options.stages}
        home = Settings(
            home=folder / "homes" / size.name, threads=settings.threads, duckdb_memory=settings.duckdb_memory
        )
        for number in range(options.repeat):
            if not options.reuse_home:
                shutil.rmtree(home.home, ignore_errors=True)
            home.home.mkdir(parents=True, exist_ok=True)
            _warm(files)
            for stage, done in runs[size.name].items():
                done.append({"ratings": size.ratings, **_run(stage, home, files)})
                say(f"{size.name}  {stage:<16}{done[-1]['wall_s']:>8.1f} s {done[-1]['peak_bytes'] / 1e9:>7.2f} GB")
                if stage == "by_hand":
                    done[-1]["rows"] = sum(file_rows.values())
            if not different and number == 0 and size == sizes[0] and "by_hand" in runs[size.name]:
                different = _compare(home, runs[size.name].keys())
        if not options.keep:
            shutil.rmtree(home.home)
    if runs:
        facts = machine(settings.threads, settings.duckdb_memory)
        print(markdown(facts, runs))
        report = {"machine": facts, "summary": summary(runs), "runs": runs, "different_marts": different}
        settings.reports.mkdir(parents=True, exist_ok=True)
        # With microseconds: two short benches may end within one second, and neither report may replace the other.
        path = settings.reports / f"bench-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        say(f"report: {path}")
    for table, why in different.items():
        say(f"marts.{table} is not the hand-written script's: {why}")
    return 1 if different else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--ratings", type=int, nargs="+", default=list(RATINGS), help="the sizes (default %(default)s)")
    parser.add_argument(
        "--imdb-share",
        type=float,
        default=IMDB_SHARE,
        help="share of the full IMDb dumps that goes with 20,000,263 ratings; less in proportion (default %(default)s)",
    )
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="the stages to run (default all)"
    )
    parser.add_argument("--repeat", type=int, default=1, help="rounds a size (default 1)")
    parser.add_argument("--folder", type=Path, help="where input is kept (default $MARQUEE_HOME/bench)")
    parser.add_argument("--generate-only", action="store_true", help="make the input and stop")
    parser.add_argument("--keep", action="store_true", help="keep the home of each size, to look at it")
    parser.add_argument("--reuse-home", action="store_true", help="start from the kept home, to run later stages alone")
    return parser.parse_args(arguments)


def _run(stage: str, home: Settings, files: Path) -> dict[str, Any]:
    """One stage in a process of its own: what it cost and its parts."""
    result = home.home / f"{stage}.json"
    result.unlink(missing_ok=True)
    given = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    environment = {**process_environment(home, given), "MARQUEE_HOME": str(home.home)}
    command = [
        sys.executable,
        "-m",
        "benchmarks.pipeline.stages",
        stage,
        "--input",
        str(files),
        "--result",
        str(result),
    ]
    cost = run_measured(command, cwd=PROJECT_ROOT, env=environment, log=home.home / f"{stage}.log")
    parts = json.loads(result.read_text())
    rows = sum(part["rows"] for part in parts)
    return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes, "rows": rows, "parts": parts}


def _warm(files: Path) -> None:
    """Read the input once, so that the first reader does not pay for a cold disk and the second for none."""
    for path in files.rglob("*.*"):
        with path.open("rb") as handle:
            while handle.read(1 << 24):
                pass


def _compare(home: Settings, stages: Collection[str]) -> dict[str, str]:
    import duckdb

    if CHECKED_MARTS in stages:
        warehouse = checked_home(home).warehouse
    elif "dbt" in stages:
        warehouse = home.warehouse
    else:
        return {}
    with duckdb.connect() as con:
        found = differences(con, warehouse, by_hand_database(home))
    say("the hand-written script's marts are the pipeline's" if not found else f"{len(found)} marts differ")
    return found


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # DuckDB 2.0 prints a page about its own leaked references when the interpreter takes itself apart.
    os._exit(status)
