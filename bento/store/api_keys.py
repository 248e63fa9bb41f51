"""Who may log in: keys, of which the store has only argon2's hash, and logins that can be refreshed.

A key is shown once, when it is made. A login's refresh token is used once; one that comes a second time was copied, and
ends the login.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from bento.store.tables import ApiKey, Login, User

#: How long somebody stays logged in without using it.
REFRESHED_FOR = timedelta(days=7)
_PREFIX = "mq"
# OWASP's least for argon2id: 19 MiB, two passes; 15 ms, and a key has 256 random bits beside.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
#: What a key that nobody has is compared with, so that it takes as long as one that somebody has.
_NOBODYS = _HASHER.hash(secrets.token_hex(16))


def issue_key(session: Session, role: str, user: User | None, label: str | None, now: datetime) -> tuple[ApiKey, str]:
    """Create a key, for a user or (None) for an app or an admin; return it with its text, which is stored nowhere."""
    secret = secrets.token_urlsafe(32)
    row = ApiKey(
        key_id=secrets.token_hex(8),
        hash=_HASHER.hash(secret),
        role=role,
        user_ref=None if user is None else user.id,
        label=label,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row, f"{_PREFIX}_{row.key_id}_{secret}"


def find_key(session: Session, text: str) -> ApiKey | None:
    """Return the row that a key's text names, even if the rest of the text is wrong; ``is_right`` checks that."""
    parts = text.split("_", 2)
    return session.get(ApiKey, parts[1]) if len(parts) == 3 and parts[0] == _PREFIX else None


def is_right(row: ApiKey | None, text: str) -> bool:
    """Whether the text is that key's; takes as long where there is no row. For outside of a transaction: it is slow."""
    try:
        return _HASHER.verify(_NOBODYS if row is None else row.hash, text.split("_", 2)[-1]) and row is not None
    except (VerificationError, InvalidHashError):
        return False


def list_keys(session: Session, user: User) -> Sequence[ApiKey]:
    """Return a user's keys, the oldest first."""
    query = select(ApiKey).where(ApiKey.user_ref == user.id).order_by(ApiKey.created_at, ApiKey.key_id)
    return session.execute(query).scalars().all()


def revoke_key(session: Session, key_id: str, user: User | None = None) -> bool:
    """Take a key back, and every login with it; False where there is none (of this user)."""
    row = session.get(ApiKey, key_id)
    if row is None or (user is not None and row.user_ref != user.id):
        return False
    session.delete(row)
    return True


def start_login(session: Session, row: ApiKey, now: datetime) -> str:
    """Log in with a key; returns the refresh token. Logins whose time is over go."""
    session.execute(delete(Login).where(Login.expires_at < now))
    login_id, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
    session.add(
        Login(
            login_id=login_id,
            key_id=row.key_id,
            refresh_hash=_digest(secret),
            created_at=now,
            expires_at=now + REFRESHED_FOR,
        )
    )
    session.flush()
    return f"{login_id}.{secret}"


def refresh_login(session: Session, token: str, now: datetime) -> tuple[ApiKey, str] | None:
    """Return the key behind a refresh token and the next token; None for a token that is wrong, used or too old.

    A used one ends its login: commit the transaction even then.
    """
    login_id, _, secret = token.partition(".")
    query = select(Login).where(Login.login_id == login_id).with_for_update()
    login = session.execute(query).scalar_one_or_none()
    if login is None:
        return None
    if login.expires_at < now or not hmac.compare_digest(login.refresh_hash, _digest(secret)):
        session.delete(login)
        return None
    following = secrets.token_urlsafe(32)
    login.refresh_hash, login.expires_at = _digest(following), now + REFRESHED_FOR
    return session.get_one(ApiKey, login.key_id), f"{login_id}.{following}"


def _digest(secret: str) -> str:
    """Return a plain hash, which is enough: the secret is 256 random bits and lives for days."""
    return hashlib.sha256(secret.encode()).hexdigest()
