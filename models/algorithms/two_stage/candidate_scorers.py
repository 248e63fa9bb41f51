"""The flagship's first stage: its parts, fitted on the same rows, and their scores of all items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.algorithms.ials import Ials
from models.algorithms.two_stage.config import FlagshipConfig
from models.algorithms.two_stage.graph_filter import Spectral, spectral
from models.algorithms.two_stage.history_encoder import HistoryEncoder, Words, train
from models.algorithms.two_stage.lift import Company, company
from models.algorithms.two_stage.linear_scorers import ItemWeights, comes_near, comes_next, goes_with
from models.data.batch import UserBatch
from models.data.interactions import Interactions
from models.data.sequences import Pasts, Timelines
from models.runtime.checkpoints import Checkpoint
from models.runtime.device import in_bfloat16, training_device
from models.runtime.errors import RecommenderError

#: A deviation below this is rounding.
_FLAT = 1e-9


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
        """What the rows of :meth:`scores` are."""
        ordered = ("recent", "next", "newest") if self.following else ()
        unordered = ("near", "latent", "spectral") if self.latent else ()
        words = ("words",) if self.words is not None else ()
        return ("together", *ordered, *unordered, *words, "encoder", *(("company",) if self.company else ()))

    def scores(
        self, pasts: Pasts, config: FlagshipConfig, wanted: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """float32[parts, B, n_items]: the parts' own scores of all items, or of the ``wanted`` ones alone."""
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
        parts.append(logits[0] if len(logits) == 1 else np.asarray(np.mean(logits, axis=0), dtype=np.float32))
        if self.company is not None:
            parts.append(self.company.score(pasts, wanted))
        return np.stack(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that :meth:`of_arrays` takes."""
        arrays: dict[str, NDArray[Any]] = {
            "popularity": self.popularity,
            "together.items": self.together.items,
            "together.weights": self.together.weights,
            "rated": self.encoders[0].rated.numpy()[:, 0] > 0,
        }
        if self.following is not None:
            arrays |= {"following.items": self.following.items, "following.weights": self.following.weights}
        if self.company is not None:
            arrays |= self.company.arrays()
        if self.latent is not None and self.near is not None and self.spectral is not None:
            arrays |= {
                "latent.items": self.latent.item_factors,
                "near.items": self.near.items,
                "near.weights": self.near.weights,
                "spectral.given": self.spectral.given,
                "spectral.asked": self.spectral.asked,
            }
        for number, encoder in enumerate(self.encoders):
            arrays |= {f"encoder.{number}.{name}": value.numpy() for name, value in encoder.state_dict().items()}
        return arrays

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], config: FlagshipConfig, words: csr_array | None
    ) -> FirstStage:
        """Restore the first stage from the arrays of :meth:`arrays` and the items' ``words`` csr[n_items, F]."""
        n_items, rated = len(arrays["rated"]), torch.from_numpy(arrays["rated"])
        encoders = []
        for number in range(config.encoders):
            bags = None if words is None else Words.of(words)
            encoder = HistoryEncoder(config.encoder, rated, bags, in_order=config.in_order)
            start = f"encoder.{number}."
            encoder.load_state_dict(
                {name.removeprefix(start): torch.from_numpy(arrays[name]) for name in arrays if name.startswith(start)}
            )
            encoders.append(encoder.eval())

        def weights(name: str) -> ItemWeights | None:
            found = arrays.get(f"{name}.weights")
            return None if found is None else ItemWeights(arrays[f"{name}.items"], found, n_items)

        together = weights("together")
        if together is None:
            raise RecommenderError("flagship: a state without the weights of what goes together")
        latent = "latent.items" in arrays
        return cls(
            together,
            weights("following"),
            Company.of_arrays(arrays) if config.in_order else None,
            Ials.of_factors(arrays["latent.items"], config.latent) if latent else None,
            weights("near"),
            Spectral(arrays["spectral.given"], arrays["spectral.asked"]) if latent else None,
            None if config.in_order else words,
            tuple(encoders),
            _vectors(encoders),
            arrays["popularity"],
        )


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and deviation of each part's scores over all items, float32[parts, B, 1]: they put parts on one scale."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(cls, scores: NDArray[np.float32]) -> Moments:
        """Of float32[parts, B, n_items]; a part that tells no item from another has deviation 1."""
        spread = scores.std(axis=-1, keepdims=True)
        return cls(scores.mean(axis=-1, keepdims=True), np.where(spread > _FLAT, spread, np.float32(1.0)))

    def scaled(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardize the scores in place: less the mean, divided by the deviation."""
        scores -= self.mean
        scores /= self.deviation
        return scores


def fit_first_stage(
    interactions: Interactions,
    config: FlagshipConfig,
    words: csr_array | None,
    *,
    seed: int,
    tell: Callable[[int, float], None],
    checkpoint: Checkpoint,
    name: str,
) -> tuple[FirstStage, list[float]]:
    """Fit the parts on all interactions; return them and the encoders' mean loss in each epoch.

    ``tell(epoch, loss)`` counts the epochs of all encoders. Their states are kept under the stage's ``name``.
    """
    timelines, device = Timelines(interactions, seed=seed), training_device(config.device)
    together = goes_with(interactions, l2=config.l2, max_items=config.max_items)
    following = beside = latent = near = low = None
    most = {"max_items": config.max_items, "max_rows": config.next_rows, "seed": seed}
    if config.in_order:
        following = comes_next(
            timelines, interactions, l2=config.next_l2, decay=config.next_decay, window=config.next_window, **most
        )
        beside = company(
            interactions,
            shrink=config.company_shrink,
            strength=config.company_strength,
            max_items=config.max_items,
            seed=seed,
        )
    else:
        latent = Ials(config.latent).fit(interactions, seed=seed)
        near = comes_near(timelines, interactions, l2=config.near_l2, decay=config.near_decay, **most)
        low = spectral(interactions, rank=config.spectral_rank, seed=seed)
    encoders, losses = [], []
    for number in range(config.encoders):

        def told(epoch: int, loss: float, done: int = config.epochs * number) -> None:
            tell(done + epoch, loss)

        encoder, curve = train(
            interactions,
            timelines,
            config.encoder,
            words,
            in_order=config.in_order,
            seed=seed + 1_000 * number,
            device=device,
            half=in_bfloat16(config.precision, device),
            tell=told,
            checkpoint=checkpoint,
            stage=f"{name}-{number}",
        )
        encoders.append(encoder)
        losses.append(curve)
    stage = FirstStage(
        together,
        following,
        beside,
        latent,
        near,
        low,
        None if config.in_order else words,
        tuple(encoders),
        _vectors(encoders),
        _popularity(interactions),
    )
    return stage, [float(np.mean(epoch)) for epoch in zip(*losses, strict=True)]


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
def _vectors(encoders: list[HistoryEncoder]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Compute all items' vectors once: [n_items, factors] as given and [n_items, factors + 1] as asked for."""
    return tuple((encoder.given_vectors(), encoder.item_vectors()) for encoder in encoders)
