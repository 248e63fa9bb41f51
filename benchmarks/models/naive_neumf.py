"""NeuMF as it is commonly written: a data set of single pairs, a ``DataLoader``, negatives drawn one by one.

The yardstick of :mod:`benchmarks.models.training_speed`, and never what is served.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.algorithms.neumf.network import NeuMFConfig
from models.data.interactions import Interactions

Pair = tuple[int, int, float]


class PlainNeuMF(nn.Module):
    """Users, items -> logit; the sizes of the given configuration."""

    def __init__(self, config: NeuMFConfig, n_users: int, n_items: int) -> None:
        super().__init__()
        self.gmf_user = nn.Embedding(n_users, config.factors)
        self.gmf_item = nn.Embedding(n_items, config.factors)
        self.mlp_user = nn.Embedding(n_users, config.mlp_factors)
        self.mlp_item = nn.Embedding(n_items, config.mlp_factors)
        layers: list[nn.Module] = []
        width = 2 * config.mlp_factors
        for size in config.layers:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.mlp = nn.Sequential(*layers)
        self.out = nn.Linear(config.factors + width, 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Logits [B] of the pairs ``users`` int64[B], ``items`` int64[B]."""
        product = self.gmf_user(users) * self.gmf_item(items)
        hidden = self.mlp(torch.cat([self.mlp_user(users), self.mlp_item(items)], dim=1))
        logits: Tensor = self.out(torch.cat([product, hidden], dim=1))
        return logits.squeeze(1)


class PairData(Dataset[Pair]):
    """Each interaction and, drawn anew by :meth:`draw`, its negatives."""

    def __init__(self, interactions: Interactions, negatives: int, seed: int) -> None:
        self.positives = list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))
        self.met = set(self.positives)
        self.n_items = interactions.n_items
        self.negatives = negatives
        self.random = random.Random(seed)
        self.pairs: list[Pair] = []

    def draw(self) -> None:
        """Draw the pairs of one epoch."""
        self.pairs = []
        for user, item in self.positives:
            self.pairs.append((user, item, 1.0))
            for _ in range(self.negatives):
                other = self.random.randrange(self.n_items)
                while (user, other) in self.met:
                    other = self.random.randrange(self.n_items)
                self.pairs.append((user, other, 0.0))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, place: int) -> Pair:
        """One pair."""
        return self.pairs[place]


def fit_plainly(interactions: Interactions, config: NeuMFConfig, *, workers: int, seed: int) -> float:
    """Train for the configuration's epochs; the mean loss of the last one."""
    torch.manual_seed(seed)
    data = PairData(interactions, config.negatives, seed)
    network = PlainNeuMF(config, interactions.n_users, interactions.n_items)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    loss_of = nn.BCEWithLogitsLoss()
    total = 0.0
    for _ in range(config.epochs):
        data.draw()
        total = 0.0
        # As many pairs a step as the other one takes.
        steps = DataLoader(
            data, batch_size=config.batch_size * (1 + config.negatives), shuffle=True, num_workers=workers
        )
        for users, items, labels in steps:
            loss = loss_of(network(users, items), labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(users)
    return total / len(data)
