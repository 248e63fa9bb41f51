"""Recommenders as they are served: read from their saved files, without torch, and with all made once that users share.

A form scores as its recommender does, up to the rounding of floats; a test holds the two together. It cannot be fitted.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.features import ItemsAsOf, Standardizer, TrainingFeatures
from models.interactions import Interactions
from models.recommender import (
    ProgressCallback,
    Recommender,
    RecommenderError,
    UnknownUser,
    UserBatch,
    read_manifest,
)
from models.registry import load_recommender

#: Films whose hidden layers are made at a time: what is read again soon stays in the processor's cache.
_FILMS = 1024
#: Rows of EASE's weights that are read at a time.
_ROWS = 256
#: Rows after whose reading the pages of the file are let go: 96 MB of 12,000 items.
_HELD = 2_000
_WEIGHTS = "weights.npz"


@runtime_checkable
class KnowsLikeness(Protocol):
    """A recommender that says how alike some items are to some others without looking at all the rest."""

    def likeness(self, items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), len(others)]: these columns of ``similarities``."""
        ...


def load_served_form(folder: Path) -> Recommender:
    """What a saved recommender is served as: its form, or the recommender itself where it has none."""
    form = _FORMS.get(read_manifest(folder)["recommender"])
    return load_recommender(folder) if form is None else form.load(folder)


