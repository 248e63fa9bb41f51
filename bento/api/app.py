"""The resources under ``/v1``: users, ratings, films, people, catalogues and events, a FastAPI app of its own.

A route reads the request, has ``bento.store`` do one act in one transaction, and says what came of it. Writes may carry
an ``Idempotency-Key``, and ``If-Match`` or ``If-None-Match`` with the ``ETag`` of what was read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from bento.api.dependencies import (
    MAX_PAGE,
    Backing,
    Cursor,
    Here,
    IfMatch,
    IfNoneMatch,
    Key,
    Limit,
    MovieId,
    UserId,
    only_ones_own,
    reader_of,
    writer_of,
)
from bento.api.openapi import error_response, problem_schemas
from bento.api.pagination import after, cursor_of
from bento.api.routes import auth as sign_in
from bento.api.routes import browse as browsing
from bento.api.routes import movie_map as browsing_map
from bento.api.routes import people as browsing_people
from bento.api.routes import streaming as browsing_data
from bento.auth.principal import caller
from bento.bundles.loaded_bundle import Served
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.recommendation.user_profile import taste_of
from bento.schemas import resources as bodies
from bento.store import idempotency, tables
from bento.store import users as people
from bento.store.database import StoreUnavailable
from bento.store.idempotency import Answer, KeyReused
from bento.store.users import Forgotten, NoSuchUser, Who

logger = logging.getLogger("marquee.resources")

_FUTURE = timedelta(minutes=5)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def make_app() -> FastAPI:
    """Make the app; the server sets ``app.state.backing`` and ``app.state.catalogues``."""
    said = {
        "401": "The caller has not logged in, or his token is not valid (any more).",
        "403": "The caller's role is not enough, or the user is somebody else.",
        "404": "There is no such thing.",
        "409": "The Idempotency-Key came with another request, or the thing is there already.",
        "412": "The ETag is another one by now.",
        "413": "The body is too large.",
        "415": "The body is no JSON.",
        "422": "The request is not of the form that is wanted; `errors` names the fields.",
        "429": "Too many requests; `Retry-After` says for how long to wait.",
        "431": "The request's headers are too many or too large.",
        "500": "An error of the service; the log has it under the request id.",
        "503": "Nothing is served yet, or the app's store or the published copy cannot be read.",
        "504": "The answer took longer than it may.",
    }
    of_reading = ("401", "403", "404", "422", "429", "431", "500", "503", "504")
    reading: dict[int | str, Any] = {status: error_response(said[status]) for status in of_reading}
    writing: dict[int | str, Any] = {status: error_response(text) for status, text in said.items()}
    app = FastAPI(
        title="Marquee: users, ratings, films, people, catalogues, events",
        version="1",
        # ``bento.api.reference`` shows and sends the document.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        servers=[{"url": "/v1"}],
        description=__doc__,
        dependencies=[Depends(only_ones_own)],
    )

    def read(path: str, model: type[BaseModel], tag: str) -> Callable[[Any], Any]:
        return app.get(path, response_model=model, responses=reading, tags=[tag])

    def write(method: str, path: str, model: type[BaseModel] | None, tag: str, status: int = 200) -> Any:
        also: dict[int | str, Any] = {"201": {"model": model, "description": "Made."}} if method == "PUT" else {}
        return app.api_route(
            path, methods=[method], response_model=model, status_code=status, responses={**writing, **also}, tags=[tag]
        )

    write("POST", "/users", bodies.User, "users", 201)(create_user)
    read("/users/{user_id}", bodies.User, "users")(read_user)
    write("PATCH", "/users/{user_id}", bodies.User, "users")(change_user)
    write("DELETE", "/users/{user_id}", None, "users", 204)(delete_user)
    read("/users/{user_id}/films", bodies.RatedFilmPage, "users")(list_rated_films)
    read("/users/{user_id}/ratings", bodies.RatingPage, "ratings")(list_ratings)
    write("POST", "/users/{user_id}/ratings", bodies.Rating, "ratings", 201)(add_rating)
    read("/users/{user_id}/ratings/{movie_id}", bodies.Rating, "ratings")(read_rating)
    write("PUT", "/users/{user_id}/ratings/{movie_id}", bodies.Rating, "ratings")(put_rating)
    write("DELETE", "/users/{user_id}/ratings/{movie_id}", None, "ratings", 204)(delete_rating)
    read("/films", bodies.FilmPage, "films")(list_films)
    read("/films/search", bodies.FoundFilms, "films")(search_films)
    read("/films/{movie_id}", bodies.Film, "films")(read_film)
    read("/popular", bodies.ListedFilms, "films")(browsing.list_popular)
    read("/new", bodies.ListedFilms, "films")(browsing.list_new)
    read("/map", bodies.FilmMap, "films")(browsing_map.read_map)
    read("/people", bodies.PeoplePage, "people")(browsing_people.list_people)
    read("/people/search", bodies.FoundPeople, "people")(browsing_people.search_people)
    read("/people/{person_id}", bodies.PersonWithFilms, "people")(browsing_people.read_person)
    read("/data/where_to_watch", browsing_data.WhereToWatch, "data")(browsing_data.where_to_watch)
    read("/data/get_max_duration", browsing_data.LongestTitles, "data")(browsing_data.get_max_duration)
    read("/data/get_score_count", browsing_data.ScoreCounts, "data")(browsing_data.get_score_count)
    read("/data/get_count_platform", browsing_data.PlatformCounts, "data")(browsing_data.get_count_platform)
    read("/data/get_actor", browsing_data.FrequentActors, "data")(browsing_data.get_actor)
    write("POST", "/events", bodies.Event, "events", 201)(add_event)
    write("POST", "/login", bodies.Login, "keys")(sign_in.log_in)
    write("POST", "/refresh", bodies.Login, "keys")(sign_in.refresh)
    write("POST", "/users/{user_id}/keys", bodies.NewKey, "keys", 201)(sign_in.add_key)
    read("/users/{user_id}/keys", bodies.Keys, "keys")(sign_in.list_keys)
    write("DELETE", "/users/{user_id}/keys/{key_id}", None, "keys", 204)(sign_in.revoke_key)

    handlers: dict[type[Exception], Callable[[Request, Any], JSONResponse]] = {
        RequestRefused: lambda _, e: _refusal(e.status, e.message, e.remedy),
        NoSuchUser: lambda _, e: _refusal(HTTPStatus.NOT_FOUND, f"{e}.", "Create a user, or use an id of the edition."),
        Forgotten: lambda _, e: _refusal(HTTPStatus.NOT_FOUND, f"{e}.", "A deleted user does not come back."),
        KeyReused: lambda _, e: _refusal(HTTPStatus.CONFLICT, f"{e}.", "Use a new key for a new request."),
        StoreUnavailable: lambda _, e: _refusal(
            HTTPStatus.SERVICE_UNAVAILABLE, "The app's store cannot be reached.", "Nothing was kept; send it again."
        ),
    }
    # FastAPI's own handler sends the input back, which may be no text that can be sent.
    handlers[RequestValidationError] = lambda _, e: JSONResponse(
        {"error": "The request is not of the form that is wanted.", "detail": _errors(e)},
        status_code=HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    # A body that is no text at all is FastAPI's 400; what is said of every other wrong body is said of it, too.
    handlers[HTTPException] = lambda _, e: JSONResponse(
        {"detail": e.detail},
        status_code=HTTPStatus.UNPROCESSABLE_ENTITY if e.status_code == HTTPStatus.BAD_REQUEST else e.status_code,
        headers=e.headers,
    )
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    _describe_problems(app)
    return app


def create_user(here: Here, body: bodies.UserBody, key: Key = None) -> Response:
    """Make a user; the answer has the id to recommend to."""

    def act(session: Session, now: datetime) -> Answer:
        user = people.create_user(session, body.name, now)
        return _user_answer(user, HTTPStatus.CREATED)

    return _write(here, key, "POST /users", body, act)


def read_user(here: Here, user_id: UserId, if_none_match: IfNoneMatch = None) -> Response:
    """One user, of the app or of the edition."""
    served = here.served()
    who = Who.of(user_id, served.catalogue.edition)
    with here.store.reading() as session:
        user = people.find_user(session, who)
        if user is not None:
            return _fresh(_user_answer(user, HTTPStatus.OK), if_none_match)
        forgotten = people.is_forgotten(session, who)
    if forgotten or user_id not in served.bundle.user_index:
        raise NoSuchUser(f"There is no user {user_id}")
    shown = bodies.User(user_id=user_id, source=who.source, name=None, created_at=None, updated_at=None)
    return _fresh(Answer(HTTPStatus.OK, shown.model_dump(mode="json"), {"ETag": '"0"'}), if_none_match)


def change_user(
    here: Here, user_id: UserId, body: bodies.UserBody, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Change what is given of a user; what is not given stays."""
    served = here.served()

    def act(session: Session, now: datetime) -> Answer:
        there = people.find_user(session, Who.of(user_id, served.catalogue.edition), lock=True)
        _match(if_match, "0" if there is None else str(there.version))
        user = writer_of(session, served, user_id, now)
        if "name" in body.model_fields_set:
            people.rename_user(session, user, body.name, now)
        return _user_answer(user, HTTPStatus.OK)

    return _write(here, key, f"PATCH /users/{user_id}", body, act)


