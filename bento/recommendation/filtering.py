"""From scores to the films that are shown: what was asked to be left out is, and likeness among the best may cost."""

from __future__ import annotations

from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from bento.catalog.movie_stats import FilmFacts
from bento.catalog.movies import Catalogue
from bento.errors import RequestRefused
from bento.schemas.recommendations import Wishes
from models.base import top_k

#: Scores of which the highest is looked at first.
_BLOCK = 64


def allowed_films(facts: FilmFacts, catalogue: Catalogue, wishes: Wishes) -> NDArray[np.bool_] | None:
    """bool[n_items]: the films that a request may show, None for all. ``RequestRefused`` (400) for an unknown genre.

    A film of unknown year or length fits no bound on it. Ids to leave out that no film has leave nothing out.
    """
    allowed = ~facts.adult
    if wishes.adult:
        allowed = np.ones_like(allowed)
    if wishes.genres:
        allowed &= facts.genres[:, genre_columns(facts, wishes.genres)].any(axis=1)
    for values, least, most in (
        (facts.years, wishes.min_year, wishes.max_year),
        (facts.runtimes, wishes.min_runtime, wishes.max_runtime),
    ):
        if least is not None or most is not None:
            allowed &= (values > 0) & (values >= (least or 0)) & (values <= (most if most is not None else np.inf))
    if wishes.min_votes:
        allowed &= facts.votes >= wishes.min_votes
    allowed[[catalogue.by_id[movie] for movie in wishes.exclude if movie in catalogue.by_id]] = False
    return None if allowed.all() else allowed


def genre_columns(facts: FilmFacts, genres: list[str]) -> NDArray[np.int64]:
    """Return the columns of genres; raise ``RequestRefused`` (400), with the known ones, for one that no movie has."""
    try:
        return facts.genre_columns(genres)
    except KeyError as unknown:
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST,
            f"No film of the served model has the genre {unknown.args[0]!r}.",
            f"The genres are: {', '.join(facts.genre_names)}.",
        ) from unknown


def choose(
    facts: FilmFacts, scores: NDArray[np.float32], k: int, diversity: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k best movies of each row of ``scores`` float32[B, n_items], in the form of ``top_k``.

    With ``diversity`` above 0 they are picked one by one by maximal marginal relevance (Carbonell and Goldstein, 1998),
    with the similarity of genres, among the best 4k, at least 100; each keeps its own score.
    """
    if diversity <= 0:
        return best_of(scores, k)
    found, best = best_of(scores, max(4 * k, 100))
    items = np.full((len(scores), k), -1, dtype=np.int64)
    kept = np.full((len(scores), k), -np.inf, dtype=np.float32)
    for row in range(len(scores)):
        count = int((found[row] >= 0).sum())
        order = _spread(facts, found[row, :count], best[row, :count], min(k, count), diversity)
        items[row, : len(order)], kept[row, : len(order)] = found[row, order], best[row, order]
    return items, kept


def best_of(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return what ``top_k`` does, in a fifth of the time: sort only the scores that may be among the k best of a row.

    The k-th highest of the blocks' maxima is a bound: at least k scores are as high.
    """
    blocks = scores.shape[1] // _BLOCK
    if blocks <= k or not len(scores):
        return top_k(scores, k)
    if len(scores) > 1:
        # A few hundred users at most, and what is gained is in each row.
        rows = [best_of(row[None], k) for row in scores]
        return np.concatenate([found for found, _ in rows]), np.concatenate([best for _, best in rows])
    row = scores[0]
    heads, rest = row[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1), row[blocks * _BLOCK :]
    least = np.partition(heads, blocks - k)[blocks - k]
    # What is no number is the highest of its block.
    if not np.isfinite(least) or np.isnan(heads).any() or np.isnan(rest).any():
        return top_k(scores, k)
    may = np.flatnonzero(row >= least)
    found, best = top_k(row[may][None], k)
    return may[found], best


def _spread(
    facts: FilmFacts, found: NDArray[np.int64], best: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Places of ``found`` in the order in which they are taken."""
    if not k:
        return np.empty(0, dtype=np.int64)
    wanted = (best - best.min()) / max(float(best.max() - best.min()), 1e-9)
    genres = facts.genres[found].astype(np.float32)
    genres /= np.maximum(np.linalg.norm(genres, axis=1, keepdims=True), 1e-9)
    closest = np.zeros(len(found), dtype=np.float32)
    left = np.ones(len(found), dtype=bool)
    order = np.empty(k, dtype=np.int64)
    for place in range(k):
        worth = np.where(left, (1 - diversity) * wanted - diversity * closest, -np.inf)
        order[place] = taken = int(worth.argmax())
        left[taken] = False
        closest = np.maximum(closest, genres @ genres[taken])
    return order
