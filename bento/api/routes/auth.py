"""The routes around logging in: a key for a token of ten minutes, a refresh for the next, and a user's keys."""

from __future__ import annotations

import threading
from datetime import datetime
from http import HTTPStatus

from fastapi import Response
from fastapi.responses import JSONResponse

from bento.api.dependencies import Backing, Here, KeyId, UserId, reader_of, writer_of
from bento.auth.principal import Caller
from bento.auth.tokens import LIFETIME, Tokens
from bento.errors import RequestRefused
from bento.schemas import resources as bodies
from bento.store import api_keys as keys
from bento.store.tables import ApiKey, User
from bento.store.users import Who

#: Each takes 19 MiB and a processor for 15 ms.
_AT_ONCE = threading.BoundedSemaphore(2)


def log_in(here: Here, body: bodies.LoginBody) -> Response:
    """Exchange a key for a token that is valid for ten minutes, and a refresh token to get the next one.

    With a user's key send the `user_id` it belongs to; with the key of an app or an admin leave `user_id` out.
    """
    tokens = _tokens(here)
    text = body.key.get_secret_value()
    with here.store.reading() as session:
        row = keys.find_key(session, text)
    with _AT_ONCE:
        right = keys.is_right(row, text)
    if row is None or not right:
        raise _wrong()
    now = here.now()
    with here.store.writing() as session:
        # Looked up again: in between it may have been taken back.
        there = session.get(ApiKey, row.key_id)
        user = None if there is None or there.user_ref is None else session.get(User, there.user_ref)
        if there is None or body.user_id != (None if user is None else user.source_id):
            raise _wrong()
        caller, refresh = _caller(there, user), keys.start_login(session, there, now)
    return _answer(tokens, caller, refresh, now)


def refresh(here: Here, body: bodies.RefreshBody) -> Response:
    """Exchange a refresh token for the next token; a refresh token works once, and reusing one ends the login."""
    tokens = _tokens(here)
    now = here.now()
    with here.store.writing() as session:
        found = keys.refresh_login(session, body.refresh_token.get_secret_value(), now)
        if found is not None:
            row, following = found
            caller = _caller(row, None if row.user_ref is None else session.get(User, row.user_ref))
    if found is None:
        raise RequestRefused(HTTPStatus.UNAUTHORIZED, "The refresh token is wrong, used or too old.", "Log in again.")
    return _answer(tokens, caller, following, now)


def add_key(here: Here, user_id: UserId, body: bodies.KeyBody) -> Response:
    """Create a key for a user; its text is in this answer only and cannot be read again."""
    served = here.served()
    now = here.now()
    with here.store.writing() as session:
        user = writer_of(session, served, user_id, now)
        row, text = keys.issue_key(session, "user", user, body.label, now)
        shown = _key(row).model_dump(mode="json")
    return JSONResponse({**shown, "key": text}, status_code=HTTPStatus.CREATED)


def list_keys(here: Here, user_id: UserId) -> Response:
    """List a user's keys, without their texts, which only the user has."""
    served = here.served()
    with here.store.reading() as session:
        user = reader_of(session, served, user_id)
        rows = [] if user is None else keys.list_keys(session, user)
        return JSONResponse({"items": [_key(row).model_dump(mode="json") for row in rows]})


def revoke_key(here: Here, user_id: UserId, key_id: KeyId) -> Response:
    """Take a key back: nobody logs in with it or refreshes a login; a token that is out lasts its ten minutes."""
    served = here.served()
    with here.store.writing() as session:
        user = reader_of(session, served, user_id)
        if user is None or not keys.revoke_key(session, key_id, user):
            raise RequestRefused(HTTPStatus.NOT_FOUND, f"User {user_id} has no such key.", "See the list of keys.")
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _tokens(here: Backing) -> Tokens:
    if here.tokens is None:
        raise RequestRefused(
            HTTPStatus.CONFLICT, "Nobody has to log in: MARQUEE_AUTH=off.", "Send requests without a token."
        )
    return here.tokens


def _wrong() -> RequestRefused:
    # One answer for every mistake: which ids and keys there are is nobody's business.
    return RequestRefused(HTTPStatus.UNAUTHORIZED, "User id and key do not fit.", "Ask for a new key.")


def _caller(row: ApiKey, user: User | None) -> Caller:
    if user is None:
        return Caller(f"key/{row.key_id}", "admin" if row.role == "admin" else "app")
    return Caller(f"{user.source}/{user.source_id}", "user", Who(user.source, user.source_id))


def _answer(tokens: Tokens, caller: Caller, refresh_token: str, now: datetime) -> Response:
    return JSONResponse(
        {
            "access_token": tokens.issue(caller, now),
            "token_type": "Bearer",
            "expires_in": int(LIFETIME.total_seconds()),
            "refresh_token": refresh_token,
            "role": caller.role,
        }
    )


def _key(row: ApiKey) -> bodies.Key:
    return bodies.Key(key_id=row.key_id, label=row.label, created_at=row.created_at)