def delete_user(here: Here, user_id: UserId, key: Key = None, if_match: IfMatch = None) -> Response:
    """Forget a user: profile, ratings, and whose events the log has are gone at once, and the user stays away."""
    served = here.served()

    def act(session: Session, now: datetime) -> Answer:
        who = Who.of(user_id, served.catalogue.edition)
        user = people.find_user(session, who, lock=True)
        if user is None and (people.is_forgotten(session, who) or user_id not in served.bundle.user_index):
            raise NoSuchUser(f"There is no user {user_id}")
        _match(if_match, "0" if user is None else str(user.version))
        people.forget_user(session, who, now)
        return Answer(HTTPStatus.NO_CONTENT)

    answer = _write(here, key, f"DELETE /users/{user_id}", None, act)
    here.store.forget_traces()
    for one in (served, here.beside):
        index = None if one is None else one.bundle.user_index.get(user_id)
        if one is None or index is None or one.features is None:
            continue
        try:
            one.features.forget(int(one.user_keys[index]), here.now())
        except FeatureStoreUnavailable as error:
            # Nobody is shown them any more, and the next rebuild removes them.
            logger.warning("%s", error)
    return answer


def list_ratings(here: Here, user_id: UserId, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List a user's ratings in the app, the last written first."""
    served = here.served()
    before = None if cursor is None else after(cursor)
    with here.store.reading() as session:
        user = reader_of(session, served, user_id)
        rows = [] if user is None else people.list_ratings(session, user, before=before, limit=limit + 1)
        page = [_rating(served, user_id, row) for row in rows[:limit]]
    following = cursor_of(rows[limit - 1].version) if len(rows) > limit else None
    return JSONResponse({"items": page, "next_cursor": following})


def add_rating(here: Here, user_id: UserId, body: bodies.NewRating, key: Key = None) -> Response:
    """Rate a film that the user has not rated in the app; 409 where he has."""
    return _rate(
        here, f"POST /users/{user_id}/ratings", user_id, body.movie_id, body, key, None, "*", HTTPStatus.CONFLICT
    )


def read_rating(here: Here, user_id: UserId, movie_id: MovieId, if_none_match: IfNoneMatch = None) -> Response:
    """Return the rating that a user gave a movie in the app."""
    served = here.served()
    item = _item(served, movie_id)
    with here.store.reading() as session:
        user = reader_of(session, served, user_id)
        rating = None if user is None else people.find_rating(session, user, _key(served, item))
        if rating is None:
            raise _no_rating(user_id, movie_id)
        return _fresh(_rating_answer(served, user_id, rating, HTTPStatus.OK), if_none_match)


def put_rating(
    here: Here,
    user_id: UserId,
    movie_id: MovieId,
    body: bodies.RatingBody,
    key: Key = None,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Set the rating that a user gives a film: 201 where it is new, 200 where it was another."""
    what = f"PUT /users/{user_id}/ratings/{movie_id}"
    return _rate(here, what, user_id, movie_id, body, key, if_match, if_none_match, HTTPStatus.PRECONDITION_FAILED)


def delete_rating(
    here: Here, user_id: UserId, movie_id: MovieId, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Take a rating back; the film may be recommended again."""
    served = here.served()
    item = _item(served, movie_id)

    def act(session: Session, now: datetime) -> Answer:
        user = people.find_user(session, Who.of(user_id, served.catalogue.edition), lock=True)
        rating = None if user is None else people.find_rating(session, user, _key(served, item))
        if user is None or rating is None:
            raise _no_rating(user_id, movie_id)
        _match(if_match, str(rating.version))
        people.delete_rating(session, user, rating, now)
        return Answer(HTTPStatus.NO_CONTENT, user_ref=user.id)

    answer = _write(here, key, f"DELETE /users/{user_id}/ratings/{movie_id}", None, act)
    here.rated(user_id)
    return answer


def list_rated_films(here: Here, user_id: UserId, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the movies that a user has rated, in the app or the MovieLens edition, with the rating that counts now."""
    served = here.served()
    who = Who.of(user_id, served.catalogue.edition)
    with here.store.reading() as session:
        reader_of(session, served, user_id)
        taste = taste_of(served, user_id, people.app_history(session, who))
    stars = dict(zip(taste.history.indices.tolist(), taste.history.data.tolist(), strict=True))
    in_app = set(taste.fresh.tolist())
    rated = sorted(stars, key=lambda item: int(served.catalogue.cards[item]["movie_id"]))
    last = 0 if cursor is None else after(cursor)
    left = [item for item in rated if served.catalogue.cards[item]["movie_id"] > last]
    page = [
        {**served.catalogue.film(item), "rating": stars[item], "source": "app" if item in in_app else "edition"}
        for item in left[:limit]
    ]
    following = cursor_of(page[-1]["movie_id"]) if len(left) > limit else None
    return JSONResponse({"items": page, "next_cursor": following})


def list_films(
    here: Here,
    cursor: Cursor = None,
    limit: Limit = 50,
    page: Annotated[int | None, Query(ge=1, le=10**9, description="The page, from 1, instead of a cursor.")] = None,
    size: Annotated[int | None, Query(ge=1, le=MAX_PAGE, description="How many on a page, with `page`.")] = None,
) -> Response:
    """List the movies that the served model knows, in the order of their ids."""
    catalogue = here.served().catalogue
    if page is not None or size is not None:
        limit = size or limit
        start = ((page or 1) - 1) * limit
    else:
        last = 0 if cursor is None else after(cursor)
        start = int(np.searchsorted(catalogue.ids_in_order, last, side="right"))
    items = catalogue.in_order[start : start + limit].tolist()
    films = [catalogue.film(item) for item in items]
    following = cursor_of(films[-1]["movie_id"]) if films and start + limit < len(catalogue.cards) else None
    return JSONResponse({"items": films, "total": len(catalogue.cards), "next_cursor": following})


def search_films(
    here: Here,
    q: Annotated[str, Query(min_length=1, max_length=200, description="A title, as people type it.")],
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Response:
    """Films by title; typos, accents and articles are forgiven, and a year behind the title helps."""
    catalogue = here.served().catalogue
    found = catalogue.titles.search(q, limit)
    return JSONResponse({"items": [{**catalogue.film(item), "fit": fit} for item, fit in found]})


def read_film(here: Here, movie_id: MovieId) -> Response:
    """One film."""
    served = here.served()
    return JSONResponse(served.catalogue.film(_item(served, movie_id)))


def add_event(here: Here, body: bodies.EventBody, key: Key = None) -> Response:
    """Note that something happened; with an `Idempotency-Key` it is noted once however often it is sent."""
    served = here.served()
    caller().must_be(body.user_id, served.catalogue.edition)
    item = _item(served, body.movie_id)

    def act(session: Session, now: datetime) -> Answer:
        at = _moment(body.happened_at, now)
        user = writer_of(session, served, body.user_id, now)
        number = people.log_event(session, user, body.kind, movie_key=_key(served, item), happened_at=at, now=now)
        noted = bodies.Event(
            event_id=number, user_id=body.user_id, movie_id=body.movie_id, kind=body.kind, happened_at=at
        )
        return Answer(HTTPStatus.CREATED, noted.model_dump(mode="json"), user_ref=user.id)

    return _write(here, key, "POST /events", body, act)


def _rate(
    here: Backing,
    what: str,
    user_id: int,
    movie_id: int,
    body: bodies.RatingBody,
    key: str | None,
    if_match: str | None,
    if_none_match: str | None,
    where_there: HTTPStatus,
) -> Response:
    served = here.served()
    item = _item(served, movie_id)

    def act(session: Session, now: datetime) -> Answer:
        at = _moment(body.rated_at, now)
        user = writer_of(session, served, user_id, now)
        there = people.find_rating(session, user, _key(served, item))
        version = None if there is None else str(there.version)
        _match(if_match, version)
        if if_none_match is not None and version is not None and _names(if_none_match, version):
            raise RequestRefused(where_there, f"User {user_id} has rated film {movie_id}.", "Change it with PUT.")
        rating = people.rate(
            session, user, movie_key=_key(served, item), edition=served.catalogue.edition, movie_id=movie_id,
            rating=body.rating, rated_at=at, now=now,
        )  # fmt: skip
        return _rating_answer(served, user_id, rating, HTTPStatus.CREATED if there is None else HTTPStatus.OK)

    answer = _write(here, key, what, body, act)
    here.rated(user_id)
    return answer


def _write(
    here: Backing,
    key: str | None,
    what: str,
    body: BaseModel | None,
    act: Callable[[Session, datetime], Answer],
) -> Response:
    """Do an act in one transaction, once a key; the answer goes out after the transaction is kept."""
    now = here.now()
    if key is not None and caller().name:
        # Another caller's key is another key: nobody gets the answer that somebody else got.
        key = hashlib.sha256(f"{caller().name}\0{key}".encode()).hexdigest()
    replayed = None
    with here.store.writing() as session:
        if key is not None:
            sent = b"" if body is None else body.model_dump_json(exclude_unset=True).encode()
            replayed = idempotency.claim(session, key, idempotency.fingerprint(what, "", sent), now)
        answer = replayed or act(session, now)
        if key is not None and replayed is None:
            idempotency.keep(session, key, answer)
    headers = dict(answer.headers) if replayed is None else {**answer.headers, "Idempotency-Replayed": "true"}
    return _response(answer, headers)


def _item(served: Served, movie_id: int) -> int:
    item = served.catalogue.by_id.get(movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND, f"There is no film {movie_id} in the served model.", "Find it with /v1/films/search."
        )
    return item


def _key(served: Served, item: int) -> int:
    return int(served.catalogue.cards[item]["movie_key"])


def _moment(given: datetime | None, now: datetime) -> datetime:
    at = now if given is None else given
    if not _EARLIEST <= at <= now + _FUTURE:
        raise RequestRefused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{at.isoformat()} is before 1970 or in the future.",
            "Send when it happened.",
        )
    return at.astimezone(UTC)


def _no_rating(user_id: int, movie_id: int) -> RequestRefused:
    return RequestRefused(
        HTTPStatus.NOT_FOUND, f"User {user_id} has not rated film {movie_id} in the app.", "Add it with PUT."
    )


def _user_answer(user: tables.User, status: HTTPStatus) -> Answer:
    shown = bodies.User(
        user_id=user.source_id,
        source=user.source,
        name=user.name,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )
    headers = {"ETag": f'"{user.version}"'}
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"/v1/users/{user.source_id}"
    return Answer(status, shown.model_dump(mode="json"), headers, user.id)


def _rating(served: Served, user_id: int, row: tables.Rating) -> dict[str, Any]:
    item = served.catalogue.by_key.get(row.movie_key)
    card = {} if item is None else served.catalogue.cards[item]
    return bodies.Rating(
        user_id=user_id,
        # The film's id in the edition that is served now; where it is not in it, the one that it was rated by.
        movie_id=card.get("movie_id", row.movie_id),
        movie_key=row.movie_key,
        title=card.get("title"),
        rating=float(row.rating),
        rated_at=row.rated_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    ).model_dump(mode="json")


def _rating_answer(served: Served, user_id: int, row: tables.Rating, status: HTTPStatus) -> Answer:
    headers = {"ETag": f'"{row.version}"'}
    shown = _rating(served, user_id, row)
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"/v1/users/{user_id}/ratings/{shown['movie_id']}"
    return Answer(status, shown, headers, row.user_ref)


def _match(if_match: str | None, version: str | None) -> None:
    if if_match is not None and (version is None or not _names(if_match, version)):
        raise RequestRefused(
            HTTPStatus.PRECONDITION_FAILED, "It has changed since it was read.", "Read it again, then decide."
        )


def _names(tags: str, version: str) -> bool:
    """Whether a list of entity tags names a version; ``*`` names any."""
    return any(tag.strip() in ("*", f'"{version}"') for tag in tags.split(","))


def _fresh(answer: Answer, if_none_match: str | None) -> Response:
    """Return the answer, or 304 if the client already has it."""
    if if_none_match is not None and _names(if_none_match, answer.headers["ETag"].strip('"')):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=dict(answer.headers))
    return _response(answer, dict(answer.headers))


def _response(answer: Answer, headers: dict[str, str]) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.body, status_code=answer.status, headers=headers)


def _refusal(status: HTTPStatus, message: str, remedy: str) -> JSONResponse:
    """Return an error in the shape that the layer around all routes turns into a problem."""
    return JSONResponse({"error": message, "detail": f"{message} {remedy}"}, status_code=status)


def _errors(refused: RequestValidationError) -> list[dict[str, Any]]:
    return [{"loc": part["loc"], "msg": part["msg"]} for part in refused.errors()]


def _describe_problems(app: FastAPI) -> None:
    """Have the app's OpenAPI document hold the schema that its error responses refer to."""
    make = app.openapi

    def document() -> dict[str, Any]:
        made = make()
        made.setdefault("components", {}).setdefault("schemas", {}).update(problem_schemas())
        return made

    app.openapi = document
