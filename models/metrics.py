"""Metrics as pure functions: of one held-out item a user, of whole lists, beyond accuracy, and of predicted stars.

A rank counts from 0 (the target is on top). Candidates with the target's own score count as ranked before it, so that
a recommender gains nothing by scoring everything alike; the same for every recommender.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def target_ranks(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[B]: the rank of column ``targets[b]`` in row b of ``scores`` float32[B, n]; -inf marks no candidate.

    Two candidates score above .5 and one equals it:

    >>> target_ranks(np.array([[0.5, 0.9, 0.7, 0.5, 0.1]], dtype=np.float32), np.array([0])).tolist()
    [3]

    Raises ``ValueError`` when a target itself is no candidate or a score is NaN.
    """
    rows = np.arange(len(scores))
    own = scores[rows, targets]
    if np.isnan(scores).any() or np.isneginf(own).any():
        raise ValueError("a score is not a number, or the target was masked")
    ranks: NDArray[np.int64] = (scores >= own[:, None]).sum(axis=1, dtype=np.int64) - 1
    return ranks


def hit_ratio(ranks: NDArray[np.int64], k: int) -> float:
    """HR@k: the share of users whose held-out item is among the first k.

    >>> hit_ratio(np.array([0, 3, 9, 10]), 10)  # the last one is the eleventh
    0.75
    """
    return float((ranks < k).mean()) if len(ranks) else float("nan")


def ndcg(ranks: NDArray[np.int64], k: int) -> float:
    """NDCG@k with a single relevant item a user: 1 / log2(rank + 2) within the first k, else 0; the ideal is 1.

    Ranks 0 and 2 give 1 and 1 / log2(4) = 0.5, rank 10 gives 0 at k = 10; the mean of the three is 0.5:

    >>> ndcg(np.array([0, 2, 10]), 10)
    0.5
    """
    gains = np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)
    return float(gains.mean()) if len(ranks) else float("nan")


def coverage(recommended: NDArray[np.int64], n_items: int) -> float:
    """Coverage@k: the share of the catalogue that is in at least one user's list int64[B, k]; -1 fills short lists.

    Items 1, 2 and 3 of four are recommended to somebody:

    >>> coverage(np.array([[1, 2], [2, 3], [1, -1]]), 4)
    0.75
    """
    return len(np.unique(recommended[recommended >= 0])) / n_items


def list_hits(lists: NDArray[np.int64], relevant: csr_array) -> NDArray[np.bool_]:
    """bool[B, k]: whether each place of the lists int64[B, k] holds an item of the row of ``relevant`` csr[B, n_items].

    A place of -1 fills a short list and is no hit.

    >>> list_hits(np.array([[2, 0, -1]]), csr_array(np.array([[1, 1, 0]]))).tolist()
    [[False, True, False]]
    """
    n_items = relevant.shape[1]
    rows = np.repeat(np.arange(relevant.shape[0], dtype=np.int64), np.diff(relevant.indptr))
    wanted = np.sort(rows * n_items + relevant.indices)
    if len(wanted) == 0:
        return np.zeros(lists.shape, dtype=bool)
    codes = np.arange(len(lists), dtype=np.int64)[:, None] * n_items + lists
    places = np.minimum(np.searchsorted(wanted, codes), len(wanted) - 1)
    return np.asarray((wanted[places] == codes) & (lists >= 0))


