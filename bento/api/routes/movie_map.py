"""The map of the films, as ``/v1/map`` shows it: places page by page, and one film marked with those most like it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import Query, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from bento.api.dependencies import Cursor, Here
from bento.api.pagination import after, cursor_of
from bento.api.routes.browse import Genre, of_genre, provenance_of_list
from bento.bundles.loaded_bundle import Served
from bento.errors import RequestRefused
from bento.recommendation.answers import film_named


def read_map(
    here: Here,
    movie_id: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="A film to mark; 404 where the served model has it not.")
    ] = None,
    neighbours: Annotated[int, Query(ge=0, le=100, description="How many films like it are marked too.")] = 10,
    genre: Genre = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=0, le=5_000, description="How many films on a page.")] = 500,
) -> Response:
    """Two coordinates of each film, -1 to 1, the most rated films first; films that the same people met lie together.

    The neighbours are those of `/similar`, wherever they lie: places are a picture of likeness, not its measure.
    """
    served = here.served()
    places = _places(served)
    shown = np.isfinite(places).all(axis=1) & ~served.facts.adult & of_genre(served, genre)
    items = np.flatnonzero(shown)
    order = items[np.lexsort((items, -served.catalogue.rating_counts[items]))]
    start = 0 if cursor is None else after(cursor)
    page = order[start : start + limit]
    stop = start + len(page)
    body = {
        "items": [_point(served, places, item) for item in page.tolist()],
        "total": len(order),
        "next_cursor": cursor_of(stop) if len(page) and stop < len(order) else None,
        "marked": None if movie_id is None else _marked(served, places, film_named(served, movie_id), neighbours),
        "provenance": provenance_of_list(served),
    }
    return JSONResponse(body)


def _places(served: Served) -> NDArray[np.float32]:
    if served.bundle.film_map is None:
        raise RequestRefused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The served bundle has no map of the films.",
            "Train and promote one of this version (`make run`).",
        )
    return served.bundle.film_map


def _point(served: Served, places: NDArray[np.float32], item: int) -> dict[str, Any]:
    card = served.catalogue.cards[item]
    x, y = (round(float(value), 4) if np.isfinite(value) else None for value in places[item])
    return {
        "movie_id": card["movie_id"],
        "title": card["title"],
        "year": card["year"],
        "genres": card["genres"],
        "rating_count": int(served.catalogue.rating_counts[item]),
        "x": x,
        "y": y,
    }


def _marked(served: Served, places: NDArray[np.float32], item: int, count: int) -> dict[str, Any]:
    """Return a movie and the movies most similar to it, each with its similarity."""
    near: list[dict[str, Any]] = []
    if count:
        found, likeness = served.bundle.recommender.similar(np.array([item]), count)
        pairs = zip(found[0].tolist(), likeness[0].tolist(), strict=True)
        near = [{**_point(served, places, other), "score": score} for other, score in pairs if other >= 0]
    return {**_point(served, places, item), "neighbours": near}
