"""From a request to its answer, over one loaded bundle: plain functions that know neither HTTP nor BentoML."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.features import UserFeatures
from bento.schemas import (
    Fallback,
    Provenance,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
)
from models.bundle import Bundle

logger = logging.getLogger("marquee.answers")

Source = Literal["collaborative", "popular", "similar"]


class FeatureReader(Protocol):
    """Whoever knows a user's features now."""

    def read(self, user_key: int) -> UserFeatures:
        """The features, or ``FeatureStoreUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle with its features' reader, and its films as Python values, which one request reads a few of.

    ``cards`` has a row an item index: the arguments of an :class:`Item` that do not depend on the request.
    """

    bundle: Bundle
    features: FeatureReader | None
    cards: tuple[dict[str, object], ...]
    user_keys: NDArray[np.int64]

    @classmethod
    def of(cls, bundle: Bundle, features: FeatureReader | None) -> Served:
        """Prepare a bundle; ``features`` may be None only where its recommender uses none."""
        films = bundle.items.select(
            "movie_id",
            "movie_key",
            "imdb_id",
            "title",
            "year",
            "genres",
            "link_kind",
            link="link_url",
        )
        return cls(bundle, features, tuple(films.to_dicts()), bundle.users["user_key"].to_numpy().astype(np.int64))


def recommend(served: Served, request: RecommendRequest) -> RecommendResponse:
    """The best films for a user that he has not rated; popular ones, and why, where the model cannot answer."""
    bundle = served.bundle
    user = bundle.user_index.get(request.user_id, -1)
    fallback: Fallback | None = None
    features: UserFeatures | None = None
    if user < 0:
        fallback = _popular(
            "unknown_user",
            f"User {request.user_id} is not among the {len(bundle.users)} users that the served model was trained on.",
        )
    elif served.features is not None:
        try:
            features = served.features.read(int(served.user_keys[user]))
        except FeatureStoreUnavailable as error:
            # The error names files and addresses: for the operator's log, not for the caller.
            logger.warning("%s", error)
            fallback = _popular("feature_store_unavailable", "The online feature store could not be read.")
        else:
            if not features.found:
                fallback = _popular(
                    "no_features", f"User {request.user_id} has no features in the online feature store."
                )
    recommender = bundle.recommender if fallback is None else bundle.popularity
    values = features.values[None] if features is not None and features.found else None
    found, scores = recommender.recommend(bundle.batch([user], values), request.k)
    source: Source = "popular" if recommender.name == "popularity" else "collaborative"
    return RecommendResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(served, found[0], scores[0], source),
            "fallback": fallback,
            "provenance": _provenance(bundle, features),
        }
    )


def similar(served: Served, request: SimilarRequest) -> SimilarResponse:
    """The films most like one; ``RequestRefused`` (404) for a film that the bundle does not have."""
    bundle = served.bundle
    item = bundle.item_index.get(request.movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"Movie {request.movie_id} is not among the {len(bundle.items)} films of the served model.",
            "Use a movieId of the edition the model was trained on; a film without ratings at that time is not in it.",
        )
    found, scores = bundle.recommender.similar(np.array([item]), request.k)
    source: Source = "popular" if bundle.recommender.name == "popularity" else "similar"
    return SimilarResponse.model_validate(
        {
            "movie_id": request.movie_id,
            "items": _items(served, found[0], scores[0], source),
            "fallback": None,
            "provenance": _provenance(bundle, None),
        }
    )


def _popular(cause: Literal["unknown_user", "no_features", "feature_store_unavailable"], reason: str) -> Fallback:
    return Fallback(used="popularity", cause=cause, reason=f"{reason} These are popular films.")


def _items(
    served: Served, found: NDArray[np.int64], scores: NDArray[np.float32], source: Source
) -> list[dict[str, object]]:
    """The films of a row of ``recommend`` or ``similar``, without its padding, as arguments of an ``Item``.

    Left to the answer to validate as a whole: that takes 1 microsecond an item, making each by itself 3 to 5.
    """
    count = int((found >= 0).sum())
    rows = enumerate(zip(found[:count].tolist(), scores[:count].tolist(), strict=True), start=1)
    return [{**served.cards[item], "rank": rank, "score": score, "source": source} for rank, (item, score) in rows]


def _provenance(bundle: Bundle, features: UserFeatures | None) -> Provenance:
    found = features is not None and features.found
    return Provenance(
        model_version=bundle.version,
        recommender=bundle.recommender.name,
        data_snapshot=dict(bundle.manifest["data_snapshot"]),
        feature_service=bundle.features.service or None,
        feature_hash=bundle.features.service_hash or None,
        feature_timestamp=_utc(features.timestamp) if features is not None else None,
        missing_features=list(features.missing) if features is not None and found else [],
    )


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
