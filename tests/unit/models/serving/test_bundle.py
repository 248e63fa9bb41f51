from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.algorithms.content_based import ContentBased
from models.algorithms.content_scores import fit_content
from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import NeuMFConfig
from models.algorithms.popularity import Popularity
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.serving.bundle import (
    BundleError,
    FeatureSet,
    is_held,
    load_bundle,
    read_bundle_manifest,
    read_former,
    read_pointer,
    read_previous,
    write_bundle,
    write_pointer,
)
from models.serving.inference import ServedContent
from tests.unit.models.examples import ITEMS, USERS, content_of_tastes, features_of, two_tastes


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    interactions, _ = two_tastes()
    features = features_of(interactions)
    config = NeuMFConfig(batch_size=64, epochs=1, threads=1)
    return {
        "recommender": NeuMF(config).fit(interactions, features, seed=1),
        "popularity": Popularity().fit(interactions),
        "items": pl.DataFrame(
            {
                "movie_key": range(1000, 1000 + ITEMS),
                "movie_id": range(1, ITEMS + 1),
                "movie_ids": [[movie, 500] if movie == 3 else [movie] for movie in range(1, ITEMS + 1)],
                "title": [f"Film {movie}" for movie in range(ITEMS)],
                "year": [None, *range(1981, 1980 + ITEMS)],
                "genres": [["Drama", "War"]] * ITEMS,
                "imdb_id": ["tt0000001", *[None] * (ITEMS - 1)],
                "link_url": ["https://example.org"] * ITEMS,
                "link_kind": ["imdb_title"] * ITEMS,
                "rating_count": interactions.item_counts(),
            }
        ),
        "users": pl.DataFrame({"user_id": range(10, 10 + USERS), "user_key": range(USERS)}),
        "interactions": interactions,
        "item_features": features.items_as_of(np.arange(ITEMS), np.full(ITEMS, 10**9)),
        "features": FeatureSet("recommender_v1", "abc", ("age", "mood"), ("count", "length"), "2018-09-24T00:00:00Z"),
        "data_snapshot": {"marts": "123"},
        "evaluation": {"rows": [{"hr_10": 0.5, "fit_seconds": 1.5}]},
        "content": fit_content(interactions, features.item_content),
    }


@pytest.fixture
def bundle_dir(parts: dict[str, Any], tmp_path: Path) -> Path:
    return tmp_path / write_bundle(tmp_path, **parts)


def test_a_loaded_bundle_is_what_was_written(parts: dict[str, Any], bundle_dir: Path) -> None:
    bundle = load_bundle(bundle_dir)
    assert bundle.version == bundle_dir.name == bundle.manifest["version"]
    assert bundle.version.startswith("neumf-")
    assert len(bundle.version) == len("neumf-") + 12
    assert bundle.items.equals(parts["items"])
    assert bundle.users.equals(parts["users"])
    assert bundle.features == parts["features"]
    assert bundle.manifest["evaluation"] == parts["evaluation"]
    assert bundle.manifest["counts"] == {"users": USERS, "items": ITEMS, "interactions": len(parts["interactions"])}
    np.testing.assert_array_equal(bundle.item_features, parts["item_features"])
    rows = parts["interactions"].take(np.argsort(parts["interactions"].codes()))
    assert (bundle.history.toarray() > 0).sum() == len(rows)
    np.testing.assert_array_equal(bundle.history.data, rows.ratings)
    np.testing.assert_array_equal(bundle.history.indices, rows.items)
    np.testing.assert_array_equal(bundle.history_times, rows.timestamps)


def test_a_bundle_answers_as_the_recommender_in_memory(parts: dict[str, Any], bundle_dir: Path) -> None:
    bundle = load_bundle(bundle_dir)
    wishes = np.array([[0.5, np.nan], [1.0, 2.0]], dtype=np.float32)
    loaded = bundle.recommender.recommend(bundle.batch([3, 7], wishes), 5)
    batch = UserBatch(np.array([3, 7]), parts["interactions"].matrix()[[3, 7]], wishes, parts["item_features"])
    np.testing.assert_array_equal(loaded[0], parts["recommender"].recommend(batch, 5)[0])
    assert bundle.popularity.name == "popularity"