def list_precision(hits: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Precision@k of each user: hits among the first k, over k (also where fewer than k items are relevant).

    >>> list_precision(np.array([[True, False, True, False]]), 4).tolist()
    [0.5]
    """
    return np.asarray(hits[:, :k].sum(axis=1) / k, dtype=np.float64)


def list_recall(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int, *, capped: bool = False
) -> NDArray[np.float64]:
    """Recall@k of each user: hits among the first k, over the relevant items int64[B].

    ``capped`` divides by min(k, relevant), as Liang et al. 2018 do, so that 1 can be reached. Two of five found at
    k = 4 are 2/5, capped 2/4:

    >>> hits, relevant = np.array([[True, False, True, False]]), np.array([5])
    >>> list_recall(hits, relevant, 4).tolist(), list_recall(hits, relevant, 4, capped=True).tolist()
    ([0.4], [0.5])
    """
    most = np.minimum(relevant, k) if capped else relevant
    return np.asarray(hits[:, :k].sum(axis=1) / most, dtype=np.float64)


def list_ndcg(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """NDCG@k of each user: gains 1 / log2(rank + 2), over those of min(k, relevant) hits on top.

    Hits at ranks 0 and 2 are 1 + 1 / log2(4) = 1.5; the ideal of three relevant items at k = 3 is
    1 + 0.6309 + 0.5 = 2.1309:

    >>> list_ndcg(np.array([[True, False, True]]), np.array([3]), 3).round(4).tolist()
    [0.7039]
    """
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    return np.asarray((hits[:, :k] @ discount[: hits.shape[1]]) / ideal, dtype=np.float64)


def list_average_precision(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Average precision@k of each user, whose mean is MAP: precisions at the hits, over all relevant items.

    Hits at ranks 0 and 2 have precisions 1 and 2/3; of four relevant items that is (1 + 2/3) / 4:

    >>> list_average_precision(np.array([[True, False, True]]), np.array([4]), 3).round(4).tolist()
    [0.4167]
    """
    found = hits[:, :k]
    precisions = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    return np.asarray((precisions * found).sum(axis=1) / relevant, dtype=np.float64)


def list_reciprocal_rank(hits: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Reciprocal rank@k of each user: 1 / (place of the first hit), 0 without one in the first k.

    >>> list_reciprocal_rank(np.array([[False, True, True], [False, False, False]]), 3).tolist()
    [0.5, 0.0]
    """
    found = hits[:, :k]
    return np.asarray(found.any(axis=1) / (found.argmax(axis=1) + 1.0), dtype=np.float64)


def novelty(lists: NDArray[np.int64], item_counts: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """Novelty@k of each user: the mean of -log2(share of the training's users who met the item).

    Items met by half and by a quarter of four users say 1 and 2 bits. An item that nobody met counts as met by one.

    >>> novelty(np.array([[0, 1]]), np.array([2, 1]), 4).tolist()
    [1.5]
    """
    bits = -np.log2(np.maximum(item_counts, 1) / max(n_users, 1))
    return _mean_of_places(bits[np.maximum(lists, 0)], lists >= 0)


def intra_list_diversity(lists: NDArray[np.int64], vectors: csr_array) -> NDArray[np.float64]:
    """Diversity@k of each user: the mean of 1 - cosine over the pairs of the list; 1 for a list without a pair.

    ``vectors`` csr[n_items, d] of unit length (or 0). Two items alike and one unlike both: pairs 0, 1 and 1.

    >>> intra_list_diversity(np.array([[0, 1, 2]]), csr_array(np.array([[1.0, 0], [1, 0], [0, 1]]))).round(4).tolist()
    [0.6667]
    """
    places = lists >= 0
    n_rows, k = lists.shape
    members = csr_array(
        (places.ravel().astype(np.float64), np.maximum(lists, 0).ravel(), np.arange(n_rows + 1) * k),
        shape=(n_rows, vectors.shape[0]),
    )
    # The squared length of a list's sum is the sum of all cosines, those of the items with themselves among them.
    squares = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    sums = members @ vectors
    cosines = np.asarray(sums.multiply(sums).sum(axis=1)).ravel() - members @ squares
    count = places.sum(axis=1)
    pairs = count * (count - 1)
    return np.asarray(np.where(pairs > 0, 1.0 - cosines / np.maximum(pairs, 1), 1.0), dtype=np.float64)


def popularity_lift(
    lists: NDArray[np.int64], item_counts: NDArray[np.int64], history: csr_array
) -> NDArray[np.float64]:
    """Popularity lift@k of each user: the mean count of the listed items over the mean count of the history's.

    Above 1 the recommender pushes its users towards the popular. Listed counts 4 and 2, history 1 and 2:

    >>> popularity_lift(np.array([[0, 1]]), np.array([4, 2, 1]), csr_array(np.array([[0, 1, 1]]))).tolist()
    [2.0]

    NaN for a user without history.
    """
    listed = _mean_of_places(item_counts[np.maximum(lists, 0)].astype(np.float64), lists >= 0)
    met = np.diff(history.indptr)
    ones = csr_array((np.ones(history.nnz), history.indices, history.indptr), shape=history.shape)
    before = np.divide(ones @ item_counts, met, out=np.full(len(met), np.nan), where=met > 0)
    return np.asarray(listed / before, dtype=np.float64)


def rmse(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Return the root mean squared error of predicted stars.

    >>> rmse(np.array([3.0, 5.0], dtype=np.float32), np.array([4.0, 2.0], dtype=np.float32))  # sqrt((1 + 9) / 2)
    2.23606797749979
    """
    return float(np.sqrt(np.mean((predicted.astype(np.float64) - true) ** 2)))


def mae(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Return the mean absolute error of predicted stars.

    >>> mae(np.array([3.0, 5.0], dtype=np.float32), np.array([4.0, 2.0], dtype=np.float32))
    2.0
    """
    return float(np.mean(np.abs(predicted.astype(np.float64) - true)))


def _mean_of_places(values: NDArray[np.float64], places: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64[B]: the mean of each row of ``values`` over its marked places, 0 where there is none."""
    return np.asarray(np.where(places, values, 0.0).sum(axis=1) / np.maximum(places.sum(axis=1), 1), dtype=np.float64)
