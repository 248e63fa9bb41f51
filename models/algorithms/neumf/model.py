"""NeuMF: matrix factorisation and a perceptron side by side (He et al. 2017), the perceptron also fed with features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.algorithms.neumf.network import BRANCHES, Network, NeuMFConfig
from models.algorithms.neumf.training import Scaling, Task, Trained, train
from models.base import Recommender
from models.data.batch import UserBatch
from models.data.features import ItemsAsOf, Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.data.splits import last_rows
from models.runtime.device import in_bfloat16, training_device
from models.runtime.distributed import Team
from models.runtime.errors import RecommenderError, UnknownUser
from models.runtime.progress import Progress, ProgressCallback

#: Likeness: users whose scores say which items go to the same people, components that are kept of them, the weight
#: of the GMF embedding beside them, and the ratings at which an item's vector is believed by half. On ml-latest-small's
#: 300 most rated films the ten neighbours share .36 of their genres this way, .28 by the GMF embedding alone.
_LIKENESS_USERS = 512
_LIKENESS_COMPONENTS = 32
_LIKENESS_GMF = 0.7
_LIKENESS_PRIOR = 10.0

_Made = TypeVar("_Made")


class NeuMF(Recommender):
    """GMF and MLP over the indices of user and item, fitted on sampled negatives with the cross-entropy.

    It knows users by their index: a batch with an unknown one raises ``UnknownUser``. With ``use_features`` the first
    layer of the MLP also sees the features of both sides, scaled with the training's statistics.
    """

    name: ClassVar[str] = "neumf"
    config_class: ClassVar[type[Any]] = NeuMFConfig
    fitted_by_teams: ClassVar[bool] = True

    def __init__(self, config: NeuMFConfig | None = None) -> None:
        super().__init__(config)
        self.uses_features = self.needs_features = bool(self.config.use_features)
        #: The epoch whose validation was best. A later fit on more data may run just as many without a validation.
        self.best_epoch = 0
        self._network: Network | None = None
        self._scaling: Scaling | None = None
        self._likeness: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._belief: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        #: What the item features of the last batch came to, for the next one that brings the same object.
        self._made: tuple[object, Any] | None = None

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Parameters with gradients, two moments and the best epoch's copy, and the pairs of two epochs."""
        config: NeuMFConfig = self.config
        parameters = (n_users + n_items) * (config.factors + config.mlp_factors)
        # A pair is an index and, with features, its row in each of two histories; a row has its user and its code.
        pair = 4 * (3 if self.uses_features else 1)
        pairs = n_interactions * (1 + config.negatives)
        scores = 3 * 4 * n_items * min(_LIKENESS_USERS, n_users)
        # What is drawn and looked up at a time, in eight bytes and several copies; the users' features while scaled.
        block, row = (150, 350) if self.uses_features else (100, 100)
        return 5 * 4 * parameters + 2 * pairs * pair + row * n_interactions + block * min(pairs, 2_000_000) + scores

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: NeuMFConfig = self.config
        known = features if self.uses_features else None
        everything = np.arange(len(interactions))
        held = last_rows(interactions) if config.patience else everything[:0]
        kept = np.setdiff1d(everything, held)
        self._made = None
        device = training_device(config.device)
        with torch_threads(config.threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
            half = in_bfloat16(config.precision, device)
            task = Task(interactions, known, kept, held, seed, device, half, Team.current())
            epochs = dict.fromkeys((*BRANCHES, "both"), config.epochs)
            watched, epochs = self._train("train", task, epochs, progress)
            trained, self.best_epoch, self.learning_curve = watched, watched.best_epoch, watched.curve
            if config.refit and len(held):
                whole = replace(task, kept=everything, held=held[:0])
                trained, _ = self._train("refit", whole, epochs, _silent)
            self._network, self._scaling = trained.network, trained.scaling
            self._set_likeness(interactions, known, seed)

    def _train(
        self, stage: str, task: Task, epochs: Mapping[str, int], progress: ProgressCallback
    ) -> tuple[Trained, dict[str, int]]:
        """Train the network, its branches first if configured; return it and the best number of epochs of each.

        ``epochs`` are the most for each. Progress counts the epochs of all of them as one sequence.
        """
        config: NeuMFConfig = self.config
        total, done = sum(epochs.values()) if config.pretrain else epochs["both"], 0
        best: dict[str, int] = {}

        def tell(step: Progress) -> None:
            progress(Progress(done + step.step, total, step.metrics))

        alone: list[Network] = []
        for branch in BRANCHES if config.pretrain else ():
            fitted = train(
                f"{stage}-{branch}",
                task,
                config,
                epochs=epochs[branch],
                progress=tell,
                checkpoint=self.checkpoint,
                branch=branch,
            )
            alone.append(fitted.network)
            best[branch] = fitted.best_epoch
            done += len(fitted.curve)
        fitted = train(
            stage,
            task,
            config,
            epochs=epochs["both"],
            progress=tell,
            checkpoint=self.checkpoint,
            start=(alone[0], alone[1]) if alone else None,
        )
        return fitted, {**epochs, **best, "both": fitted.best_epoch}

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

    def _item_part(self, network: Network, values: NDArray[np.float32] | ItemsAsOf | None) -> Tensor:
        """Return the items' share of the first layer, [n_items, h] or, as of the users' moments, [B, n_items, h].

        It is cached as long as batches bring the same object: a server scores with one item matrix all day.
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
        """Return the value cached for this very object, or make it. Swapping one tuple is safe between threads."""
        made = self._made
        if made is None or made[0] is not key:
            made = (key, make())
            self._made = made
        kept: _Made = made[1]
        return kept

    def _fitted(self) -> Network:
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
        self._scaling = Scaling(scales[0], tuple(scales[1:])) if scales else None
        self._network = Network(
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
    """Ignore the progress of the refit, which repeats what was reported."""
