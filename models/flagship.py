"""The flagship: an inductive recommender of two stages, whose user is the history and nothing else.

First stage, one pass over all items by some parts: what goes with the history, with its newer entries, what comes next
after them (all linear, in closed form), a neural encoder over items, stars and time, and what many watch, lifted by the
entries that there are: it stands for the others while these are few. A history without an order has other parts for
those that look at it. Second stage: a small network that ranks by what the parts, the items' popularity and the
features say. ADR 20 says what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from models.als import Ials, IalsConfig
from models.company import Company, company
from models.ease import ease_memory
from models.features import ItemsAsOf, Standardizer, TrainingFeatures
from models.history_encoder import EncoderConfig, HistoryEncoder, Words, train
from models.interactions import Interactions
from models.item_content import DECADE, GENRE, TAG, ItemContent
from models.linear_parts import ItemWeights, comes_near, comes_next, goes_with
from models.metrics import list_hits, list_ndcg
from models.neumf import torch_threads
from models.ranker import Ranker, RankerConfig, ranker_arrays, restored_ranker, train_ranker
from models.recommender import (
    LEFT_OUT,
    Progress,
    ProgressCallback,
    Recommender,
    RecommenderError,
    UserBatch,
    newest_entries,
    without_each,
)
from models.spectral import Spectral, spectral
from models.timelines import Pasts, Timelines

#: Words of the items that the encoder reads: what a title's words say of taste is noise.
_KINDS = (GENRE, DECADE, TAG)
#: Lists that the ranker learns from at most, and what is in each: the best by the plain blend, and some of the others.
_LISTS, _BEST, _OTHERS = 20_000, 200, 200
#: Share of the users that the first stage does not know while the ranker learns, and the entries that it is then told
#: of them: how far each part can be believed of somebody who is new.
_NEWCOMERS, _TOLD = 0.1, (1, 2, 4, 8)
#: So many entries beside the first, and a history is a third as short; 0: none is short. The newcomers decide, as many
#: of their lists as this.
_WIDTHS, _WIDTH_LISTS = (0.0, 2.0, 4.0, 8.0, 16.0), 2_000
#: Weight of each part in the plain blend: the sum of five is then about as sharp as what is learnt in the end. And of
#: the last one where nothing is known of a user: as much as of the others together.
_PART, _COMPANY = 0.3, 1.5
#: The same for the parts of histories without an order, on which more depends: they are nearly all that ranks there.
_WITHOUT_ORDER = {"together": 0.15, "near": 0.15, "latent": 0.4, "spectral": 0.1, "words": 0.1, "encoder": 0.4}
#: Users whose scores are held at a time while the ranker's lists are made.
_USERS = 128
#: A deviation below this is rounding.
_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class FlagshipConfig:
    """The recipe; defaults are for data of some hundred thousand ratings, ``chosen.toml`` has those of other sizes."""

    #: What is to be found: the ``next`` item of a history in time, or ``any`` other item of one without an order.
    task: str = "next"
    #: Weight of the ridge regression of what goes with what.
    l2: float = 300.0
    #: Entries after which one counts a third, for the part that looks at the newer ones.
    recent: float = 20.0
    #: Ridge weight, decay and window of the regression of what comes next.
    next_l2: float = 300.0
    next_decay: float = 5.0
    next_window: int = 30
    #: Rows that it is made of at most: a million determine the weights of twelve thousand items.
    next_rows: int = 1_000_000
    #: Items with linear weights, the most rated ones: 12,000 take 3 GB while they are fitted. The encoder has all.
    max_items: int = 12_000
    #: ``any``, which asks a history for no order, has other parts instead. iALS: its weights.
    latent_regularization: float = 0.03
    latent_unobserved: float = 0.1
    #: The regression of an item on what stood close to it when others met it: its ridge weight and decay.
    near_l2: float = 1_000.0
    near_decay: float = 5.0
    #: Dimensions of what histories have in common at large.
    spectral_rank: int = 32
    #: How much each part counts in the blend that the ranker starts from.
    shares: Mapping[str, float] = field(default_factory=lambda: dict(_WITHOUT_ORDER))
    #: Of what people who met an item also met: users that the shares stand for at first, and the weight of the lifts.
    company_shrink: float = 200.0
    company_strength: float = 0.5
    factors: int = 64
    hidden: int = 256
    dropout: float = 0.3
    epochs: int = 30
    cuts: int = 8
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    word_share: float = 0.1
    #: A word of fewer items is not read.
    min_items: int = 5
    #: Encoders that are trained with seeds of their own; the ranker sees the mean of their scores.
    encoders: int = 1
    #: Rows of each user that the ranker learns from; for ``any`` it is a fifth of them.
    held_rows: int = 3
    ranker_hidden: int = 16
    ranker_epochs: int = 40
    ranker_weight_decay: float = 0.5
    #: Rank by the features too, where there are some.
    use_features: bool = True
    threads: int = 1

    @property
    def encoder(self) -> EncoderConfig:
        """The part of it that the encoder takes."""
        return EncoderConfig(**{f.name: getattr(self, f.name) for f in fields(EncoderConfig) if hasattr(self, f.name)})

    @property
    def latent(self) -> IalsConfig:
        """The part of it that iALS takes."""
        return IalsConfig(
            regularization=self.latent_regularization, unobserved=self.latent_unobserved, threads=self.threads
        )

    @property
    def ranker(self) -> RankerConfig:
        """The part of it that the ranker takes."""
        return RankerConfig(hidden=self.ranker_hidden, epochs=self.ranker_epochs, weight_decay=self.ranker_weight_decay)


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The fitted parts. ``popularity`` float32[n_items, 2]: how much items are met, in all time and of late."""

    together: ItemWeights
    following: ItemWeights | None
    company: Company | None
    latent: Ials | None
    near: ItemWeights | None
    spectral: Spectral | None
    words: csr_array | None
    encoders: tuple[HistoryEncoder, ...]
    vectors: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    popularity: NDArray[np.float32]

    @property
    def names(self) -> tuple[str, ...]:
        """What the columns of :meth:`scores` are."""
        ordered = ("recent", "next", "newest") if self.following else ()
        unordered = ("near", "latent", "spectral") if self.latent else ()
        words = ("words",) if self.words is not None else ()
        return ("together", *ordered, *unordered, *words, "encoder", *(("company",) if self.company else ()))

    def scores(
        self, pasts: Pasts, config: FlagshipConfig, wanted: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """float32[B, n_items, parts]: the parts' own scores of all items, or of the ``wanted`` ones alone."""
        n_items = self.together.n_items
        parts: list[NDArray[np.float32]] = [self.together.score(pasts.matrix(n_items), wanted)]
        if self.following is not None:
            parts.append(self.together.score(pasts.matrix(n_items, decay=config.recent), wanted))
            window = config.next_window
            # The second one looks at hardly more than the last entry: what is watched in one evening.
            parts += [
                self.following.score(pasts.matrix(n_items, decay=decay, longest=window), wanted)
                for decay in (config.next_decay, config.next_decay / 3)
            ]
        if self.latent is not None and self.near is not None and self.spectral is not None:
            whole = pasts.matrix(n_items)
            every = self.latent.score(UserBatch(np.full(len(pasts), -1, dtype=np.int64), whole))
            parts += [
                self.near.score(whole, wanted),
                every if wanted is None else every[:, wanted],
                self.spectral.score(whole, wanted),
            ]
        if self.words is not None:
            said = csr_array(pasts.matrix(n_items) @ self.words)
            asked_words = self.words if wanted is None else self.words[wanted]
            parts.append((said @ asked_words.T).toarray().astype(np.float32))
        short = pasts.newest(config.encoder.longest)
        places = slice(None) if wanted is None else torch.from_numpy(wanted)
        logits = [
            encoder.score(short, given, asked[places])
            for encoder, (given, asked) in zip(self.encoders, self.vectors, strict=True)
        ]
        parts.append(np.asarray(np.mean(logits, axis=0), dtype=np.float32))
        if self.company is not None:
            parts.append(self.company.score(pasts, wanted))
        return np.stack(parts, axis=-1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and deviation of each part's scores over all items, float32[B, 1, parts]: what puts them on one scale."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(cls, scores: NDArray[np.float32]) -> Moments:
        """Of float32[B, n_items, parts]; a part that tells no item from another has deviation 1."""
        spread = scores.std(axis=1, keepdims=True)
        return cls(scores.mean(axis=1, keepdims=True), np.where(spread > _FLAT, spread, np.float32(1.0)))

    def scaled(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores less the mean, by the deviation."""
        return np.asarray((scores - self.mean) / self.deviation, dtype=np.float32)


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
        self._width = 0.0
        self._scaling: tuple[Standardizer, Standardizer] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the first stage's parts."""
        return self._fitted().names

    @property
    def _in_order(self) -> bool:
        return bool(self.config.task == "next")

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """The larger of the closed forms' matrices and the ranker's lists, beside encoders and sorted rows."""
        config: FlagshipConfig = self.config
        size = min(n_items, config.max_items)
        kept = 2 * 4 * size * size
        linear = max(ease_memory(n_users, size), 3 * 4 * size * size)
        encoder = 5 * 4 * n_items * (2 * config.factors + 1) + 4 * config.batch_size * n_items * 6
        lists = min(_LISTS, n_users * config.held_rows) * (_BEST + _OTHERS) * 4 * 10 * 2
        return max(linear, lists) + kept + config.encoders * encoder + 80 * n_interactions + 200 * 2**20

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: FlagshipConfig = self.config
        if config.task not in ("next", "any"):
            raise RecommenderError(f"flagship: task {config.task!r} is neither 'next' nor 'any'")
        self._words = _words_of(features, config.min_items)
        useful = features if config.use_features and self._in_order else None
        self._scaling = None if useful is None else _scaling(interactions, useful)
        total = 2 * config.epochs * config.encoders

        def watcher(first: int) -> Callable[[int, float], None]:
            return lambda epoch, loss: progress(Progress(first + epoch, total, {"loss": loss}))

        with torch_threads(config.threads):
            timelines = Timelines(interactions, seed=seed)
            held, newcomers = self._held(timelines, seed), self._newcomers(timelines, seed)
            held = held[~newcomers[timelines.users[held]]]
            kept = ~newcomers[interactions.users]
            kept[timelines.order[held]] = False
            inner = interactions.take(kept) if kept.any() else interactions
            self._ranker, self._width = None, 0.0
            if len(held):
                self._stage = self._first_stage("held", inner, seed, watcher)
                if self._in_order:
                    self._width = self._best_width(timelines, newcomers, seed)
                lists = self._lists(timelines, held, newcomers, useful, seed)
                self._ranker, self.ranker_curve = train_ranker(
                    *lists, config.ranker, start=self._plain(lists[0].shape[-1]), damped=self._in_order, seed=seed
                )
            self._stage = self._first_stage("whole", interactions, seed, watcher)

    def _first_stage(
        self, name: str, interactions: Interactions, seed: int, watcher: Callable[[int], Callable[[int, float], None]]
    ) -> FirstStage:
        """The parts fitted on all of the interactions; what the learning curve shows are the last ones fitted so."""
        config: FlagshipConfig = self.config
        together = goes_with(interactions, l2=config.l2, max_items=config.max_items)
        following = None
        if self._in_order:
            following = comes_next(
                Timelines(interactions, seed=seed),
                interactions,
                l2=config.next_l2,
                decay=config.next_decay,
                window=config.next_window,
                max_items=config.max_items,
                max_rows=config.next_rows,
                seed=seed,
            )
        beside = latent = near = low = words = None
        if self._in_order:
            beside = company(
                interactions,
                shrink=config.company_shrink,
                strength=config.company_strength,
                max_items=config.max_items,
                seed=seed,
            )
        else:
            latent = Ials(self.config.latent).fit(interactions, seed=seed)
            near = comes_near(
                Timelines(interactions, seed=seed),
                interactions,
                l2=config.near_l2,
                decay=config.near_decay,
                max_items=config.max_items,
                max_rows=config.next_rows,
                seed=seed,
            )
            low = spectral(interactions, rank=config.spectral_rank, seed=seed)
            words = self._words
        trained = [
            train(
                interactions,
                config.encoder,
                self._words,
                in_order=self._in_order,
                seed=seed + 1_000 * number,
                tell=watcher(config.epochs * (number + (config.encoders if name == "whole" else 0))),
                checkpoint=self.checkpoint,
                stage=f"{name}-{number}",
            )
            for number in range(config.encoders)
        ]
        encoders = tuple(encoder for encoder, _ in trained)
        self.learning_curve = [
            {"epoch": float(epoch), "loss": float(np.mean(losses))}
            for epoch, losses in enumerate(zip(*(losses for _, losses in trained), strict=True), start=1)
        ]
        return FirstStage(
            together,
            following,
            beside,
            latent,
            near,
            low,
            words,
            encoders,
            _vectors(encoders),
            _popularity(interactions),
        )

    def _held(self, timelines: Timelines, seed: int) -> NDArray[np.int64]:
        """The rows, in the timelines' order, that the ranker learns from: the last of each user, or a random fifth."""
        if not self._in_order:
            lots = np.random.default_rng(seed).random(len(timelines))
            return np.flatnonzero(lots < 0.2)
        rows = timelines.with_past()
        users = timelines.users[rows]
        after = np.append(np.flatnonzero(np.diff(users)) + 1, len(users))
        left = np.repeat(after, np.diff(np.concatenate([[0], after]))) - np.arange(len(users))
        # A quarter of what a user has at most, so that a short history is not all held out.
        most = np.maximum(1, np.diff(timelines.starts)[users] // 4)
        held: NDArray[np.int64] = rows[left <= np.minimum(self.config.held_rows, most)]
        return held

    def _newcomers(self, timelines: Timelines, seed: int) -> NDArray[np.bool_]:
        """bool[n_users]: whom the first stage does not know at all while the ranker learns; none without an order."""
        lots = np.random.default_rng([seed, 1]).random(len(timelines.starts) - 1)
        return (lots < _NEWCOMERS) & self._in_order

    def _told(
        self, timelines: Timelines, newcomers: NDArray[np.bool_], at_most: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of newcomers of whom little is told, int64[Q] twice: the row before which to look, and where they end.

        All that follows is to be found.
        """
        told = np.array(_TOLD)[:, None]
        users = np.flatnonzero(newcomers)
        first, stop = timelines.starts[users], timelines.starts[users + 1]
        long_enough = stop - first >= 2 * told
        rows, stops = (first + told)[long_enough], np.broadcast_to(stop, long_enough.shape)[long_enough]
        if len(rows) > at_most:
            chosen = np.sort(generator.choice(len(rows), at_most, replace=False))
            rows, stops = rows[chosen], stops[chosen]
        return rows, stops

    def _best_width(self, timelines: Timelines, newcomers: NDArray[np.bool_], seed: int) -> float:
        """How long a history is short, of ``_WIDTHS``: what gives the plain blend's newcomers the best NDCG@10."""
        asked, stops = self._told(timelines, newcomers, _WIDTH_LISTS, np.random.default_rng(seed))
        found = np.zeros(len(_WIDTHS))
        k = min(10, self.n_items)
        for start in range(0, len(asked), _USERS):
            block = asked[start : start + _USERS]
            pasts = timelines.before(block)
            of, targets = _targets(timelines, block, stops[start : start + _USERS])
            wanted = csr_array((np.ones(len(of)), (of, targets)), shape=(len(block), self.n_items))
            scaled = self._scaled_scores(pasts)
            for place, width in enumerate(_WIDTHS):
                order = self._blend(scaled, pasts, width)
                order[pasts.rows, pasts.items] = -np.inf
                lists = np.argsort(-order, axis=1, kind="stable")[:, :k]
                found[place] += list_ndcg(list_hits(lists, wanted), np.diff(wanted.indptr), k).sum()
        return _WIDTHS[int(found.argmax())]

    def _lists(
        self,
        timelines: Timelines,
        held: NDArray[np.int64],
        newcomers: NDArray[np.bool_],
        features: TrainingFeatures | None,
        seed: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """What :func:`train_ranker` takes: inputs float32[Q, C, F], relevant bool[Q, C], offsets float32[Q, C]."""
        generator = np.random.default_rng(seed)
        kept = np.ones(len(timelines), dtype=bool)
        kept[held] = False
        if self._in_order:
            if len(held) > _LISTS:
                held = np.sort(generator.choice(held, _LISTS, replace=False))
            rows, ends = self._told(timelines, newcomers, _LISTS, generator)
            # Of a held row only itself is to be found.
            asked, stops = np.concatenate([held, rows]), np.concatenate([held + 1, ends])
        else:
            asked = np.unique(timelines.users[held])
            if len(asked) > _LISTS:
                asked = np.sort(generator.choice(asked, _LISTS, replace=False))
        parts = []
        for start in range(0, len(asked), _USERS):
            block = asked[start : start + _USERS]
            if self._in_order:
                pasts = timelines.before(block)
                of, targets = _targets(timelines, block, stops[start : start + _USERS])
            else:
                pasts, rest = timelines.subsets(block, kept)
                of, targets = rest.rows, rest.items
            scaled = self._scaled_scores(pasts)
            chosen, relevant, offsets = self._candidates(scaled, pasts, of, targets, generator)
            values = None
            if features is not None:
                # Looked up for the chosen alone: for all items it took longer than everything else together.
                items = ItemsAsOf(features.item_histories, timelines.times[block], self.n_items)
                values = (features.user_values[timelines.order[block]], items)
            of_chosen = np.take_along_axis(scaled, chosen[..., None], axis=1)
            parts.append((self._beside(of_chosen, pasts, values, chosen), relevant, offsets))
        inputs, relevant, offsets = (np.concatenate(column) for column in zip(*parts, strict=True))
        return inputs, relevant, offsets

    def _candidates(
        self,
        scaled: NDArray[np.float32],
        pasts: Pasts,
        of: NDArray[np.int64],
        targets: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
        """The targets, the best others by the plain blend, and some drawn from the rest, of each list.

        Items int64[Q, C], which are targets bool[Q, C], and offsets float32[Q, C] as of :func:`train_ranker`.
        """
        size = min(self.n_items, _BEST + _OTHERS)
        best = min(size, _BEST)
        order = self._blend(scaled, pasts)
        order[pasts.rows, pasts.items] = -np.inf
        wanted = np.zeros(order.shape, dtype=bool)
        wanted[of, targets] = True
        order[wanted] = np.inf
        first = np.argpartition(-order, best - 1, axis=1)[:, :best]
        lots = generator.random(order.shape, dtype=np.float32)
        lots[np.isneginf(order)] = -1.0
        np.put_along_axis(lots, first, np.float32(2.0), axis=1)
        chosen = np.argpartition(-lots, size - 1, axis=1)[:, :size]
        rows = np.arange(len(chosen))[:, None]
        rest = np.maximum((~np.isneginf(order)).sum(axis=1, keepdims=True) - best, 0)
        drawn = lots[rows, chosen] <= 1.0
        shares = np.log(np.maximum(rest, 1) / np.maximum(np.minimum(rest, size - best), 1))
        offsets = np.where(drawn, shares, 0.0) + np.where(np.isneginf(order[rows, chosen]), -np.inf, 0.0)
        return chosen, wanted[rows, chosen], offsets.astype(np.float32)

    def _inputs(self, pasts: Pasts, values: tuple[NDArray[np.float32] | None, Any] | None) -> NDArray[np.float32]:
        """float32[B, n_items, F]: parts, popularity, length of the history, and the scaled features of both sides."""
        return self._beside(self._scaled_scores(pasts), pasts, values)

    def _scaled_scores(self, pasts: Pasts) -> NDArray[np.float32]:
        """float32[B, n_items, parts]: the parts' scores, each with mean 0 and deviation 1 over a user's items."""
        scores = self._fitted().scores(pasts, self.config)
        return Moments.of(scores).scaled(scores)

    def _beside(
        self,
        scaled: NDArray[np.float32],
        pasts: Pasts,
        values: tuple[NDArray[np.float32] | None, Any] | None,
        wanted: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """The scaled parts float32[B, C, parts] with the other inputs.

        They are those of all items, or of the ``wanted`` ones: int64[C], or int64[B, C] where each user has others.
        """
        shape = scaled.shape[:2]
        popularity = self._fitted().popularity
        crowd = np.broadcast_to(popularity if wanted is None else popularity[wanted], (*shape, popularity.shape[1]))
        length = (np.log1p(pasts.lengths) - 4.0).astype(np.float32)
        columns = [scaled, crowd, np.broadcast_to(length[:, None, None], (*shape, 1))]
        if self._in_order:
            # Of a short history another part is worth believing, and the more so the shorter it is.
            short = _shortness(pasts, self._width)
            columns = [(1 - short) * scaled, (1 - short) * crowd, columns[2], short * scaled]
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
        """The features of the users and of the ``wanted`` items as columns; what a batch does not bring is unknown."""
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
        """What the scores lose without each of the newest entries, on the scale that the whole history has.

        Only the asked items are scored again, which is what makes a reason cheap: the parts' means and deviations over
        all items are those of the whole history, which one entry hardly moves.
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
        """The ranker's scores float32[B, n]; the plain blend of the parts where there was nothing to train it on."""
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

    def _blend(self, scaled: NDArray[np.float32], pasts: Pasts, width: float | None = None) -> NDArray[np.float32]:
        """float32[B, n_items]: all parts alike, giving way to what many watch the less is known of a user."""
        if not self._in_order:
            return np.asarray(scaled @ self._shares(), dtype=np.float32)
        short = _shortness(pasts, self._width if width is None else width)[..., 0]
        both = (1 - short) * _PART * scaled[..., :-1].sum(axis=-1) + short * _COMPANY * scaled[..., -1]
        return np.asarray(both, dtype=np.float32)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """The ranker's scores of all items."""
        pasts = Pasts.of_batch(batch, in_order=self._in_order)
        return self._total(self._inputs(pasts, (batch.user_features, batch.item_features)))

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weights that go from an item to the others, and the cosine of the encoder's vectors, on one scale."""
        stage = self._fitted()
        one = csr_array(
            (np.ones(len(items), np.float32), items, np.arange(len(items) + 1)), shape=(len(items), self.n_items)
        )
        vectors = np.mean([asked[:, :-1].numpy() for _, asked in stage.vectors], axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(lengths > 0, lengths, 1.0)
        both = np.stack([stage.together.score(one), (units[items] @ units.T).astype(np.float32)], axis=-1)
        return np.asarray(Moments.of(both).scaled(both).sum(axis=-1), dtype=np.float32)

    def _fitted(self) -> FirstStage:
        if self._stage is None:
            raise RecommenderError("flagship: is not fitted")
        return self._stage

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        stage = self._fitted()
        arrays: dict[str, NDArray[Any]] = {
            "popularity": stage.popularity,
            "together.items": stage.together.items,
            "together.weights": stage.together.weights,
        }
        if stage.following is not None:
            arrays |= {"following.items": stage.following.items, "following.weights": stage.following.weights}
        if stage.company is not None:
            arrays |= stage.company.arrays()
        if stage.latent is not None and stage.near is not None and stage.spectral is not None:
            arrays |= {
                "latent.items": stage.latent.item_factors,
                "near.items": stage.near.items,
                "near.weights": stage.near.weights,
                "spectral.given": stage.spectral.given,
                "spectral.asked": stage.spectral.asked,
            }
        for number, encoder in enumerate(stage.encoders):
            arrays |= {f"encoder.{number}.{name}": value.numpy() for name, value in encoder.state_dict().items()}
        arrays["rated"] = stage.encoders[0].rated.numpy()[:, 0] > 0
        if self._words is not None:
            arrays |= {f"words.{name}": getattr(self._words, name) for name in ("data", "indices", "indptr")}
        if self._ranker is not None:
            arrays |= ranker_arrays(self._ranker)
        for side, scale in zip(("user", "item"), self._scaling or (), strict=False):
            arrays |= {f"scaling.{side}.{f.name}": getattr(scale, f.name) for f in fields(Standardizer)}
        return {"words": None if self._words is None else int(self._words.shape[1]), "width": self._width}, arrays

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        config: FlagshipConfig = self.config
        if len(arrays["rated"]) != self.n_items:
            raise RecommenderError(f"flagship: weights of {len(arrays['rated'])} items, not of {self.n_items}")
        if facts["words"] is not None:
            self._words = csr_array(
                tuple(arrays[f"words.{name}"] for name in ("data", "indices", "indptr")),
                shape=(self.n_items, int(facts["words"])),
            )
        words = None if self._words is None else Words.of(self._words)
        encoders = []
        for number in range(config.encoders):
            encoder = HistoryEncoder(config.encoder, torch.from_numpy(arrays["rated"]), words, in_order=self._in_order)
            start = f"encoder.{number}."
            encoder.load_state_dict(
                {name.removeprefix(start): torch.from_numpy(arrays[name]) for name in arrays if name.startswith(start)}
            )
            encoders.append(encoder.eval())
        following = None
        if "following.items" in arrays:
            following = ItemWeights(arrays["following.items"], arrays["following.weights"], self.n_items)
        latent = near = low = None
        if "latent.items" in arrays:
            latent = Ials.of_factors(arrays["latent.items"], config.latent)
            near = ItemWeights(arrays["near.items"], arrays["near.weights"], self.n_items)
            low = Spectral(arrays["spectral.given"], arrays["spectral.asked"])
        self._stage = FirstStage(
            ItemWeights(arrays["together.items"], arrays["together.weights"], self.n_items),
            following,
            Company.of_arrays(arrays) if self._in_order else None,
            latent,
            near,
            low,
            None if self._in_order else self._words,
            tuple(encoders),
            _vectors(tuple(encoders)),
            arrays["popularity"],
        )
        self._ranker = (
            restored_ranker(arrays, config.ranker, damped=self._in_order) if "ranker.change" in arrays else None
        )
        if "scaling.user.mean" in arrays:
            user, item = (
                Standardizer(**{f.name: arrays[f"scaling.{side}.{f.name}"] for f in fields(Standardizer)})
                for side in ("user", "item")
            )
            self._scaling = (user, item)


def _targets(
    timelines: Timelines, rows: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All items from each of the rows up to its stop, and before them which row they belong to, both int64[T]."""
    counts = stops - rows
    of = np.repeat(np.arange(len(rows)), counts)
    return of, timelines.items[rows[of] + np.arange(len(of)) - (np.cumsum(counts) - counts)[of]]


def _shortness(pasts: Pasts, width: float) -> NDArray[np.float32]:
    """float32[B, 1, 1]: 1 for a history of one entry, and next to nothing for one of many more than ``width``."""
    more = np.maximum(pasts.lengths - 1, 0)[:, None, None]
    if not width:
        return np.zeros(more.shape, dtype=np.float32)
    return np.asarray(np.exp(-((more / width) ** 2)), dtype=np.float32)


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


def _scaling(interactions: Interactions, features: TrainingFeatures) -> tuple[Standardizer, Standardizer] | None:
    """The features' scaling as of the training's rows; None where there is no feature on either side."""
    if not features.user_names and not features.item_names:
        return None
    return (
        Standardizer.fit(features.user_values),
        Standardizer.fit(features.items_as_of(interactions.items, interactions.timestamps)),
    )


def _popularity(interactions: Interactions) -> NDArray[np.float32]:
    """float32[n_items, 2]: logarithms of the counts in all time and in the newest tenth of the rows, standardised."""
    known = interactions.timestamps[interactions.timestamps > 0]
    cut = np.quantile(known, 0.9) if len(known) else 0
    recent = interactions.items[interactions.timestamps > cut]
    counts = np.stack([interactions.item_counts(), np.bincount(recent, minlength=interactions.n_items)], axis=1)
    logs = np.log1p(counts)
    spread = logs.std(axis=0)
    return np.asarray((logs - logs.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=np.float32)


@torch.inference_mode()
def _vectors(encoders: tuple[HistoryEncoder, ...]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """The vectors of all items, made once: [n_items, factors] as given and [n_items, factors + 1] as asked for."""
    return tuple((encoder.given_vectors(), encoder.item_vectors()) for encoder in encoders)
