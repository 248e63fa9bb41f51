"""``python -m benchmarks.serving``: the service at 27,000 films, beside a constant route and a plain service.

The home is generated once under ``$MARQUEE_HOME/bench`` and used again. Markdown on standard output, JSON under
``$MARQUEE_HOME/reports``, the story on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.pipeline.report import machine
from benchmarks.serving import scenarios as measures
from benchmarks.serving.report import markdown
from benchmarks.serving.server_process import marquee, plain
from benchmarks.serving.synthetic_home import FIRST_ID, MadeHome, ServedSize, make_home
from models.serving.bundle import write_pointer
from settings import command_settings

#: The recipes that compete in every home; popularity asks nobody's history.
RECOMMENDERS = ("ials", "ease", "neumf")


def say(line: str) -> None:
    """One line of the story."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _options(arguments)
    settings = command_settings()
    size = ServedSize(options.films, options.users, options.ratings, options.people, options.seed)
    home = make_home(settings.home / "bench", size, list(dict.fromkeys([*options.models, "ials"])), say)
    report: dict[str, Any] = {
        "machine": machine(settings.threads, settings.duckdb_memory),
        "size": {"films": size.films, "users": size.users, "ratings": size.ratings, "people": size.people},
        "models": {},
    }
    for name in options.models:
        report["models"][name] = _measured(home, name, options)
        say(f"{name}: {json.dumps(report['models'][name])}")
    users = list(range(FIRST_ID, FIRST_ID + min(options.requests + 40, size.users)))
    with plain(home.settings, home.settings.models / home.versions["ials"]) as server:
        figures = measures.plain_figures(server.port, users)
        report["plain"] = {**figures, "worker_mb": round(server.worker_bytes() / 1e6)}
    print(markdown(report))
    settings.reports.mkdir(parents=True, exist_ok=True)
    path = settings.reports / f"bench-serving-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(f"report: {path}")
    return 0


def _measured(home: MadeHome, name: str, options: argparse.Namespace) -> dict[str, Any]:
    size = home.size
    people = measures.People(size.users, size.films, FIRST_ID, size.seed)
    write_pointer(home.settings.serving_pointer, home.versions[name])
    # The ratings of an earlier run would be part of every history.
    for file in home.settings.home.glob("app/*"):
        file.unlink()
    with marquee(home.settings) as server:
        return {
            "ready_s": round(server.ready_s, 1),
            "started_mb": round(server.worker_bytes() / 1e6),
            "one": measures.one_caller(server.port, people, options.requests),
            "many": measures.many_callers(server, people, options.requests, options.rounds),
            "batch": measures.batch(server.port, people, min(100, size.users // 20), options.rounds),
            "fresh": measures.freshness(server.port, people, options.requests // 10),
            "long_history": measures.long_history(server.port, size.films, FIRST_ID, size.seed),
            "similar": measures.similar_films(server.port, size.films, FIRST_ID, size.seed, options.requests // 2),
            "worker_mb": round(server.worker_bytes() / 1e6),
        }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    usual = ServedSize()
    parser.add_argument("--models", nargs="+", default=list(RECOMMENDERS), help="served one after the other")
    parser.add_argument("--films", type=int, default=usual.films)
    parser.add_argument("--users", type=int, default=usual.users)
    parser.add_argument("--ratings", type=int, default=usual.ratings)
    parser.add_argument("--people", type=int, default=usual.people, help="who made the films")
    parser.add_argument("--requests", type=int, default=400, help="of each kind and round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=usual.seed)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
