"""Alternating least squares: with all pairs for ranking (iALS, Hu et al. 2008), with the stars for rating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from models.algorithms.neumf.model import torch_threads
from models.algorithms.rating.base import FactorRecommender, Factors, cosines
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Cells of the padded histories, times the factors, that are solved at a time (float32: 64 MB).
_CELLS = 16_000_000


@dataclass(frozen=True, slots=True)
class IalsConfig:
    """iALS as Rendle et al. 2022 revisit it: the L2 weight of a row grows with its ratings.

    That is why it is written here. The implicit library has one weight for all rows: it needs an eighth of the
    processor time (1.8 s on ml-1m), but its best of three settings had NDCG@10 .258 on the 8:1:1 split of ml-1m where
    this one has .269.
    """

    factors: int = 64
    #: Sweeps over both sides.
    sweeps: int = 12
    #: The weight of a pair that was not met.
    unobserved: float = 0.1
    #: The L2 weight; that of a row grows with its ratings and the unobserved pairs, to the power ``exponent``.
    regularization: float = 0.01
    exponent: float = 1.0
    init_std: float = 0.1
    threads: int = 1


class Ials(Recommender):
    """Scores with factors; the user's are solved from the history of the batch, so a new rating needs no fit.

    Minimized is ``sum over met pairs (1 - w·h)² + a0 * sum over all pairs (w·h)² + reg * sum of n^nu |w|²`` with
    ``n = met + a0 * others`` of each row: one side at a time, in closed form.
    """

    name: ClassVar[str] = "ials"
    config_class: ClassVar[type[Any]] = IalsConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: IalsConfig | None = None) -> None:
        super().__init__(config)
        self._items: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    @classmethod
    def of_factors(cls, item_factors: NDArray[np.float32], config: IalsConfig) -> Ials:
        """Return a fitted recommender with known item factors float32[n_items, f], which are its whole state."""
        fitted = cls(config)
        fitted._items, fitted.n_items = item_factors, len(item_factors)
        return fitted

    @property
    def item_factors(self) -> NDArray[np.float32]:
        """float32[n_items, f]."""
        return self._items

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of both sides' factors, the matrix by rows and by columns, and the equations of one part."""
        f = int(self.config.factors)
        return 2 * 4 * (n_users + n_items) * f + 24 * n_interactions + 3 * 4 * (_CELLS + 4096 * f * f)

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: IalsConfig = self.config
        by_user = interactions.matrix()
        by_item = csr_array(by_user.T.tocsr())
        generator = np.random.default_rng(seed)
        items = torch.from_numpy(
            generator.standard_normal((self.n_items, config.factors), dtype=np.float32)
            * np.float32(config.init_std / np.sqrt(config.factors))
        )
        with torch_threads(config.threads), torch.inference_mode():
            for sweep in range(1, config.sweeps + 1):
                users = self._solve(by_user, items)
                items = self._solve(by_item, users)
                progress(Progress(sweep, config.sweeps, {}))
        self._items = items.numpy()

    def _solve(self, matrix: csr_array, others: Tensor) -> Tensor:
        """[rows, f]: the best factors of each row of ``matrix`` for the factors [columns, f] of the other side."""
        config: IalsConfig = self.config
        lengths = np.diff(matrix.indptr)
        penalty = config.regularization * (lengths + config.unobserved * matrix.shape[1]) ** config.exponent
        gram = config.unobserved * (others.T @ others)
        return _ridge(matrix, others, gram, torch.from_numpy(penalty.astype(np.float32)))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the products of the item factors with the user factors solved from the histories."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        items = torch.from_numpy(self._items)
        with torch.inference_mode():
            return np.asarray((self._solve(ones, items) @ items.T).numpy(), dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """In closed form (Hu et al. 2008, with the entry taken out of the equations as well).

        With the user's equations ``A w = sum of x``, the score of an item v is ``v·w``, the sum of ``v·A⁻¹x`` over the
        history. Without an entry x the matrix is ``A - x xᵀ``, by Sherman and Morrison a loss of
        ``v·A⁻¹x (1 - x·w) / (1 - x·A⁻¹x)``. That the L2 weight falls a little with a rating less is left aside.
        """
        self._explains(batch)
        config: IalsConfig = self.config
        factors = self._items.astype(np.float64)
        x, v = factors[batch.history.indices], factors[items]
        penalty = config.regularization * (len(x) + config.unobserved * self.n_items) ** config.exponent
        system = config.unobserved * (factors.T @ factors) + x.T @ x + penalty * np.eye(factors.shape[1])
        solved = np.linalg.solve(system, x.T)  # A⁻¹x, a column an entry
        user = solved.sum(axis=1)
        lost = (1.0 - x @ user) / (1.0 - np.einsum("ij,ji->i", x, solved))
        return np.asarray((v @ solved) * lost, dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the item factors."""
        return cosines(self._items, items)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"items": self._items}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["items"].shape != (self.n_items, self.config.factors):
            raise RecommenderError(f"ials: factors {arrays['items'].shape} for {self.n_items} items")
        self._items = arrays["items"]


@dataclass(frozen=True, slots=True)
class AlsConfig:
    """ALS on stars with the weighted regularization of Zhou et al. 2008."""

    factors: int = 20
    sweeps: int = 15
    #: The L2 weight of a row, times its number of ratings.
    regularization: float = 0.11
    #: Ratings of the mean that a bias is mixed with.
    bias_prior: float = 5.0
    init_std: float = 0.1
    threads: int = 1


class Als(FactorRecommender):
    """Biases by damped means, then factors of what they leave over: each side in turn, in closed form."""

    name: ClassVar[str] = "als"
    config_class: ClassVar[type[Any]] = AlsConfig

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of both sides' factors, the matrix by rows and by columns, and the equations of one part."""
        f = int(self.config.factors)
        return 2 * 4 * (n_users + n_items) * f + 40 * n_interactions + 3 * 4 * (_CELLS + 4096 * f * f)

    def _learn(
        self, interactions: Interactions, stars: NDArray[np.float32], seed: int, progress: ProgressCallback
    ) -> Factors:
        config: AlsConfig = self.config
        u, i = interactions.users, interactions.items
        counts = interactions.user_counts(), interactions.item_counts()
        bu, bi = np.zeros(self.n_users), np.zeros(self.n_items)
        for _ in range(10):
            bi = np.bincount(i, stars - bu[u], self.n_items) / (counts[1] + config.bias_prior)
            bu = np.bincount(u, stars - bi[i], self.n_users) / (counts[0] + config.bias_prior)
        left = (stars - bu[u] - bi[i]).astype(np.float32)
        by_user = csr_array((left, (u, i)), shape=(self.n_users, self.n_items))
        by_item = csr_array(by_user.T.tocsr())
        penalties = [torch.from_numpy((config.regularization * np.maximum(n, 1)).astype(np.float32)) for n in counts]
        generator = np.random.default_rng(seed)
        items = torch.from_numpy(
            generator.standard_normal((self.n_items, config.factors), dtype=np.float32) * np.float32(config.init_std)
        )
        nothing = torch.zeros(config.factors, config.factors)
        with torch_threads(config.threads), torch.inference_mode():
            for sweep in range(1, config.sweeps + 1):
                users = _ridge(by_user, items, nothing, penalties[0])
                items = _ridge(by_item, users, nothing, penalties[1])
                progress(Progress(sweep, config.sweeps, {}))
        return Factors(bu.astype(np.float32), bi.astype(np.float32), users.numpy(), items.numpy())


def _ridge(matrix: csr_array, others: Tensor, gram: Tensor, penalty: Tensor) -> Tensor:
    """[rows, f]: for each row r of ``matrix`` the x of ``(gram + XᵀX + penalty[r] I) x = Xᵀ y``.

    X are the ``others`` [columns, f] at the row's columns, y its values. Rows of like length are solved together, the
    shorter ones padded with zeros: two matrix products a part instead of a loop over rows.
    """
    n_rows, f = matrix.shape[0], others.shape[1]
    padded = torch.cat([others, torch.zeros(1, f)])
    lengths = np.diff(matrix.indptr).astype(np.int64)
    order = np.argsort(lengths, kind="stable")
    solved = torch.empty(n_rows, f)
    start = 0
    while start < n_rows:
        # As many rows as fit beside the longest of them; lengths ascend, so the first guess may only shrink.
        stop = min(n_rows, start + 4096)
        while stop > start + 1 and (stop - start) * max(int(lengths[order[stop - 1]]), f) * f > _CELLS:
            stop = start + (stop - start) // 2
        rows = order[start:stop]
        width = max(1, int(lengths[rows].max()))
        places = np.arange(width)[None, :]
        filled = places < lengths[rows][:, None]
        cells = np.where(filled, matrix.indptr[rows][:, None] + places, 0)
        columns = np.where(filled, matrix.indices[cells] if matrix.nnz else 0, len(others))
        values = np.where(filled, matrix.data[cells] if matrix.nnz else 0.0, 0.0).astype(np.float32)
        x = padded[torch.from_numpy(columns.astype(np.int64))]
        system = gram + torch.bmm(x.transpose(1, 2), x)
        system.diagonal(dim1=1, dim2=2).add_(penalty[torch.from_numpy(rows)][:, None])
        right = torch.bmm(x.transpose(1, 2), torch.from_numpy(values)[:, :, None])
        solved[torch.from_numpy(rows)] = torch.cholesky_solve(right, torch.linalg.cholesky(system)).squeeze(2)
        start = stop
    return solved
