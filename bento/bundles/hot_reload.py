"""Which bundle is served: the one that ``serving.json`` names, else the one that ships inside the bento."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from bento.bundles.loaded_bundle import FeatureReader, Served
from bento.errors import NotServable
from bento.features.online_store import OnlineUserFeatures
from bento.features.timeouts import WithDeadline
from bento.recommendation.answers import recommend, similar
from bento.recommendation.single_item import predict_rating
from bento.schemas.recommendations import PredictRatingRequest, RecommendRequest, SimilarRequest
from bento.store.user_state import NOBODY
from models.serving.bundle import BundleError, load_bundle, read_pointer

logger = logging.getLogger("marquee.serving")

#: Seconds between two looks at the pointer.
POLL_S = 1.0


def load_served(path: Path, feast_dir: Path) -> Served:
    """Load the bundle in a folder, ready to answer, with a feature reader if its recommender uses features.

    Raises ``NotServable`` if the bundle, or the features that it needs, cannot be used.
    """
    try:
        bundle = load_bundle(path, to_serve=True)
    except (BundleError, ValueError, OSError) as error:
        raise NotServable(f"the bundle cannot be loaded: {error}", "promote another version (`make run`)") from error
    features: FeatureReader | None = None
    if bundle.recommender.uses_features:
        online = OnlineUserFeatures(feast_dir, bundle.features)
        features = WithDeadline(online) if online.is_server else online
    served = Served.of(bundle, features)
    _rehearse(served)
    return served


def _rehearse(served: Served) -> None:
    """Answer once before anyone asks.

    A bundle that cannot must not be swapped in, and first calls are slow (Feast's takes a second).
    """
    bundle = served.bundle
    try:
        for user_id in bundle.users["user_id"].head(1).to_list():
            recommend(served, RecommendRequest(user_id=user_id, k=1))
            if bundle.content is not None:
                recommend(served, RecommendRequest(user_id=user_id, k=1, blend=0.5))
        for movie_id in bundle.items["movie_id"].head(1).to_list():
            similar(served, SimilarRequest(movie_id=movie_id, k=1))
            if bundle.rating is not None:
                predict_rating(served, PredictRatingRequest(user_id=0, movie_id=movie_id), NOBODY)
    except Exception as error:
        raise NotServable(
            f"the bundle {bundle.version} cannot answer: {error!r}", "promote another version (`make run`)"
        ) from error


class ServedBundle:
    """The bundle that is served now; a thread follows the pointer and swaps the reference when a new one is ready.

    A request takes :attr:`current` once and keeps it, so that an answer is of one bundle. A new bundle is loaded aside
    while the old one goes on answering; one that cannot be served is logged and left alone until the pointer moves.
    ``shipped`` is the folder of the bundle inside the bento, None when there is none.
    """

    def __init__(
        self,
        *,
        pointer: Path,
        models: Path,
        feast: Path,
        shipped: Path | None = None,
        on_swap: Callable[[Served], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self._pointer, self._models, self._feast, self._shipped = pointer, models, feast, shipped
        self._on_swap = on_swap or (lambda _: None)
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int, int, int] | None = None
        self._current: Served | None = None
        self._problem: NotServable | None = None

    @property
    def current(self) -> Served | None:
        """The bundle to answer with, None while there is none (:attr:`problem` says why)."""
        return self._current

    @property
    def problem(self) -> NotServable | None:
        """Why the bundle that should be served is not; None when it is."""
        return self._problem

    def start(self) -> None:
        """Load the first bundle, which takes seconds, then follow the pointer in the background."""
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="serving-pointer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def refresh(self) -> None:
        """Look at the pointer; when it has changed, load what it names and swap it in."""
        identity = self._identity()
        if identity == self._seen and (self._current is not None or self._problem is not None):
            return
        self._seen = identity
        try:
            self._load()
        except NotServable as error:
            self._problem = error
            kept = "Nothing is served." if self._current is None else f"Still serving {self._current.bundle.version}."
            logger.error("%s %s", error, kept)

    def _load(self) -> None:
        path = self._wanted()
        if self._current is not None and self._current.bundle.version == path.name:
            self._problem = None
            return
        served = load_served(path, self._feast)
        # What was loaded lives as long as the process: the collector need not walk it on every pass, which costs
        # milliseconds in the middle of a request.
        gc.collect()
        gc.freeze()
        self._current, self._problem = served, None
        logger.info(
            "serving %s: %d films, %d users", served.bundle.version, len(served.bundle.items), len(served.bundle.users)
        )
        self._on_swap(served)

    def _wanted(self) -> Path:
        """Return the folder of the bundle to serve; raise ``NotServable`` if there is none."""
        if self._seen is not None:
            try:
                named = self._models / read_pointer(self._pointer)
            except BundleError as error:
                raise NotServable(str(error), "promote a version (`make run`)") from error
            if named.is_dir() or self._shipped is None:
                return named
            logger.warning("%s names %s, which is not in %s", self._pointer, named.name, self._models)
        if self._shipped is None:
            raise NotServable(
                f"no bundle ships with this service, and {self._pointer} does not name one", "run `make run` first"
            )
        return self._shipped

    def _identity(self) -> tuple[int, int, int] | None:
        """Return values that change when the pointer file does; None while the file is missing."""
        try:
            found = os.stat(self._pointer)  # noqa: PTH116 - Path.stat is this with a detour
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self.refresh()
            except Exception:
                # A thread that died would leave the service on the old bundle for ever without a word.
                logger.exception("following %s failed", self._pointer)
