"""The flagship: an inductive recommender of two stages, whose user is the history and nothing else.

First stage (:mod:`candidate_scorers`), one pass over all items by some parts: what goes with the history, with its
newer entries, what comes next after them (all linear, in closed form), a neural encoder over items, stars and time, and
what many watch, lifted by the entries that there are: it stands for the others while these are few
(:mod:`cold_start_backoff`). A history without an order has other parts for those that look at it. Second stage: a
small network (:mod:`ranker`) that ranks by what the parts, the items' popularity and the features say, and
learns from what the first stage did not see (:mod:`ranker_dataset`). ADR 20 says what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models.algorithms.ease import ease_memory
from models.algorithms.neumf.model import torch_threads
from models.algorithms.two_stage.candidate_scorers import FirstStage, Moments, fit_first_stage
from models.algorithms.two_stage.cold_start_backoff import BOLD, SAFE, TOLD, Shortness, best_shortness
from models.algorithms.two_stage.config import FlagshipConfig
from models.algorithms.two_stage.ranker import Ranker, ranker_arrays, restored_ranker, train_ranker
from models.algorithms.two_stage.ranker_dataset import (
    LIST_SIZE,
    LISTS,
    NEW_LISTS,
    Asked,
    candidates,
    held_at_random,
    held_rows,
    newcomers,
    some,
    told,
)
from models.base import LEFT_OUT, Recommender, newest_entries, top_k, without_each
from models.data.batch import UserBatch
from models.data.features import ItemsAsOf, Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import DECADE, GENRE, TAG, ItemContent
from models.data.sequences import Pasts, Timelines
from models.metrics import list_hits, list_ndcg
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

__all__ = ["Flagship", "FlagshipConfig"]

#: Words of the items that the encoder reads: what a title's words say of taste is noise.
_KINDS = (GENRE, DECADE, TAG)
#: Lists of newcomers that decide how short a history is.
_SHORT_LISTS = 2_000
#: Weight of each part in the plain blend: the sum of five is then about as sharp as what is learnt in the end. And of
#: the last one where nothing is known of a user: as much as of the others together.
_PART, _COMPANY = 0.3, 1.5
#: Scores that are held at a time while the ranker's lists are made, of each part.
_SCORES = 1_000_000
#: Rows whose features say how these are scaled, at most.
_SCALED_ROWS = 250_000
#: Inputs of the ranker, with as many features as the feature service has; for the statement of memory.
_INPUTS = 64


class Flagship(Recommender):
    """See the module. Nothing of a user is kept: a new user, a new rating and a new film count without a fit."""

    name: ClassVar[str] = "flagship"
    config_class: ClassVar[type[Any]] = FlagshipConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: FlagshipConfig | None = None) -> None:
        super().__init__(config)
        self._stage: FirstStage | None = None
        self._ranker: Ranker | None = None
        self._words: csr_array | None = None
        self._shortness = Shortness()
        self._scaling: tuple[Standardizer, Standardizer] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the first stage's parts."""
        return self._fitted().names

    @property
    def _in_order(self) -> bool:
        config: FlagshipConfig = self.config
        return config.in_order

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of the largest step (linear parts, encoder or the ranker's lists) and of what is kept.

        Kept are the weights of two linear parts, the encoders, and the rows in their order. The lists are counted with
        as many inputs as the feature service gives.
        """
        config: FlagshipConfig = self.config
        size = min(n_items, config.max_items)
        square = 4 * size * size
        linear = max(ease_memory(n_users, size), 4 * square)
        step = 6 * 4 * config.batch_size * n_items
        lists = min(LISTS, n_users * (config.held_rows + len(TOLD))) * min(n_items, LIST_SIZE) * _INPUTS * 4
        encoders = 5 * 4 * n_items * (2 * config.factors + 1) * config.encoders
        return max(linear, step, lists) + 2 * square + encoders + 150 * n_interactions + 250 * 2**20

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: FlagshipConfig = self.config
        if config.task not in ("next", "any"):
            raise RecommenderError(f"flagship: task {config.task!r} is neither 'next' nor 'any'")
        self._words = _words_of(features, config.min_items)
        useful = features if config.use_features and self._in_order else None
        self._take_scaling(None if useful is None else _scaling(interactions, useful, seed))
        self._ranker, self._shortness = None, Shortness()
        total = 2 * config.epochs * config.encoders

        def fitted(name: str, rows: Interactions, done: int) -> FirstStage:
            stage, losses = fit_first_stage(
                rows,
                config,
                self._words,
                seed=seed,
                tell=lambda epoch, loss: progress(Progress(done + epoch, total, {"loss": loss})),
                checkpoint=self.checkpoint,
                name=name,
            )
            self.learning_curve = [{"epoch": float(epoch), "loss": loss} for epoch, loss in enumerate(losses, start=1)]
            return stage

        with torch_threads(config.threads):
            self._fit_ranker(interactions, useful, seed, lambda inner: fitted("held", inner, 0))
            # The parts that the ranker saw are done with: two first stages at once would be the most that is held.
            self._stage = None
            self._stage = fitted("whole", interactions, total // 2)

    def _take_scaling(self, scaling: tuple[Standardizer, Standardizer] | None) -> None:
        """Rank by features that are scaled so, or by none; whoever serves the scores reads them accordingly."""
        self._scaling = scaling
        self.uses_features = scaling is not None

    def _fit_ranker(
        self,
        interactions: Interactions,
        features: TrainingFeatures | None,
        seed: int,
        first_stage: Callable[[Interactions], FirstStage],
    ) -> None:
        """Fit the ranker and the back-off to popularity on rows that are held out from their first stage."""
        config: FlagshipConfig = self.config
        timelines = Timelines(interactions, seed=seed)
        if self._in_order:
            new = newcomers(timelines, seed)
            held = held_rows(timelines, config.held_rows)
            held = held[~new[timelines.users[held]]]
            kept = ~new[interactions.users]
        else:
            new = np.zeros(interactions.n_users, dtype=bool)
            held = held_at_random(timelines, seed)
            kept = np.ones(len(interactions), dtype=bool)
        kept[timelines.order[held]] = False
        if not len(held):
            return
        self._stage = first_stage(interactions.take(kept) if kept.any() else interactions)
        if self._in_order:
            self._shortness = self._best_shortness(timelines, new, seed)
        inputs, relevant, offsets = self._lists(timelines, held, new, features, seed)
        self._ranker, self.ranker_curve = train_ranker(
            inputs,
            relevant,
            offsets,
            config.ranker,
            start=self._plain(inputs.shape[-1]),
            damped=self._in_order,
            seed=seed,
        )

    def _best_shortness(self, timelines: Timelines, new: NDArray[np.bool_], seed: int) -> Shortness:
        """How short histories are: what gives the plain blend's newcomers the best NDCG@10.

        To be found is what follows the most that is told of anybody, so that the lengths differ by that alone: what
        comes at once is the rest of the page that somebody was on.
        """
        asked = told(timelines, new, _SHORT_LISTS, np.random.default_rng(seed))
        asked = asked.take(np.flatnonzero(asked.stops > _after_told(timelines, asked)))
        found = []
        k = min(10, self.n_items)
        for block in self._blocks(asked):
            pasts, begun = timelines.before(block.rows), _after_told(timelines, block)
            hidden = timelines.before(begun)
            of, targets = Asked(begun, block.stops).targets(timelines)
            wanted = csr_array((np.ones(len(of)), (of, targets)), shape=(len(block), self.n_items))
            scaled = self._scaled_scores(pasts)
            ndcg = np.empty((len(block), len(SAFE + BOLD)))
            for place, shortness in enumerate(SAFE + BOLD):
                order = self._blend(scaled, shortness.of(pasts.lengths)[..., 0])
                order[hidden.rows, hidden.items] = -np.inf
                lists, _ = top_k(order, k)
                ndcg[:, place] = list_ndcg(list_hits(lists, wanted), np.diff(wanted.indptr), k)
            found.append(ndcg)
        # The lists of one newcomer are alike: his mean is one figure.
        users, lists_of = np.unique(timelines.users[asked.rows], return_inverse=True)
        figures = np.zeros((len(users), len(SAFE + BOLD)))
        np.add.at(figures, lists_of, np.concatenate([figures[:0], *found]))
        return best_shortness(figures / np.bincount(lists_of, minlength=len(users))[:, None])

    def _blocks(self, asked: Asked) -> list[Asked]:
        """Split the moments into blocks, each with a bounded number of scores."""
        size = max(1, _SCORES // self.n_items)
        return [asked.take(slice(start, start + size)) for start in range(0, len(asked), size)]

    def _lists(
        self,
        timelines: Timelines,
        held: NDArray[np.int64],
        new: NDArray[np.bool_],
        features: TrainingFeatures | None,
        seed: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """Return inputs float32[Q, C, F], relevant bool[Q, C] and offsets float32[Q, C] for :func:`train_ranker`."""
        generator = np.random.default_rng(seed)
        kept = np.ones(len(timelines), dtype=bool)
        kept[held] = False
        if self._in_order:
            fresh = told(timelines, new, NEW_LISTS, generator)
            # Of a held row only itself is to be found.
            warm = some(Asked(held, held + 1), LISTS - len(fresh), generator)
            asked = Asked(np.concatenate([warm.rows, fresh.rows]), np.concatenate([warm.stops, fresh.stops]))
        else:
            # Of these the rows are the users: what was kept is known, what was held is to be found.
            users = np.unique(timelines.users[held])
            asked = some(Asked(users, users), LISTS, generator)
        size = min(self.n_items, LIST_SIZE)
        # Written where they stay: put together in the end they would be there twice, and they are gigabytes.
        inputs = np.empty((0, 0, 0), dtype=np.float32)
        relevant = np.empty((len(asked), size), dtype=bool)
        offsets = np.empty((len(asked), size), dtype=np.float32)
        done = 0
        for block in self._blocks(asked):
            if self._in_order:
                pasts = timelines.before(block.rows)
                of, targets = block.targets(timelines)
            else:
                pasts, rest = timelines.subsets(block.rows, kept)
                of, targets = rest.rows, rest.items
            scaled = self._scaled_scores(pasts)
            here = slice(done, done + len(block))
            blend = self._blend(scaled, self._short(pasts))
            chosen, relevant[here], offsets[here] = candidates(blend, pasts, of, targets, generator)
            values = None
            if features is not None:
                # Looked up for the chosen alone: for all items it took longer than everything else together.
                items = ItemsAsOf(features.item_histories, timelines.times[block.rows], self.n_items)
                values = (features.user_values[timelines.order[block.rows]], items)
            found = self._beside(np.take_along_axis(scaled, chosen[None], axis=2), pasts, values, chosen)
            if not done:
                inputs = np.empty((len(asked), *found.shape[1:]), dtype=np.float32)
            inputs[here] = found
            done += len(block)
        return inputs, relevant, offsets

    def _inputs(self, pasts: Pasts, values: tuple[NDArray[np.float32] | None, Any] | None) -> NDArray[np.float32]:
        """float32[B, n_items, F]: parts, popularity, length of the history, and the scaled features of both sides."""
        return self._beside(self._scaled_scores(pasts), pasts, values)

    def _scaled_scores(self, pasts: Pasts) -> NDArray[np.float32]:
        """float32[parts, B, n_items]: the parts' scores, each with mean 0 and deviation 1 over a user's items."""
        scores = self._fitted().scores(pasts, self.config)
        return Moments.of(scores).scaled(scores)

    def _short(self, pasts: Pasts) -> NDArray[np.float32]:
        """float32[B, 1]: how short each history is, from 0 to 1."""
        return self._shortness.of(pasts.lengths)[..., 0]

    def _beside(
        self,
        scaled: NDArray[np.float32],
        pasts: Pasts,
        values: tuple[NDArray[np.float32] | None, Any] | None,
        wanted: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Return the scaled parts float32[parts, B, C] joined with the other inputs, float32[B, C, F].

        C are all items, or the ``wanted`` ones: int64[C], or int64[B, C] where they differ by user.
        """
        shape = scaled.shape[1:]
        last = np.moveaxis(scaled, 0, -1)
        popularity = self._fitted().popularity
        crowd = np.broadcast_to(popularity if wanted is None else popularity[wanted], (*shape, popularity.shape[1]))
        length = (np.log1p(pasts.lengths) - 4.0).astype(np.float32)
        columns = [last, crowd, np.broadcast_to(length[:, None, None], (*shape, 1))]
        short = self._shortness.of(pasts.lengths)
        if self._in_order:
            # Of a short history another part is worth believing, and the more so the shorter it is.
            columns = [(1 - short) * last, (1 - short) * crowd, columns[2], short * last]
        if self._scaling is not None:
            users, items = values if values is not None else (None, None)
            columns += self._scaled(shape, users, items, np.arange(self.n_items) if wanted is None else wanted)
        if self._in_order:
            # The ranker's last input is how little it may change: the lists of the short ones are few.
            columns.append(np.broadcast_to(short, (*shape, 1)))
        return np.concatenate(columns, axis=-1, dtype=np.float32)

    def _scaled(
        self, shape: tuple[int, ...], users: NDArray[np.float32] | None, items: Any, wanted: NDArray[np.int64]
    ) -> list[NDArray[np.float32]]:
        """Return the scaled features of users and ``wanted`` items as columns; missing ones count as unknown."""
        if self._scaling is None:
            return []
        of_users, of_items = self._scaling
        known = np.full((shape[0], len(of_users.mean)), np.nan, np.float32) if users is None else users
        if isinstance(items, ItemsAsOf):
            keys = np.broadcast_to(wanted, shape)
            tables = [history.as_of(keys, items.times[:, None]) for history in items.histories]
            facts = np.concatenate([np.empty((*shape, 0), np.float32), *tables], axis=-1)
        else:
            every = np.full((self.n_items, len(of_items.mean)), np.nan, np.float32) if items is None else items
            facts = every[wanted]
        scaled = of_items.transform(facts)
        return [
            np.broadcast_to(scaled, (*shape, scaled.shape[-1])),
            np.broadcast_to(of_users.transform(known)[:, None, :], (*shape, of_users.width)),
        ]

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the scores lose without each of the newest entries, on the scale of the whole history.

        Only the asked items are scored again, which makes a reason cheap. The parts' means and deviations over all
        items are those of the whole history: one entry hardly moves them.
        """
        self._explains(batch)
        entries = newest_entries(batch, LEFT_OUT)
        found = np.zeros((len(items), batch.history.nnz), dtype=np.float32)
        if len(entries):
            stage, config = self._fitted(), self.config
            whole = Pasts.of_batch(batch, in_order=self._in_order)
            moments = Moments.of(stage.scores(whole, config))
            without = without_each(batch, entries)
            totals = []
            for asked in (batch, without):
                pasts = Pasts.of_batch(asked, in_order=self._in_order)
                scaled = moments.scaled(stage.scores(pasts, config, items))
                totals.append(
                    self._total(self._beside(scaled, pasts, (asked.user_features, asked.item_features), items))
                )
            found[:, entries] = (totals[0] - totals[1]).T
        return found

    def _total(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ranker's scores float32[B, n], or the plain blend of the parts if there is no trained ranker."""
        if self._ranker is None:
            return np.asarray(inputs @ self._plain(inputs.shape[-1]), dtype=np.float32)
        return self._ranker.score(inputs)

    def _plain(self, width: int) -> NDArray[np.float32]:
        """float32[width]: the blend of the inputs that needs no data to be sensible, see :meth:`_blend`."""
        weights = np.zeros(width, dtype=np.float32)
        parts = len(self._fitted().names)
        weights[:parts] = self._shares()
        if self._in_order:
            weights[parts - 1] = 0.0
            # The last columns are the parts of a short history.
            short = parts + self._fitted().popularity.shape[1] + 1
            weights[short + parts - 1] = _COMPANY
        return weights

    def _shares(self) -> NDArray[np.float32]:
        """float32[parts]: how much each part counts in the plain blend."""
        names = self._fitted().names
        return np.array([_PART if self._in_order else self.config.shares[name] for name in names], dtype=np.float32)

    def _blend(self, scaled: NDArray[np.float32], short: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[B, n_items]: all parts alike, giving way to what many watch as far as a history is ``short``.

        ``scaled`` float32[parts, B, n_items], ``short`` float32[B, 1].
        """
        if not self._in_order:
            return np.asarray(np.tensordot(self._shares(), scaled, axes=1), dtype=np.float32)
        both = (1 - short) * _PART * scaled[:-1].sum(axis=0) + short * _COMPANY * scaled[-1]
        return np.asarray(both, dtype=np.float32)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the ranker's scores of all items."""
        pasts = Pasts.of_batch(batch, in_order=self._in_order)
        return self._total(self._inputs(pasts, (batch.user_features, batch.item_features)))

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weights from each item to the others plus the cosine of the encoder's vectors, on one scale."""
        stage = self._fitted()
        one = csr_array(
            (np.ones(len(items), np.float32), items, np.arange(len(items) + 1)), shape=(len(items), self.n_items)
        )
        vectors = np.mean([asked[:, :-1].numpy() for _, asked in stage.vectors], axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(lengths > 0, lengths, 1.0)
        both = np.stack([stage.together.score(one), (units[items] @ units.T).astype(np.float32)])
        return np.asarray(Moments.of(both).scaled(both).sum(axis=0), dtype=np.float32)

    def _fitted(self) -> FirstStage:
        if self._stage is None:
            raise RecommenderError("flagship: is not fitted")
        return self._stage

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = self._fitted().arrays()
        if self._words is not None:
            arrays |= {f"words.{name}": getattr(self._words, name) for name in ("data", "indices", "indptr")}
        if self._ranker is not None:
            arrays |= ranker_arrays(self._ranker)
        for side, scale in zip(("user", "item"), self._scaling or (), strict=False):
            arrays |= {f"scaling.{side}.{f.name}": getattr(scale, f.name) for f in fields(Standardizer)}
        words = None if self._words is None else int(self._words.shape[1])
        return {"words": words, "short": [self._shortness.width, self._shortness.most]}, arrays

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        config: FlagshipConfig = self.config
        if len(arrays["rated"]) != self.n_items:
            raise RecommenderError(f"flagship: weights of {len(arrays['rated'])} items, not of {self.n_items}")
        if "short" not in facts:
            raise RecommenderError("flagship: was saved by an earlier version of Marquee; fit it again")
        if facts["words"] is not None:
            self._words = csr_array(
                tuple(arrays[f"words.{name}"] for name in ("data", "indices", "indptr")),
                shape=(self.n_items, int(facts["words"])),
            )
        self._shortness = Shortness(*facts["short"])
        self._stage = FirstStage.of_arrays(arrays, config, self._words)
        self._ranker = (
            restored_ranker(arrays, config.ranker, damped=self._in_order) if "ranker.change" in arrays else None
        )
        # Whether features count is said by their scaling, which bundles of all versions hold.
        if "scaling.user.mean" in arrays:
            user, item = (
                Standardizer(**{f.name: arrays[f"scaling.{side}.{f.name}"] for f in fields(Standardizer)})
                for side in ("user", "item")
            )
            self._take_scaling((user, item))


def _after_told(timelines: Timelines, asked: Asked) -> NDArray[np.int64]:
    """int64[Q]: the row after the most that is told of anybody, of each moment's user."""
    return timelines.starts[timelines.users[asked.rows]] + max(TOLD)


def _words_of(features: TrainingFeatures | None, min_items: int) -> csr_array | None:
    """csr float32[n_items, F]: the items' words by TF-IDF, rows of unit length; None where there are none."""
    content: ItemContent | None = None if features is None else features.item_content
    if content is None:
        return None
    counts = content.kinds(_KINDS).counts
    met = np.asarray((counts > 0).sum(axis=0)).ravel()
    counts = csr_array(counts[:, np.flatnonzero(met >= min_items)])
    if counts.shape[1] == 0:
        return None
    rarity = np.log(counts.shape[0] / met[met >= min_items]) + 1.0
    weighted = csr_array((1.0 + np.log(counts.data), counts.indices, counts.indptr), shape=counts.shape)
    weighted = csr_array(weighted @ diags_array(rarity))
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return csr_array(diags_array(1.0 / np.where(lengths > 0, lengths, 1.0)) @ weighted).astype(np.float32)


def _scaling(
    interactions: Interactions, features: TrainingFeatures, seed: int
) -> tuple[Standardizer, Standardizer] | None:
    """Fit the features' scaling on the training's rows, or on a sample of many; return None if there is no feature."""
    if not features.user_names and not features.item_names:
        return None
    rows: slice | NDArray[np.int64] = slice(None)
    if len(interactions) > _SCALED_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(interactions), _SCALED_ROWS, replace=False))
    return (
        Standardizer.fit(features.user_values[rows]),
        Standardizer.fit(features.items_as_of(interactions.items[rows], interactions.timestamps[rows])),
    )
