"""The contract of every recommender: fit, score, recommend, similar, save, load."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.data.batch import UserBatch
from models.data.features import ItemsAsOf, TrainingFeatures
from models.data.interactions import Interactions
from models.runtime.checkpoints import Checkpoint, fit_key
from models.runtime.code_fingerprint import code_fingerprint
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress, ProgressCallback

#: The layout of a saved recommender; a loader refuses any other.
SCHEMA_VERSION = 1

#: Entries of a history that are left out one by one to explain a score, where the weights do not tell.
LEFT_OUT = 64

_MANIFEST = "recommender.json"
_WEIGHTS = "weights.npz"


@dataclass(frozen=True, slots=True)
class WordWeights:
    """What the words of k items give to their scores: ``weights`` float32[k, n], and the n names of the columns."""

    weights: NDArray[np.float32]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class EmptyConfig:
    """The configuration of a recommender that has nothing to set."""


class Recommender(ABC):
    """A recommender over a fixed item index space; items and users are indices from 0.

    A subclass sets ``name`` and ``config_class`` and writes ``_fit``, ``score``, ``similarities`` and its state. What a
    user has seen is never recommended again, equal scores are ordered by item index, and a saved recommender
    that is loaded scores the same.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]] = EmptyConfig
    #: Whether the scores depend on the features in a batch, so that they have to be read for every user who is asked
    #: for. A fact of the fitted recommender: some use features where the fit had any.
    uses_features: bool = False
    #: Whether it can neither be fitted nor score without them.
    needs_features: bool = False
    #: Whether the scores depend on the batch's history, so that a new rating counts without a fit.
    uses_history: ClassVar[bool] = False
    #: Whether several processes can fit it together (``torchrun``, see ``models.runtime.distributed``).
    fitted_by_teams: ClassVar[bool] = False

    def __init__(self, config: Any | None = None) -> None:
        self.config: Any = self.config_class() if config is None else config
        self.n_users = 0
        self.n_items = 0
        #: One row a step of the fit (epoch, loss, validation metrics); empty for a closed form.
        self.learning_curve: list[dict[str, float]] = []
        #: Where the states of the fit are kept; whoever has saved a fitted recommender removes it.
        self.checkpoint = Checkpoint()

    def fit(
        self,
        interactions: Interactions,
        features: TrainingFeatures | None = None,
        *,
        seed: int = 0,
        progress: ProgressCallback | None = None,
        checkpoints: Path | None = None,
    ) -> Self:
        """Learn from all rows of ``interactions`` (one row a user and item); the same seed gives the same scores.

        ``checkpoints`` is a folder for the states of fits. One that was killed goes on when it is asked for again with
        the same recipe, code, data and seed, and ends with the same scores; a recommender that is fitted in a moment
        keeps none. Raises ``RecommenderError`` for no rows at all, or missing features that it needs.
        """
        if len(interactions) == 0:
            raise RecommenderError(f"{self.name}: there is no interaction to learn from")
        if self.needs_features and features is None:
            raise RecommenderError(f"{self.name}: needs features, or a configuration without them")
        if features is not None and len(features.user_values) != len(interactions):
            raise RecommenderError(
                f"{self.name}: {len(interactions)} interactions, but {len(features.user_values)} rows of user features"
            )
        self.n_users, self.n_items = interactions.n_users, interactions.n_items
        self.learning_curve = []
        self.checkpoint = Checkpoint()
        if checkpoints is not None:
            self.checkpoint = Checkpoint.of(checkpoints, self._key(interactions, features, seed))
        self._fit(interactions, features, seed, progress or _ignore)
        return self

    def _key(self, interactions: Interactions, features: TrainingFeatures | None, seed: int) -> str:
        """Return the key of this fit, from all that it depends on: recipe, code, seed and data."""
        facts: list[object] = [self.name, self.config, seed, code_fingerprint(type(self).__module__)]
        columns = (interactions.users, interactions.items, interactions.ratings, interactions.timestamps)
        facts += [*columns, interactions.n_users, interactions.n_items]
        if features is not None:
            facts += [features.user_values, features.user_names]
            if features.item_content is not None:
                content = features.item_content
                facts += [content.names, content.years]
                facts += [content.counts.data, content.counts.indices, content.counts.indptr]
            for history in features.item_histories:
                facts += [history.keys, history.times, history.values, history.names]
        return fit_key(facts)

    @abstractmethod
    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        """Learn; the arguments are checked, the sizes set."""

    @abstractmethod
    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Bytes that a fit of this size holds at its peak beside the interactions, known before it starts."""

    @abstractmethod
    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """float32[B, n_items]: the higher the better, comparable within a row only; seen items are scored too.

        Raises ``UnknownUser`` where an index of -1 cannot be answered.
        """

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), h]: what each item's score would lose without each of the h entries of the history.

        For a batch of one user. Here the scores are made once more without each of the :data:`LEFT_OUT` newest entries
        (the others get 0): exact, for so many users' time. A model that can tell it from its weights does.
        Raises ``RecommenderError`` for several users, or a model whose scores do not come from the history.
        """
        self._explains(batch)
        entries = newest_entries(batch, LEFT_OUT)
        found = np.zeros((len(items), batch.history.nnz), dtype=np.float32)
        if len(entries):
            whole = self.score(batch)[0, items]
            found[:, entries] = whole[:, None] - self.score(without_each(batch, entries))[:, items].T
        return found

    def word_weights(self, batch: UserBatch, items: NDArray[np.int64]) -> WordWeights | None:
        """Return what the words that each item shares with the history add to its score; None if words do not count."""
        return None

    def _explains(self, batch: UserBatch) -> None:
        if len(batch) != 1:
            raise RecommenderError(f"{self.name}: explains to one user at a time, not to {len(batch)}")
        if not self.uses_history:
            raise RecommenderError(f"{self.name}: its scores do not come from the history")

    @abstractmethod
    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), n_items]: how alike every item is to each given one; the higher the more."""

    def recommend(
        self, batch: UserBatch, k: int, *, exclude_seen: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return each user's k best items, best first: items int64[B, k] and scores float32[B, k].

        Where a user has fewer than k items left, the rest of the row is item -1 with score -inf. Equal scores are
        ordered by item index.
        """
        scores = self.score(batch)
        return top_k(mask_seen(scores, batch.history) if exclude_seen else scores, k)

    def similar(self, items: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the k items most similar to each given one, without itself; shape and padding as :meth:`recommend`."""
        wanted = np.asarray(items, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.n_items):
            raise RecommenderError(f"{self.name}: item index outside 0..{self.n_items - 1}")
        scores = np.array(self.similarities(wanted), dtype=np.float32)
        scores[np.arange(len(wanted)), wanted] = -np.inf
        return top_k(scores, k)

    def save(self, folder: Path) -> None:
        """Write ``recommender.json`` and ``weights.npz`` into an existing or new folder."""
        folder.mkdir(parents=True, exist_ok=True)
        facts, arrays = self._state()
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "recommender": self.name,
            "config": asdict(self.config),
            "n_users": self.n_users,
            "n_items": self.n_items,
            "learning_curve": self.learning_curve,
            "state": facts,
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        np.savez(folder / _WEIGHTS, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what :meth:`save` wrote; raise ``RecommenderError`` for another recommender or schema version."""
        manifest = read_manifest(folder)
        if manifest["recommender"] != cls.name:
            raise RecommenderError(f"{folder}: holds a {manifest['recommender']}, not a {cls.name}")
        config = {key: tuple(v) if isinstance(v, list) else v for key, v in manifest["config"].items()}
        loaded = cls(cls.config_class(**config))
        loaded.n_users, loaded.n_items = int(manifest["n_users"]), int(manifest["n_items"])
        loaded.learning_curve = list(manifest["learning_curve"])
        with np.load(folder / _WEIGHTS, allow_pickle=False) as weights:
            loaded._restore(manifest["state"], {name: weights[name] for name in weights.files})
        return loaded

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what was learnt: plain facts for JSON, arrays for npz."""

    @abstractmethod
    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`_state` gave."""


def newest_entries(batch: UserBatch, count: int) -> NDArray[np.int64]:
    """Return the newest entries of the one user's history, at most ``count``; the last ones if no time is known."""
    times = np.zeros(batch.history.nnz) if batch.history_times is None else batch.history_times
    return np.sort(np.argsort(times, kind="stable")[-count:]).astype(np.int64)


def without_each(batch: UserBatch, entries: NDArray[np.int64]) -> UserBatch:
    """Repeat the one user for each of the ``entries`` of their history, each time without that entry."""
    n, length = len(entries), batch.history.nnz
    kept = np.arange(length)[None, :] != entries[:, None]
    history = csr_array(
        (
            np.tile(batch.history.data, (n, 1))[kept],
            np.tile(batch.history.indices, (n, 1))[kept],
            np.arange(n + 1) * (length - 1),
        ),
        shape=(n, batch.history.shape[1]),
    )
    items = batch.item_features
    return UserBatch(
        np.repeat(batch.users, n),
        history,
        None if batch.user_features is None else np.repeat(batch.user_features, n, axis=0),
        ItemsAsOf(items.histories, np.repeat(items.times, n), items.n_items) if isinstance(items, ItemsAsOf) else items,
        None if batch.history_times is None else np.tile(batch.history_times, (n, 1))[kept],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """``recommender.json`` of a saved recommender; ``RecommenderError`` when it is missing or of another schema."""
    path = folder / _MANIFEST
    if not path.is_file():
        raise RecommenderError(f"{folder}: no saved recommender ({_MANIFEST} is missing)")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise RecommenderError(
            f"{path}: schema version {manifest.get('schema_version')!r}, this code reads {SCHEMA_VERSION}"
        )
    return manifest


def mask_seen(scores: NDArray[np.float32], history: csr_array) -> NDArray[np.float32]:
    """Return a copy of ``scores`` float32[B, n_items] with -inf where the history has an entry."""
    masked = np.array(scores, dtype=np.float32)
    rows = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    masked[rows, history.indices] = -np.inf
    return masked


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k best columns of each row, best first, ties by column; -1 and -inf where a row has no more.

    A score of -inf is no candidate. Raises ``RecommenderError`` for k < 1 or a score that is NaN.

    >>> items, best = top_k(np.array([[0.5, 0.9, 0.5, -np.inf]], dtype=np.float32), 4)
    >>> items.tolist()
    [[1, 0, 2, -1]]
    """
    if k < 1:
        raise RecommenderError(f"k must be at least 1, not {k}")
    if np.isnan(scores).any():
        raise RecommenderError("a score is not a number")
    n_rows, n_items = scores.shape
    # argpartition leaves open which of several equal scores it takes. The bits of a float32, made monotone, above the
    # inverted column number are one int64 key without ties: every run and every batch size picks the same.
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0.0)).view(np.int32).astype(np.int64)
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (bits << 32) | (0xFFFFFFFF - np.arange(n_items, dtype=np.int64))
    kept = min(k, n_items)
    part = np.argpartition(keys, n_items - kept, axis=1)[:, n_items - kept :] if kept < n_items else None
    columns = np.broadcast_to(np.arange(n_items), scores.shape) if part is None else part
    order = np.argsort(-np.take_along_axis(keys, columns, axis=1), axis=1)
    columns = np.take_along_axis(columns, order, axis=1)
    items = np.full((n_rows, k), -1, dtype=np.int64)
    best = np.full((n_rows, k), -np.inf, dtype=np.float32)
    best[:, :kept] = np.take_along_axis(scores, columns, axis=1)
    items[:, :kept] = np.where(np.isneginf(best[:, :kept]), -1, columns)
    return items, best


def _ignore(_: Progress) -> None:
    """Ignore the progress of a fit that nobody watches."""
