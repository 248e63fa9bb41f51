"""What every route under ``/v1`` has in common: what it stands on, the forms of its parameters, whose user it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy.orm import Session

from bento.auth.principal import caller
from bento.auth.tokens import Tokens
from bento.bundles.loaded_bundle import Served
from bento.store import tables
from bento.store import users as people
from bento.store.database import Store
from bento.store.tables import APP
from bento.store.users import NoSuchUser, Who

MAX_PAGE = 200

UserId = Annotated[int, Path(ge=1, le=2**63 - 1, description="As in `/recommend`.")]
MovieId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The edition's own id of the film.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many on a page.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="The write with this key is done once in 24 hours; sent again it gets the same answer.",
    ),
]
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="As in the list of keys.")]
IfMatch = Annotated[str | None, Header(description="Only if the ETag is still this one, else 412.")]
IfNoneMatch = Annotated[str | None, Header(description="Only if the ETag is not this one; `*`: only if there is none.")]


def _nobody_is_told(user_id: int) -> None:
    """Where no online features are kept fresh."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What the routes stand on: the app's store, the bundle of this moment (or why there is none), and the time.

    ``tokens`` makes the tokens of a login; None where nobody has to log in. ``beside`` is another version that answers,
    too, in an experiment. ``rated`` is told whose ratings have changed.
    """

    store: Store
    served: Callable[[], Served]
    now: Callable[[], datetime]
    tokens: Tokens | None = None
    beside: Served | None = None
    rated: Callable[[int], None] = _nobody_is_told


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def _backing(request: Request) -> Backing:
    backing: Backing = request.app.state.backing
    return backing


async def only_ones_own(request: Request) -> None:
    """Refuse a caller who is a user and asks for somebody else: a dependency of every route with a user in its path."""
    user_id = request.path_params.get("user_id")
    known = caller()
    if user_id is None or known.role != "user":
        return
    # What is no number is the route's to refuse, and nobody's user.
    number = int(user_id) if str(user_id).isdecimal() and len(str(user_id)) < 20 else 0
    known.must_be(number, _backing(request).served().catalogue.edition)


Here = Annotated[Backing, Depends(_backing)]


def writer_of(session: Session, served: Served, user_id: int, now: datetime) -> tables.User:
    """Return the row of a user who writes, creating it for one of the edition.

    Raises ``NoSuchUser`` for an unknown user.
    """
    who = Who.of(user_id, served.catalogue.edition)
    found = people.find_user(session, who, lock=True)
    if found is not None:
        return found
    if who.source != APP and user_id not in served.bundle.user_index:
        raise NoSuchUser(f"There is no user {user_id}")
    return people.adopt_user(session, who, now)


def reader_of(session: Session, served: Served, user_id: int) -> tables.User | None:
    """Return the row of a user who is read; None for one of the edition who never wrote.

    Raises ``NoSuchUser`` for an unknown or deleted user.
    """
    who = Who.of(user_id, served.catalogue.edition)
    found = people.find_user(session, who)
    if found is None and (people.is_forgotten(session, who) or user_id not in served.bundle.user_index):
        raise NoSuchUser(f"There is no user {user_id}")
    return found
