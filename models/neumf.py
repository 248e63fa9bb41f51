"""NeuMF: matrix factorisation and a perceptron side by side (He et al. 2017), the perceptron also fed with features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.features import FeatureHistory, ItemsAsOf, Standardizer, TrainingFeatures
from models.interactions import Interactions
from models.metrics import hit_ratio, ndcg, target_ranks
from models.negatives import NegativeSampler, distinct_negatives
from models.recommender import (
    Progress,
    ProgressCallback,
    Recommender,
    RecommenderError,
    UnknownUser,
    UserBatch,
)
from models.splits import last_rows

#: Floats of one hidden layer that full scoring holds at a time (4 MB): more leaves the processor's cache.
_CHUNK = 1_000_000
#: Likeness: users whose scores say which items go to the same people, components that are kept of them, the weight
#: of the GMF embedding beside them, and the ratings at which an item's vector is believed by half. On ml-latest-small's
#: 300 most rated films the ten neighbours share .36 of their genres this way, .28 by the GMF embedding alone.
_LIKENESS_USERS = 512
_LIKENESS_COMPONENTS = 32
_LIKENESS_GMF = 0.7
_LIKENESS_PRIOR = 10.0

_Made = TypeVar("_Made")


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
    #: Threads of torch while it fits. The matrices are small: two gain a fifth on an idle machine, and where another
    #: process wants a core they wait for each other, busily: 39 s instead of 10 for the same four epochs.
    threads: int = 1


class _Network(nn.Module):
    """The two branches. The MLP's first layer is kept apart by user and item: full scoring adds the two up."""

    def __init__(self, config: NeuMFConfig, n_users: int, n_items: int, user_width: int, item_width: int) -> None:
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
        self.item_bias = nn.Parameter(torch.zeros(n_items), requires_grad=config.item_bias)
        self.dropout = nn.Dropout(config.dropout)
        for table in self.embeddings():
            nn.init.normal_(table, std=0.05)

    def embeddings(self) -> list[nn.Parameter]:
        """The four tables."""
        tables = (self.gmf_user, self.gmf_item, self.mlp_user, self.mlp_item)
        return [parameter for table in tables for parameter in table.parameters()]

    def user_part(self, users: Tensor, features: Tensor | None) -> Tensor:
        """The user's share of the first layer: [B, h] of ``users`` int64[B] and ``features`` [B, width]."""
        part: Tensor = self.first_user(self.mlp_user(users))
        return part if features is None else part + features @ self.user_features

    def item_part(self, items: Tensor, features: Tensor | None) -> Tensor:
        """The item's share of the first layer: [..., h] of ``items`` int64[...] and ``features`` [..., width]."""
        part: Tensor = self.first_item(self.mlp_item(items))
        return part if features is None else part + features @ self.item_features

    def perceptron(self, first: Tensor) -> Tensor:
        """The MLP's logit [...] from the sums of the first layer [..., h]."""
        x: Tensor = self.dropout(functional.relu(first))
        for layer in self.hidden:
            x = self.dropout(functional.relu(layer(x)))
        logit: Tensor = self.mlp_out(x)
        return logit.squeeze(-1)

    def forward(
        self, users: Tensor, items: Tensor, user_features: Tensor | None, item_features: Tensor | None
    ) -> Tensor:
        """Logits [B, n] of ``users`` int64[B], each with the ``items`` int64[B, n] of its row."""
        product = torch.einsum("bf,bnf->bn", self.gmf_user(users) * self.gmf_out, self.gmf_item(items))
        first = self.user_part(users, user_features)[:, None, :] + self.item_part(items, item_features)
        return product + self.perceptron(first) + self.item_bias[items]

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


