"""A map of the films: two coordinates each, so that films that the same people met lie together.

Vectors by a truncated decomposition of who met what, then a layout that pulls each film towards its nearest ones and
pushes it from random others: the objective of UMAP (McInnes et al. 2018), all films at a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, hstack

from models.data.interactions import Interactions

#: Cells of likeness that are held at a time (float32: 64 MB).
_CELLS = 16_000_000
#: UMAP's curve 1 / (1 + a d^2b) for its usual smallest distance of .1.
_A, _B = 1.577, 0.895
#: No pull or push of one film on another is stronger.
_STRONGEST = 4.0


@dataclass(frozen=True, slots=True)
class FilmMapConfig:
    """How the map is made."""

    #: Components of who met what.
    components: int = 24
    #: The nearest films that pull, and the random ones that push in each round. On ml-latest-small the map keeps .37 of
    #: a film's ten nearest (the two main components .12) with a trustworthiness of .96 (.84); 400 rounds keep .38.
    neighbours: int = 10
    pushes: int = 8
    rounds: int = 100
    #: Ratings at which what people met and what its genres are say alike of a film where it lies.
    genre_prior: float = 5.0


def film_map(
    interactions: Interactions, genres: Sequence[Sequence[str]], *, seed: int, config: FilmMapConfig | None = None
) -> NDArray[np.float32]:
    """float32[n_items, 2] from -1 to 1 about a middle of 0; the same rows, genres and seed give the same map.

    ``genres`` has the genres of each item, which place a film that few have met.
    """
    settings = config or FilmMapConfig()
    n = interactions.n_items
    if n < 4:
        # Nothing to decompose: a row of places.
        return np.stack([np.linspace(-1, 1, n), np.zeros(n)], axis=1).astype(np.float32)
    vectors = _vectors(interactions, genres, settings, seed)
    near = nearest(vectors, min(settings.neighbours, n - 1))
    return _layout(_plane(vectors), near, settings, seed)


def nearest(vectors: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """int64[n, count]: for each row of ``vectors`` float32[n, d] the others of the largest product with it."""
    n = len(vectors)
    found = np.empty((n, count), dtype=np.int64)
    step = max(1, _CELLS // n)
    for start in range(0, n, step):
        block = np.arange(start, min(start + step, n))
        alike = vectors[block] @ vectors.T
        alike[block - start, block] = -np.inf
        found[block] = np.argpartition(alike, n - count, axis=1)[:, n - count :]
    return np.sort(found, axis=1)


def _vectors(
    interactions: Interactions, genres: Sequence[Sequence[str]], settings: FilmMapConfig, seed: int
) -> NDArray[np.float32]:
    """float32[n_items, d] of length 1: what the people who met a film met else, and its genres."""
    from sklearn.utils.extmath import randomized_svd

    met = interactions.matrix()
    # Who met everything says little of any film.
    rare = np.log((1.0 + interactions.n_items) / (1.0 + interactions.user_counts()))
    weighted = csr_array(diags_array(rare.astype(np.float32)) @ met)
    by_item = _unit(csr_array(weighted.T.tocsr()))
    rank = min(settings.components, min(by_item.shape) - 1)
    left, values, _ = randomized_svd(by_item, rank, n_iter=5, random_state=seed)
    people = _unit_rows(left * values)
    counts = interactions.item_counts()
    belief = (counts / (counts + settings.genre_prior))[:, None]
    of_genres = _unit(_genre_columns(genres)).toarray()
    return _unit_rows(np.concatenate([people * np.sqrt(belief), of_genres * np.sqrt(1.0 - 0.9 * belief)], axis=1))


def _genre_columns(genres: Sequence[Sequence[str]]) -> csr_array:
    """csr[n, genres]: ones, in an empty column more so that there is one."""
    names = {name: column for column, name in enumerate(sorted({name for of_film in genres for name in of_film}))}
    pairs = [(row, names[name]) for row, of_film in enumerate(genres) for name in of_film]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(genres), max(len(names), 1)))
    return csr_array(hstack([found, csr_array((len(genres), 1), dtype=np.float32)], format="csr"))


def _unit(matrix: csr_array) -> csr_array:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return csr_array(diags_array(1.0 / np.maximum(lengths, 1e-9)) @ matrix)


def _unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), dtype=np.float32)


def _plane(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64[n, 2]: the two main components, each as wide as the other; where the layout begins."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    plane = centred @ directions[:, -2:][:, ::-1]
    # Either sign is as good: the film that lies farthest out is on the positive side.
    far = np.abs(plane).argmax(axis=0)
    plane *= np.sign(plane[far, np.arange(plane.shape[1])] + 1e-12)
    if plane.shape[1] < 2:
        plane = np.column_stack([plane, np.zeros(len(plane))])
    return np.asarray(10.0 * plane / np.maximum(np.abs(plane).max(axis=0), 1e-9), dtype=np.float64)


def _layout(
    start: NDArray[np.float64], near: NDArray[np.int64], settings: FilmMapConfig, seed: int
) -> NDArray[np.float32]:
    n, count = near.shape
    rng = np.random.default_rng(seed)
    places = start + 1e-3 * rng.standard_normal(start.shape)
    # A pull is mutual: both ends of each pair, whoever of them holds the other for near.
    heads = np.concatenate([np.repeat(np.arange(n), count), near.ravel()])
    tails = np.concatenate([near.ravel(), np.repeat(np.arange(n), count)])
    pulls = np.bincount(heads, minlength=n)[:, None]
    every = np.repeat(np.arange(n), settings.pushes)
    for step in range(settings.rounds):
        pull = _moved(places, heads, tails, _pull, n) / pulls
        others = rng.integers(0, n, len(every))
        push = _moved(places, every, others, _push, n) / settings.pushes
        places += (1.0 - step / settings.rounds) * (pull + push)
    places -= places.mean(axis=0)
    return np.asarray(places / max(float(np.abs(places).max()), 1e-9), dtype=np.float32)


def _moved(
    places: NDArray[np.float64],
    heads: NDArray[np.int64],
    tails: NDArray[np.int64],
    strength: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n: int,
) -> NDArray[np.float64]:
    """float64[n, 2]: the sum of what each head is moved by its tails."""
    apart = places[heads] - places[tails]
    squares = (apart**2).sum(axis=1)
    force = strength(squares)
    moves = np.clip(force[:, None] * apart, -_STRONGEST, _STRONGEST)
    return np.stack([np.bincount(heads, moves[:, axis], n) for axis in range(2)], axis=1)


def _pull(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    near = np.maximum(squares, 1e-6)
    return -2.0 * _A * _B * near ** (_B - 1.0) / (1.0 + _A * near**_B)


def _push(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2.0 * _B / ((0.001 + squares) * (1.0 + _A * squares**_B))
