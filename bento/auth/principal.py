"""Who is calling, and what he may do: known to every route of the request, BentoML's and those under ``/v1``."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from bento.errors import RequestRefused
from bento.store.users import Who

Role = Literal["user", "app", "admin"]

#: Who may do more comes later.
ROLES: tuple[Role, ...] = ("user", "app", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in; ``who`` is a user's person.

    ``name`` tells callers apart; it is empty where nobody has to log in.
    """

    name: str
    role: Role
    who: Who | None = None

    def may_act_for(self, user_id: int, edition: str) -> bool:
        """Whether the user that ``user_id`` means where this edition is served is in his hands."""
        return self.role != "user" or self.who == Who.of(user_id, edition)

    def must_be(self, user_id: int, edition: str) -> None:
        """``RequestRefused`` (403) for somebody else's user, whether there is one or not."""
        if not self.may_act_for(user_id, edition):
            raise RequestRefused(
                HTTPStatus.FORBIDDEN, f"User {user_id} is somebody else.", "A user may ask and write for himself only."
            )


#: Where `MARQUEE_AUTH=off`: everybody on this machine may do everything.
OPERATOR = Caller("", "admin")

_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who sent the request that is being answered; ``LookupError`` where the layer around the routes is missing."""
    return _CALLER.get()


def note_caller(known: Caller) -> None:
    """Have ``caller`` know him for the rest of this request."""
    _CALLER.set(known)


#: Pages and checks that need no login; they hold nothing of anybody.
_OPEN = re.compile(
    r"/|/healthz|/livez|/readyz|/docs\.json|/static_content/.*|/v1/docs(/initializer\.js)?|/v1/openapi\.json|(/v1)?/(login|refresh)"
)
#: What every caller may ask; whose user it is, the route itself looks at.
_OF_USERS = re.compile(
    r"/recommend|/recommend_batch|/recommend_for_movie|/similar|/cold_start|/predict_rating|/explain"
    r"|/v1/users/[^/]+(/.*)?|/v1/(films|people|data)(/.*)?|/v1/events|/v1/popular|/v1/new|/v1/map"
)
_OF_APPS = re.compile(r"/v1/users")


def role_needed(path: str) -> Role | None:
    """Return the lowest role that may call a path: None if it needs no login, admin if it is not listed.

    >>> role_needed("/healthz"), role_needed("/recommend"), role_needed("/v1/users"), role_needed("/metrics")
    (None, 'user', 'app', 'admin')
    """
    if _OPEN.fullmatch(path):
        return None
    if _OF_USERS.fullmatch(path):
        return "user"
    return "app" if _OF_APPS.fullmatch(path) else "admin"
