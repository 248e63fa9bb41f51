"""Metrics of ranked recommendation with one held-out item a user, as pure functions.

A rank counts from 0 (the target is on top). Candidates with the target's own score count as ranked before it, so that
a recommender gains nothing by scoring everything alike; the same for every recommender.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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


def recall(ranks: NDArray[np.int64], k: int) -> float:
    """Recall@k with a single relevant item a user: the same number as HR@k, named so in full rankings.

    >>> recall(np.array([0, 19, 20, 500]), 20)
    0.5
    """
    return hit_ratio(ranks, k)


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
