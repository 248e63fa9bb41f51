"""Small interactions with known answers, and features that go with them."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from models.data.batch import UserBatch
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent

TASTES, PER_TASTE, USERS = 2, 10, 60
ITEMS = TASTES * PER_TASTE


def two_tastes() -> tuple[Interactions, np.ndarray]:
    """60 users who each met all but one of the ten films of their taste, and the film that each one misses.

    Everything of the other taste is unmet too, so that only a personal recommender finds the missing one.
    """
    users = np.arange(USERS)
    missing = (users % TASTES) * PER_TASTE + (users // TASTES) % PER_TASTE
    met = np.ones((USERS, ITEMS), dtype=bool)
    met[:, :PER_TASTE] = (users % TASTES == 0)[:, None]
    met[:, PER_TASTE:] = (users % TASTES == 1)[:, None]
    met[users, missing] = False
    rows, items = np.nonzero(met)
    # The order in time goes round by user, so that every film is somebody's last one.
    times = (items + rows) % PER_TASTE + 1
    stars = 1 + (rows + items) % 5
    return Interactions.of(rows, items, stars, times * 86_400, n_users=USERS, n_items=ITEMS), missing


def liked_tastes() -> tuple[Interactions, np.ndarray]:
    """60 users who rated all but one film of each taste, their own with 5 stars and the other with 1 or 2.

    The unrated film of the own taste, which is the one to recommend, is given as in :func:`two_tastes`.
    """
    users = np.arange(USERS)
    place = (users // TASTES) % PER_TASTE
    rated = np.ones((USERS, ITEMS), dtype=bool)
    rated[users, place] = False
    rated[users, place + PER_TASTE] = False
    rows, items = np.nonzero(rated)
    own = rows % TASTES == items // PER_TASTE
    stars = np.where(own, 5, 1 + (rows + items) % 2)
    times = ((items + rows) % PER_TASTE + 1) * 86_400
    return Interactions.of(rows, items, stars, times, n_users=USERS, n_items=ITEMS), (
        users % TASTES
    ) * PER_TASTE + place


def features_of(interactions: Interactions, seed: int = 0) -> TrainingFeatures:
    """Two user features (the second sometimes unknown), two item histories of random values, and words."""
    rng = np.random.default_rng(seed)
    user = rng.normal(size=(len(interactions), 2)).astype(np.float32)
    user[rng.random(len(interactions)) < 0.3, 1] = np.nan
    n = interactions.n_items
    static = FeatureHistory.of(np.arange(n), np.full(n, -1), rng.normal(size=(n, 1)), ["length"])
    keys, days = np.repeat(np.arange(n), 3), np.tile([2, 5, 8], n)
    moving = FeatureHistory.of(keys, days * 86_400, rng.integers(1, 500, size=(3 * n, 1)), ["count"])
    return TrainingFeatures(user, ("age", "mood"), (moving, static), content_of_tastes(n))


def content_of_tastes(n_items: int) -> ItemContent:
    """Each film has its taste as a genre and a tag that no other film has; the films of a taste are of one decade."""
    items = np.arange(n_items)
    tastes = [f"genre:taste{item // PER_TASTE}" for item in items]
    own = [f"tag:film{item}" for item in items]
    words = pl.DataFrame({"item": np.tile(items, 2), "word": tastes + own})
    return ItemContent.of(words, (1980 + 10 * (items // PER_TASTE)).astype(np.float32))


def batch_of(interactions: Interactions, users: np.ndarray, features: TrainingFeatures | None = None) -> UserBatch:
    """Return the given users with their ratings and, if given, the features of their first row and the movies' last."""
    shape = (interactions.n_users, interactions.n_items)
    stars = csr_array((interactions.ratings, (interactions.users, interactions.items)), shape=shape)
    history = stars[np.maximum(users, 0)]
    if features is None:
        return UserBatch(users.astype(np.int64), history)
    first = np.searchsorted(np.sort(interactions.users), np.maximum(users, 0))
    row = np.argsort(interactions.users, kind="stable")[first]
    newest = features.items_as_of(np.arange(interactions.n_items), np.full(interactions.n_items, 10**9))
    return UserBatch(users.astype(np.int64), history, features.user_values[row], newest)