def test_the_content_part_answers_as_the_one_in_memory_and_may_be_missing(
    parts: dict[str, Any], bundle_dir: Path
) -> None:
    batch = UserBatch(np.array([-1, 7]), parts["interactions"].matrix()[[3, 7]])
    expected = parts["content"].score(batch)
    for to_serve, kind in ((False, ContentBased), (True, ServedContent)):
        content = load_bundle(bundle_dir, to_serve=to_serve).content
        assert isinstance(content, kind)
        assert content.score(batch) == pytest.approx(expected, abs=1e-6)
    bare = load_bundle(bundle_dir.parent / write_bundle(bundle_dir.parent, **{**parts, "content": None}))
    assert bare.content is None
    assert bare.version != bundle_dir.name


def test_ids_lead_to_indices_also_the_further_ids_of_a_film(bundle_dir: Path) -> None:
    bundle = load_bundle(bundle_dir)
    assert bundle.user_index[12] == 2
    assert bundle.item_index[1] == 0
    assert bundle.item_index[3] == bundle.item_index[500] == 2
    assert 999 not in bundle.item_index


def test_an_unknown_user_has_an_empty_history(bundle_dir: Path) -> None:
    batch = load_bundle(bundle_dir).batch([-1, 4, -1])
    assert batch.users.tolist() == [-1, 4, -1]
    assert np.diff(batch.history.indptr).tolist() == [0, 9, 0]


def test_the_same_content_is_one_version_whatever_the_fit_took(parts: dict[str, Any], bundle_dir: Path) -> None:
    other = {**parts, "evaluation": {"rows": [{"hr_10": 0.5, "fit_seconds": 99.0}]}}
    assert write_bundle(bundle_dir.parent, **other) == bundle_dir.name
    assert [path.name for path in bundle_dir.parent.iterdir()] == [bundle_dir.name]


@pytest.mark.parametrize(
    "change",
    [{"data_snapshot": {"marts": "124"}}, {"features": FeatureSet("recommender_v2")}, {"item_features": None}],
)
def test_other_content_is_another_version(parts: dict[str, Any], bundle_dir: Path, change: dict[str, Any]) -> None:
    assert write_bundle(bundle_dir.parent, **{**parts, **change}) != bundle_dir.name


@pytest.mark.parametrize(
    "file",
    [
        "recommender/weights.npz",
        "recommender/recommender.json",
        "items.parquet",
        "history.npz",
        "item_features.npy",
        "content/weights.npz",
    ],
)
def test_a_file_that_was_changed_is_refused_by_name(bundle_dir: Path, file: str) -> None:
    content = bytearray((bundle_dir / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_dir / file).write_bytes(content)
    with pytest.raises(BundleError, match=f"{file} is not what was written"):
        load_bundle(bundle_dir)


def test_a_missing_file_is_refused_by_name(bundle_dir: Path) -> None:
    (bundle_dir / "users.parquet").unlink()
    with pytest.raises(BundleError, match=r"users\.parquet is missing"):
        load_bundle(bundle_dir)


def test_a_changed_evaluation_is_refused(bundle_dir: Path) -> None:
    manifest = json.loads((bundle_dir / "bundle.json").read_text())
    manifest["evaluation"]["rows"][0]["hr_10"] = 0.99
    (bundle_dir / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="checksum"):
        read_bundle_manifest(bundle_dir)


def test_another_schema_version_is_refused(bundle_dir: Path) -> None:
    manifest = json.loads((bundle_dir / "bundle.json").read_text())
    (bundle_dir / "bundle.json").write_text(json.dumps(manifest | {"schema_version": 2}))
    with pytest.raises(BundleError, match="schema version 2, this code reads 1"):
        load_bundle(bundle_dir)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        load_bundle(tmp_path)


def test_writing_again_heals_a_damaged_bundle(parts: dict[str, Any], bundle_dir: Path) -> None:
    (bundle_dir / "items.parquet").write_bytes(b"gone")
    assert write_bundle(bundle_dir.parent, **parts) == bundle_dir.name
    assert load_bundle(bundle_dir).items.equals(parts["items"])


def test_a_failed_write_leaves_nothing_behind(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecommenderError, match="not fitted"):
        write_bundle(tmp_path, **{**parts, "recommender": _unfitted()})
    assert list(tmp_path.iterdir()) == []


def _unfitted() -> NeuMF:
    recommender = NeuMF()
    recommender.n_users, recommender.n_items = USERS, ITEMS
    return recommender


def test_parts_that_do_not_fit_together_are_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"number of items: \[19, 20\]"):
        write_bundle(tmp_path, **{**parts, "items": parts["items"].head(ITEMS - 1)})
    one = Interactions.of([0], [0], n_users=USERS, n_items=ITEMS - 1)
    with pytest.raises(BundleError, match=r"number of items: \[19, 20\]"):
        write_bundle(tmp_path, **{**parts, "content": fit_content(one, content_of_tastes(ITEMS - 1))})
    with pytest.raises(BundleError, match="items lack the columns link_url"):
        write_bundle(tmp_path, **{**parts, "items": parts["items"].drop("link_url")})


