"""How NeuMF's network is trained: pairs drawn anew each epoch, early stopping, checkpoints, one process or several."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.algorithms.neumf.network import Network, NeuMFConfig
from models.data.features import FeatureHistory, Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.data.negative_sampling import NegativeSampler, distinct_negatives
from models.metrics import hit_ratio, ndcg, target_ranks
from models.runtime.checkpoints import Checkpoint, tensors
from models.runtime.distributed import Team
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Cells that negatives are drawn for, and features looked up for, at a time.
_CELLS = 2_000_000
#: What a validation says; early stopping watches the last.
_JUDGED = ("validation_hr_10", "validation_ndcg_10", "validation_ndcg")


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is trained on: the rows ``kept`` of the interactions, watched on the rows ``held``.

    ``held`` may be empty: then all epochs are run.
    """

    interactions: Interactions
    features: TrainingFeatures | None
    kept: NDArray[np.int64]
    held: NDArray[np.int64]
    seed: int
    device: torch.device
    #: Whether matrix products are computed in bfloat16.
    half: bool
    team: Team


class Scaling:
    """The features' scaling as it was in training: one for the users, one for each item history."""

    def __init__(self, user: Standardizer, items: tuple[Standardizer, ...]) -> None:
        self.user = user
        self.items = items

    @classmethod
    def fit(cls, rows: Interactions, features: TrainingFeatures) -> Scaling:
        """Statistics of the training rows: the users' values, and the items' as of each row's time."""
        items = (Standardizer.fit(history.as_of(rows.items, rows.timestamps)) for history in features.item_histories)
        return cls(Standardizer.fit(features.user_values), tuple(items))

    @property
    def item_width(self) -> int:
        """Columns of all items' features side by side."""
        return sum(scale.width for scale in self.items)

    def users(self, values: NDArray[np.float32]) -> Tensor:
        """[..., width] of raw user ``values`` [..., Fu]."""
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

    def shares(self, network: Network, histories: tuple[FeatureHistory, ...]) -> list[Tensor]:
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
        device: torch.device,
        hidden: NDArray[np.bool_] | None = None,
    ) -> None:
        self.users = torch.from_numpy(rows.users[order].astype(np.int64)).to(device)
        # -1: a user who met everything has no negatives; the first item stands there and weighs nothing.
        self.present = None
        if candidates.min(initial=0) < 0:
            self.present = torch.from_numpy((candidates >= 0).astype(np.float32)).to(device)
            candidates = np.maximum(candidates, 0)
        self.items = torch.from_numpy(candidates).to(device)
        self._tables = tables
        self._user_rows = torch.from_numpy(order if hidden is None else np.where(hidden, -1, order)).to(device)
        self._places = [] if tables is None else tables.places(candidates, rows.timestamps[order][:, None])

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.users)

    def logits(self, network: nn.Module, block: slice) -> Tensor:
        """[b, n] for the rows of a slice."""
        if self._tables is None:
            return network(self.users[block], self.items[block], None, None)  # type: ignore[no-any-return]
        user_features = self._tables.user[self._user_rows[block]]
        item_features = self._tables.gather([places[block] for places in self._places])
        return network(self.users[block], self.items[block], user_features, item_features)  # type: ignore[no-any-return]


class _FeatureTables:
    """Scaled features of the fit: ``user`` [N + 1, width] by row, the last one unknown, and the items' histories."""

    def __init__(self, scaling: Scaling, features: TrainingFeatures, device: torch.device) -> None:
        unknown = np.full((1, len(features.user_names)), np.nan, dtype=np.float32)
        self.user = scaling.users(np.concatenate([features.user_values, unknown])).to(device)
        self._histories = features.item_histories
        self._device = device
        self._tables = [
            scaling.history(history, scale).to(device)
            for history, scale in zip(self._histories, scaling.items, strict=True)
        ]

    def places(self, items: NDArray[np.int32], times: NDArray[np.int64]) -> list[Tensor]:
        """For each history the row int32, shape of ``items``, that held at the time; the last one where none did."""
        found = []
        for history in self._histories:
            places = np.empty(items.shape, dtype=np.int32)
            for block in _blocks(items):
                rows = history.rows_as_of(items[block], times[block])
                places[block] = np.where(rows < 0, len(history.keys), rows)
            found.append(torch.from_numpy(places).to(self._device))
        return found

    def gather(self, places: list[Tensor]) -> Tensor:
        """[..., width] of the rows that :meth:`places` found."""
        return torch.cat([table[rows] for table, rows in zip(self._tables, places, strict=True)], dim=-1)


