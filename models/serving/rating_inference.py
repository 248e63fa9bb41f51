"""Stars for one's history of this moment from the saved draws of ``bayesian_mf``, as they are served: no torch.

The same numbers as ``BayesianMF.forecast_batch`` gives for users whom it does not keep, up to the rounding of floats; a
test holds the two together.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.algorithms.rating.base import Forecast
from models.base import read_manifest
from models.data.batch import UserBatch
from models.data.features import Standardizer
from models.runtime.errors import RecommenderError

#: The bounds of the scale; a forecast beyond them is cut.
LOWEST, HIGHEST = 0.5, 5.0
#: As in ``bayesian_mf`` and ``gibbs``, which this may not import: they bring torch.
_NOISE_DRAWS, _NOISE_ROUNDS, _MOST_PRECISE = 10, 4, 100.0

Numbers = NDArray[np.float64]


class Foreteller(Protocol):
    """Whoever foretells the stars of histories: ``BayesianMF``, or its served form."""

    n_items: int

    def forecast_batch(self, batch: UserBatch, items: NDArray[np.int64]) -> Forecast:
        """Stars [B, k] of the items int64[B, k] for the users of a batch."""
        ...


def foretell(head: Foreteller, batch: UserBatch, items: NDArray[np.int64]) -> Forecast:
    """Stars [B, k] for the users of a batch, of each one's items int64[B, k]; an item's own rating is not looked at.

    Whoever has rated the film is asked about as if he had not, so that nobody hears his own rating as a forecast.
    """
    history = batch.history.copy()
    rows = np.repeat(np.arange(len(batch)), np.diff(history.indptr))
    asked = (history.indices[:, None] == items[rows]).any(axis=1)
    kept = type(history)((history.data[~asked], (rows[~asked], history.indices[~asked])), shape=history.shape)
    return head.forecast_batch(UserBatch(np.full(len(batch), -1), kept), items)


class ServedStars:
    """The films' side of a saved ``BayesianMF`` whose users were forgotten."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if manifest["recommender"] != "bmf":
            raise RecommenderError(f"{folder}: {manifest['recommender']} tells no intervals of stars")
        self.n_items, self.n_users = int(manifest["n_items"]), int(manifest["n_users"])
        self._mean = float(manifest["state"]["mean"])
        activity = manifest["state"]["activity"]
        self._activity = float(activity["mean"]), float(activity["deviation"])
        with np.load(folder / "weights.npz", allow_pickle=False) as stored:
            self._items, self._biases = stored["items"], stored["biases"]
            self._clearness, self._whims = stored["clearness"], stored["whims"].astype(np.float64)
            self._prior_mean = stored["prior_mean"].astype(np.float64)
            self._prior_precision = stored["prior_precision"].astype(np.float64)
            self._weights = stored["weights"].astype(np.float64)
            self._bases = stored["basis_table"], stored["basis_meetings"]
            names = ("heavy", "mean", "std", "flagged")
            self._scale = Standardizer(*(stored[f"scale_{name}"] for name in names))

    def forecast_batch(self, batch: UserBatch, items: NDArray[np.int64]) -> Forecast:
        """Stars [B, k] of the items int64[B, k], from the histories alone; ``RecommenderError`` for an unknown item."""
        wanted = np.asarray(items, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.n_items):
            raise RecommenderError(f"bmf: item index outside 0..{self.n_items - 1}")
        told = Forecast(np.empty(wanted.shape, dtype=np.float32), np.empty(wanted.shape, dtype=np.float32))
        bounds = batch.history.indptr.tolist()
        for row, (start, stop) in enumerate(pairwise(bounds)):
            met, stars = batch.history.indices[start:stop], batch.history.data[start:stop]
            told.mean[row], told.deviation[row] = self._of_one(met, stars, wanted[row])
        return told

    def _of_one(
        self, met: NDArray[Any], stars: NDArray[np.float32], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation [k] for who has given ``stars`` [h] to the films ``met`` [h]."""
        films = self._items[met].transpose(1, 0, 2).astype(np.float64)  # [draws, h, d]
        left = (stars[:, None] - np.float32(self._mean) - self._biases[met]).T.astype(np.float64)
        clearness = self._clearness[met].T.astype(np.float64)
        weighted = films * clearness[..., None]
        gram = weighted.transpose(0, 2, 1) @ films
        right = (weighted.transpose(0, 2, 1) @ left[..., None])[..., 0]
        expected = self._prior_mean + np.einsum("f,fsd->sd", self._coordinates(met), self._weights)
        pull = np.einsum("sde,se->sd", self._prior_precision, expected)
        precision, noise = self._noise(gram, right, (clearness * left**2).sum(axis=1), pull, len(met))
        systems = precision * gram + self._prior_precision
        vectors = np.linalg.solve(systems, (precision * right + pull)[..., None])[..., 0]
        asked = self._items[items].transpose(1, 0, 2).astype(np.float64)  # [draws, k, d]
        told = np.einsum("skd,sd->sk", asked, vectors) + self._biases[items].T
        doubt = (asked * np.linalg.solve(systems, asked.transpose(0, 2, 1)).transpose(0, 2, 1)).sum(axis=2)
        spread = doubt.mean(axis=0) + told.var(axis=0) + noise / self._clearness[items].mean(axis=1)
        return (told.mean(axis=0) + self._mean).astype(np.float32), np.sqrt(spread).astype(np.float32)

    def _coordinates(self, met: NDArray[Any]) -> Numbers:
        """float64[k]: what is known of a stranger beside his stars: how many they are, and of which films."""
        mean, deviation = self._activity
        scaled = np.clip((np.log1p(len(met)) - mean) / deviation, -3.0, 3.0)
        unknown = self._scale.transform(np.full((1, len(self._scale.mean)), np.nan, dtype=np.float32))[0]
        table = np.concatenate([unknown, [scaled, scaled**2 - 1.0]])
        meetings = self._bases[1][met].sum(axis=0) * max(len(met), 1) ** -0.5
        return np.concatenate([table @ self._bases[0], meetings]).astype(np.float64)

    def _noise(self, gram: Numbers, right: Numbers, squares: Numbers, pull: Numbers, count: int) -> tuple[float, float]:
        """Estimate the precision and the variance of the user's stars from their history."""
        draws = len(self._whims)
        some = np.linspace(0, draws - 1, min(draws, _NOISE_DRAWS)).astype(np.int64)
        shape, rate = self._whims[some].mean(axis=0)
        gram, right, squares, pull = gram[some], right[some], squares[some], pull[some]
        precision, errors = shape / rate, 0.0
        for _ in range(_NOISE_ROUNDS):
            inverse = np.linalg.inv(precision * gram + self._prior_precision[some])
            vectors = np.einsum("sde,se->sd", inverse, precision * right + pull)
            fitted = ((np.einsum("sde,se->sd", gram, vectors) - 2 * right) * vectors).sum(axis=1)
            doubt = (gram * inverse).sum(axis=(1, 2))
            errors = max(float((squares + fitted + doubt).mean()), 0.0)
            precision = min((shape + count / 2) / (rate + errors / 2), _MOST_PRECISE)
        return float(precision), float((rate + errors / 2) / max(shape + count / 2 - 1, 0.5))
