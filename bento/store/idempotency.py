"""A write that is sent twice with the same ``Idempotency-Key`` happens once and is answered twice alike.

The key is claimed, and the answer kept, in the transaction of the write itself: after a crash there are both or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bento.errors import ServingError
from bento.store.tables import IdempotencyKey

#: How long an answer is kept for a repetition.
KEPT = timedelta(hours=24)


class KeyReused(ServingError):
    """The key came with another request before."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers: status, JSON body (None: no body), headers of its own, and the row of whom it speaks."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    user_ref: int | None = None


def fingerprint(method: str, path: str, body: bytes) -> str:
    """Return a hash that two requests share if they are the same one."""
    return hashlib.sha256(f"{method} {path}\0".encode() + body).hexdigest()


def claim(session: Session, key: str, print_of_request: str, now: datetime) -> Answer | None:
    """Take a key for this transaction; the kept answer when a write with it has been done before.

    Of two writers with one key the second waits here for the end of the first. Raises ``KeyReused``.
    """
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))
    try:
        with session.begin_nested():
            session.add(IdempotencyKey(key=key, fingerprint=print_of_request, created_at=now))
    except IntegrityError:
        kept = session.get(IdempotencyKey, key)
        if kept is None or kept.status is None:
            raise
        if kept.fingerprint != print_of_request:
            raise KeyReused("the Idempotency-Key came with another request before") from None
        return Answer(kept.status, json.loads(kept.body or "null"), json.loads(kept.headers or "{}"), kept.user_ref)
    return None


def keep(session: Session, key: str, answer: Answer) -> None:
    """Keep the answer of the write that claimed the key."""
    claimed = session.get_one(IdempotencyKey, key)
    claimed.status, claimed.body = answer.status, json.dumps(answer.body)
    claimed.headers, claimed.user_ref = json.dumps(dict(answer.headers)), answer.user_ref
