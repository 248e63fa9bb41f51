"""Lists of films that nobody in particular is asked for: what many met, and what is new and liked."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from bento.api.dependencies import Here
from bento.bundles.loaded_bundle import Served
from bento.errors import RequestRefused

Count = Annotated[int, Query(ge=1, le=200, description="How many films.")]
Genre = Annotated[
    str | None, Query(min_length=1, max_length=40, description="Only films of this genre; 422 if none has it.")
]

Decade = Annotated[
    int | None, Query(ge=1870, le=2100, multiple_of=10, description="Only films of these ten years, as 1990.")
]


def list_popular(
    here: Here,
    window: Annotated[
        Literal["week", "month", "year", "all"], Query(description="Up to the newest rating of the served data.")
    ] = "all",
    genre: Genre = None,
    decade: Decade = None,
    limit: Count = 20,
) -> Response:
    """List the movies with the most ratings; of equally many the higher weighted rating comes first."""
    served = here.served()
    facts = served.facts
    met = facts.met[window]
    shown = (met > 0) & ~facts.adult & of_genre(served, genre)
    return _films(served, shown & _of_decade(served, decade), [met, facts.weighted], limit)


def list_new(
    here: Here,
    years: Annotated[
        int, Query(ge=1, le=100, description="The window: how many years back from the newest film (of the decade).")
    ] = 2,
    genre: Genre = None,
    decade: Decade = None,
    limit: Count = 20,
) -> Response:
    """List the newest movies by their weighted rating: the mean, drawn to that of all movies where ratings are few."""
    served = here.served()
    facts = served.facts
    shown = (facts.years > 0) & ~facts.adult & _of_decade(served, decade)
    newest = int(facts.years[shown].max(initial=0))
    return _films(
        served, shown & (facts.years > newest - years) & of_genre(served, genre), [facts.weighted, facts.votes], limit
    )


def _of_decade(served: Served, decade: int | None) -> NDArray[np.bool_]:
    """bool[n_items]: the films of ten years, all for None."""
    years = served.facts.years
    if decade is None:
        return np.ones(len(years), dtype=bool)
    return np.asarray((years >= decade) & (years < decade + 10))


def of_genre(served: Served, genre: str | None) -> NDArray[np.bool_]:
    """bool[n_items]: the films of a genre, all for None; ``RequestRefused`` (422) for one that no film has."""
    if genre is None:
        return np.ones(len(served.catalogue.cards), dtype=bool)
    try:
        (column,) = served.facts.genre_columns([genre])
    except KeyError as unknown:
        raise RequestRefused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"No film of the served model has the genre {genre!r}.",
            f"The genres are: {', '.join(served.facts.genre_names)}.",
        ) from unknown
    return served.facts.genres[:, column]


def _films(served: Served, shown: NDArray[np.bool_], by: list[NDArray[np.generic]], limit: int) -> Response:
    """Return the shown movies in descending order of several values, the first one first; ties go by item."""
    items = np.flatnonzero(shown)
    order = np.lexsort((items, *(-values[items].astype(np.float64) for values in reversed(by))))[:limit]
    facts = served.facts
    films = [
        {
            **served.catalogue.film(item),
            "rating_mean": round(float(facts.means[item]), 3),
            "weighted_rating": round(float(facts.weighted[item]), 3),
        }
        for item in items[order].tolist()
    ]
    return JSONResponse({"items": films, "provenance": provenance_of_list(served)})


def provenance_of_list(served: Served) -> dict[str, Any]:
    """Where a list of films came from."""
    return {
        "model_version": served.bundle.version,
        "data_snapshot": dict(served.bundle.manifest["data_snapshot"]),
    }
