"""NeuMF's configuration and network: a factorization and a perceptron side by side (He et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Floats of one hidden layer that full scoring holds at a time (4 MB): more leaves the processor's cache.
_CHUNK = 1_000_000

#: What may be trained alone, before both together.
BRANCHES = ("gmf", "mlp")


@dataclass(frozen=True, slots=True)
class NeuMFConfig:
    """The network and its training; one configuration for every edition, chosen on validation items alone."""

    #: Size of the GMF embeddings.
    factors: int = 16
    #: Size of the MLP embeddings.
    mlp_factors: int = 16
    #: Widths of the MLP's layers: the paper's tower, halved from layer to layer.
    layers: tuple[int, ...] = (32, 16, 8)
    #: Feed the features to the MLP; off is the paper's network.
    use_features: bool = True
    #: A bias for each item, started at the logarithm of its count. The paper has none; with it the fit starts
    #: from popularity instead of spending its first epochs on it.
    item_bias: bool = True
    #: Negatives a positive, drawn anew each epoch. The paper finds 3 to 6 best; here 8 were better than 4 on the
    #: validation of ml-latest-small (NDCG@10 .489 for .478), ml-100k (.400 for .398) and the sample (.337 for .327).
    negatives: int = 8
    #: Positives a step.
    batch_size: int = 2048
    learning_rate: float = 0.005
    #: Decoupled weight decay (AdamW) of the embeddings: an item with few ratings stays near zero. 0 overfits within a
    #: few epochs (validation NDCG@10 of ml-100k .388, with 0.5 .402); 0.5 and 1 are alike.
    weight_decay: float = 1.0
    dropout: float = 0.0
    #: Share of the training rows whose user features are hidden, anew each epoch. Who rated on a single day (73 % of
    #: ml-100k's rows) has no features in training but has them when served; without this the validation's HR@10 falls
    #: from .67 to .63 once such users get theirs, with it it stays at .67.
    hidden_features: float = 0.5
    #: Upper bound; early stopping ends sooner.
    epochs: int = 20
    #: Epochs without a better validation before the fit ends. 0: no validation, all epochs on all rows.
    patience: int = 3
    #: After early stopping, fit anew on all rows, the validation's among them, for as many epochs as were best: a
    #: user's last film says most about the next (validation NDCG@10 of ml-latest-small .495 for .485, of the sample
    #: .342 for .338, of ml-100k no difference).
    refit: bool = True
    #: Users whose held-out item is the validation; a sample of this size is precise to a percent.
    validation_users: int = 5_000
    #: Train the two branches alone first and start from their weights, as the paper does. Here it is a draw (NDCG@10 on
    #: the validation of ml-100k's 75/25 .2534, .2524, .2311 of three seeds, without .2428, .2440, .2458) for 1.5 times
    #: the time, so it is off.
    pretrain: bool = False
    #: The share of the factorization in the logit that both start from; the rest is the perceptron's.
    pretrain_alpha: float = 0.5
    #: The learning rate of both together after that.
    pretrain_learning_rate: float = 0.001
    #: ``float32``; ``bfloat16``: matrix products in half precision, weights and sums in float32; ``auto``: the latter
    #: where the processor multiplies it itself. On AVX-512 BF16 1.15 times the pairs/s, and not worse: NDCG@10 on the
    #: validation of ml-100k's 75/25 .2501, .2496, .2440 of three seeds, in float32 .2428, .2440, .2458.
    precision: str = "auto"
    #: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one. Scores are always computed on the processor.
    device: str = "auto"
    #: Threads of torch while it fits. The matrices are small: two gain a fifth on an idle machine, and where another
    #: process wants a core they wait for each other, busily: 39 s instead of 10 for the same four epochs.
    threads: int = 1


class Network(nn.Module):
    """The two branches, or one alone. The MLP's first layer is apart by user and item: full scoring adds them up."""

    def __init__(
        self,
        config: NeuMFConfig,
        n_users: int,
        n_items: int,
        user_width: int,
        item_width: int,
        branch: str = "both",
    ) -> None:
        super().__init__()
        first = config.layers[0]
        self.gmf_user = nn.Embedding(n_users, config.factors)
        self.gmf_item = nn.Embedding(n_items, config.factors)
        self.gmf_out = nn.Parameter(torch.ones(config.factors))
        self.mlp_user = nn.Embedding(n_users, config.mlp_factors)
        self.mlp_item = nn.Embedding(n_items, config.mlp_factors)
        self.first_user = nn.Linear(config.mlp_factors, first)
        self.first_item = nn.Linear(config.mlp_factors, first, bias=False)
        # From zero on, the network starts as the one without features.
        self.user_features = nn.Parameter(torch.zeros(user_width, first))
        self.item_features = nn.Parameter(torch.zeros(item_width, first))
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(config.layers, config.layers[1:], strict=False))
        self.mlp_out = nn.Linear(config.layers[-1], 1)
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        self.dropout = nn.Dropout(config.dropout)
        self.branch = branch
        for table in self.embeddings():
            nn.init.normal_(table, std=0.05)
        used = {"both": self._of_gmf() + self._of_mlp(), "gmf": self._of_gmf(), "mlp": self._of_mlp()}[branch]
        for parameter in self.parameters():
            # An empty one is of features that are not used.
            parameter.requires_grad_(parameter.numel() > 0 and any(parameter is one for one in used))
        self.item_bias.requires_grad_(config.item_bias)

    def embeddings(self) -> list[nn.Parameter]:
        """Return the parameters of the four embedding tables."""
        tables = (self.gmf_user, self.gmf_item, self.mlp_user, self.mlp_item)
        return [parameter for table in tables for parameter in table.parameters()]

    def _of_gmf(self) -> list[nn.Parameter]:
        return [*self.gmf_user.parameters(), *self.gmf_item.parameters(), self.gmf_out]

    def _of_mlp(self) -> list[nn.Parameter]:
        others = [*self._of_gmf(), self.item_bias]
        return [parameter for parameter in self.parameters() if all(parameter is not other for other in others)]

    def start_from(self, gmf: Network, mlp: Network, alpha: float) -> None:
        """Take over what the branches learnt alone; ``alpha`` is the share of the first in the logit."""
        with torch.no_grad():
            for own, theirs in ((self._of_gmf(), gmf._of_gmf()), (self._of_mlp(), mlp._of_mlp())):
                for parameter, learnt in zip(own, theirs, strict=True):
                    parameter.copy_(learnt)
            self.gmf_out.mul_(alpha)
            self.mlp_out.weight.mul_(1.0 - alpha)
            self.mlp_out.bias.mul_(1.0 - alpha)
            self.item_bias.copy_(alpha * gmf.item_bias + (1.0 - alpha) * mlp.item_bias)

    def user_part(self, users: Tensor, features: Tensor | None) -> Tensor:
        """Return the user's share of the first layer: [B, h] of ``users`` int64[B] and ``features`` [B, width]."""
        part: Tensor = self.first_user(self.mlp_user(users))
        return part if features is None else part + features @ self.user_features

    def item_part(self, items: Tensor, features: Tensor | None) -> Tensor:
        """Return the item's share of the first layer: [..., h] of ``items`` int64[...], ``features`` [..., width]."""
        part: Tensor = self.first_item(self.mlp_item(items))
        return part if features is None else part + features @ self.item_features

    def perceptron(self, first: Tensor) -> Tensor:
        """Return the MLP's logit [...] from the sums of the first layer [..., h]."""
        x: Tensor = self.dropout(functional.relu(first))
        for layer in self.hidden:
            x = self.dropout(functional.relu(layer(x)))
        logit: Tensor = self.mlp_out(x)
        return logit.squeeze(-1)

    def forward(
        self, users: Tensor, items: Tensor, user_features: Tensor | None, item_features: Tensor | None
    ) -> Tensor:
        """Logits [B, n] of ``users`` int64[B], each with the ``items`` int64[B, n] of its row."""
        logits = self.item_bias[items]
        if self.branch != "mlp":
            logits = logits + torch.einsum("bf,bnf->bn", self.gmf_user(users) * self.gmf_out, self.gmf_item(items))
        if self.branch != "gmf":
            first = self.user_part(users, user_features)[:, None, :] + self.item_part(items, item_features)
            logits = logits + self.perceptron(first)
        return logits

    def score_all(self, users: Tensor, user_features: Tensor | None, item_part: Tensor) -> Tensor:
        """Logits [B, n_items] of ``users`` int64[B]; ``item_part`` [n_items, h] or [B, n_items, h]."""
        logits: Tensor = (self.gmf_user(users) * self.gmf_out) @ self.gmf_item.weight.T + self.item_bias
        user_part = self.user_part(users, user_features)[:, None, :]
        step = max(1, _CHUNK // item_part.shape[-1] // item_part.shape[-2])
        for start in range(0, len(users), step):
            block = slice(start, start + step)
            logits[block] += self.perceptron(
                user_part[block] + (item_part if item_part.ndim == 2 else item_part[block])
            )
        return logits
