"""What somebody has met, as a row of history: what the bundle knows, with what the app's store says folded in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bento.bundles.loaded_bundle import Served
from bento.schemas.recommendations import Met
from bento.store.tables import FIRST_APP_USER_ID
from bento.store.user_state import NOBODY, AppHistory

#: Ratings in the app up to which each is looked for by itself, which is sooner done than sorting.
_FEW = 16


@dataclass(frozen=True, slots=True)
class Taste:
    """What one user has met: the bundle's history with the app's ratings folded in, as one row.

    ``user`` is the bundle's index, -1 for who is not in it; ``times`` int64[nnz] goes with ``history.data``: epoch
    seconds at which each film was rated, as the training has them. Where only an order is known, it is what came after
    what, a second apart. ``fresh`` and ``fresh_stars`` are the films that he rated in the app and the model has, the
    last written last; ``dismissed`` those he sent away.
    """

    user: int
    history: csr_array
    times: NDArray[np.int64]
    fresh: NDArray[np.int64]
    fresh_stars: NDArray[np.float32]
    dismissed: NDArray[np.int64]


def taste_of(served: Served, user_id: int, app: AppHistory = NOBODY) -> Taste:
    """Fold what the app's store says of a user into what the bundle knows; a later rating stands for the one before."""
    bundle, place = served.bundle, served.catalogue.by_key
    user = -1 if app.forgotten else bundle.user_index.get(user_id, -1)
    known = slice(int(bundle.history.indptr[user]), int(bundle.history.indptr[user + 1])) if user >= 0 else slice(0, 0)
    told = [(place[key], stars) for key, stars in app.ratings if key in place]
    fresh = np.array([item for item, _ in told], dtype=np.int64)
    fresh_stars = np.array([stars for _, stars in told], dtype=np.float32)
    old = np.asarray(bundle.history.indices[known], dtype=np.int64)
    # Of the app's own people its store knows all: what is not there was taken back after the training.
    stays = ~_is_among(old, fresh) & (not app.known or user_id < FIRST_APP_USER_ID)
    items = np.concatenate([old[stays], fresh])
    stars = np.concatenate([bundle.history.data[known][stays], fresh_stars]).astype(np.float32)
    old_times = bundle.history_times[known][stays]
    moments = [at for (key, _), at in zip(app.ratings, app.rated_at, strict=False) if key in place]
    rated_at = np.array(moments, dtype=np.int64) if moments else old_times.max(initial=0) + 1 + np.arange(len(fresh))
    times = np.concatenate([old_times, rated_at])
    order = np.argsort(items)
    return Taste(
        user,
        csr_array((stars[order], items[order], np.array([0, len(items)])), shape=(1, len(bundle.items))),
        times[order],
        fresh,
        fresh_stars,
        np.array([place[key] for key in app.dismissed if key in place], dtype=np.int64),
    )


def taste_from(served: Served, history: Sequence[Met]) -> Taste:
    """Build the taste of a person without a user id from the history they send; of a repeated movie the last counts.

    The movies are taken to be in the order in which the person watched them.
    """
    met = {
        served.bundle.item_index[film.movie_id]: film.rating
        for film in history
        if film.movie_id in served.bundle.item_index
    }
    items, stars = np.array(list(met), dtype=np.int64), np.array(list(met.values()), dtype=np.float32)
    order = np.argsort(items)
    row = csr_array((stars[order], items[order], np.array([0, len(items)])), shape=(1, len(served.bundle.items)))
    return Taste(-1, row, order.astype(np.int64), items, stars, np.empty(0, dtype=np.int64))


def _is_among(items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    if len(others) > _FEW:
        return np.isin(items, others)
    return np.asarray((items[:, None] == others).any(axis=1), dtype=bool)
