"""The best of a table less each of the others, over all seeds at once: whether it is better beyond doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import paired_interval

#: Protocols that ask for the same users in the same order whatever the seed, which draws negatives and weights alone.
SAME_USERS = ("ncf-split", "leave-last-out", "temporal")


def mean_pairs(rows: Sequence[Mapping[str, Any]], protocol: str) -> list[dict[str, Any]]:
    """Return the best mean's recommender less each other one, paired by user after averaging over the seeds.

    A user is one draw of the bootstrap, however many seeds there are. Returns an empty list where the users differ by
    the seed or there is nothing to pair; a recommender that lacks a seed has no row.
    """
    if protocol not in SAME_USERS:
        return []
    figures: dict[str, dict[int, NDArray[np.float64]]] = {}
    for row in rows:
        if "by_user" in row and "segments" not in row["by_user"]:
            values = np.array([np.nan if value is None else value for value in row["by_user"]["values"]])
            figures.setdefault(row["recommender"], {})[row["seed"]] = values
    seeds = {row["seed"] for row in rows}
    means = {
        name: np.mean(list(of_seed.values()), axis=0) for name, of_seed in figures.items() if set(of_seed) == seeds
    }
    if len(means) < 2:
        return []
    best = max(means, key=lambda name: float(np.nanmean(means[name])))
    figure = next(row["by_user"]["figure"] for row in rows if row["recommender"] == best)
    found = []
    for name, theirs in means.items():
        both = ~np.isnan(means[best]) & ~np.isnan(theirs)
        if name != best and both.any():
            found.append(
                {
                    "recommender": best,
                    "against": name,
                    "figure": figure,
                    "seeds": len(seeds),
                    "users": int(both.sum()),
                    "difference": float((means[best] - theirs)[both].mean()),
                    "interval": list(paired_interval(means[best][both], theirs[both])),
                }
            )
    return found
