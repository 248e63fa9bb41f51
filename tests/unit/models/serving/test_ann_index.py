from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from models.algorithms.popularity import Popularity
from models.serving.ann_index import IndexMissing, ItemIndexes
from tests.unit.models.examples import two_tastes


class _Vectors:
    """Items on a few rays: those of one ray are alike, and the first ones the more."""

    name = "rays"

    def __init__(self, n: int, rays: int = 40, d: int = 16) -> None:
        rng = np.random.default_rng(0)
        towards = rng.standard_normal((rays, d)).astype(np.float32)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        near = towards[np.arange(n) % rays] + 0.1 * rng.standard_normal((n, d)).astype(np.float32)
        self.asked = near / np.linalg.norm(near, axis=1, keepdims=True)
        self.targets = (self.asked * rng.uniform(0.5, 1.0, (n, 1))).astype(np.float32)

    def item_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        return self.asked, self.targets

    def exact(self, item: int, k: int) -> np.ndarray:
        scores = self.targets @ self.asked[item]
        scores[item] = -np.inf
        return np.argsort(-scores, kind="stable")[:k]


def _kinds() -> list[str]:
    return ["faiss", *(["annoy"] if importlib.util.find_spec("annoy") else [])]


@pytest.mark.parametrize("kind", _kinds())
@pytest.mark.parametrize("n", [60, 5_000])
def test_an_index_finds_nearly_what_the_exact_search_finds_and_never_the_film_itself(kind: str, n: int) -> None:
    vectors = _Vectors(n)
    indexes = ItemIndexes(vectors)
    shares = []
    for item in range(0, n, n // 20):
        found, likeness = indexes.search(kind, item, 10)
        assert item not in found
        assert len(set(found.tolist())) == len(found) == 10
        assert (np.diff(likeness) <= 0).all()
        assert likeness == pytest.approx(vectors.targets[found] @ vectors.asked[item], abs=1e-4)
        shares.append(len(set(found) & set(vectors.exact(item, 10))) / 10)
    assert np.mean(shares) > (0.99 if n < 100 else 0.8)
    again = ItemIndexes(vectors).search(kind, 3, 10)[0]
    assert (again == indexes.search(kind, 3, 10)[0]).all()


def test_more_films_than_there_are_gives_all_others() -> None:
    found, _ = ItemIndexes(_Vectors(12)).search("faiss", 5, 500)
    assert sorted(found.tolist()) == [item for item in range(12) if item != 5]


def test_a_model_without_item_vectors_says_that_there_is_no_index() -> None:
    indexes = ItemIndexes(Popularity().fit(two_tastes()[0]))
    for kind in ("faiss", "annoy"):
        with pytest.raises(IndexMissing, match="popularity has no vector an item"):
            indexes.search(kind, 0, 3)


def test_where_annoy_is_not_installed_its_index_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "annoy", None)
    with pytest.raises(IndexMissing, match="annoy is not installed"):
        ItemIndexes(_Vectors(60)).search("annoy", 0, 3)


def test_the_index_of_trees_is_asked_as_its_package_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trees:
        """Keeps what it is given, and answers by looking at all of it."""

        def __init__(self, d: int, metric: str) -> None:
            assert (d, metric) == (16, "dot")
            self.rows: dict[int, np.ndarray] = {}

        def set_seed(self, seed: int) -> None:
            assert seed > 0

        def add_item(self, item: int, row: np.ndarray) -> None:
            self.rows[item] = row

        def build(self, trees: int, threads: int) -> None:
            assert (trees > 0, threads) == (True, 1)

        def get_nns_by_vector(
            self, query: np.ndarray, n: int, search_k: int, include_distances: bool
        ) -> tuple[list[int], list[float]]:
            scores = np.stack(list(self.rows.values())) @ query
            best = np.argsort(-scores)[:n]
            return best.tolist(), scores[best].tolist()

    monkeypatch.setitem(sys.modules, "annoy", SimpleNamespace(AnnoyIndex=Trees))
    vectors = _Vectors(60)
    found, _ = ItemIndexes(vectors).search("annoy", 7, 10)
    assert found.tolist() == vectors.exact(7, 10).tolist()
