"""Keeps a user's online features fresh between two runs: after a rating in the app they are made anew and pushed.

In the background, so that no write waits for it; a run replaces what was pushed by what it finds in the marts.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable
from bento.recommendation.user_profile import taste_of
from bento.store import users as people
from bento.store.database import Store, StoreUnavailable
from bento.store.users import Who
from bento.telemetry import stage

logger = logging.getLogger("marquee.features")

#: Users who may wait; beyond that they are left to the next run.
ROOM = 10_000
#: Seconds between two pushes, and users of one at most.
EVERY_S, TOGETHER = 1.0, 10
_DAY_S = 86_400
_YEAR, _GENRE = "movie_content__release_year", "movie_content__is_"


def features_now(
    item_names: Sequence[str],
    item_features: NDArray[np.float32],
    items: NDArray[np.int64],
    stars: NDArray[np.float32],
    times: NDArray[np.int64],
) -> dict[str, float | int | None]:
    """Return the newest row of the mart ``user_features`` for somebody with these ratings, to the last bit.

    Each movie once, with the rating that stands (``fct_ratings``): items int64[n], stars float32[n], epoch seconds
    int64[n], n > 0. None where the movies say nothing. The mart counts in whole tenths, and so does this.

    >>> names = ["movie_content__release_year", "movie_content__is_war"]
    >>> films = np.array([[1990, 1], [2000, 0]], dtype=np.float32)
    >>> both = np.array([0, 1]), np.array([5.0, 2.0], dtype=np.float32), np.array([0, 3 * 86_400])
    >>> found = features_now(names, films, *both)
    >>> found["rating_mean"], found["active_days"], found["days_since_first"], found["genre_share_war"]
    (3.5, 2, 4, 0.5)
    """
    place = {name: column for column, name in enumerate(item_names)}
    count, days = len(items), times // _DAY_S
    tenths = np.rint(stars.astype(np.float64) * 10).astype(np.int64)
    total, squares = int(tenths.sum()), int((tenths * tenths).sum())
    years = item_features[items, place[_YEAR]].astype(np.float64)
    dated = years[~np.isnan(years)]
    shares = {
        f"genre_share_{name.removeprefix(_GENRE)}": _rounded(
            float(np.nan_to_num(item_features[items, column]).sum()) / count
        )
        for name, column in place.items()
        if name.startswith(_GENRE)
    }
    return {
        "rating_count": count,
        "rating_mean": _rounded(total / (10.0 * count)),
        "rating_stddev": _rounded(math.sqrt(count * squares - total * total) / (10.0 * count)),
        "positive_share": _rounded(int((tenths >= 40).sum()) / count),
        "active_days": len(np.unique(days)),
        "days_since_first": int(days.max() + 1 - days.min()),
        "mean_release_year": _rounded(float(dated.sum()) / len(dated)) if len(dated) else None,
        **shares,
    }


def _rounded(value: float) -> float:
    """Round a value that is not negative to six digits as DuckDB does: a half goes up, where Python's goes to even."""
    return math.floor(value * 1e6 + 0.5) / 1e6


class FreshFeatures:
    """Pushes the features of users who have rated; ``note`` may be called from any thread, also before ``start``.

    Those of a second are pushed ten at a time: Feast's part costs much the same for one and for ten, and what a thread
    in the background does is taken from the answers.
    """

    def __init__(
        self,
        store: Store,
        served: Callable[[], Sequence[Served]],
        now: Callable[[], datetime],
        *,
        room: int = ROOM,
        every_s: float = EVERY_S,
    ) -> None:
        self._store, self._served, self._now = store, served, now
        self._room, self._every_s = room, every_s
        self._waiting: set[int] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, user_id: int) -> None:
        """Have the features of a user made anew soon."""
        with self._lock:
            has_room = len(self._waiting) < self._room or user_id in self._waiting
            if has_room:
                self._waiting.add(user_id)
        if not has_room:
            logger.warning("too many have rated at once: the online features of some wait for the next run")

    def start(self) -> None:
        """Push in the background from now on."""
        self._thread = threading.Thread(target=self._push_on, name="fresh-features", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Push what waits, and end."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _push_on(self) -> None:
        while not self._is_over.wait(self._every_s):
            self._push_waiting()
        self._push_waiting()

    def _push_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = sorted(self._waiting), set()
        for start in range(0, len(waiting), TOGETHER):
            try:
                self.push(waiting[start : start + TOGETHER])
            except (FeatureStoreUnavailable, StoreUnavailable) as error:
                logger.warning("online features stay as they are until the next run: %s", error)
            except Exception:
                # A thread that died would let all features grow old without a word.
                logger.exception("the features of some users could not be pushed")

    def push(self, user_ids: Sequence[int]) -> None:
        """Make the users' features of this moment and push them where the served model reads any.

        Raises ``StoreUnavailable`` or ``FeatureStoreUnavailable``.
        """
        for served in self._served():
            if served.features is None or served.bundle.item_features is None:
                continue
            rows: dict[int, dict[str, float | int | None]] = {}
            whos: dict[int, Who] = {}
            for user_id in user_ids:
                index = served.bundle.user_index.get(user_id)
                if index is None:
                    continue
                who = Who.of(user_id, served.catalogue.edition)
                found = self._features(served, user_id, who)
                if found is not None:
                    key = int(served.user_keys[index])
                    rows[key], whos[key] = found, who
            if not rows:
                continue
            with stage("features"):
                served.features.push(rows, self._now())
            # Who has left in between is not to be found again.
            with self._store.reading() as session:
                gone = [key for key, who in whos.items() if people.is_forgotten(session, who)]
            for key in gone:
                served.features.forget(key, self._now())

    def _features(self, served: Served, user_id: int, who: Who) -> dict[str, float | int | None] | None:
        """Return the current features of a user; None if they are not in the bundle, have no rating or were deleted."""
        with self._store.reading() as session:
            app = people.app_history(session, who)
            user = people.find_user(session, who)
            rated = [] if user is None else people.list_ratings(session, user, before=None, limit=len(app.ratings))
            moments = {row.movie_key: int(row.rated_at.astimezone(UTC).timestamp()) for row in rated}
        taste = taste_of(served, user_id, app)
        if taste.user < 0 or taste.history.nnz == 0:
            return None
        items, times = np.asarray(taste.history.indices, dtype=np.int64), taste.times.copy()
        place = served.catalogue.by_key
        told = {place[key]: moment for key, moment in moments.items() if key in place}
        in_app = np.isin(items, taste.fresh)
        times[in_app] = [told[item] for item in items[in_app].tolist()]
        assert served.bundle.item_features is not None
        return features_now(
            served.bundle.features.item_names, served.bundle.item_features, items, taste.history.data, times
        )
