"""A tiny bundle whose answers can be worked out by hand, and a feature reader that records who it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bento.errors import FeatureStoreUnavailable
from bento.features.online_store import UserFeatures
from models.algorithms.content_scores import fit_content
from models.algorithms.ease import Ease
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.data.interactions import Interactions
from models.data.item_content import ItemContent, film_words
from models.serving.bundle import CREDITS, MAP, Bundle, FeatureSet, load_bundle, write_bundle

#: Users 11 and 12 have met films 0..2, user 13 film 3 only, user 14 every film. Film 0 was met most.
MET = {0: (0, 1, 2), 1: (0, 1), 2: (3,), 3: (0, 1, 2, 3, 4)}
#: Who made the films; the last row is of a film that is not among them.
CREDITED = [
    ("nm0000005", "Éva Brontë", 1950, None, 900, "director"),
    ("nm0000005", "Éva Brontë", 1950, None, 900, "writer"),
    ("nm0000005", "Éva Brontë", 1950, None, 904, "director"),
    ("nm0000007", "Jo Carr", None, 2001, 901, "actor"),
    ("nm12345678", "Jo Card", None, None, 902, "actress"),
    ("nm0000009", "Nobody Here", None, None, 1, "actor"),
]
#: Where the films lie; Epsilon came after the map, and one film is not among them.
PLACED = [(900, -1.0, 0.5), (901, -0.5, 0.25), (902, 0.0, 0.0), (903, 1.0, -1.0), (1, 0.0, 0.0)]
TITLES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")


class RecordingReader:
    """Answers with the given features and keeps the keys it was asked for; an exception given instead is raised."""

    def __init__(self, answer: UserFeatures | FeatureStoreUnavailable) -> None:
        self.answer = answer
        self.asked: list[int] = []
        self.readings = 0
        self.pushes = 0
        self.forgotten: list[int] = []
        self.pushed: list[tuple[int, dict[str, float | int | None]]] = []

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        self.asked += user_keys
        self.readings += 1
        if isinstance(self.answer, FeatureStoreUnavailable):
            raise self.answer
        return [self.answer for _ in user_keys]

    def push(self, rows: Mapping[int, Mapping[str, float | int | None]], now: datetime) -> None:
        self.pushed += [(user_key, dict(values)) for user_key, values in rows.items()]
        self.pushes += 1

    def forget(self, user_key: int, now: datetime) -> None:
        self.forgotten.append(user_key)


def features_of(
    values: Sequence[float | None], names: Sequence[str] = ("user_features__a", "user_features__b")
) -> UserFeatures:
    """Features as the online store would give them; all None is a user that it does not know."""
    missing = tuple(name for name, value in zip(names, values, strict=True) if value is None)
    known = len(missing) < len(values)
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    return UserFeatures(numbers, missing, datetime(2020, 3, 1, tzinfo=UTC) if known else None)


def write_tiny_bundle(models_dir: Path, *, snapshot: str = "first") -> str:
    """Write the tiny bundle (EASE, and popularity behind it); another ``snapshot`` gives another version."""
    users, items = zip(*[(user, item) for user, met in MET.items() for item in met], strict=True)
    interactions = Interactions.of(users, items, n_users=len(MET), n_items=len(TITLES))
    count = len(TITLES)
    films = pl.DataFrame(
        {
            "movie_key": [900 + i for i in range(count)],
            "movie_id": pl.Series([100 + i for i in range(count)], dtype=pl.Int32),
            "movie_ids": [[100 + i, 200 + i] for i in range(count)],
            "title": TITLES,
            "year": pl.Series([1990, 1991, None, 1993, 1994], dtype=pl.Int32),
            "genres": [["Drama"], [], ["Comedy", "War"], ["Drama"], ["Drama"]],
            "imdb_id": ["tt0000001", None, "tt0000003", "tt0000004", "tt0000005"],
            "link_url": [f"https://example.org/{i}" for i in range(count)],
            "link_kind": ["imdb_title", "imdb_search", "imdb_title", "imdb_title", "imdb_title"],
            "rating_count": [3, 3, 2, 2, 1],
        }
    )
    words = ItemContent.of(film_words(films.with_row_index("item")), np.full(count, np.nan, dtype=np.float32))
    return write_bundle(
        models_dir,
        recommender=Ease().fit(interactions),
        popularity=Popularity().fit(interactions),
        items=films,
        users=pl.DataFrame({"user_id": [11, 12, 13, 14], "user_key": [501, 502, 503, 504]}),
        interactions=interactions,
        features=FeatureSet("recommender_v1", "abc123", ("user_features__a", "user_features__b")),
        data_snapshot={"snapshot": snapshot},
        rating=fit_rating_head(interactions, seed=1),
        credits=pl.DataFrame(CREDITED, schema=CREDITS, orient="row"),
        film_map=pl.DataFrame(PLACED, schema=MAP, orient="row"),
        # Alpha, Delta and Epsilon share a genre and a decade, Beta the decade; no word of Gamma is another film's.
        content=fit_content(interactions, words),
    )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    return load_bundle(folder / write_tiny_bundle(folder))
