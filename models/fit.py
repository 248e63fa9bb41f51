"""``python -m models.fit NAME --ratings F --out DIR``: one recommender fitted on a ratings file and saved.

Started by ``torchrun --nproc-per-node N -m models.fit …`` it is fitted by N processes together, on the processor or on
a GPU each: every one takes its share of a step's rows, and the gradients are averaged before a weight moves, so that a
step is the same step as of one process (:class:`Team`). Process 0 writes the folder and the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.data.ratings_reader import read_ratings
from models.evaluate import recipes_of
from models.evaluation.evaluation_run import MEMORY_LIMIT, Recipe
from models.registry import RECOMMENDERS, recommender_class
from models.runtime.errors import RecommenderError
from models.runtime.memory import peak_memory
from models.runtime.progress import Progress
from models.runtime.progress_bar import shown_progress


def fit(
    recipe: Recipe,
    ratings: Path,
    out: Path,
    *,
    seed: int,
    threads: int = 1,
    checkpoints: Path | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> dict[str, Any] | None:
    """Fit and save; the report, or None for a process that is not the first.

    ``RecommenderError`` when the fit states more memory than the limit, or several processes were started for a
    recommender that is fitted by one.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not recommender_class(recipe.name).fitted_by_teams:
        raise RecommenderError(f"{recipe.name}: is fitted by one process, not by {processes}")
    interactions = read_ratings(ratings, keep_timeless=True).interactions
    recommender = recipe.make({}, threads)
    stated = recommender.fit_memory(interactions.n_users, interactions.n_items, len(interactions))
    if stated > memory_limit:
        raise RecommenderError(f"{recipe.name}: a fit would hold {stated / 2**30:.1f} GB")
    started = time.perf_counter()
    rank = int(os.environ.get("RANK", "0"))
    with _team(recommender.config, processes), shown_progress(recipe.name) as tell:
        recommender.fit(interactions, seed=seed, progress=tell if rank == 0 else _silent, checkpoints=checkpoints)
        seconds = time.perf_counter() - started
        if rank:
            return None
        recommender.save(out)
        recommender.checkpoint.remove()
    return {
        "recommender": recipe.name,
        "processes": processes,
        "seed": seed,
        "interactions": len(interactions),
        "fit_seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory() / 2**20),
        "stated_fit_memory_mb": round(stated / 2**20),
        "config": asdict(recommender.config),
        "learning_curve": recommender.learning_curve,
    }


def _team(config: Any, processes: int) -> AbstractContextManager[object]:
    """Return the group of several processes, or nothing for one: most recommenders do not need torch."""
    if processes == 1:
        return nullcontext()
    from models.runtime.distributed import torchrun_team

    return torchrun_team(config.device)


def _silent(_: Progress) -> None:
    """One process tells of the epochs of all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit; 0, or 2 with one line on stderr when the input cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m models.fit", description=__doc__)
    parser.add_argument("name", choices=RECOMMENDERS, metavar="NAME")
    parser.add_argument("--ratings", type=Path, required=True, help="a MovieLens ratings file, any layout")
    parser.add_argument("--out", type=Path, required=True, help="the folder that is written")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME.FIELD=VALUE")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in each process")
    parser.add_argument("--checkpoints", type=Path, help="a folder for states: the same command goes on after a kill")
    parser.add_argument("--memory-limit", type=float, default=MEMORY_LIMIT / 2**30, metavar="GB")
    given = parser.parse_args(arguments)
    try:
        (recipe,) = recipes_of([given.name], given.set, [])
        report = fit(
            recipe,
            given.ratings,
            given.out,
            seed=given.seed,
            threads=given.threads,
            checkpoints=given.checkpoints,
            memory_limit=int(given.memory_limit * 2**30),
        )
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    if report is not None:
        print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
