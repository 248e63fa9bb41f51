"""How far what many watch stands for everything else where next to nothing is known of a user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Entries that are told of a newcomer when it is chosen how short a history is; from ``_LONG`` on none is, for all that
#: follows, by which it is chosen, is another question than what comes next.
TOLD, _LONG = (1, 2, 4, 8), 16


@dataclass(frozen=True, slots=True)
class Shortness:
    """``most`` for a history of one entry or none, a third of it for one of ``width`` more; width 0: none is short.

    Two numbers, not a share for each length: that followed the noise of some hundred newcomers (ml-1m).
    """

    width: float = 0.0
    most: float = 1.0

    def of(self, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[B, 1, 1], from 0 to 1, of histories of so many entries."""
        if not self.width:
            return np.zeros((len(lengths), 1, 1), dtype=np.float32)
        more = np.maximum(lengths, 1) - 1
        short = self.most * np.exp(-((np.minimum(more, max(TOLD) - 1) / self.width) ** 2))
        # In equal steps of the logarithm from the longest that was asked for to the first that is not short.
        left = np.interp(np.log2(more + 1), np.log2([max(TOLD), _LONG]), [1.0, 0.0])
        return np.asarray(short * left, dtype=np.float32)[:, None, None]


#: What is chosen from: the safe ones, with which a lone entry gives what many watch, and those that let the other parts
#: speak from the first entry on.
SAFE = tuple(Shortness(width) for width in (0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0))
BOLD = tuple(Shortness(width, most) for most in (0.95, 0.98, 0.99) for width in (16.0, 32.0, 64.0))


def best_shortness(figures: NDArray[np.float64]) -> Shortness:
    """Return the best safe choice by mean, or the best bold one if it gains more than the gain's standard error.

    ``figures`` is float64[newcomers, safe and bold].

    >>> even = np.tile([[0.2, 0.4]], (4, len(SAFE + BOLD) // 2))
    >>> best_shortness(even).width
    2.0
    """
    if not len(figures):
        return Shortness()
    means = figures.mean(axis=0)
    safe, bold = int(means[: len(SAFE)].argmax()), len(SAFE) + int(means[len(SAFE) :].argmax())
    gain = figures[:, bold] - figures[:, safe]
    return (SAFE + BOLD)[bold if gain.mean() > gain.std() / np.sqrt(len(gain)) else safe]