class ServedForm(Recommender):
    """A saved recommender that answers; ``settings`` is its saved configuration as plain values."""

    settings: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The form of what is saved in a folder; ``RecommenderError`` for another recommender."""
        manifest = read_manifest(folder)
        if manifest["recommender"] != cls.name:
            raise RecommenderError(f"{folder}: holds a {manifest['recommender']}, not a {cls.name}")
        loaded = cls()
        loaded.n_users, loaded.n_items = int(manifest["n_users"]), int(manifest["n_items"])
        loaded.settings = manifest["config"]
        loaded._take(manifest["state"], folder / _WEIGHTS)
        return loaded

    def _take(self, facts: Mapping[str, Any], weights: Path) -> None:
        with np.load(weights, allow_pickle=False) as stored:
            self._restore(facts, {name: stored[name] for name in stored.files})

    def fit_memory(self, n_users: int, n_items: int, n_interactions: int) -> int:
        """Nothing: there is no fit."""
        return 0

    def _fit(
        self, interactions: Interactions, features: TrainingFeatures | None, seed: int, progress: ProgressCallback
    ) -> None:
        raise RecommenderError(f"{self.name}: this form is served, not fitted")

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        raise RecommenderError(f"{self.name}: this form is served, not saved")


class ServedIals(ServedForm):
    """iALS (``models.als.Ials``) with the product of all items' factors made once: 5 of 6 ms of an answer."""

    name: ClassVar[str] = "ials"
    uses_history: ClassVar[bool] = True

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._items: NDArray[np.float32] = arrays["items"]
        self._last: tuple[object, NDArray[np.float64], NDArray[np.float64]] | None = None
        wide = self._items.astype(np.float64)
        self._gram = self.settings["unobserved"] * (wide.T @ wide)
        lengths = np.linalg.norm(self._items, axis=1, keepdims=True)
        self._units = np.divide(self._items, lengths, out=np.zeros_like(self._items), where=lengths > 0)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """The products of the factors solved for the histories with those of the items."""
        if len(batch) == 1:
            x, solved = self._of_one(batch)
            user = solved @ x.sum(axis=0)
            return np.asarray((self._items @ user.astype(np.float32))[None], dtype=np.float32)
        bounds, indices = batch.history.indptr.tolist(), batch.history.indices
        met = [self._items[indices[start:stop]] for start, stop in pairwise(bounds)]
        # One small product a user; the equations of all are solved together.
        systems = np.stack([self._system(x) for x in met]) if met else np.empty((0, *self._gram.shape))
        sums = np.array([x.sum(axis=0, dtype=np.float64) for x in met]).reshape(len(met), -1, 1)
        users = np.linalg.solve(systems, sums)[:, :, 0].astype(np.float32)
        return np.asarray(users @ self._items.T, dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of ``Ials``: what each item's score would lose without each entry."""
        self._explains(batch)
        x, inverse = self._of_one(batch)
        v, solved = self._items[items].astype(np.float64), inverse @ x.T
        user = solved.sum(axis=1)
        lost = (1.0 - x @ user) / (1.0 - np.einsum("ij,ji->i", x, solved))
        return np.asarray((v @ solved) * lost, dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the item factors."""
        return np.asarray(self._units[items] @ self._units.T, dtype=np.float32)

    def item_vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The items' factors of length 1, twice."""
        return self._units, self._units

    def _of_one(self, batch: UserBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64[h, f] and float64[f, f]: what the one user has met, and the inverse of his equations.

        Kept for the next question about the same batch: an answer is scored first and explained then.
        """
        last = self._last
        if last is not None and last[0] is batch.history:
            return last[1], last[2]
        x = self._items[batch.history.indices].astype(np.float64)
        inverse = np.asarray(np.linalg.inv(self._system(x)), dtype=np.float64)
        self._last = (batch.history, x, inverse)
        return x, inverse

    def _system(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """float64[f, f]: the user's equations, of the factors [h, f] that he has met."""
        pairs = len(x) + self.settings["unobserved"] * self.n_items
        penalty = self.settings["regularization"] * pairs ** self.settings["exponent"]
        own = np.asarray(x.T @ x, dtype=np.float64)
        return np.asarray(self._gram + own + penalty * np.eye(len(self._gram)), dtype=np.float64)


class ServedNeuMF(ServedForm):
    """NeuMF (``models.neumf.NeuMF``): the items' share of the first layer is made once, the rest a part at a time."""

    name: ClassVar[str] = "neumf"

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        net = {name.removeprefix("network."): value for name, value in arrays.items() if name.startswith("network.")}
        scales = [
            Standardizer(*(arrays[f"scale.{place}.{column}"] for column in ("heavy", "mean", "std", "flagged")))
            for place in range(int(facts["scales"]))
        ]
        self.uses_features = bool(scales)
        self._scales = scales
        self._gmf_user = np.asarray(net["gmf_user.weight"] * net["gmf_out"], dtype=np.float32)
        self._gmf_item = np.ascontiguousarray(net["gmf_item.weight"].T)
        self._item_bias = net["item_bias"]
        self._user_share = np.asarray(
            net["mlp_user.weight"] @ net["first_user.weight"].T + net["first_user.bias"], dtype=np.float32
        )
        self._item_share = np.asarray(net["mlp_item.weight"] @ net["first_item.weight"].T, dtype=np.float32)
        self._user_features, self._item_features = net["user_features"], net["item_features"]
        depth = len(self.settings["layers"]) - 1
        self._hidden = [
            (np.ascontiguousarray(net[f"hidden.{place}.weight"]), net[f"hidden.{place}.bias"]) for place in range(depth)
        ]
        self._out, self._out_bias = net["mlp_out.weight"].reshape(-1), np.float32(net["mlp_out.bias"][0])
        self._likeness, self._belief = arrays["likeness"], arrays["belief"]
        #: What the item features of the last batch came to, for the next one that brings the same object.
        self._made: tuple[object, NDArray[np.float32]] | None = None

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Logits; ``UnknownUser`` and ``RecommenderError`` as of ``NeuMF``."""
        if len(batch) and (batch.users.min() < 0 or batch.users.max() >= self.n_users):
            raise UnknownUser(f"neumf: knows the users 0..{self.n_users - 1} only")
        first = self._user_share[batch.users]
        if self._scales:
            if batch.user_features is None or batch.item_features is None:
                raise RecommenderError("neumf: a batch needs features of users and items, as the training had")
            first = first + self._scales[0].transform(batch.user_features) @ self._user_features
        items = self._item_part(batch.item_features)
        scores = self._gmf_user[batch.users] @ self._gmf_item + self._item_bias
        # With relu(x + b) = max(x, -b) + b each layer is one pass over the films, and its b a part of the next layer's.
        shifts = [first]
        for weight, bias in self._hidden:
            shifts.append(shifts[-1] @ weight.T + bias)
        scores += (shifts[-1] @ self._out)[:, None]
        # A column a film: the layers' matrices are small, and their products with many columns are what is fast.
        room = [np.empty((shift.shape[1], min(_FILMS, self.n_items)), dtype=np.float32) for shift in shifts]
        for start in range(0, self.n_items, _FILMS):
            x = items[:, start : start + _FILMS]
            layers = [space[:, : x.shape[1]] for space in room]
            for row in range(len(batch)):
                hidden = np.maximum(x, -shifts[0][row][:, None], out=layers[0])
                for (weight, _), shift, space in zip(self._hidden, shifts[1:], layers[1:], strict=True):
                    hidden = np.matmul(weight, hidden, out=space)
                    np.maximum(hidden, -shift[row][:, None], out=hidden)
                scores[row, start : start + _FILMS] += self._out @ hidden
        return np.asarray(scores + self._out_bias, dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of ``NeuMF``: the cosine of likeness vectors, damped for items with few ratings."""
        return np.asarray((self._likeness[items] @ self._likeness.T) * self._belief, dtype=np.float32)

    def item_vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The likeness vectors, and the same damped."""
        return self._likeness, np.asarray(self._likeness * self._belief[:, None], dtype=np.float32)

    def likeness(self, items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), len(others)]: the columns ``others`` of :meth:`similarities`."""
        return np.asarray((self._likeness[items] @ self._likeness[others].T) * self._belief[others], dtype=np.float32)

    def _item_part(self, values: NDArray[np.float32] | ItemsAsOf | None) -> NDArray[np.float32]:
        """float32[h, n_items]: the items' share of the first layer; kept as long as batches bring the same object."""
        if isinstance(values, ItemsAsOf):
            raise RecommenderError("neumf: this form is served with the items' features of one moment")
        if not self._scales:
            values = None
        made = self._made
        if made is None or made[0] is not values:
            part = self._item_share
            if values is not None:
                ends = np.cumsum([len(scale.mean) for scale in self._scales[1:]])
                if values.shape[-1] != ends[-1]:
                    raise RecommenderError(f"neumf: {values.shape[-1]} item features, the training had {ends[-1]}")
                columns = zip(self._scales[1:], np.split(values, ends[:-1], axis=-1), strict=True)
                scaled = np.concatenate([scale.transform(column) for scale, column in columns], axis=-1)
                part = part + scaled @ self._item_features
            made = (values, np.ascontiguousarray(part.T, dtype=np.float32))
            self._made = made
        return made[1]


class ServedItemKnn(ServedForm):
    """ItemKNN (``models.itemknn.ItemKnn``), its neighbours turned once: a long history reads its own rows only."""

    name: ClassVar[str] = "itemknn"
    uses_history: ClassVar[bool] = True

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        shape = (self.n_items, self.n_items)
        self._likeness = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        self._turned = csr_array(self._likeness.T.tocsr())

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """The summed likeness of each item's neighbours in the history."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        return np.asarray((ones @ self._turned).toarray(), dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """The likeness of each entry to each item: the score is their sum."""
        self._explains(batch)
        return np.asarray(self._likeness[items].toarray()[:, batch.history.indices], dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """The likeness to the neighbours, 0 to all others."""
        return np.asarray(self._likeness[items].toarray(), dtype=np.float32)


class ServedEase(ServedForm):
    """EASE (``models.ease.Ease``) on weights that stay in their file: a user's rows of them are read when asked.

    12,000 items are 576 MB. Mapped, they are the system's memory, which it shares among workers and takes back.
    """

    name: ClassVar[str] = "ease"
    uses_history: ClassVar[bool] = True

    def _take(self, facts: Mapping[str, Any], weights: Path) -> None:
        self._file: mmap.mmap | None = None
        self._read = 0
        with np.load(weights, allow_pickle=False) as stored:
            self._items: NDArray[np.int64] = stored["items"]
        n = len(self._items)
        offset = _data_offset(weights, "weights.npy", (n, n))
        if offset is None:
            # Saved by columns, as a bundle from before its rows were put in order: read into memory.
            with np.load(weights, allow_pickle=False) as stored:
                self._bytes: NDArray[np.uint8] = np.ascontiguousarray(stored["weights"]).view(np.uint8)
        else:
            with weights.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # Bytes, for the archive puts its members at any address, and numbers must lie at one of theirs.
            self._bytes = np.frombuffer(self._file, np.uint8, 4 * n * n, offset).reshape(n, 4 * n)
        self._place = np.full(self.n_items, -1, dtype=np.int64)
        self._place[self._items] = np.arange(n)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """The sum of the weights of what was met; an item outside the weights scores 0."""
        bounds = batch.history.indptr.tolist()
        places = self._place[batch.history.indices]
        scores = np.zeros((len(batch), self.n_items), dtype=np.float32)
        for row, (start, stop) in enumerate(pairwise(bounds)):
            known = places[start:stop]
            known = known[known >= 0]
            parts = (self._rows(known[at : at + _ROWS]).sum(axis=0) for at in range(0, len(known), _ROWS))
            scores[row, self._items] = sum(parts, start=np.zeros(len(self._items), dtype=np.float32))
        return scores

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weight of each entry for each item: the score is their sum."""
        self._explains(batch)
        met, asked = self._place[batch.history.indices], self._place[items]
        found = np.zeros((len(items), len(met)), dtype=np.float32)
        known, answered = np.flatnonzero(met >= 0), np.flatnonzero(asked >= 0)
        for at in range(0, len(known), _ROWS):
            some = known[at : at + _ROWS]
            found[np.ix_(answered, some)] = self._rows(met[some])[:, asked[answered]].T
        return found

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weights that an item in the history gives to the others; all 0 for one that was never met."""
        found = np.zeros((len(items), self.n_items), dtype=np.float32)
        known = np.flatnonzero(self._place[items] >= 0)
        found[np.ix_(known, self._items)] = self._rows(self._place[items[known]])
        return found

    def _rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(places), n]: rows of the weights, copied out of the file."""
        rows = np.ascontiguousarray(self._bytes[places]).view(np.float32)
        self._read += len(places)
        if self._file is not None and self._read > _HELD:
            # The pages stay in the system's cache; held here, they would be this process's memory one by one.
            self._file.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return rows

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        raise RecommenderError("ease: the weights are not read, they are mapped")


def _data_offset(archive: Path, member: str, shape: tuple[int, ...]) -> int | None:
    """Where the numbers of a stored array begin in an ``.npz``; None where they are by columns.

    ``RecommenderError`` for another kind of array.
    """
    with zipfile.ZipFile(archive) as stored:
        about = stored.getinfo(member)
        with stored.open(member) as stream:
            np.lib.format.read_magic(stream)
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            header = stream.tell()
    if about.compress_type != zipfile.ZIP_STORED or dtype != np.float32 or found != shape:
        raise RecommenderError(f"{archive}: {member} is not a plain array of float32{list(shape)}")
    if fortran:
        return None
    with archive.open("rb") as file:
        file.seek(about.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), dtype="<u2").tolist()
    return int(about.header_offset + 30 + name + extra + header)


def put_rows_in_order(folder: Path) -> None:
    """Write the arrays of a saved recommender by rows where a fit left some by columns, so that they can be mapped."""
    file = folder / _WEIGHTS
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if all(array.flags.c_contiguous for array in arrays.values()):
        return
    np.savez(file, allow_pickle=False, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})


_FORMS: dict[str, type[ServedForm]] = {form.name: form for form in (ServedIals, ServedNeuMF, ServedItemKnn, ServedEase)}
