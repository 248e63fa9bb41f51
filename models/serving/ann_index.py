"""Films near a film found without a look at every one: indexes over item vectors, beside the exact search.

``faiss``: inverted lists (Jegou et al. 2011, by Douze et al. 2024), ``annoy``: trees of random planes (Bernhardsson).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

#: Below so many items the lists are one: there is nothing to gain.
_FEW = 2_000
#: Lists that a search looks into, and trees that are grown; recall at 27,000 films is in ``make bench``.
_PROBES, _TREES = 24, 30
#: Items that the trees are asked for, for each that is wanted and each tree.
_REACH = 4


class IndexMissing(ValueError):
    """There is no index of this kind; the message says why."""


@runtime_checkable
class HasItemVectors(Protocol):
    """A recommender whose likeness of two items is the product of two vectors."""

    def item_vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32[n, d] and float32[n, d]: ``similarities(i)`` is row i of the first times all rows of the second."""
        ...


class ItemIndexes:
    """The indexes ``faiss`` and ``annoy`` over one recommender's item vectors, made at once.

    Searches are deterministic: the same vectors and seed give the same neighbours.
    """

    def __init__(self, recommender: object, *, seed: int = 0) -> None:
        self._missing: dict[str, str] = {}
        self._faiss: Any = None
        self._annoy: Any = None
        if not isinstance(recommender, HasItemVectors):
            name = getattr(recommender, "name", "the model")
            reason = f"{name} has no vector an item, which an index is made of"
            self._missing = dict.fromkeys(("faiss", "annoy"), reason)
            return
        self._asked, targets = recommender.item_vectors()
        self._n = len(targets)
        self._faiss = _faiss_index(targets)
        try:
            self._annoy = _annoy_index(targets, seed)
        except ImportError:
            # There is no built package of it, and a home need not have a compiler.
            self._missing["annoy"] = "the package annoy is not installed (`pip install annoy` needs a C++ compiler)"

    def search(self, kind: str, item: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most k items most like one, itself left out, best first, with their likeness.

        Raises ``IndexMissing`` for an index that is not there.
        """
        if kind in self._missing:
            raise IndexMissing(self._missing[kind])
        query, wanted = np.ascontiguousarray(self._asked[item]), min(k + 1, self._n)
        if kind == "faiss":
            scores, found = self._faiss.search(query[None], wanted)
            items, likeness = found[0].astype(np.int64), scores[0]
        elif kind == "annoy":
            told = self._annoy.get_nns_by_vector(query, wanted, _TREES * _REACH * wanted, include_distances=True)
            items, likeness = np.array(told[0], dtype=np.int64), np.array(told[1], dtype=np.float32)
        else:
            raise IndexMissing(f"{kind} is no index")
        kept = (items >= 0) & (items != item)
        return items[kept][:k], np.asarray(likeness[kept][:k], dtype=np.float32)


def _faiss_index(vectors: NDArray[np.float32]) -> Any:
    import faiss

    # A search is too little work to share, and the service scores on one thread.
    faiss.omp_set_num_threads(1)
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(rows) < _FEW:
        index: Any = faiss.IndexFlatIP(rows.shape[1])
    else:
        lists = int(np.sqrt(len(rows)))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.nprobe = min(_PROBES, lists)
    index.add(rows)
    return index


def _annoy_index(vectors: NDArray[np.float32], seed: int) -> Any:
    from annoy import AnnoyIndex

    index = AnnoyIndex(vectors.shape[1], "dot")
    index.set_seed(seed + 1)
    # Its own way in takes a row at a time; there is no other.
    for item, row in enumerate(vectors):
        index.add_item(item, row)
    index.build(_TREES, 1)
    return index
