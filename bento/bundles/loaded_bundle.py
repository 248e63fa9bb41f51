"""What is served: a loaded bundle with its features' reader, and its films as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bento.catalog.movie_stats import FilmFacts
from bento.catalog.movies import Catalogue
from bento.catalog.people import Makers
from bento.features.online_store import UserFeatures
from models.serving.ann_index import ItemIndexes
from models.serving.bundle import Bundle


class FeatureReader(Protocol):
    """Whoever knows users' features now."""

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        """Read the features of each user; raise ``FeatureStoreUnavailable`` if that fails."""
        ...

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        """Have these features of users by key from now on, or ``FeatureStoreUnavailable``."""
        ...

    def forget(self, user_key: int, now: datetime) -> None:
        """Have no features of a user any more, or ``FeatureStoreUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle with its features' reader, and its films as Python values, which one request reads a few of."""

    bundle: Bundle
    features: FeatureReader | None
    catalogue: Catalogue
    facts: FilmFacts
    makers: Makers
    user_keys: NDArray[np.int64]
    indexes: ItemIndexes

    @classmethod
    def of(cls, bundle: Bundle, features: FeatureReader | None) -> Served:
        """Prepare a bundle; ``features`` may be None only where its recommender uses none."""
        keys = bundle.users["user_key"].to_numpy().astype(np.int64)
        catalogue = Catalogue.of(bundle)
        makers = Makers.of(bundle.credits, catalogue.by_key)
        return cls(bundle, features, catalogue, FilmFacts.of(bundle), makers, keys, ItemIndexes(bundle.recommender))