class _Validation:
    """The held-out item of users among 99 negatives each, judged after every epoch."""

    def __init__(self, task: Task, scaling: Scaling | None, config: NeuMFConfig, rng: np.random.Generator) -> None:
        held = task.held
        if len(held) > config.validation_users:
            held = np.sort(rng.choice(held, config.validation_users, replace=False))
        rows = task.interactions.take(held)
        negatives = distinct_negatives(task.interactions, rows.users, 99, seed=int(rng.integers(1 << 31)))
        candidates = np.column_stack([rows.items, negatives])
        tables = None
        if task.features is not None and scaling is not None:
            tables = _FeatureTables(scaling, task.features.take(held), task.device)
        self._none = candidates < 0
        self._pairs = _Pairs(rows, candidates, tables, np.arange(len(rows)), task.device)

    def judge(self, network: Network) -> dict[str, float]:
        """HR@10, NDCG@10, and NDCG without a cut-off, which early stopping watches: every user moves it, hit or not."""
        network.eval()
        with torch.inference_mode():
            blocks = [slice(start, start + 512) for start in range(0, len(self._none), 512)]
            scores = torch.cat([self._pairs.logits(network, block) for block in blocks]).cpu().numpy()
        ranks = target_ranks(np.where(self._none, -np.inf, scores), np.zeros(len(scores), dtype=np.int64))
        return {
            "validation_hr_10": hit_ratio(ranks, 10),
            "validation_ndcg_10": ndcg(ranks, 10),
            "validation_ndcg": ndcg(ranks, scores.shape[1]),
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with the weights of its best epoch, in memory, and how it came to it."""

    network: Network
    scaling: Scaling | None
    best_epoch: int
    curve: list[dict[str, float]]


class _Best:
    """The epoch whose validation was best so far, with its weights."""

    def __init__(self) -> None:
        self.epoch, self.value = 0, -math.inf
        self.weights: dict[str, Tensor] | None = None

    def look(self, epoch: int, value: float, network: Network) -> None:
        if value > self.value:
            self.epoch, self.value = epoch, value
            self.weights = {name: weight.clone() for name, weight in network.state_dict().items()}


def train(
    stage: str,
    task: Task,
    config: NeuMFConfig,
    *,
    epochs: int,
    progress: ProgressCallback,
    checkpoint: Checkpoint,
    branch: str = "both",
    start: tuple[Network, Network] | None = None,
) -> Trained:
    """Train a network, or one branch, for so many epochs at most, and take the best one's weights.

    After every epoch the state is kept under the name of the stage, and where there is one the training goes on from
    it: the same weights, optimizer and generators, so that it ends with the same bits. ``start`` are the branches
    trained alone from which both together start.
    """
    team, device = task.team, task.device
    if config.batch_size % team.size:
        raise RecommenderError(f"neumf: a step of {config.batch_size} rows cannot be shared by {team.size} processes")
    torch.manual_seed(task.seed)
    rng = np.random.default_rng(task.seed)
    rows = task.interactions.take(task.kept)
    scaling, tables = None, None
    if task.features is not None:
        known = task.features.take(task.kept)
        scaling = Scaling.fit(rows, known)
        tables = _FeatureTables(scaling, known, device)
    network = new_network(rows, scaling, config, branch)
    if start is not None:
        network.start_from(*start, alpha=config.pretrain_alpha)
    network = network.to(device)
    optimizer = _optimizer(network, config, tuning=start is not None)
    sampler = NegativeSampler(rows)
    watched = _Validation(task, scaling, config, rng) if len(task.held) else None
    best, curve, epoch = _Best(), list[dict[str, float]](), 0
    found = checkpoint.load(stage)
    if found is not None:
        epoch, curve = found["epoch"], found["curve"]
        best.epoch, best.value, best.weights = found["best"]["epoch"], found["best"]["value"], None
        if found["best"]["weights"] is not None:
            best.weights = {name: weight.to(device) for name, weight in tensors(found["best"]["weights"]).items()}
        network.load_state_dict(tensors(found["network"]))
        optimizer.load_state_dict(tensors(found["optimizer"]))
        rng.bit_generator.state = found["rng"]
    called = team.together(network)

    def ended() -> bool:
        return epoch >= epochs or (best.weights is not None and epoch - best.epoch >= config.patience)

    # The next epoch's pairs are drawn while this one is trained on: a quarter of the work, on the other core.
    with ThreadPoolExecutor(max_workers=1) as ahead:
        draw = _Draw(rows, tables, sampler, config, task, rng)
        coming = None if ended() else ahead.submit(draw, epoch + 1)
        while coming is not None and not ended():
            epoch += 1
            pairs = coming.result()
            # The state before the next draw, which may be under way when this epoch's state is written.
            drawn = rng.bit_generator.state
            coming = ahead.submit(draw, epoch + 1) if epoch < epochs else None
            # Drop-out's draws follow from the epoch: there is no generator's state to keep, on whatever device.
            torch.manual_seed(int(np.random.SeedSequence([task.seed, epoch, team.rank]).generate_state(1)[0]))
            figures = {"epoch": float(epoch), "loss": _epoch(called, optimizer, pairs, len(rows), config, task)}
            if watched is not None:
                nothing = dict.fromkeys(_JUDGED, 0.0)
                judged = watched.judge(network) if team.rank == 0 else nothing
                figures |= team.as_the_first_says(judged, device)
                best.look(epoch, figures["validation_ndcg"], network)
            curve.append(figures)
            if team.rank == 0:
                checkpoint.save(
                    stage,
                    {
                        "epoch": epoch,
                        "curve": curve,
                        "best": {"epoch": best.epoch, "value": best.value, "weights": best.weights},
                        "network": network.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "rng": drawn,
                    },
                )
            progress(Progress(epoch, epochs, figures))
    if best.weights is not None:
        network.load_state_dict(best.weights)
    team.check_equal(network.state_dict())
    network.eval()
    return Trained(network.cpu(), scaling, best.epoch or epochs, curve)


def new_network(rows: Interactions, scaling: Scaling | None, config: NeuMFConfig, branch: str = "both") -> Network:
    """Create an untrained network, its item biases (if any) at the logarithm of the items' counts."""
    widths = (0, 0) if scaling is None else (scaling.user.width, scaling.item_width)
    network = Network(config, rows.n_users, rows.n_items, *widths, branch=branch)
    if config.item_bias:
        # With uniform negatives the best logit of a constant is the log of positives over negatives of the item.
        counts = rows.item_counts() + 0.5
        odds = np.log(counts / (counts.mean() * config.negatives))
        with torch.no_grad():
            network.item_bias.copy_(torch.from_numpy(odds.astype(np.float32)))
    return network


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draws an epoch's pairs: the rows in a new order, new negatives for each, some users' features hidden.

    In a team the order is everyone's, and each process draws the negatives of the rows that are its own.
    """

    rows: Interactions
    tables: _FeatureTables | None
    sampler: NegativeSampler
    config: NeuMFConfig
    task: Task
    rng: np.random.Generator

    def __call__(self, epoch: int) -> _Pairs:
        rows, team, rng = self.rows, self.task.team, self.rng
        order = rng.permutation(len(rows))
        if team.size > 1:
            order = order[team.rank :: team.size]
            rng = np.random.default_rng([self.task.seed, epoch, team.rank])
        candidates = np.empty((len(order), 1 + self.config.negatives), dtype=np.int32)
        candidates[:, 0] = rows.items[order]
        for block in _blocks(candidates):
            users = np.repeat(rows.users[order[block]][:, None], self.config.negatives, axis=1)
            candidates[block, 1:] = self.sampler.draw(users, rng)
        hidden = rng.random(len(order)) < self.config.hidden_features
        return _Pairs(rows, candidates, self.tables, order, self.task.device, hidden)


def _blocks(table: NDArray[Any]) -> Iterator[slice]:
    """Slices of the rows with some million cells each: what is computed of a cell takes ten times its room."""
    step = max(1, _CELLS // table.shape[1])
    for start in range(0, len(table), step):
        yield slice(start, start + step)


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    pairs: _Pairs,
    n_rows: int,
    config: NeuMFConfig,
    task: Task,
) -> float:
    """One pass over the team's ``n_rows`` rows, whose first candidate is the positive; the mean cross-entropy."""
    network.train()
    team = task.team
    total = torch.zeros((), dtype=torch.float64, device=task.device)
    share = config.batch_size // team.size
    for step, start in enumerate(range(0, n_rows, config.batch_size)):
        block = slice(step * share, (step + 1) * share)
        with torch.autocast(task.device.type, torch.bfloat16, enabled=task.half):
            logits = pairs.logits(network, block).float()
        target = torch.zeros_like(logits)
        target[:, 0] = 1.0
        weight = None if pairs.present is None else pairs.present[block]
        summed = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
        cells = min(config.batch_size, n_rows - start) * logits.shape[1]
        optimizer.zero_grad()
        # The average over the team of the gradients of this is the gradient of the step's mean (see Team).
        (summed * (team.size / cells)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += summed.detach() / logits.shape[1]
    return team.total(total).item() / n_rows


def _optimizer(network: Network, config: NeuMFConfig, *, tuning: bool) -> torch.optim.Optimizer:
    """AdamW over dense gradients: a step touches most items of a MovieLens edition, so sparse ones save nothing."""
    embeddings = network.embeddings()
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    others = [parameter for parameter in learnt if all(parameter is not table for table in embeddings)]
    groups = [
        {"params": [table for table in embeddings if table.requires_grad], "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = config.pretrain_learning_rate if tuning else config.learning_rate
    return torch.optim.AdamW(groups, lr=rate, fused=True)
