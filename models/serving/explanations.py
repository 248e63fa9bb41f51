"""Why a film is recommended: the films of the history and the words that weighed most, as data and as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import Recommender, WordWeights
from models.data.batch import UserBatch
from models.data.item_content import DECADE, GENRE, TAG, TITLE

#: How many films and words a reason names.
FILMS, WORDS = 3, 2


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one item: what its score would lose without each of some history items, and what some words give to it.

    ``items`` (index, weight) and ``words`` (name as in ``ItemContent``, weight), heaviest first; only what raises the
    score is named, so both may be empty. Weights are in units of the score, comparable within one answer.
    """

    items: tuple[tuple[int, float], ...] = ()
    words: tuple[tuple[str, float], ...] = ()


def reasons_for(
    recommender: Recommender, batch: UserBatch, items: NDArray[np.int64], films: int = FILMS, words: int = WORDS
) -> list[Reason]:
    """Return the reason for each of ``items`` int64[k] being recommended to the one user of ``batch``.

    A reason names at most ``films`` movies and ``words`` words; it is empty if the scores ignore the history.
    """
    if not recommender.uses_history or batch.history.nnz == 0:
        return [Reason() for _ in items]
    return reasons_of(
        np.asarray(batch.history.indices),
        recommender.contributions(batch, items),
        recommender.word_weights(batch, items),
        films,
        words,
    )


def reasons_of(
    history: NDArray[np.int64] | NDArray[np.int32],
    weights: NDArray[np.float32],
    words: WordWeights | None = None,
    most_films: int = FILMS,
    most_words: int = WORDS,
) -> list[Reason]:
    """Return the reasons given by ``weights`` float32[k, h] of the ``history`` items [h] and by the words.

    Each names at most ``most_films`` movies and ``most_words`` words.

    >>> reasons_of(np.array([7, 9]), np.array([[0.5, -1.0]], dtype=np.float32))
    [Reason(items=((7, 0.5),), words=())]
    """
    films = _heaviest(weights, most_films)
    said = [()] * len(films) if words is None else _heaviest(words.weights, most_words)
    return [
        Reason(
            tuple((int(history[place]), weight) for place, weight in of_films),
            () if words is None else tuple((words.names[place], weight) for place, weight in of_words),
        )
        for of_films, of_words in zip(films, said, strict=True)
    ]


def _heaviest(weights: NDArray[np.float32], count: int) -> list[tuple[tuple[int, float], ...]]:
    """For each row the columns of its largest weights above 0, with these."""
    if weights.shape[1] == 0:
        return [()] * len(weights)
    left = np.where(weights > 0, weights, np.float32(0.0))
    rows = np.arange(len(left))
    taken = []
    # One after the other: a few of a few hundred are found sooner than all of them are put in order.
    for _ in range(min(count, left.shape[1])):
        columns = left.argmax(axis=1)
        taken.append((columns.tolist(), left[rows, columns].tolist()))
        left[rows, columns] = 0.0
    return [tuple((columns[row], best[row]) for columns, best in taken if best[row] > 0) for row in range(len(left))]


def text_of(reason: Reason, title: Callable[[int], str], *, verb: str = "rated") -> str | None:
    """Return the reason as a sentence, None if it is empty; ``title`` names an item.

    >>> text_of(Reason(((3, 0.5), (8, 0.2)), (("genre:War", 0.1), ("decade:1990", 0.1))), {3: "Heat", 8: "Alien"}.get)
    'Because you rated Heat and Alien; genre War, from the 1990s.'
    """
    films = _and([title(item) for item, _ in reason.items])
    words = ", ".join(word_text(name) for name, _ in reason.words)
    if films and words:
        return f"Because you {verb} {films}; {words}."
    if films:
        return f"Because you {verb} {films}."
    return f"Like what you {verb}: {words}." if words else None


def word_text(name: str) -> str:
    """Return a word of ``ItemContent`` as a readable phrase.

    >>> word_text("decade:1990"), word_text("tag:slow burn")
    ('from the 1990s', 'tagged "slow burn"')
    """
    kind, _, word = name.partition(":")
    said = {
        GENRE: f"genre {word}",
        DECADE: f"from the {word}s",
        TITLE: f'"{word}" in the title',
        TAG: f'tagged "{word}"',
    }
    return said.get(kind, word)


def _and(names: Sequence[str]) -> str:
    return " and ".join([part for part in (", ".join(names[:-1]), *names[-1:]) if part])
