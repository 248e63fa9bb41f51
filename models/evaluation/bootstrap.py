"""Bootstrap intervals over users: how far a figure would move if other users had been asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Resamples: the bounds of a 95 % interval of 1,000 stand on 25 values each.
DRAWS = 1_000
#: Users that are drawn at a time (int64: 64 MB).
_CELLS = 8_000_000


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Return the bounds of the mean of ``values`` float64[users], one figure a user; NaN for no users.

    Equal values give an interval of zero width:

    >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]))
    (0.5, 0.5)
    """
    return bootstrap_ratio_interval(values, np.ones(len(values)), seed=seed, level=level, draws=draws)


def paired_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Return the bounds of the mean of ``ours - theirs`` over the same users.

    ``ours`` is significantly better if both bounds are above 0.

    >>> paired_interval(np.array([0.75, 1.25]), np.array([0.5, 1.0]))
    (0.25, 0.25)
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"not the same users: {ours.shape} and {theirs.shape}")
    return bootstrap_interval(ours - theirs, seed=seed, level=level, draws=draws)


def bootstrap_ratio_interval(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    seed: int = 0,
    level: float = 0.95,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """Return the bounds of ``sum(sums) / sum(counts)``, resampling users.

    For a figure over rows, of which a user can have many.

    >>> bootstrap_ratio_interval(np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, 2.0)
    """
    n_users = len(sums)
    if n_users == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    step = max(1, _CELLS // n_users)
    for start in range(0, draws, step):
        users = rng.integers(0, n_users, size=(min(step, draws - start), n_users))
        found[start : start + step] = sums[users].sum(axis=1) / counts[users].sum(axis=1)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