def test_the_pointer_names_a_version_and_keeps_the_one_before(tmp_path: Path) -> None:
    pointer = tmp_path / "serving.json"
    write_pointer(pointer, "neumf-1")
    assert (read_pointer(pointer), read_previous(pointer)) == ("neumf-1", None)
    write_pointer(pointer, "neumf-2")
    write_pointer(pointer, "neumf-2")
    assert (read_pointer(pointer), read_previous(pointer)) == ("neumf-2", "neumf-1")
    assert list(tmp_path.iterdir()) == [pointer]


def test_the_pointer_remembers_what_it_named_until_it_goes_back(tmp_path: Path) -> None:
    pointer = tmp_path / "serving.json"
    for version in ("1", "2", "3", "3", "4"):
        write_pointer(pointer, version)
    assert read_former(pointer) == ("3", "2", "1")
    write_pointer(pointer, "2", held=True)
    assert (read_former(pointer), read_previous(pointer), is_held(pointer)) == (("1",), "4", True)
    write_pointer(pointer, "5")
    assert (read_former(pointer), is_held(pointer)) == (("2", "1"), False)
    for version in map(str, range(6, 30)):
        write_pointer(pointer, version)
    assert read_former(pointer) == tuple(str(version) for version in range(28, 18, -1))


def test_a_pointer_of_before_there_was_a_list_can_go_back_to_its_previous(tmp_path: Path) -> None:
    pointer = tmp_path / "serving.json"
    pointer.write_text('{"schema_version": 1, "version": "2", "previous": "1"}')
    assert (read_former(pointer), is_held(pointer)) == (("1",), False)
    pointer.write_text('{"schema_version": 1, "version": "1", "previous": null}')
    assert read_former(pointer) == ()


def test_a_pointer_that_is_missing_or_broken_says_so_and_can_be_replaced(tmp_path: Path) -> None:
    pointer = tmp_path / "serving.json"
    with pytest.raises(BundleError, match="no bundle is served yet"):
        read_pointer(pointer)
    for content, complaint in (
        ("{", "not JSON"),
        ('{"schema_version": 9}', "schema version"),
        ("[]", "schema version"),
    ):
        pointer.write_text(content)
        with pytest.raises(BundleError, match=complaint):
            read_pointer(pointer)
    pointer.write_text('{"schema_version": 1, "version": "../elsewhere"}')
    with pytest.raises(BundleError, match="names no version"):
        read_pointer(pointer)
    write_pointer(pointer, "neumf-1")
    assert read_pointer(pointer) == "neumf-1"