class _Scaling:
    """The features' scaling as it was in training: one for the users, one for each item history."""

    def __init__(self, user: Standardizer, items: tuple[Standardizer, ...]) -> None:
        self.user = user
        self.items = items

    @classmethod
    def fit(cls, rows: Interactions, features: TrainingFeatures) -> _Scaling:
        """Statistics of the training rows: the users' values, and the items' as of each row's time."""
        items = (Standardizer.fit(history.as_of(rows.items, rows.timestamps)) for history in features.item_histories)
        return cls(Standardizer.fit(features.user_values), tuple(items))

    @property
    def item_width(self) -> int:
        return sum(scale.width for scale in self.items)

    def users(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(self.user.transform(values))

    def all_items(self, values: NDArray[np.float32]) -> Tensor:
        """[..., width] of raw ``values`` [..., Fi], whose columns are those of the histories side by side."""
        ends = np.cumsum([len(scale.mean) for scale in self.items])
        if values.shape[-1] != ends[-1]:
            raise RecommenderError(f"neumf: {values.shape[-1]} item features, the training had {ends[-1]}")
        parts = np.split(values, ends[:-1], axis=-1)
        return torch.from_numpy(
            np.concatenate([s.transform(part) for s, part in zip(self.items, parts, strict=True)], axis=-1)
        )

    def shares(self, network: _Network, histories: tuple[FeatureHistory, ...]) -> list[Tensor]:
        """For each history [H + 1, h]: what each of its rows adds to the first layer."""
        weights = torch.split(network.item_features, [scale.width for scale in self.items])
        return [
            self.history(history, scale) @ weight
            for history, scale, weight in zip(histories, self.items, weights, strict=True)
        ]

    def history(self, history: FeatureHistory, scale: Standardizer) -> Tensor:
        """[H + 1, width]: every row of a history, and last the one for 'nothing known yet'."""
        unknown = np.full((1, len(history.names)), np.nan, dtype=np.float32)
        return torch.from_numpy(scale.transform(np.concatenate([history.values, unknown])))


class _Pairs:
    """Users, candidate items of each, and the features of both as of a moment, ready to be sliced into steps."""

    def __init__(
        self,
        rows: Interactions,
        candidates: NDArray[np.int32],
        tables: _FeatureTables | None,
        order: NDArray[np.int64],
        hidden: NDArray[np.bool_] | None = None,
    ) -> None:
        self.users = torch.from_numpy(rows.users[order].astype(np.int64))
        # -1: a user who met everything has no negatives; the first item stands there and weighs nothing.
        self.present = None if (candidates >= 0).all() else torch.from_numpy((candidates >= 0).astype(np.float32))
        candidates = np.maximum(candidates, 0)
        self.items = torch.from_numpy(candidates.astype(np.int64))
        self._tables = tables
        self._user_rows = torch.from_numpy(order if hidden is None else np.where(hidden, -1, order))
        self._places = [] if tables is None else tables.places(candidates, rows.timestamps[order][:, None])

    def logits(self, network: _Network, block: slice) -> Tensor:
        """[b, n] for the rows of a slice."""
        if self._tables is None:
            return network(self.users[block], self.items[block], None, None)  # type: ignore[no-any-return]
        user_features = self._tables.user[self._user_rows[block]]
        item_features = self._tables.gather([places[block] for places in self._places])
        return network(self.users[block], self.items[block], user_features, item_features)  # type: ignore[no-any-return]


class _FeatureTables:
    """Scaled features of the fit: ``user`` [N + 1, width] by row, the last one unknown, and the items' histories."""

    def __init__(self, scaling: _Scaling, features: TrainingFeatures) -> None:
        unknown = np.full((1, len(features.user_names)), np.nan, dtype=np.float32)
        self.user = scaling.users(np.concatenate([features.user_values, unknown]))
        self._histories = features.item_histories
        self._tables = [
            scaling.history(history, scale) for history, scale in zip(self._histories, scaling.items, strict=True)
        ]

    def places(self, items: NDArray[np.int32], times: NDArray[np.int64]) -> list[Tensor]:
        """For each history the row int64, shape of ``items``, that held at the time; the last one where none did."""
        return [
            torch.from_numpy(np.where((rows := history.rows_as_of(items, times)) < 0, len(history.keys), rows))
            for history in self._histories
        ]

    def gather(self, places: list[Tensor]) -> Tensor:
        """[..., width] of the rows that :meth:`places` found."""
        return torch.cat([table[rows] for table, rows in zip(self._tables, places, strict=True)], dim=-1)


class NeuMF(Recommender):
    """GMF and MLP over the indices of user and item, fitted on sampled negatives with the cross-entropy.

    It knows users by their index: a batch with an unknown one raises ``UnknownUser``. With ``use_features`` the first
    layer of the MLP also sees the features of both sides, scaled with the training's statistics.
    """

    name: ClassVar[str] = "neumf"
    config_class: ClassVar[type[Any]] = NeuMFConfig

    def __init__(self, config: NeuMFConfig | None = None) -> None:
        super().__init__(config)
        self.uses_features = bool(self.config.use_features)
        #: The epoch whose validation was best. A later fit on more data may run just as many without a validation.
        self.best_epoch = 0
        self._network: _Network | None = None
        self._scaling: _Scaling | None = None
        self._likeness: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._belief: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        #: What the item features of the last batch came to, for the next one that brings the same object.
        self._made: tuple[object, Any] | None = None

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Parameters with gradients, two moments and the best epoch's copy, and the pairs of two epochs."""
        config: NeuMFConfig = self.config
        parameters = (n_users + n_items) * (config.factors + config.mlp_factors)
        # A pair is an index and, with features, its row in each of two histories.
        pair = 8 * (3 if self.uses_features else 1)
        return 5 * 4 * parameters + 2 * n_interactions * (1 + config.negatives) * (pair + 4)

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: NeuMFConfig = self.config
        known = features if self.uses_features else None
        everything = np.arange(len(interactions))
        held = last_rows(interactions) if config.patience else everything[:0]
        kept = np.setdiff1d(everything, held)
        self._made = None
        with torch_threads(config.threads), torch.random.fork_rng(devices=[]):
            self.best_epoch, self.learning_curve = self._train(
                interactions, known, kept, held, config.epochs, seed, progress
            )
            if config.refit and len(held):
                self._train(interactions, known, everything, held[:0], self.best_epoch, seed, _silent)
            self._set_likeness(interactions, known, seed)

    def _train(
        self,
        interactions: Interactions,
        features: TrainingFeatures | None,
        kept: NDArray[np.int64],
        held: NDArray[np.int64],
        epochs: int,
        seed: int,
        progress: ProgressCallback,
    ) -> tuple[int, list[dict[str, float]]]:
        """Fit on the rows ``kept``, watch ``held``, keep the best epoch's weights; returns that epoch and the curve."""
        config: NeuMFConfig = self.config
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        rows = interactions.take(kept)
        scaling, tables = None, None
        if features is not None:
            scaling = _Scaling.fit(rows, features.take(kept))
            tables = _FeatureTables(scaling, features.take(kept))
        network = self._new_network(rows, scaling)
        optimizer = _optimizer(network, config)
        sampler = NegativeSampler(rows)
        watched = _Validation(interactions, features, held, scaling, config, rng) if len(held) else None
        best_epoch, best_value, best_state = epochs, -math.inf, None
        curve: list[dict[str, float]] = []
        # The next epoch's pairs are drawn while this one is trained on: a quarter of the work, on the other core.
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = ahead.submit(_draw_pairs, rows, tables, sampler, config, rng)
            for epoch in range(1, epochs + 1):
                pairs = coming.result()
                if epoch < epochs:
                    coming = ahead.submit(_draw_pairs, rows, tables, sampler, config, rng)
                figures = {"epoch": float(epoch), "loss": _epoch(network, optimizer, pairs, config.batch_size)}
                if watched is not None:
                    figures |= watched.judge(network)
                    if figures["validation_ndcg"] > best_value:
                        best_epoch, best_value = epoch, figures["validation_ndcg"]
                        best_state = {name: value.clone() for name, value in network.state_dict().items()}
                curve.append(figures)
                progress(Progress(epoch, epochs, figures))
                if best_state is not None and epoch - best_epoch >= config.patience:
                    break
        if best_state is not None:
            network.load_state_dict(best_state)
        network.eval()
        self._network, self._scaling = network, scaling
        return best_epoch, curve

    def _new_network(self, rows: Interactions, scaling: _Scaling | None) -> _Network:
        config: NeuMFConfig = self.config
        network = _Network(
            config,
            self.n_users,
            self.n_items,
            0 if scaling is None else scaling.user.width,
            0 if scaling is None else scaling.item_width,
        )
        if config.item_bias:
            # With uniform negatives the best logit of a constant is the log of positives over negatives of the item.
            counts = rows.item_counts() + 0.5
            odds = np.log(counts / (counts.mean() * config.negatives))
            with torch.no_grad():
                network.item_bias.copy_(torch.from_numpy(odds.astype(np.float32)))
        return network

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Logits.

        Raises ``UnknownUser`` for -1 or an index beyond the training's, ``RecommenderError`` for missing features.
        """
        network = self._fitted()
        if len(batch) and (batch.users.min() < 0 or batch.users.max() >= self.n_users):
            raise UnknownUser(f"neumf: knows the users 0..{self.n_users - 1} only")
        with torch.inference_mode():
            features = None
            if self._scaling is not None:
                if batch.user_features is None or batch.item_features is None:
                    raise RecommenderError("neumf: a batch needs features of users and items, as the training had")
                features = self._scaling.users(batch.user_features)
            item_part = self._item_part(network, batch.item_features)
            return network.score_all(torch.from_numpy(batch.users), features, item_part).numpy()

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the items' likeness vectors, damped for items with few ratings, whose vectors say little."""
        self._fitted()
        return np.asarray((self._likeness[items] @ self._likeness.T) * self._belief, dtype=np.float32)

    def _set_likeness(self, interactions: Interactions, features: TrainingFeatures | None, seed: int) -> None:
        """Vectors in which two items are near when the model gives them to the same people.

        float32[n_items, 48]: the main components of the scores of some users, centred by user and item, beside the GMF
        embedding; each part of unit length before it is weighted.
        """
        rated = np.unique(interactions.users)
        if len(rated) > _LIKENESS_USERS:
            rated = np.sort(np.random.default_rng(seed).choice(rated, _LIKENESS_USERS, replace=False))
        # The latest row of each user, as the server will see it, and the items as of the end of the data.
        order = np.lexsort((interactions.timestamps, interactions.users))
        latest = order[np.searchsorted(interactions.users[order], rated, side="right") - 1]
        network = self._fitted()
        with torch.inference_mode():
            user_features, item_features = None, None
            if features is not None and self._scaling is not None:
                user_features = self._scaling.users(features.user_values[latest])
                end = np.full(self.n_items, interactions.timestamps.max())
                item_features = self._scaling.all_items(features.items_as_of(np.arange(self.n_items), end))
            part = network.item_part(torch.arange(self.n_items), item_features)
            scores = network.score_all(torch.from_numpy(rated.astype(np.int64)), user_features, part)
            scores -= scores.mean(dim=1, keepdim=True)
            scores -= scores.mean(dim=0)
            # Components by the small Gram matrix of the users, not by a decomposition of users x items.
            _, directions = torch.linalg.eigh(scores @ scores.T)
            components = scores.T @ directions[:, -_LIKENESS_COMPONENTS:]
            product = network.gmf_item.weight * network.gmf_out
            parts = (components, 1.0), (product - product.mean(dim=0), _LIKENESS_GMF)
            vectors = torch.cat([functional.normalize(part, dim=1) * weight for part, weight in parts], dim=1)
            self._likeness = functional.normalize(vectors, dim=1).numpy()
        counts = interactions.item_counts()
        self._belief = (counts / (counts + _LIKENESS_PRIOR)).astype(np.float32)

    def _item_part(self, network: _Network, values: NDArray[np.float32] | ItemsAsOf | None) -> Tensor:
        """The items' share of the first layer, [n_items, h] or as of the users' moments [B, n_items, h].

        It is kept for as long as batches bring the same object: a server scores with one item matrix all day.
        """
        scaling, items = self._scaling, torch.arange(self.n_items)
        if scaling is None or values is None:
            return self._once(None, lambda: network.item_part(items, None))
        if not isinstance(values, ItemsAsOf):
            return self._once(values, lambda: network.item_part(items, scaling.all_items(values)))
        part = network.item_part(items, None)
        shares = self._once(values.histories, lambda: scaling.shares(network, values.histories))
        for history, share in zip(values.histories, shares, strict=True):
            rows = values.rows(history)
            part = part + share[torch.from_numpy(np.where(rows < 0, len(history.keys), rows))]
        return part

    def _once(self, key: object, make: Callable[[], _Made]) -> _Made:
        """What was made for this very object last time, else made now. A swap of one tuple is safe between threads."""
        made = self._made
        if made is None or made[0] is not key:
            made = (key, make())
            self._made = made
        kept: _Made = made[1]
        return kept

    def _fitted(self) -> _Network:
        if self._network is None:
            raise RecommenderError("neumf: is not fitted")
        return self._network

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {
            f"network.{name}": value.numpy() for name, value in self._fitted().state_dict().items()
        }
        arrays |= {"likeness": self._likeness, "belief": self._belief}
        scales = [] if self._scaling is None else [self._scaling.user, *self._scaling.items]
        for place, scale in enumerate(scales):
            for column in ("heavy", "mean", "std", "flagged"):
                arrays[f"scale.{place}.{column}"] = getattr(scale, column)
        return {"scales": len(scales), "best_epoch": self.best_epoch}, arrays

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.best_epoch = int(facts["best_epoch"])
        scales = [
            Standardizer(*(arrays[f"scale.{place}.{column}"] for column in ("heavy", "mean", "std", "flagged")))
            for place in range(int(facts["scales"]))
        ]
        self._scaling = _Scaling(scales[0], tuple(scales[1:])) if scales else None
        self._network = _Network(
            self.config,
            self.n_users,
            self.n_items,
            0 if self._scaling is None else self._scaling.user.width,
            0 if self._scaling is None else self._scaling.item_width,
        )
        state = {
            name.removeprefix("network."): torch.from_numpy(np.array(value))
            for name, value in arrays.items()
            if name.startswith("network.")
        }
        self._network.load_state_dict(state)
        self._network.eval()
        self._likeness, self._belief = arrays["likeness"], arrays["belief"]


class _Validation:
    """The held-out item of users among 99 negatives each, judged after every epoch."""

    def __init__(
        self,
        interactions: Interactions,
        features: TrainingFeatures | None,
        held: NDArray[np.int64],
        scaling: _Scaling | None,
        config: NeuMFConfig,
        rng: np.random.Generator,
    ) -> None:
        if len(held) > config.validation_users:
            held = np.sort(rng.choice(held, config.validation_users, replace=False))
        rows = interactions.take(held)
        negatives = distinct_negatives(interactions, rows.users, 99, seed=int(rng.integers(1 << 31)))
        candidates = np.column_stack([rows.items, negatives])
        tables = None if features is None or scaling is None else _FeatureTables(scaling, features.take(held))
        self._none = candidates < 0
        self._pairs = _Pairs(rows, candidates, tables, np.arange(len(rows)))

    def judge(self, network: _Network) -> dict[str, float]:
        """HR@10, NDCG@10, and NDCG without a cut-off, which early stopping watches: every user moves it, hit or not."""
        network.eval()
        with torch.inference_mode():
            blocks = [slice(start, start + 512) for start in range(0, len(self._none), 512)]
            scores = torch.cat([self._pairs.logits(network, block) for block in blocks]).numpy()
        ranks = target_ranks(np.where(self._none, -np.inf, scores), np.zeros(len(scores), dtype=np.int64))
        return {
            "validation_hr_10": hit_ratio(ranks, 10),
            "validation_ndcg_10": ndcg(ranks, 10),
            "validation_ndcg": ndcg(ranks, scores.shape[1]),
        }


def _draw_pairs(
    rows: Interactions,
    tables: _FeatureTables | None,
    sampler: NegativeSampler,
    config: NeuMFConfig,
    rng: np.random.Generator,
) -> _Pairs:
    """An epoch's pairs: the rows in a new order, new negatives for each, some users' features hidden."""
    order = rng.permutation(len(rows))
    drawn = sampler.draw(np.repeat(rows.users[order][:, None], config.negatives, axis=1), rng)
    hidden = rng.random(len(rows)) < config.hidden_features
    return _Pairs(rows, np.column_stack([rows.items[order], drawn]), tables, order, hidden)


def _epoch(network: _Network, optimizer: torch.optim.Optimizer, pairs: _Pairs, batch_size: int) -> float:
    """One pass over the pairs, whose first candidate is the positive; returns the mean cross-entropy."""
    network.train()
    total = 0.0
    for start in range(0, len(pairs.users), batch_size):
        block = slice(start, start + batch_size)
        logits = pairs.logits(network, block)
        target = torch.zeros_like(logits)
        target[:, 0] = 1.0
        weight = None if pairs.present is None else pairs.present[block]
        loss = functional.binary_cross_entropy_with_logits(logits, target, weight=weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item() * len(logits)
    return total / len(pairs.users)


def _optimizer(network: _Network, config: NeuMFConfig) -> torch.optim.Optimizer:
    """AdamW over dense gradients: a step touches most items of a MovieLens edition, so sparse ones save nothing."""
    embeddings = network.embeddings()
    others = [p for p in network.parameters() if p.requires_grad and all(p is not table for table in embeddings)]
    groups = [
        {"params": embeddings, "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.numel()], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _silent(_: Progress) -> None:
    """The refit repeats what was reported."""
