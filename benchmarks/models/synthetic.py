"""Interactions of any size with MovieLens's shape: few films have most ratings, few users gave most."""

from __future__ import annotations

import numpy as np

from models.data.interactions import Interactions


def generated_interactions(n_users: int, n_items: int, n_rows: int, *, seed: int) -> Interactions:
    """About ``n_rows`` rows (pairs drawn twice count once), each user and item with weights of a long tail."""
    rng = np.random.default_rng(seed)
    users = rng.choice(n_users, n_rows, p=_long_tail(n_users, 0.6, rng))
    items = rng.choice(n_items, n_rows, p=_long_tail(n_items, 1.0, rng))
    codes = rng.permutation(np.unique(users.astype(np.int64) * n_items + items))
    stars = rng.integers(1, 6, len(codes))
    return Interactions.of(
        codes // n_items, codes % n_items, stars, np.arange(len(codes)), n_users=n_users, n_items=n_items
    )


def _long_tail(n: int, steepness: float, rng: np.random.Generator) -> np.ndarray:
    weights = (np.arange(n) + 10.0) ** -steepness
    return rng.permutation(weights / weights.sum())
