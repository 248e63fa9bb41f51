from __future__ import annotations

import numpy as np
import pytest

from models.data.interactions import Interactions
from models.serving.movie_map import film_map, nearest
from tests.unit.models.examples import ITEMS, PER_TASTE, two_tastes

NO_GENRES: list[list[str]] = [[] for _ in range(ITEMS)]


def test_films_that_the_same_people_met_lie_together() -> None:
    places = film_map(two_tastes()[0], NO_GENRES, seed=1)
    assert places.shape == (ITEMS, 2)
    assert places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1.0)
    distances = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    closest = distances.argmin(axis=1)
    assert ((closest // PER_TASTE) == (np.arange(ITEMS) // PER_TASTE)).all()


def test_a_film_that_nobody_met_lies_with_its_genre() -> None:
    rows, _ = two_tastes()
    everybody = Interactions.of(rows.users, rows.items, n_users=rows.n_users, n_items=ITEMS + 2)
    genres = [[f"taste{item // PER_TASTE}"] for item in range(ITEMS)] + [["taste0"], ["taste1"]]
    places = film_map(everybody, genres, seed=1)
    middles = places[:PER_TASTE].mean(axis=0), places[PER_TASTE:ITEMS].mean(axis=0)
    for film, own in ((ITEMS, 0), (ITEMS + 1, 1)):
        apart = [float(np.linalg.norm(places[film] - middle)) for middle in middles]
        assert np.argmin(apart) == own


def test_the_same_seed_gives_the_same_map_and_another_one_another() -> None:
    rows, _ = two_tastes()
    first = film_map(rows, NO_GENRES, seed=1)
    assert (film_map(rows, NO_GENRES, seed=1) == first).all()
    assert (film_map(rows, NO_GENRES, seed=2) != first).any()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_a_handful_of_films_have_places_too(n: int) -> None:
    rows = Interactions.of([0, 1] * n, np.repeat(np.arange(n), 2), n_users=2, n_items=n)
    places = film_map(rows, [["Drama"] for _ in range(n)], seed=1)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()


def test_the_nearest_are_those_of_the_largest_product() -> None:
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], dtype=np.float32)
    assert nearest(vectors, 1).ravel().tolist() == [1, 0, 3, 2]
    assert nearest(vectors, 2)[0].tolist() == [1, 3]
