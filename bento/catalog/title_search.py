"""Films found by title: typos, accents and articles are forgiven, and a year behind the title picks one of several.

Everything is in memory, made once a bundle: 27,000 titles take a fraction of a second, a search about a millisecond.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Below this a title has too little in common with the query to be meant.
_ENOUGH = 0.4
#: Letters that have no accent to take off.
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "&": " and "})
_ENGLISH, _FRENCH, _GERMAN = {"the", "a", "an"}, {"le", "la", "les", "l", "un", "une"}, {"der", "die", "das", "den"}
_SPANISH, _ITALIAN, _DUTCH = {"el", "los", "las", "una"}, {"il", "lo", "gli"}, {"het", "de"}
_ARTICLES = frozenset({"ein", "eine"} | _ENGLISH | _FRENCH | _GERMAN | _SPANISH | _ITALIAN | _DUTCH)
_YEAR = re.compile(r"(.*\S)\s+\(?((?:18|19|20)\d\d)\)?\s*")


def plain(title: str) -> str:
    """Return a title in lower case without accents and punctuation.

    >>> plain("Amélie: Le Fabuleux Destin d'Amélie Poulain")
    'amelie le fabuleux destin d amelie poulain'
    """
    letters = unicodedata.normalize("NFKD", title.casefold().translate(_LETTERS))
    kept = "".join(c if c.isalnum() else " " for c in letters if not unicodedata.combining(c))
    return " ".join(kept.split())


def bare(title: str) -> str:
    """Return a plain title without its article in front or, as catalogs write it, at the end.

    >>> bare("matrix the"), bare("the matrix"), bare("the the")
    ('matrix', 'matrix', 'the')
    """
    words = title.split()
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    elif len(words) > 1 and words[-1] in _ARTICLES:
        words = words[:-1]
    return " ".join(words)


class TitleIndex:
    """Which of n films are meant by a few words; film i is row i of what it was made of."""

    def __init__(self, titles: Sequence[str], years: Sequence[int | None], counts: Sequence[int]) -> None:
        self._n = len(titles)
        self._plain = [plain(title) for title in titles]
        self._bare = [bare(title) for title in self._plain]
        self._years = np.array([year or 0 for year in years], dtype=np.int32)
        # Well-known films first where the words fit alike; less than the smallest difference in wording that matters.
        self._known = 0.02 * np.log1p(np.asarray(counts, dtype=np.float64))
        self._known /= max(float(self._known.max(initial=0.0)) / 0.02, 1e-9)
        codes, films = _grams(self._bare)
        self._codes, starts = np.unique(codes, return_index=True)
        self._bounds = np.append(starts, len(codes))
        self._films = films.astype(np.int32)
        self._sizes = np.bincount(films, minlength=self._n)

    def search(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Return the movies that a query may mean, best first, with how well each fits (1: letter by letter)."""
        year = 0
        if (with_year := _YEAR.fullmatch(query)) is not None:
            scored = self._score(plain(with_year[1]))
            year = int(with_year[2])
            # A number may belong to the title: "Blade Runner 2049".
            scored = np.maximum(np.where(self._years == year, scored, 0.9 * scored), self._score(plain(query)))
        else:
            scored = self._score(plain(query))
        found = np.flatnonzero(scored >= _ENOUGH)
        if not len(found):
            return []
        order = np.lexsort((found, -(scored[found] + self._known[found])))[:limit]
        return [(int(film), round(float(scored[film]), 4)) for film in found[order]]

    def _score(self, text: str) -> NDArray[np.float64]:
        """float64[n]: 1 for the same words, less the more pieces of words differ."""
        wanted, _ = _grams([bare(text)])
        if not len(wanted) or not len(self._codes):
            return np.zeros(self._n)
        places = np.searchsorted(self._codes, wanted)
        places = places[(places < len(self._codes)) & (self._codes[np.minimum(places, len(self._codes) - 1)] == wanted)]
        met = [self._films[self._bounds[place] : self._bounds[place + 1]] for place in places.tolist()]
        shared = np.bincount(np.concatenate(met), minlength=self._n) if met else np.zeros(self._n)
        alike = 2.0 * shared / (len(wanted) + self._sizes)
        # Who types the beginning of a title means the whole.
        score = 0.95 * (0.6 * alike + 0.4 * shared / len(wanted))
        for film in np.flatnonzero(alike >= 0.999).tolist():
            if self._bare[film] == bare(text):
                score[film] = 1.0 if self._plain[film] == text else 0.98
        return np.asarray(score, dtype=np.float64)


def _grams(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair and triple of neighbouring letters of each text, spaces too, once a text: (code, text), by code."""
    joined = "\0".join(f" {text} " if text else "" for text in texts) + "\0\0"
    letters = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    text = np.concatenate([[0], np.cumsum(letters == 0)])[:-1]
    first, second, third = letters[:-2], letters[1:-1], letters[2:]
    # 21 bits hold any letter; a pair has an empty third place.
    pairs, triples = first << 42 | second << 21, first << 42 | second << 21 | third
    codes = np.concatenate([pairs[(first > 0) & (second > 0)], triples[(first > 0) & (second > 0) & (third > 0)]])
    owner = text[:-2]
    owners = np.concatenate([owner[(first > 0) & (second > 0)], owner[(first > 0) & (second > 0) & (third > 0)]])
    order = np.lexsort((owners, codes))
    codes, owners = codes[order], owners[order]
    fresh = np.append(True, (np.diff(codes) != 0) | (np.diff(owners) != 0)) if len(codes) else np.empty(0, dtype=bool)
    return codes[fresh], owners[fresh]
