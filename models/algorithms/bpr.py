"""BPR-MF: factors that put a met item before one that was not (Rendle et al. 2009)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.algorithms.neumf.model import torch_threads
from models.algorithms.rating.base import cosines
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.negative_sampling import NegativeSampler
from models.runtime.errors import RecommenderError, UnknownUser
from models.runtime.progress import Progress, ProgressCallback


@dataclass(frozen=True, slots=True)
class BprConfig:
    """The factorization and its training."""

    factors: int = 64
    epochs: int = 40
    #: Positives a step, each with one new negative.
    batch_size: int = 2048
    learning_rate: float = 0.005
    #: Decoupled weight decay (AdamW), without which the factors of rare items grow for ever.
    weight_decay: float = 0.5
    threads: int = 1


class Bpr(Recommender):
    """Scores with ``p[u] · q[i] + b[i]``, fitted on ``-log sigmoid(score(met) - score(negative))``.

    It knows users by their index: a batch with an unknown one raises ``UnknownUser``.
    """

    name: ClassVar[str] = "bpr"
    config_class: ClassVar[type[Any]] = BprConfig

    def __init__(self, config: BprConfig | None = None) -> None:
        super().__init__(config)
        self._users: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._items: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._bias: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Parameters, gradients, two moments and a step's copies, and an epoch's triples while they are drawn."""
        return 5 * 4 * (n_users + n_items) * (int(self.config.factors) + 1) + 100 * n_interactions

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: BprConfig = self.config
        rng = np.random.default_rng(seed)
        sampler = NegativeSampler(interactions)
        with torch_threads(config.threads), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            p, q = (nn.Parameter(0.1 * torch.randn(n, config.factors)) for n in (self.n_users, self.n_items))
            bias = nn.Parameter(torch.zeros(self.n_items))
            optimizer = torch.optim.AdamW(
                [{"params": [p, q], "weight_decay": config.weight_decay}, {"params": [bias], "weight_decay": 0.0}],
                lr=config.learning_rate,
                fused=True,
            )
            for epoch in range(1, config.epochs + 1):
                order = rng.permutation(len(interactions))
                drawn = sampler.draw(interactions.users[order], rng)
                # Who met everything has no negative, and nothing to put in order.
                order, drawn = order[drawn >= 0], drawn[drawn >= 0]
                triples = [
                    torch.from_numpy(column.astype(np.int64))
                    for column in (interactions.users[order], interactions.items[order], drawn)
                ]
                total = 0.0
                for start in range(0, len(order), config.batch_size):
                    u, met, other = (column[start : start + config.batch_size] for column in triples)
                    apart = (p[u] * (q[met] - q[other])).sum(dim=1) + bias[met] - bias[other]
                    loss = -functional.logsigmoid(apart).mean()
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    total += loss.item() * len(u)
                figures = {"epoch": float(epoch), "loss": total / max(len(order), 1)}
                self.learning_curve.append(figures)
                progress(Progress(epoch, config.epochs, figures))
            self._users, self._items, self._bias = (table.detach().numpy() for table in (p, q, bias))

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the products of the factors plus the items' bias; raise ``UnknownUser`` for an unknown user."""
        if len(batch) and (batch.users.min() < 0 or batch.users.max() >= self.n_users):
            raise UnknownUser(f"bpr: knows the users 0..{self.n_users - 1} only")
        return np.asarray(self._users[batch.users] @ self._items.T + self._bias, dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the item factors."""
        return cosines(self._items, items)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"users": self._users, "items": self._items, "bias": self._bias}

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if len(arrays["users"]) != self.n_users or len(arrays["items"]) != self.n_items:
            raise RecommenderError(f"bpr: factors of other sizes than {self.n_users} and {self.n_items}")
        self._users, self._items, self._bias = arrays["users"], arrays["items"], arrays["bias"]
