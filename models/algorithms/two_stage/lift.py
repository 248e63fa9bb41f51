"""What people who met an item also met: all that one or two entries of a history say beside what everybody watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.algorithms.ease import gram
from models.algorithms.two_stage.linear_scorers import most_rated
from models.data.interactions import Interactions
from models.data.sequences import Pasts

#: Of the lifts of some thousand items hardly more is true than so many dimensions hold (validations of ml-100k).
_RANK = 32
#: What a star above the mean adds to the weight of an entry.
_STAR = 0.3


@dataclass(frozen=True, slots=True)
class Company:
    """The logarithm of an item's chance, and how far each entry of a history lifts it, as a product of two tables.

    ``logs`` float32[n_items], ``given`` and ``asked`` float32[n_items, r], ``mean_stars`` of the training,
    ``strength`` of the lifts together: they are divided by the root of their number, for entries repeat each other.
    """

    logs: NDArray[np.float32]
    given: NDArray[np.float32]
    asked: NDArray[np.float32]
    mean_stars: float
    strength: float

    def score(self, pasts: Pasts, wanted: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """float32[B, n_items] of B histories, or of the ``wanted`` items alone; of an empty one the logarithms."""
        weights = 1.0 + _STAR * (pasts.stars - np.float32(self.mean_stars))
        history = csr_array((weights, pasts.items, pasts.bounds), shape=(len(pasts), len(self.logs)))
        met = (history @ self.given) * (self.strength / np.sqrt(np.maximum(pasts.lengths, 1)))[:, None]
        asked, logs = (self.asked, self.logs) if wanted is None else (self.asked[wanted], self.logs[wanted])
        return np.asarray(logs + met.astype(np.float32) @ asked.T, dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that :meth:`of_arrays` takes."""
        facts = np.array([self.mean_stars, self.strength])
        return {"company.logs": self.logs, "company.given": self.given, "company.asked": self.asked} | {
            "company.facts": facts
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Company:
        """Restore the model from the arrays of :meth:`arrays`."""
        mean_stars, strength = arrays["company.facts"].tolist()
        return cls(arrays["company.logs"], arrays["company.given"], arrays["company.asked"], mean_stars, strength)


def company(interactions: Interactions, *, shrink: float, strength: float, max_items: int, seed: int) -> Company:
    """From the counts of the most rated items with each other; a singular value decomposition keeps what they share.

    The lift of j by i is ``log((both + shrink * p_j) / ((n_i + shrink) * p_j))``, p_j the share of the users who met j:
    nothing where i was met by nobody, and near to that where it was met by few. An item that nobody met counts half.
    """
    from sklearn.utils.extmath import randomized_svd

    items = most_rated(interactions, max_items)
    matrix = interactions.matrix()
    counts = interactions.item_counts().astype(np.float32)
    shares = np.maximum(counts, 0.5) / max(matrix.shape[0], 1)
    given = np.zeros((interactions.n_items, _RANK), dtype=np.float32)
    asked = np.zeros_like(given)
    rank = min(_RANK, len(items))
    if rank > 0:
        share = shares[items]
        lifts = gram(csr_array(matrix[:, items]))
        lifts += shrink * share
        lifts /= (counts[items] + shrink)[:, None] * share
        np.log(lifts, out=lifts)
        np.fill_diagonal(lifts, 0.0)
        # An error of what many meet costs more than one of what few do.
        weight = np.sqrt(share)
        lifts *= weight
        left, values, right = randomized_svd(lifts, rank, n_iter=4, random_state=seed)
        given[items, :rank] = left * values
        asked[items, :rank] = right.T / weight[:, None]
    mean = float(interactions.ratings.mean()) if len(interactions) else 0.0
    return Company(np.log(shares).astype(np.float32), given, asked, mean, strength)
