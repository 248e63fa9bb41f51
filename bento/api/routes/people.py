"""The people who made the films, as ``/v1/people`` shows them: page by page, by name, and one with his films."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import numpy as np
from fastapi import Path, Query, Response
from fastapi.responses import JSONResponse

from bento.api.dependencies import Cursor, Here, Limit
from bento.api.pagination import after, cursor_of
from bento.errors import RequestRefused

PersonId = Annotated[str, Path(pattern=r"^nm[0-9]{1,18}$", description="IMDb's id of the person.")]


def list_people(here: Here, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the people who made the movies that the served model knows, in the order of their ids."""
    makers = here.served().makers
    start = 0 if cursor is None else int(np.searchsorted(makers.numbers, after(cursor), side="right"))
    stop = min(start + limit, len(makers.ids))
    following = cursor_of(int(makers.numbers[stop - 1])) if start < stop < len(makers.ids) else None
    people = [makers.person(row) for row in range(start, stop)]
    return JSONResponse({"items": people, "total": len(makers.ids), "next_cursor": following})


def search_people(
    here: Here,
    q: Annotated[str, Query(min_length=1, max_length=200, description="A name, as people type it.")],
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Response:
    """People by name; typos and accents are forgiven, and of names that fit alike who made more films comes first."""
    makers = here.served().makers
    found = makers.index.search(q, limit)
    return JSONResponse({"items": [{**makers.person(row), "fit": fit} for row, fit in found]})


def read_person(here: Here, person_id: PersonId) -> Response:
    """One person, with all his films that the served model knows, the newest first."""
    served = here.served()
    row = served.makers.find(person_id)
    if row is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND, f"Nobody with the id {person_id} made a served film.", "Find people with /v1/people."
        )
    films = [{**served.catalogue.film(item), "did": did} for item, did in served.makers.films(row).items()]
    films.sort(key=lambda film: (-(film["year"] or 0), film["movie_id"]))
    return JSONResponse({**served.makers.person(row), "films": films})
