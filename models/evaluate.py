"""``python -m models.evaluate PROTOCOL …``: one published protocol on given files, JSON on stdout."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.evaluation import LeaveLastOutEvaluation
from models.ratings_file import read_ratings
from models.recommender import Progress, Recommender
from models.registry import RECOMMENDERS, make_recommender


def leave_last_out(ratings: Path, names: Sequence[str], seeds: Sequence[int], *, threads: int = 1) -> dict[str, Any]:
    """The leave-last-one-out protocol on a ratings file: one row a recommender and seed, and what was read.

    A ratings file holds no features, so NeuMF runs as the paper's baseline, by indices alone.
    """
    file = read_ratings(ratings)
    interactions = file.interactions
    rows = []
    for seed in seeds:
        protocol = LeaveLastOutEvaluation.prepare(interactions, seed=seed)
        for name in names:
            recommender = _recommender(name, threads)
            seconds = protocol.fit(recommender, seed=seed, progress=_tell(name))
            row = asdict(protocol.judge(recommender, fit_seconds=seconds))
            rows.append({**row, "seed": seed, "config": asdict(recommender.config)})
    with ratings.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "protocol": "leave-last-out",
        "data": {
            "file": ratings.name,
            "sha256": digest,
            "users": interactions.n_users,
            "items": interactions.n_items,
            "interactions": len(interactions),
            "users_left_out_for_unknown_times": file.users_left_out,
        },
        "rows": rows,
    }


def _recommender(name: str, threads: int) -> Recommender:
    recommender = make_recommender(name)
    if not recommender.uses_features:
        return recommender
    return make_recommender(name, replace(recommender.config, use_features=False, threads=threads))


def _tell(name: str) -> Any:
    def tell(step: Progress) -> None:
        facts = " ".join(f"{key}={value:.4f}" for key, value in step.metrics.items() if key != "epoch")
        print(f"{name}: {step.step} of at most {step.total} {facts}", file=sys.stderr)

    return tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a protocol; 0, or 2 with one line on stderr when the input cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    protocols = parser.add_subparsers(dest="protocol", required=True)
    last_out = protocols.add_parser("leave-last-out", help="hold out each user's last rating (He et al. 2017)")
    last_out.add_argument("--ratings", type=Path, required=True, help="a MovieLens ratings file, any layout")
    last_out.add_argument("--model", nargs="+", choices=RECOMMENDERS, default=list(RECOMMENDERS))
    last_out.add_argument("--seed", nargs="+", type=int, default=[42])
    last_out.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args(arguments)
    try:
        report = leave_last_out(given.ratings, given.model, given.seed, threads=given.threads)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
