"""The lists of all users, against the model asked one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.algorithms.ials import Ials, IalsConfig
from models.algorithms.neumf.model import NeuMF, NeuMFConfig
from models.algorithms.popularity import Popularity
from models.serving.bundle import Bundle, FeatureSet, load_bundle, write_bundle
from orchestration.analytics.batch_recommendations import LIKED, write_suggestions
from tests.unit.models.examples import ITEMS, USERS, features_of, two_tastes


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    interactions, _ = two_tastes()
    folder = tmp_path_factory.mktemp("models")
    version = write_bundle(
        folder,
        recommender=Ials(IalsConfig(factors=8, sweeps=5)).fit(interactions, seed=1),
        popularity=Popularity().fit(interactions),
        items=pl.DataFrame(
            {
                "movie_key": range(1000, 1000 + ITEMS),
                "movie_id": range(1, ITEMS + 1),
                "title": [f"Film {movie}" for movie in range(ITEMS)],
                "year": [1980] * ITEMS,
                "genres": [["Drama"]] * ITEMS,
                "imdb_id": [None] * ITEMS,
                "link_url": ["https://example.org"] * ITEMS,
                "link_kind": ["imdb_title"] * ITEMS,
                "rating_count": interactions.item_counts(),
            }
        ),
        # Keys that are no indices, in another order than these.
        users=pl.DataFrame({"user_id": range(10, 10 + USERS), "user_key": range(900 + USERS, 900, -1)}),
        interactions=interactions,
    )
    return load_bundle(folder / version)


def lists(bundle: Bundle, path: Path, **options: int) -> pl.DataFrame:
    keys = bundle.users["user_key"].to_numpy().astype(np.int64)
    assert write_suggestions(bundle, None, keys, path, top=5, **options) == USERS
    return pl.read_parquet(path)


def test_every_user_gets_what_the_model_gives_to_him_alone(bundle: Bundle, tmp_path: Path) -> None:
    found = lists(bundle, tmp_path / "lists.parquet")
    assert found["user_key"].is_sorted()
    for index, key in enumerate(bundle.users["user_key"].to_list()):
        items, scores = bundle.recommender.recommend(bundle.batch([index]), 5)
        mine = found.filter(pl.col("user_key") == key)
        there = items[0] >= 0
        assert mine["movie_key"].to_list() == (items[0][there] + 1000).tolist()
        assert mine["score"].to_numpy() == pytest.approx(scores[0][there], abs=1e-5)
        assert mine["rank"].to_list() == list(range(1, there.sum() + 1))
        assert not set(mine["movie_key"] - 1000) & set(bundle.history[[index]].indices.tolist())


def test_parts_of_one_user_make_the_same_lists_as_one_part(bundle: Bundle, tmp_path: Path) -> None:
    whole, parts = lists(bundle, tmp_path / "whole.parquet"), lists(bundle, tmp_path / "parts.parquet", cells=ITEMS)
    assert parts.drop("score").equals(whole.drop("score"))
    assert (parts["score"] - whole["score"]).abs().max() < 1e-5  # type: ignore[operator]


def test_the_reason_is_the_film_most_alike_among_those_that_the_user_liked(bundle: Bundle, tmp_path: Path) -> None:
    found = lists(bundle, tmp_path / "lists.parquet")
    index = {key: row for row, key in enumerate(bundle.users["user_key"].to_list())}
    likeness = bundle.recommender.similarities(np.arange(ITEMS))
    kinds = set()
    for row in found.iter_rows(named=True):
        history = bundle.history[[index[row["user_key"]]]]
        liked = history.indices[history.data >= LIKED]
        near = likeness[row["movie_key"] - 1000, liked]
        kinds.add(row["reason_kind"])
        if len(liked) and near.max() > 0:
            assert row["reason_kind"] == "like_film"
            assert row["reason_movie_key"] - 1000 in liked[near >= near.max() - 1e-6]
        else:
            assert (row["reason_kind"], row["reason_movie_key"]) == ("overall", None)
    assert "like_film" in kinds


def test_who_is_no_longer_there_gets_no_list_although_the_bundle_knows_him(bundle: Bundle, tmp_path: Path) -> None:
    keys = bundle.users["user_key"].to_numpy().astype(np.int64)
    assert write_suggestions(bundle, None, keys[3:], tmp_path / "lists.parquet") == USERS - 3
    assert not set(keys[:3]) & set(pl.read_parquet(tmp_path / "lists.parquet")["user_key"])
    assert write_suggestions(bundle, None, keys[:0], tmp_path / "none.parquet") == 0
    assert pl.read_parquet(tmp_path / "none.parquet").is_empty()


def test_popularity_names_itself_as_the_reason(bundle: Bundle, tmp_path: Path) -> None:
    plain = replace(bundle, recommender=bundle.popularity)
    found = lists(plain, tmp_path / "lists.parquet")
    assert set(found["reason_kind"]) == {"popular"}
    assert found["reason_movie_key"].null_count() == found.height


def test_a_model_that_reads_features_gets_those_of_each_user_by_name(bundle: Bundle, tmp_path: Path) -> None:
    interactions, _ = two_tastes()
    features = features_of(interactions)
    model = NeuMF(NeuMFConfig(batch_size=64, epochs=1, threads=1)).fit(interactions, features, seed=1)
    names = tuple(f"user_features__{name}" for name in features.user_names)
    reading = replace(
        bundle,
        recommender=model,
        item_features=features.items_as_of(np.arange(ITEMS), np.full(ITEMS, 10**9)),
        features=FeatureSet(user_names=names),
    )
    rows = np.random.default_rng(1).normal(size=(USERS, len(names))).astype(np.float32)
    frame = pl.DataFrame(
        {name: rows[:, place] for place, name in enumerate(features.user_names)}
        | {"user_key": bundle.users["user_key"]}
    ).sort("user_key")
    keys = bundle.users["user_key"].to_numpy().astype(np.int64)
    write_suggestions(reading, frame, keys, tmp_path / "lists.parquet", top=5)
    found = pl.read_parquet(tmp_path / "lists.parquet")
    items, _ = model.recommend(reading.batch([4], rows[[4]]), 5)
    assert found.filter(pl.col("user_key") == int(keys[4]))["movie_key"].to_list() == (items[0] + 1000).tolist()
