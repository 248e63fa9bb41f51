"""Bayesian matrix factorisation with side information: stars with their uncertainty, and no fit for a new user.

Probabilistic matrix factorisation by Gibbs sampling (Salakhutdinov & Mnih 2008), the means of whose priors depend on
features (Macau, Simm et al. 2017): who the users are, what the films are, and who rated what, as in SVD++. Biases are
drawn with the factors, and users and films have each an own noise. What is kept of every draw is the films' side and
the users' prior. A user is never kept: his vector is solved anew from his history, known to the training or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from torch import Tensor

from models.algorithms.neumf.model import torch_threads
from models.algorithms.rating.base import Forecast, RatingRecommender, cosines
from models.algorithms.rating.gibbs import MOST_PRECISE, Prior, Rated, Whims
from models.algorithms.rating.side_information import (
    Activity,
    Directions,
    directions_of_meetings,
    directions_of_table,
    item_table,
    latest_user_values,
    unit_rows,
)
from models.data.batch import UserBatch
from models.data.features import Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: Numbers of the films' vectors that are gathered at a time (float32: 64 MB).
_CELLS = 16_000_000
#: Of so many draws a user's own noise is found, in so many rounds.
_NOISE_DRAWS, _NOISE_ROUNDS = 10, 4


@dataclass(frozen=True, slots=True)
class BayesianMFConfig:
    """What a chain of draws is; the reasons of the values are in ``default_hyperparameters.toml``."""

    factors: int = 24
    #: Draws that are thrown away before the chain has found its place, and those that are kept after.
    burn_in: int = 60
    samples: int = 100
    #: Directions of who rated what, for users and for films.
    meetings: int = 150
    #: The scale on which the factors begin.
    init_std: float = 0.1
    threads: int = 1


class BayesianMF(RatingRecommender):
    """The mean over draws of the stars that each draw expects of a history, with the spread of both."""

    name: ClassVar[str] = "bmf"
    config_class: ClassVar[type[Any]] = BayesianMFConfig
    uses_history: ClassVar[bool] = True

    def __init__(self, config: Any | None = None) -> None:
        super().__init__(config)
        self._mean = 0.0
        #: Of each draw: the films' vectors with a 1 for the user's bias, their biases, the relative precision of the
        #: stars for them, and the users' prior.
        self._items = torch.empty(0, 0, 0)
        self._biases = torch.empty(0, 0)
        self._clearness = torch.empty(0, 0)
        self._prior_mean = torch.empty(0, 0)
        self._prior_precision = torch.empty(0, 0, 0)
        self._weights = torch.empty(0, 0, 0)
        self._whims = torch.empty(0, 2)
        #: How a user's features become coordinates; the weights are of them.
        self._scale = Standardizer.fit(np.empty((0, 0), dtype=np.float32))
        self._activity = Activity(0.0, 1.0)
        self._bases = (np.empty((0, 0), dtype=np.float32),) * 2
        #: The training's users, for who is asked for by index.
        self._histories = csr_array((0, 0), dtype=np.float32)
        self._known = np.empty((0, 0), dtype=np.float32)

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Return the bytes of the draws, the directions and their search, the stars twice, and one side's equations."""
        config: BayesianMFConfig = self.config
        d, most = config.factors + 1, max(n_users, n_items)
        draws = 4 * config.samples * (n_items * (d + 2) + d * (d + config.meetings + 100))
        directions = 8 * (3 * n_users + 3 * n_items) * (config.meetings + 50)
        equations = 4 * most * d * (d + 1) + 6 * 4 * _CELLS
        return draws + directions + equations + 96 * n_interactions

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        config: BayesianMFConfig = self.config
        rng = np.random.default_rng(seed)
        self._mean = float(interactions.ratings.mean(dtype=np.float64))
        by_user = csr_array(
            (interactions.ratings - np.float32(self._mean), (interactions.users, interactions.items)),
            shape=(self.n_users, self.n_items),
        )
        by_item = csr_array(by_user.T.tocsr())
        self._histories = by_user
        of_users = self._user_groups(interactions, features)
        of_items = [
            directions_of_table(item_table(features, interactions.item_counts())),
            directions_of_meetings(_ones(by_item), config.meetings),
        ]
        d = config.factors + 1
        priors = Prior(of_users, d), Prior(of_items, d)
        whims = Whims(self.n_users), Whims(self.n_items, relative=True)
        stars = Rated(by_user), Rated(by_item)
        items = rng.standard_normal((self.n_items, d)) * config.init_std
        expected = [np.zeros((self.n_users, d)), np.zeros((self.n_items, d))]
        rows, columns = np.repeat(np.arange(self.n_users), np.diff(by_user.indptr)), by_user.indices
        counts = np.diff(by_user.indptr), np.diff(by_item.indptr)
        self._make_room(d, sum(len(weights) for weights in priors[0].weights))
        with torch_threads(config.threads), torch.inference_mode():
            for step in range(1, config.burn_in + config.samples + 1):
                weights = whims[0].precision, whims[1].precision
                users = stars[0].draw(items, weights[1], weights[0], priors[0], expected[0], rng)
                items = stars[1].draw(users, weights[0], weights[1], priors[1], expected[1], rng)
                expected = [prior.draw(side, rng) for prior, side in zip(priors, (users, items), strict=True)]
                errors = (by_user.data - _expected_stars(users, items, rows, columns)) ** 2
                weighted = np.bincount(rows, errors * weights[1][columns], self.n_users)
                whims[0].draw(counts[0], weighted.astype(np.float64), rng)
                weighted = np.bincount(columns, errors * whims[0].precision[rows], self.n_items)
                whims[1].draw(counts[1], weighted.astype(np.float64), rng)
                if step > config.burn_in:
                    self._keep(step - config.burn_in - 1, items, priors[0], whims)
                self._tell(progress, step, float(errors.mean()))

    def _user_groups(self, interactions: Interactions, features: TrainingFeatures | None) -> list[Directions]:
        """Return the users' features as directions, and keep what turns further users' features into them."""
        self._take_known(latest_user_values(interactions, features))
        counts = np.diff(self._histories.indptr).astype(np.int64)
        self._scale, self._activity = Standardizer.fit(self._known[counts > 0]), Activity.of(counts)
        groups = [
            directions_of_table(self._table(self._known, counts)),
            directions_of_meetings(_ones(self._histories), self.config.meetings),
        ]
        self._bases = (groups[0].basis, groups[1].basis)
        return groups

    def _take_known(self, values: NDArray[np.float32]) -> None:
        """Take the training's features of its users, float32[n_users, Fu]; a batch may bring those of today."""
        self._known = values
        self.uses_features = values.shape[1] > 0

    def _table(self, values: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.concatenate([self._scale.transform(values), self._activity.columns(counts)], axis=1)

    def _make_room(self, d: int, n_weights: int) -> None:
        draws = self.config.samples
        self._items = torch.empty(self.n_items, draws, d)
        self._biases = torch.empty(self.n_items, draws)
        self._prior_mean, self._prior_precision = torch.empty(draws, d), torch.empty(draws, d, d)
        self._weights, self._whims = torch.empty(n_weights, draws, d), torch.empty(draws, 2)
        self._clearness = torch.empty(self.n_items, draws)

    def _keep(self, draw: int, items: NDArray[np.float64], prior: Prior, whims: tuple[Whims, Whims]) -> None:
        self._biases[:, draw] = torch.from_numpy(items[:, 0])
        self._items[:, draw] = torch.from_numpy(items)
        self._items[:, draw, 0] = 1.0
        self._prior_mean[draw] = torch.from_numpy(prior.mean)
        self._prior_precision[draw] = torch.from_numpy(prior.precision)
        self._weights[:, draw] = torch.from_numpy(np.concatenate(prior.weights))
        self._whims[draw] = torch.tensor([whims[0].shape, whims[0].rate])
        self._clearness[:, draw] = torch.from_numpy(whims[1].precision)

    def _tell(self, progress: ProgressCallback, step: int, mean_square: float) -> None:
        if not np.isfinite(mean_square):
            raise RecommenderError(f"{self.name}: the draws have left all bounds at step {step}")
        figures = {"epoch": float(step), "train_rmse": float(np.sqrt(mean_square))}
        self.learning_curve.append(figures)
        progress(Progress(step, self.config.burn_in + self.config.samples, figures))

    def predict(self, users: ArrayLike, items: ArrayLike) -> NDArray[np.float32]:
        """float32[N]: the stars of pairs after the training's histories; user -1 is a stranger without one."""
        return self._forecast_pairs(users, items, spread=False).mean

    def forecast(self, users: ArrayLike, items: ArrayLike) -> Forecast:
        """As :meth:`predict`, with how far off each may be."""
        return self._forecast_pairs(users, items, spread=True)

    def _forecast_pairs(self, users: ArrayLike, items: ArrayLike, *, spread: bool) -> Forecast:
        u, i = self._pairs(users, items)
        asked, place = np.unique(np.maximum(u, -1), return_inverse=True)
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(len(asked) + 1))
        told = Forecast(np.empty(len(u), dtype=np.float32), np.empty(len(u), dtype=np.float32))
        with torch_threads(self.config.threads), torch.inference_mode():
            for part, solved in self._solved(*self._known_users(asked)):
                # The pairs of a user are a run in their order.
                lengths = starts[part + 1] - starts[part]
                runs = np.repeat(starts[part] - np.append(0, np.cumsum(lengths)[:-1]), lengths)
                rows = order[runs + np.arange(lengths.sum())]
                within = np.repeat(np.arange(len(part)), lengths)
                told.mean[rows], told.deviation[rows] = (
                    one[:, 0] for one in self._told(solved, within, i[rows][:, None], spread=spread)
                )
        return told

    def forecast_batch(self, batch: UserBatch, items: ArrayLike) -> Forecast:
        """[B, k] for users with the histories of a batch and each one's items int64[B, k], such as recommended ones."""
        wanted = np.asarray(items, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.n_items):
            raise RecommenderError(f"{self.name}: item index outside 0..{self.n_items - 1}")
        told = Forecast(np.empty(wanted.shape, dtype=np.float32), np.empty(wanted.shape, dtype=np.float32))
        with torch_threads(self.config.threads), torch.inference_mode():
            for part, solved in self._solved(*self._asked(batch)):
                told.mean[part], told.deviation[part] = self._told(
                    solved, np.arange(len(part)), wanted[part], spread=True
                )
        return told

    def _told(
        self, solved: _Solved, users: NDArray[np.int64], items: NDArray[np.int64], *, spread: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation float32[R, k] of items int64[R, k] for places int64[R] among the solved users."""
        mean, deviation = np.empty(items.shape, dtype=np.float32), np.zeros(items.shape, dtype=np.float32)
        draws, d = self._items.shape[1:]
        width = max(1, _CELLS // (draws * d * max(items.shape[1], d if spread else 1)))
        for start in range(0, len(users), width):
            part = slice(start, start + width)
            who, which = torch.from_numpy(users[part]), torch.from_numpy(items[part])
            films = self._items[which].transpose(1, 2)
            stars = (films @ solved.vectors[who][..., None])[..., 0] + self._biases[which].transpose(1, 2)
            mean[part] = stars.mean(dim=1).numpy() + np.float32(self._mean)
            if spread:
                halves = torch.linalg.solve_triangular(solved.roots[who], films.mT, upper=False)
                doubt = (halves**2).sum(dim=2).mean(dim=1) + stars.var(dim=1, correction=0)
                noise = solved.noise[who][:, None] / self._clearness[which].mean(dim=2)
                deviation[part] = (doubt + noise).sqrt().numpy()
        return mean, deviation

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the stars of every item from the batch's histories, not the training's; the data are the stars."""
        scores = np.empty((len(batch), self.n_items), dtype=np.float32)
        flat = self._items.reshape(self.n_items, -1)
        biases = self._biases.mean(dim=1)
        with torch_threads(self.config.threads), torch.inference_mode():
            for part, solved in self._solved(*self._asked(batch)):
                personal = solved.vectors.reshape(len(part), -1) @ flat.T / len(self._whims)
                scores[part] = (personal + biases + self._mean).numpy()
        return scores

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the films' factors in the metric in which the users' tastes vary alike in all directions."""
        roots = torch.linalg.cholesky(self._prior_precision[:, 1:, 1:])
        alike = torch.linalg.solve_triangular(roots, self._items[:, :, 1:].permute(1, 2, 0), upper=False)
        return cosines(np.ascontiguousarray(alike.permute(2, 0, 1).reshape(self.n_items, -1).numpy()), items)

    def _asked(self, batch: UserBatch) -> tuple[csr_array, NDArray[np.float32]]:
        """Return the batch's histories less the mean, and the users' features: the batch's own or the training's."""
        if len(batch) and batch.users.max() >= self.n_users:
            raise RecommenderError(f"{self.name}: a user index outside {self.n_users}")
        told = batch.history
        history = csr_array(
            ((told.data - self._mean).astype(np.float32), told.indices, told.indptr), shape=(len(batch), self.n_items)
        )
        if batch.user_features is not None and batch.user_features.shape[1] == self._known.shape[1]:
            return history, batch.user_features
        return history, self._values_of(batch.users)

    def _known_users(self, users: NDArray[np.int64]) -> tuple[csr_array, NDArray[np.float32]]:
        """Return the training's histories and features of users by index; -1 has neither."""
        of = self._histories
        # One empty row more, for the strangers.
        rows = csr_array(
            (of.data, of.indices, np.append(of.indptr, of.indptr[-1])), shape=(self.n_users + 1, self.n_items)
        )
        return csr_array(rows[np.where(users < 0, self.n_users, users)]), self._values_of(users)

    def _values_of(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.where((users >= 0)[:, None], self._known[np.maximum(users, 0)], np.float32(np.nan))

    def _solved(self, history: csr_array, values: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], _Solved]]:
        """Yield some users at a time (places int64[b] in the rows of ``history``) and what is known of their tastes.

        Users with histories of similar length are solved together, the shorter ones padded with zeros.
        """
        lengths = np.diff(history.indptr).astype(np.int64)
        order = np.argsort(lengths, kind="stable")
        draws, d = self._items.shape[1:]
        stop = len(order)
        while stop > 0:
            # From the longest on, which fills the most, so that a part is never larger than was thought.
            most = max(int(lengths[order[stop - 1]]), d)
            start = max(0, stop - max(1, _CELLS // (most * draws * d)))
            part = order[start:stop]
            yield part, self._solve(csr_array(history[part]), values[part])
            stop = start

    def _solve(self, history: csr_array, values: NDArray[np.float32]) -> _Solved:
        counts = np.diff(history.indptr).astype(np.int64)
        films, stars, clearness = self._gathered(history, counts)
        weighted = films * clearness[..., None]
        gram = weighted.mT @ films
        right = (weighted.mT @ stars[..., None])[..., 0]
        coordinates = np.concatenate(
            [self._table(values, counts) @ self._bases[0], unit_rows(_ones(history)) @ self._bases[1]], axis=1
        )
        shift = torch.from_numpy(coordinates.astype(np.float32)) @ self._weights.reshape(len(self._weights), -1)
        expected = self._prior_mean + shift.reshape(len(counts), *self._prior_mean.shape)
        pull = (self._prior_precision @ expected[..., None])[..., 0]
        precision, noise = self._noise(gram, right, (clearness * stars**2).sum(dim=2), pull, torch.from_numpy(counts))
        roots = torch.linalg.cholesky(precision[:, None, None, None] * gram + self._prior_precision)
        solved = torch.cholesky_solve((precision[:, None, None] * right + pull)[..., None], roots)
        return _Solved(solved[..., 0], roots, noise)

    def _gathered(self, history: csr_array, counts: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Each history's films [b, draws, L, d], what is left of its stars, and the weights of both [b, draws, L]."""
        places = np.arange(max(1, int(counts.max(initial=0))))[None, :]
        filled = places < counts[:, None]
        cells = np.where(filled, history.indptr[:-1][:, None] + places, 0)
        columns = np.where(filled, history.indices[cells] if history.nnz else 0, 0)
        stars = np.where(filled, history.data[cells] if history.nnz else 0.0, 0.0)
        which, mask = torch.from_numpy(columns.astype(np.int64)), torch.from_numpy(filled)[:, :, None]
        left = (torch.from_numpy(stars.astype(np.float32))[:, :, None] - self._biases[which]) * mask
        films = (self._items[which] * mask[..., None]).transpose(1, 2)
        return films, left.transpose(1, 2), self._clearness[which].transpose(1, 2)

    def _noise(
        self, gram: Tensor, right: Tensor, squares: Tensor, pull: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[b] and [b]: the precision of each user's stars and their variance, as a history makes them likely.

        The training drew them with the tastes; here they are found in rounds that take the tastes as independent of
        them (variational Bayes), from some of the draws.
        """
        draws = len(self._whims)
        some = torch.linspace(0, draws - 1, min(draws, _NOISE_DRAWS)).long()
        shape, rate = self._whims[some].mean(dim=0)
        gram, right, squares, pull = gram[:, some], right[:, some], squares[:, some], pull[:, some]
        precision, errors = (shape / rate).expand(len(counts)), torch.zeros(len(counts))
        for _ in range(_NOISE_ROUNDS):
            roots = torch.linalg.cholesky(precision[:, None, None, None] * gram + self._prior_precision[some])
            vectors = torch.cholesky_solve((precision[:, None, None] * right + pull)[..., None], roots)
            fitted = ((gram @ vectors - 2 * right[..., None]) * vectors).sum(dim=(2, 3))
            doubt = (gram * torch.cholesky_inverse(roots)).sum(dim=(2, 3))
            errors = (squares + fitted + doubt).mean(dim=1).clamp_min(0.0)
            precision = ((shape + counts / 2) / (rate + errors / 2)).clamp_max(MOST_PRECISE)
        return precision, (rate + errors / 2) / (shape + counts / 2 - 1).clamp_min(0.5)

    def forget_users(self) -> None:
        """Drop the histories and features of the training: from now on everybody is who his batch says."""
        self._histories = csr_array((self.n_users, self.n_items), dtype=np.float32)
        self._known = np.full_like(self._known, np.nan)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        facts = {"mean": self._mean, "activity": asdict(self._activity)}
        return facts, {
            **{name: getattr(self, f"_{name}").numpy() for name in _DRAWN},
            **{f"scale_{name}": value for name, value in asdict(self._scale).items()},
            "basis_table": self._bases[0],
            "basis_meetings": self._bases[1],
            "history_stars": self._histories.data,
            "history_items": self._histories.indices,
            "history_starts": self._histories.indptr,
            "user_values": self._known,
        }

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if len(arrays["items"]) != self.n_items or len(arrays["user_values"]) != self.n_users:
            raise RecommenderError(f"{self.name}: draws of other sizes than {self.n_users} and {self.n_items}")
        self._mean, self._activity = float(facts["mean"]), Activity(**facts["activity"])
        for name in _DRAWN:
            setattr(self, f"_{name}", torch.from_numpy(arrays[name]))
        self._scale = Standardizer(**{name: arrays[f"scale_{name}"] for name in asdict(self._scale)})
        self._bases = (arrays["basis_table"], arrays["basis_meetings"])
        self._histories = csr_array(
            (arrays["history_stars"], arrays["history_items"], arrays["history_starts"]),
            shape=(self.n_users, self.n_items),
        )
        self._take_known(arrays["user_values"])


#: What is kept of the draws, by the names of the attributes without their underscore.
_DRAWN = ("items", "biases", "clearness", "prior_mean", "prior_precision", "weights", "whims")


@dataclass(frozen=True, slots=True)
class _Solved:
    """What b histories say of their users' tastes in each draw, and of their whims.

    ``vectors`` [b, draws, d] are the means, ``roots`` [b, draws, d, d] Cholesky factors of the precisions, ``noise``
    [b] the variance of a user's stars around his taste.
    """

    vectors: Tensor
    roots: Tensor
    noise: Tensor


def _ones(matrix: csr_array) -> csr_array:
    return csr_array((np.ones(matrix.nnz, dtype=np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def _expected_stars(
    users: NDArray[np.float64], items: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int32]
) -> NDArray[np.float64]:
    """float64[N]: what two sides of vectors, each with its bias first, expect of pairs."""
    product = np.einsum("nf,nf->n", users[rows, 1:], items[columns, 1:])
    return np.asarray(users[rows, 0] + items[columns, 0] + product, dtype=np.float64)
