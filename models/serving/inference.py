"""Recommenders as they are served: read from their saved files, without torch, and with all made once that users share.

A form scores as its recommender does, up to the rounding of floats; a test holds the two together. It cannot be fitted.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.algorithms.content_based import ContentBased
from models.base import Recommender, read_manifest
from models.data.batch import UserBatch
from models.data.features import ItemsAsOf, Standardizer, TrainingFeatures
from models.data.interactions import Interactions
from models.registry import load_recommender
from models.runtime.errors import RecommenderError, UnknownUser
from models.runtime.progress import ProgressCallback

#: Films whose hidden layers are made at a time: what is read again soon stays in the processor's cache.
_FILMS = 1024
#: Rows of EASE's weights that are looked at before the pages of the file are let go: 24 MB of 12,000 items, and a few
#: times as much of what the system maps around them.
_HELD = 500
_WEIGHTS = "weights.npz"
#: Bytes that the arrays of an archive begin at a multiple of, as they do in memory.
_EVEN = 64
#: Of a zip archive: bytes of a member's header before its name and of the field of a large one, and the field that
#: Android's zipalign pads with.
_LOCAL_HEADER, _ZIP64_FIELD, _PADDING_FIELD = 30, 20, 0xD935


@runtime_checkable
class KnowsLikeness(Protocol):
    """A recommender that says how alike some items are to some others without looking at all the rest."""

    def likeness(self, items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), len(others)]: these columns of ``similarities``."""
        ...

    def weighted(self, sums: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> NDArray[np.float32]:
        """float32[len(sums), n_items]: of each (items, weights) the weighted sum of these rows of ``similarities``."""
        ...


@runtime_checkable
class ScoresEach(Protocol):
    """A recommender that scores users who come one by one together, and remembers of each what his reasons need."""

    def score_each(self, batches: Sequence[UserBatch]) -> NDArray[np.float32]:
        """float32[len(batches), n_items], the caller's to change: the scores of the one user of each batch."""
        ...


def load_served_form(folder: Path) -> Recommender:
    """Load the form that a saved recommender is served as, or the recommender itself where it has none."""
    form = _FORMS.get(read_manifest(folder)["recommender"])
    return load_recommender(folder) if form is None else form.load(folder)


class ServedForm(Recommender):
    """A saved recommender that answers; ``settings`` is its saved configuration as plain values."""

    settings: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the form of what is saved in a folder; raise ``RecommenderError`` for another recommender."""
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
    """iALS (``Ials``) with the product of all items' factors made once: 5 of 6 ms of an answer."""

    name: ClassVar[str] = "ials"
    uses_history: ClassVar[bool] = True

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._items: NDArray[np.float32] = arrays["items"]
        self._last: dict[int, tuple[object, NDArray[np.float64], NDArray[np.float64]]] = {}
        wide = self._items.astype(np.float64)
        self._gram = self.settings["unobserved"] * (wide.T @ wide)
        lengths = np.linalg.norm(self._items, axis=1, keepdims=True)
        self._units = np.divide(self._items, lengths, out=np.zeros_like(self._items), where=lengths > 0)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the products of the factors solved for the histories with those of the items."""
        bounds = pairwise(batch.history.indptr.tolist())
        return self._scores([self._met(batch.history.indices[start:stop]) for start, stop in bounds])[0]

    def score_each(self, batches: Sequence[UserBatch]) -> NDArray[np.float32]:
        """Likewise of users who come one by one; the inverses of their equations are kept until the next ones come."""
        met = [self._met(batch.history.indices) for batch in batches]
        scores, inverses = self._scores(met)
        self._last = {
            id(batch.history): (batch.history, x, inverse)
            for batch, x, inverse in zip(batches, met, inverses, strict=True)
        }
        return scores

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of ``Ials``: what each item's score would lose without each entry."""
        self._explains(batch)
        x, inverse = self._of_one(batch)
        v, solved = self._items[items].astype(np.float64), inverse @ x.T
        user = solved.sum(axis=1)
        lost = (1.0 - x @ user) / (1.0 - (x * solved.T).sum(axis=1))
        return np.asarray((v @ solved) * lost, dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the item factors."""
        return np.asarray(self._units[items] @ self._units.T, dtype=np.float32)

    def item_vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the items' factors of length 1, twice."""
        return self._units, self._units

    def _of_one(self, batch: UserBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64[h, f] and float64[f, f]: what the one user has met, and the inverse of his equations."""
        last = self._last.get(id(batch.history))
        if last is not None and last[0] is batch.history:
            return last[1], last[2]
        x = self._met(batch.history.indices)
        return x, np.asarray(np.linalg.inv(self._system(x)), dtype=np.float64)

    def _met(self, items: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self._items[items], dtype=np.float64)

    def _scores(self, met: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """float32[B, n_items] and float64[B, f, f]: of the factors that each of B users has met, and the inverses."""
        if not met:
            return np.empty((0, self.n_items), dtype=np.float32), np.empty((0, *self._gram.shape))
        # One small product a user; the equations of all are solved together.
        inverses = np.linalg.inv(np.stack([self._system(x) for x in met]))
        users = np.matmul(inverses, np.array([x.sum(axis=0) for x in met])[:, :, None])[:, :, 0]
        return np.asarray(users.astype(np.float32) @ self._items.T, dtype=np.float32), inverses

    def _system(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """float64[f, f]: the user's equations, of the factors [h, f] that he has met."""
        pairs = len(x) + self.settings["unobserved"] * self.n_items
        penalty = self.settings["regularization"] * pairs ** self.settings["exponent"]
        own = np.asarray(x.T @ x, dtype=np.float64)
        return np.asarray(self._gram + own + penalty * np.eye(len(self._gram)), dtype=np.float64)


class ServedNeuMF(ServedForm):
    """NeuMF (``NeuMF``): the items' share of the first layer is made once, the rest a part at a time."""

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
        """Return the likeness vectors, and the same damped."""
        return self._likeness, np.asarray(self._likeness * self._belief[:, None], dtype=np.float32)

    def likeness(self, items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[len(items), len(others)]: the columns ``others`` of :meth:`similarities`."""
        return np.asarray((self._likeness[items] @ self._likeness[others].T) * self._belief[others], dtype=np.float32)

    def weighted(self, sums: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> NDArray[np.float32]:
        """Return the weighted sums of rows of :meth:`similarities`; the vectors are summed first."""
        vectors = np.stack([weights @ self._likeness[items] for items, weights in sums])
        return np.asarray((vectors @ self._likeness.T) * self._belief, dtype=np.float32)

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
    """ItemKNN (``ItemKnn``), its neighbours turned once: a long history reads its own rows only."""

    name: ClassVar[str] = "itemknn"
    uses_history: ClassVar[bool] = True

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        shape = (self.n_items, self.n_items)
        self._likeness = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        self._turned = csr_array(self._likeness.T.tocsr())

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the summed likeness of each item's neighbours in the history."""
        ones = csr_array(
            (np.ones(batch.history.nnz, dtype=np.float32), batch.history.indices, batch.history.indptr),
            shape=batch.history.shape,
        )
        return np.asarray((ones @ self._turned).toarray(), dtype=np.float32)

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the likeness of each entry to each item: the score is their sum."""
        self._explains(batch)
        return np.asarray(self._likeness[items].toarray()[:, batch.history.indices], dtype=np.float32)

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the likeness to the neighbours, 0 to all others."""
        return np.asarray(self._likeness[items].toarray(), dtype=np.float32)


class ServedContent(ServedForm, ContentBased):
    """Content (``ContentBased``): a profile of words meets the films' in one pass over these.

    The product of two sparse matrices, which a fit's many users need, turns all films' words around for each request.
    """

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        # Scipy keeps the width of the numbers that it is given, and half of it is enough.
        super()._restore(facts, {**arrays, **{name: arrays[name].astype(np.int32) for name in ("indices", "indptr")}})

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Cosines between 0 and 1; 0 for an item without a word or a user without a history."""
        scores = np.empty((len(batch), self.n_items), dtype=np.float32)
        for row, (start, stop) in enumerate(pairwise(batch.history.indptr.tolist())):
            scores[row] = self._likeness_to(batch.history.indices[start:stop])
        return scores

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of the items' own vectors, which are of length 1 or empty."""
        found = [self._likeness_to(np.array([item])) for item in items]
        return np.stack(found) if found else np.empty((0, self.n_items), dtype=np.float32)

    def _likeness_to(self, met: NDArray[Any]) -> NDArray[np.float32]:
        """float32[n_items]: the cosine of each item and the sum of those met."""
        profile = np.asarray(self._vectors[met].sum(axis=0), dtype=np.float32)
        return np.asarray(self._vectors @ (profile / (np.linalg.norm(profile) or 1.0)), dtype=np.float32)


class ServedEase(ServedForm):
    """EASE (``Ease``) on weights that stay in their file: a user's rows of them are read when asked.

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
            # Saved by columns or at an odd address, as a bundle from before its arrays were put in order.
            with np.load(weights, allow_pickle=False) as stored:
                self._weights: NDArray[np.float32] = np.ascontiguousarray(stored["weights"])
        else:
            with weights.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._weights = np.frombuffer(self._file, np.float32, n * n, offset).reshape(n, n)
        self._place = np.full(self.n_items, -1, dtype=np.int64)
        self._place[self._items] = np.arange(n)

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Return the sum of the weights of the items met; an item outside the weights scores 0."""
        places = self._place[batch.history.indices]
        known = np.concatenate([[0], np.cumsum(places >= 0)])
        bounds, places = known[batch.history.indptr], places[places >= 0]
        scores = np.zeros((len(batch), self.n_items), dtype=np.float32)
        sums = np.zeros((len(batch), len(self._items)), dtype=np.float32)
        # So many entries at a time, of however many users, for each brings a row of the weights into memory.
        for start in range(0, len(places), _HELD):
            some = places[start : start + _HELD]
            ends = np.clip(bounds - start, 0, len(some))
            ones = np.ones(len(some), dtype=np.float32)
            sums += csr_array((ones, some, ends), shape=(len(batch), len(self._items))) @ self._weights
            self._let_go(len(some))
        scores[:, self._items] = sums
        return scores

    def contributions(self, batch: UserBatch, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weight of each entry for each item: the score is their sum."""
        self._explains(batch)
        met, asked = self._place[batch.history.indices], self._place[items]
        found = np.zeros((len(items), len(met)), dtype=np.float32)
        known, answered = np.flatnonzero(met >= 0), np.flatnonzero(asked >= 0)
        # Some pages of each row and not all of it, which the score has read.
        found[np.ix_(answered, known)] = self._weights[met[known][None, :], asked[answered][:, None]]
        self._let_go(len(known))
        return found

    def similarities(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weights that an item in the history gives to the others; all 0 for one that was never met."""
        found = np.zeros((len(items), self.n_items), dtype=np.float32)
        known = np.flatnonzero(self._place[items] >= 0)
        found[np.ix_(known, self._items)] = self._weights[self._place[items[known]]]
        self._let_go(len(known))
        return found

    def _let_go(self, rows: int) -> None:
        """Give the pages of the file back once many rows have been looked at.

        They stay in the system's cache; held here, they would be this process's memory one by one.
        """
        self._read += rows
        if self._file is not None and self._read >= _HELD:
            self._file.madvise(mmap.MADV_DONTNEED)
            self._read = 0

    def _restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        raise RecommenderError("ease: the weights are not read, they are mapped")


def _data_offset(archive: Path, member: str, shape: tuple[int, ...]) -> int | None:
    """Where the numbers of a stored array begin in an ``.npz``; None where they are by columns or at an odd address.

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
    offset = int(about.header_offset + _LOCAL_HEADER + name + extra + header)
    return None if offset % dtype.itemsize else offset


def put_in_order(folder: Path) -> None:
    """Write the arrays of a saved recommender so that they can be mapped: by rows, each at an even address."""
    file = folder / _WEIGHTS
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: np.ascontiguousarray(stored[name]) for name in stored.files}
    with file.open("wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            about = zipfile.ZipInfo(f"{name}.npy")
            is_large = array.nbytes + _EVEN > zipfile.ZIP64_LIMIT
            start = raw.tell() + _LOCAL_HEADER + len(about.filename) + (_ZIP64_FIELD if is_large else 0)
            # A field that readers pass over; its first four bytes say so. The array's own header is as even.
            blank = -(start + 4) % _EVEN
            about.extra = struct.pack("<HH", _PADDING_FIELD, blank) + bytes(blank)
            with archive.open(about, "w", force_zip64=is_large) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


_FORMS: dict[str, type[ServedForm]] = {
    form.name: form for form in (ServedIals, ServedNeuMF, ServedItemKnn, ServedContent, ServedEase)
}
