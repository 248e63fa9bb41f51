from __future__ import annotations

import time

import numpy as np
import pytest

from bento.catalog.title_search import TitleIndex

FILMS = [
    ("The Matrix", 1999),
    ("The Matrix Reloaded", 2003),
    ("Amélie", 2001),
    ("Les Misérables", 1998),
    ("Les Misérables", 2012),
    ("The Lord of the Rings: The Fellowship of the Ring", 2001),
    ("Die Hard", 1988),
    ("Hard", 1998),
    ("Blade Runner 2049", 2017),
    ("Blade Runner", 1982),
    ("Léon: The Professional", 1994),
    ("M", 1931),
    ("七人の侍", 1954),
    ("!!!", 2000),
]


@pytest.fixture(scope="module")
def index() -> TitleIndex:
    return TitleIndex([title for title, _ in FILMS], [year for _, year in FILMS], range(len(FILMS), 0, -1))


@pytest.mark.parametrize(
    ("query", "film"),
    [
        ("the matrix", 0),
        ("Matrix, The", 0),
        ("matrix", 0),
        ("Matirx", 0),
        ("matrx reloded", 1),
        ("AMELIE", 2),
        ("les miserables", 3),
        ("miserables 2012", 4),
        ("Les Misérables (1998)", 3),
        ("fellowship of the ring", 5),
        ("lord of the ri", 5),
        ("lord of rings", 5),
        ("Die Hard", 6),
        ("hard", 7),
        ("blade runner 2049", 8),
        ("blade runner 1982", 9),
        ("leon profesional", 10),
        ("m", 11),
        ("七人の侍", 12),
    ],
)
def test_the_film_that_is_meant_comes_first(index: TitleIndex, query: str, film: int) -> None:
    assert index.search(query, 5)[0][0] == film


def test_the_very_title_fits_fully_and_a_typo_less(index: TitleIndex) -> None:
    assert index.search("the matrix", 1)[0][1] == 1.0
    assert 0.4 <= index.search("matirx", 1)[0][1] < 0.95


@pytest.mark.parametrize("query", ["zzzzqqq", "", "   ", "!!!", "\u0301", "' OR 1=1 --", "\0\0"])
def test_what_no_title_is_like_finds_nothing(index: TitleIndex, query: str) -> None:
    assert index.search(query, 5) == []


def test_no_more_than_wanted_are_given(index: TitleIndex) -> None:
    assert len(index.search("the matrix", 1)) == 1


def test_an_empty_catalogue_finds_nothing() -> None:
    assert TitleIndex([], [], []).search("matrix", 5) == []


def test_27_000_titles_are_searched_in_milliseconds() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghiklmnoprstu"))[rng.integers(0, 19, size=(4_000, 6))]
    words = np.array(["".join(word) for word in letters])[rng.integers(0, 4_000, size=(27_000, 3))]
    titles = [" ".join(three) for three in words.tolist()]
    index = TitleIndex(titles, [2000] * len(titles), [1] * len(titles))
    taken = []
    for place in range(0, 27_000, 900):
        start = time.perf_counter()
        # The first letter of the second word is left out.
        typed = titles[place].replace(" ", "  ", 1)[:8] + titles[place][9:]
        assert index.search(typed, 3)[0][0] == place
        taken.append(time.perf_counter() - start)
    assert sorted(taken)[len(taken) // 2] < 0.05
