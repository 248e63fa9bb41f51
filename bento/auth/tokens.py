"""The API's tokens: JSON Web Tokens of ten minutes (RFC 7519), signed with the one secret of the environment."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from bento.auth.principal import ROLES, Caller
from bento.errors import ServingError
from bento.store.users import Who

LIFETIME = timedelta(minutes=10)
ISSUER = "marquee"
AUDIENCE = "marquee-api"
#: Named here and never taken from the token: "none" and a key of another kind are the classic forgeries.
_ALGORITHM = "HS256"
_CLAIMS = ["aud", "exp", "iat", "iss", "nbf", "role", "sub"]
#: Letters of the longest token that is looked at; ours have about 350.
_LONGEST = 2_000


class TokenRefused(ServingError):
    """A token is not, or no longer, one of ours; the message never holds it."""


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """Makes and reads tokens with one secret."""

    secret: str

    def issue(self, caller: Caller, now: datetime) -> str:
        """Issue a token that names the caller and is valid for ten minutes."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": caller.name,
            "role": caller.role,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_hex(8),
        }
        if caller.who is not None:
            claims["source"], claims["source_id"] = caller.who.source, caller.who.source_id
        return jwt.encode(claims, self.secret, algorithm=_ALGORITHM)

    def read(self, token: str) -> Caller:
        """Who is calling. Raises ``TokenRefused`` for a token that is forged, expired, or meant for somebody else."""
        if len(token) > _LONGEST:
            raise TokenRefused("The token is none of ours.")
        try:
            claims = jwt.decode(
                token,
                self.secret,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": _CLAIMS, "strict_aud": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("The token has expired.") from error
        except jwt.PyJWTError as error:
            raise TokenRefused("The token is none of ours.") from error
        role, source, source_id = claims["role"], claims.get("source"), claims.get("source_id")
        who = Who(source, source_id) if isinstance(source, str) and type(source_id) is int else None
        if role not in ROLES or (role == "user") != (who is not None):
            raise TokenRefused("The token is none of ours.")
        return Caller(claims["sub"], role, who)


def is_weak(secret: str) -> bool:
    """Whether a secret could be guessed: shorter than the signature's 256 bits, or made of few letters.

    >>> is_weak("secret"), is_weak("abcd" * 16), is_weak("J1vQ9cT0yZ8mN4kR7wX2bL5hF3sD6gPa")
    (True, True, False)
    """
    return len(secret.encode()) < 32 or len(set(secret)) < 12
