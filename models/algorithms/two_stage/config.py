"""The settings of the flagship's two stages, and of each of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from models.algorithms.ials import IalsConfig
from models.algorithms.two_stage.history_encoder import EncoderConfig
from models.algorithms.two_stage.ranker import RankerConfig

#: Weight of each part of histories without an order in the plain blend, which is nearly all that ranks there.
WITHOUT_ORDER = {"together": 0.15, "near": 0.15, "latent": 0.4, "spectral": 0.1, "words": 0.1, "encoder": 0.4}


@dataclass(frozen=True, slots=True)
class FlagshipConfig:
    """The recipe; defaults are for some hundred thousand ratings, ``default_hyperparameters.toml`` has other sizes."""

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
    shares: Mapping[str, float] = field(default_factory=lambda: dict(WITHOUT_ORDER))
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
    #: Where the encoder is trained: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
    device: str = "auto"
    #: What its matrix products are computed in: ``float32``, ``bfloat16``, or ``auto`` for the latter where the
    #: processor has it.
    precision: str = "auto"

    @property
    def in_order(self) -> bool:
        """Whether a history has an order that says something."""
        return self.task == "next"

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
