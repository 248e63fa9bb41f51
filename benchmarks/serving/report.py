"""What was measured of the service, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    size, facts = report["size"], report["machine"]
    about = (
        f"{size['films']:,} films, {size['users']:,} users, {size['ratings']:,} ratings, {size['people']:,} people;"
        f" {facts['cores']} cores, {facts['processor']}, the load on the same machine. Each request is another user's,"
        " who has just sent a rating; 20 films with reasons. `above` is what `/recommend` takes more than a constant"
        " body of equal size from the same process, asked in turn."
    )
    columns = (
        "model",
        "p50, p99",
        "constant p50, p99",
        "above p50, p99",
        "requests/s at 32",
        "of the constant",
        "processor ms, of the constant",
        "batch: ms a user",
        "times faster",
        "rating to new list, largest",
        "5,000 films",
        "worker",
        "ready",
    )
    lines = [about, "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, row in report["models"].items():
        one, many, batch = row["one"], row["many"], row["batch"]
        lines.append(
            f"| {name} | {one['recommend_p50_ms']}, {one['recommend_p99_ms']} ms"
            f" | {one['constant_p50_ms']}, {one['constant_p99_ms']} ms"
            f" | {one['above_p50_ms']}, {one['above_p99_ms']} ms"
            f" | {many['recommend_rps']:.0f} | {many['share']:.2f}"
            f" | {many['recommend_cpu_ms']}, {many['constant_cpu_ms']} | {batch['ms_a_user']} | {batch['times_faster']}"
            f" | {row['fresh']['largest_ms']} ms | {row['long_history']['p50_ms']} ms | {row['worker_mb']} MB"
            f" | {row['ready_s']} s |"
        )
    plain = report["plain"]
    lines.append(
        f"| plain FastAPI + faiss | {plain['recommend_p50_ms']}, {plain['recommend_p99_ms']} ms | | "
        f"| {plain['recommend_rps']:.0f} | | | | | | | {plain['worker_mb']} MB | |"
    )
    kinds = list(next(iter(report["models"].values()))["similar"])
    lines += ["", f"| `/similar`: p50, share of the exact 20 | {' | '.join(kinds)} |", "|" + "---|" * (len(kinds) + 1)]
    for name, row in report["models"].items():
        told = [
            "not there" if "missing" in one else f"{one['p50_ms']} ms, {one['recall']:.3f}"
            for one in row["similar"].values()
        ]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join([*lines, ""])
