"""The neural part of the flagship: a history in, a vector out, that is held against the vectors of all items.

There is no vector of a user: who the user is, is what the history says. An item's vector is one of its own plus one
made of its words, so that a film that nobody rated has its place too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from models.data.interactions import Interactions
from models.data.sequences import Pasts, Timelines
from models.runtime.checkpoints import Checkpoint, tensors

#: A history is pooled once a scale: weights ``exp(-rank / scale)``, then ``exp(-age / scale)`` with seconds.
RANK_SCALES = (1.5, 5.0, 20.0, float("inf"))
AGE_SCALES = (3_600.0, 3 * 86_400.0)
#: Half stars from 0 to 5.
_STARS = 11


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """How large the encoder is and how it is trained; the defaults were chosen on validations of ml-100k and ml-1m."""

    factors: int = 64
    hidden: int = 256
    dropout: float = 0.3
    epochs: int = 30
    #: Pasts that are cut of each user in an epoch, at random moments.
    cuts: int = 8
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    #: Newest entries of a history that are read.
    longest: int = 200
    #: Share of the items whose own vector is left out in a step, so that the words learn to stand alone.
    word_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Words:
    """The words of all items as bags: word ``places[e]`` with weight ``weights[e]``, item i's from ``bounds[i]`` on."""

    places: Tensor
    weights: Tensor
    bounds: Tensor
    size: int

    @classmethod
    def of(cls, words: csr_array) -> Words:
        """Of csr[n_items, F]."""
        return cls(
            torch.from_numpy(words.indices.astype(np.int64)),
            torch.from_numpy(words.data.astype(np.float32)),
            torch.from_numpy(words.indptr[:-1].astype(np.int64)),
            int(words.shape[1]),
        )


class HistoryEncoder(nn.Module):
    """Pools the vectors of a history's items and stars at several scales, and makes of them one vector of ``factors``.

    ``words`` are bags of words (see :class:`Words`) or None; ``rated`` bool[n_items]: items without a row keep no
    vector of their own.
    """

    def __init__(self, config: EncoderConfig, rated: Tensor, words: Words | None, *, in_order: bool) -> None:
        super().__init__()
        n_items, width = len(rated), config.factors
        self.in_order = in_order
        self.scales = len(RANK_SCALES) + len(AGE_SCALES) if in_order else 1
        self.given = nn.Embedding(n_items, width)
        self.asked = nn.Embedding(n_items, width + 1)
        self.stars = nn.Embedding(_STARS, width)
        if words is not None:
            for name in ("places", "weights", "bounds"):
                self.register_buffer(f"word_{name}", getattr(words, name), persistent=False)
        self.words_given = None if words is None else nn.Embedding(words.size, width)
        self.words_asked = None if words is None else nn.Embedding(words.size, width + 1)
        self.dropout = nn.Dropout(config.dropout)
        self.straight = nn.Linear(self.scales * width, width, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(self.scales * width + 1, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, width),
        )
        self.rated: Tensor
        self.register_buffer("rated", rated.float()[:, None], persistent=False)
        for embedding, spread in ((self.given, 0.05), (self.asked, 0.05), (self.stars, 0.02)):
            nn.init.normal_(embedding.weight, std=spread)
        for words_of in (self.words_given, self.words_asked):
            if words_of is not None:
                nn.init.normal_(words_of.weight, std=0.02)

    def item_vectors(self, own: Tensor | None = None) -> Tensor:
        """[n_items, factors + 1], the last one the bias; ``own`` [n_items, 1] of 0 and 1 leaves some out."""
        vectors = self.asked.weight * (self.rated if own is None else self.rated * own)
        return self._with_words(vectors, self.words_asked)

    def given_vectors(self) -> Tensor:
        """[n_items, factors]: what an item of the history adds to its pools."""
        return self._with_words(self.given.weight * self.rated, self.words_given)

    def _with_words(self, vectors: Tensor, embedding: nn.Embedding | None) -> Tensor:
        """[n_items, d]: the items' own vectors and the sums of their words'."""
        if embedding is None:
            return vectors
        return vectors + functional.embedding_bag(
            self.get_buffer("word_places"),
            embedding.weight,
            self.get_buffer("word_bounds"),
            mode="sum",
            per_sample_weights=self.get_buffer("word_weights"),
        )

    def encode(self, pasts: Pasts, given: Tensor) -> Tensor:
        """[B, factors] of B pasts; an empty one has zeros in its pools."""
        items, bounds = self._here(pasts.items), self._here(pasts.bounds[:-1])
        stars = self._here(np.clip(np.rint(pasts.stars * 2), 0, _STARS - 1).astype(np.int64))
        rows = self._here(pasts.rows)
        pools = []
        for weight in map(self._here, self._weights(pasts)):
            pool = functional.embedding_bag(items, given, bounds, mode="sum", per_sample_weights=weight)
            pool = pool + functional.embedding_bag(
                stars, self.stars.weight, bounds, mode="sum", per_sample_weights=weight
            )
            mass = weight.new_zeros(len(pasts)).index_add_(0, rows, weight)
            # The root, not the mass: that five films were met says more than that one was.
            pools.append(pool / (mass.sqrt() + 0.1)[:, None])
        pooled = self.dropout(torch.cat(pools, dim=1))
        length = self._here(np.log1p(pasts.lengths).astype(np.float32))[:, None]
        vector: Tensor = self.dropout(self.straight(pooled) + self.bent(torch.cat([pooled, length], dim=1)))
        return vector

    def _here(self, values: NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the encoder's device."""
        return torch.from_numpy(values).to(self.rated.device)

    def _weights(self, pasts: Pasts) -> Iterator[NDArray[np.float32]]:
        if not self.in_order:
            yield np.ones(len(pasts.items), dtype=np.float32)
            return
        for scale in RANK_SCALES:
            yield np.exp(-pasts.ranks / np.float32(scale)).astype(np.float32)
        for scale in AGE_SCALES:
            yield np.exp(-pasts.ages / np.float32(scale)).astype(np.float32)

    @torch.inference_mode()
    def score(self, pasts: Pasts, given: Tensor, asked: Tensor) -> NDArray[np.float32]:
        """float32[B, n_items]: logits, for vectors that were made of the items once."""
        vector = self.encode(pasts, given)
        return np.asarray((vector @ asked[:, :-1].T + asked[:, -1]).numpy(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Examples:
    """One step's pasts and what came then: entry e of ``targets`` int64[T] belongs to the past ``of`` int64[T]."""

    pasts: Pasts
    targets: NDArray[np.int64]
    of: NDArray[np.int64]


def train(
    interactions: Interactions,
    timelines: Timelines,
    config: EncoderConfig,
    words: csr_array | None,
    *,
    in_order: bool,
    seed: int,
    device: torch.device,
    half: bool = False,
    tell: Callable[[int, float], None],
    checkpoint: Checkpoint,
    stage: str,
) -> tuple[HistoryEncoder, list[float]]:
    """Train an encoder with the softmax over all rated items; return it, on the CPU, and its loss in each epoch.

    ``half`` multiplies in bfloat16. The targets are the items that come next (``in_order``), or random held-out ones.
    After each epoch the state is saved under the name of the stage and ``tell(epoch, loss)`` is called. If there is a
    saved state, the training goes on from it and ends with the same bits. The loss of an example with several targets
    is divided by the root of their number, so that long histories count for more, but not in proportion.
    """
    generator = np.random.default_rng(seed)
    # The global generator of torch feeds initial weights and dropout; it is given back as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        counts = interactions.item_counts()
        rated = torch.from_numpy(counts > 0)
        encoder = HistoryEncoder(config, rated, None if words is None else Words.of(words), in_order=in_order)
        with torch.no_grad():
            encoder.asked.weight[:, -1] = torch.from_numpy(np.log((counts + 1.0) / (counts + 1.0).sum())).float()
        encoder = encoder.to(device)
        source = _next_examples if in_order else _held_examples
        steps = source(timelines, config, np.random.default_rng(seed)).size
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=max(2, config.epochs * steps + 1), pct_start=0.1
        )
        place = torch.from_numpy(np.cumsum(counts > 0) - 1).to(device)
        losses: list[float] = []
        if (found := checkpoint.load(stage)) is not None:
            losses = found["losses"]
            encoder.load_state_dict(tensors(found["encoder"]))
            optimizer.load_state_dict(tensors(found["optimizer"]))
            schedule.load_state_dict(found["schedule"])
            generator.bit_generator.state = found["generator"]
        for epoch in range(len(losses) + 1, config.epochs + 1):
            # Drop-out's draws follow from the epoch: there is no generator's state to keep, on whatever device.
            torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
            encoder.train()
            total, seen = 0.0, 0
            for examples in source(timelines, config, generator):
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    loss = _loss(encoder, examples, config, place)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total, seen = total + loss.item() * len(examples.pasts), seen + len(examples.pasts)
            losses.append(total / max(seen, 1))
            checkpoint.save(
                stage,
                {
                    "epoch": epoch,
                    "losses": losses,
                    "encoder": encoder.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "generator": generator.bit_generator.state,
                },
            )
            tell(epoch, losses[-1])
    return encoder.cpu().eval(), losses


def _loss(encoder: HistoryEncoder, examples: Examples, config: EncoderConfig, place: Tensor) -> Tensor:
    """Return the mean loss of a step's examples; ``place`` int64[n_items] is each item's place among the rated ones."""
    device, rated = place.device, encoder.rated[:, 0] > 0
    own = None
    if encoder.words_asked is not None:
        own = (torch.rand(len(rated), 1, device=device) >= config.word_share).float()
    # What nobody rated is never a target: it would learn only that its words are unwanted.
    asked = encoder.item_vectors(own)[rated]
    logits = encoder.encode(examples.pasts, encoder.given_vectors()) @ asked[:, :-1].T + asked[:, -1]
    of, targets = torch.from_numpy(examples.of).to(device), place[torch.from_numpy(examples.targets).to(device)]
    if not encoder.in_order:
        known = torch.zeros(logits.shape, dtype=torch.bool, device=device)
        met = place[torch.from_numpy(examples.pasts.items).to(device)]
        known[torch.from_numpy(examples.pasts.rows).to(device), met] = True
        logits = logits.masked_fill(known, -1e9)
    chances = functional.log_softmax(logits, dim=1)[of, targets]
    root = torch.bincount(of, minlength=len(examples.pasts)).clamp(min=1).sqrt()
    return -(chances / root[of]).sum() / root.sum()


class _Steps:
    """The steps of one epoch: iterates over examples; ``size`` is how many there are at most."""

    def __init__(self, size: int, make: Callable[[int], Examples]) -> None:
        self.size = size
        self._make = make

    def __iter__(self) -> Iterator[Examples]:
        return (self._make(step) for step in range(self.size))


def _next_examples(timelines: Timelines, config: EncoderConfig, generator: np.random.Generator) -> _Steps:
    """``cuts`` rows of each user that has an order, each the target of what came before it."""
    rows = timelines.with_past()
    users, counts = np.unique(timelines.users[rows], return_counts=True)
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    drawn = np.repeat(np.arange(len(users)), config.cuts)
    generator.shuffle(drawn)
    chosen = rows[firsts[drawn] + np.floor(generator.random(len(drawn)) * counts[drawn]).astype(np.int64)]

    def make(step: int) -> Examples:
        part = chosen[step * config.batch_size : (step + 1) * config.batch_size]
        return Examples(
            timelines.before(part, longest=config.longest), timelines.items[part], np.arange(len(part), dtype=np.int64)
        )

    return _Steps(-(-len(chosen) // config.batch_size), make)


def _held_examples(timelines: Timelines, config: EncoderConfig, generator: np.random.Generator) -> _Steps:
    """Every user with two rows once, of whose rows a random tenth to half is held out."""
    users = np.flatnonzero(np.diff(timelines.starts) >= 2).astype(np.int64)
    generator.shuffle(users)
    share = generator.uniform(0.1, 0.5, size=len(timelines.starts) - 1).astype(np.float32)
    kept = generator.random(len(timelines), dtype=np.float32) >= share[timelines.users]

    def make(step: int) -> Examples:
        part = users[step * config.batch_size : (step + 1) * config.batch_size]
        pasts, held = timelines.subsets(part, kept)
        return Examples(pasts, held.items, held.rows)

    return _Steps(-(-len(users) // config.batch_size), make)
