"""Decides about a request before any route sees it: from where, by whom, how often, and for a page of which origin."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from bento.auth.principal import OPERATOR, ROLES, Caller, role_needed
from bento.auth.rate_limit import RateLimit
from bento.auth.tokens import TokenRefused, Tokens, is_weak
from bento.errors import ServingError
from bento.telemetry import WATCHED
from settings import Settings

logger = logging.getLogger("marquee.guard")

#: Requests a minute of one caller where people have to log in and nothing else is set.
DEFAULT_RATE = 600
_LOGINS = ("/login", "/refresh", "/v1/login", "/v1/refresh")
_METHODS = "GET, POST, PUT, PATCH, DELETE"
_ASKED = "authorization, content-type, idempotency-key, if-match, if-none-match, x-request-id"
_SHOWN = "etag, idempotency-replayed, location, retry-after, x-request-id"

Headers = Mapping[bytes, bytes]


class UnsafeSettings(ServingError):
    """The service would run without the protection that its settings or its address need."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a request: go on as ``caller``, or answer ``status`` with ``detail`` and ``headers``.

    ``cors`` belongs on the answer whatever it is; ``on_success`` names a bucket that a good answer is not to count in,
    ``counted_in`` the one that the request was counted in.
    """

    status: HTTPStatus | None = None
    detail: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    caller: Caller | None = None
    cors: tuple[tuple[bytes, bytes], ...] = ()
    on_success: str | None = field(default=None)
    counted_in: str | None = field(default=None)


def check_settings(settings: Settings, host: str | None = None) -> None:
    """Raise ``UnsafeSettings``, with the remedy, for settings that must not be served with at this address."""
    local = host is None or is_loopback(host)
    if settings.auth == "off":
        if not local:
            raise UnsafeSettings(
                f"MARQUEE_AUTH=off is for this machine only, and {host} is an address that others reach: set"
                " MARQUEE_AUTH=jwt and MARQUEE_JWT_SECRET, or listen on 127.0.0.1"
            )
        if settings.environment == "production":
            raise UnsafeSettings("MARQUEE_ENVIRONMENT=production needs MARQUEE_AUTH=jwt")
        return
    secret = settings.jwt_secret.get_secret_value()
    remedy = "take 32 random bytes, for example `openssl rand -hex 32`"
    if not secret:
        raise UnsafeSettings(f"MARQUEE_AUTH=jwt needs MARQUEE_JWT_SECRET: {remedy}")
    if is_weak(secret) and (settings.environment == "production" or not local):
        raise UnsafeSettings(
            f"MARQUEE_JWT_SECRET is too easily guessed for anything but development on this machine: {remedy}"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine and is reached from nowhere else.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Judges requests by the settings. Raises ``UnsafeSettings`` for settings that no address may be served with."""

    def __init__(self, settings: Settings) -> None:
        check_settings(settings)
        secret = settings.jwt_secret.get_secret_value()
        self.tokens = Tokens(secret) if settings.auth == "jwt" else None
        # Where anybody is let in, or a guessable secret lets them, only this machine may ask, however it was started.
        self._local_only = self.tokens is None or is_weak(secret)
        self._origins = settings.cors_origins
        rate = settings.rate_limit if settings.rate_limit is not None else (DEFAULT_RATE if self.tokens else 0)
        self._requests = RateLimit(rate) if rate else None
        self._logins = RateLimit(settings.login_limit)
        if self.tokens is None:
            logger.info("MARQUEE_AUTH=off: whoever is on this machine may do everything, and nobody else anything")

    def judge(self, scope: MutableMapping[str, Any], headers: Headers) -> Verdict:
        """Judge a request; ``headers`` are those of the scope by lower-case name."""
        address = str((scope.get("client") or ("unknown", 0))[0])
        if self._local_only and not (is_loopback(address) and is_loopback(_host(headers))):
            return Verdict(HTTPStatus.FORBIDDEN, "This service answers its own machine only, under its own name.")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        cors: tuple[tuple[bytes, bytes], ...] = ()
        if origin and origin.partition("://")[2] != headers.get(b"host", b"").decode("latin-1").lower():
            if origin not in self._origins:
                return Verdict(HTTPStatus.FORBIDDEN, "Pages of this origin may not ask; see MARQUEE_CORS_ORIGINS.")
            cors = (
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _SHOWN.encode()),
                (b"vary", b"origin"),
            )
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                allowed = (
                    (b"access-control-allow-methods", _METHODS.encode()),
                    (b"access-control-allow-headers", _ASKED.encode()),
                    (b"access-control-max-age", b"600"),
                )
                return Verdict(HTTPStatus.NO_CONTENT, headers=allowed, cors=cors)
        return self._known(scope, headers, address, cors)

    def answered(self, verdict: Verdict, status: int) -> None:
        """Note how a request that went on was answered: only failed logins count."""
        if verdict.on_success is not None and status < HTTPStatus.BAD_REQUEST:
            self._logins.give_back(verdict.on_success)

    def charge(self, verdict: Verdict, more: int) -> float:
        """Count a request that went on as so many more; 0 where it may still go on, else the seconds until it may."""
        if self._requests is None or verdict.counted_in is None:
            return 0.0
        return self._requests.wait(verdict.counted_in, more)

    def _known(
        self,
        scope: MutableMapping[str, Any],
        headers: Headers,
        address: str,
        cors: tuple[tuple[bytes, bytes], ...],
    ) -> Verdict:
        needed = role_needed(scope["path"])
        caller, problem = (OPERATOR, "") if self.tokens is None else self._caller(self.tokens, headers)
        is_login = scope["path"] in _LOGINS
        by_address = f"address {address}"
        bucket = f"caller {caller.name}" if needed is not None and caller is not None and caller.name else by_address
        # Logins have a limit of their own; who watches the service asks often, and is answered at once.
        is_counted = problem or not (is_login or scope["path"] in WATCHED)
        if is_counted and (late := _too_often(self._requests, bucket, cors)) is not None:
            return late
        if is_login and (late := _too_often(self._logins, by_address, cors)) is not None:
            return late
        if needed is None:
            return Verdict(caller=caller or _STRANGER, cors=cors, on_success=by_address if is_login else None)
        if caller is None:
            wants = b'Bearer realm="marquee"' + (b', error="invalid_token"' if problem else b"")
            return Verdict(
                HTTPStatus.UNAUTHORIZED,
                f"{problem or 'Who is calling?'} Log in at /login and send `Authorization: Bearer` with the token.",
                ((b"www-authenticate", wants),),
                cors=cors,
            )
        if ROLES.index(caller.role) < ROLES.index(needed):
            return Verdict(HTTPStatus.FORBIDDEN, f"This is not for the role {caller.role}.", cors=cors)
        return Verdict(caller=caller, cors=cors, counted_in=bucket)

    @staticmethod
    def _caller(tokens: Tokens, headers: Headers) -> tuple[Caller | None, str]:
        """Who is calling, or what is wrong with what he says of himself (nothing: he says nothing)."""
        said = headers.get(b"authorization", b"").decode("latin-1")
        if not said:
            return None, ""
        kind, _, token = said.partition(" ")
        if kind.lower() != "bearer":
            return None, "Only Bearer tokens are taken."
        try:
            return tokens.read(token.strip()), ""
        except TokenRefused as refused:
            return None, str(refused)


#: Who has not said who he is, on a route where nobody has to: he is nobody's user.
_STRANGER = Caller("", "user")


def _too_often(limit: RateLimit | None, bucket: str, cors: tuple[tuple[bytes, bytes], ...]) -> Verdict | None:
    if limit is None or not (wait := limit.wait(bucket)):
        return None
    seconds = math.ceil(wait)
    return Verdict(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Too many requests: wait {seconds} s.",
        ((b"retry-after", str(seconds).encode()),),
        cors=cors,
    )


def _host(headers: Headers) -> str:
    """Return the name in the ``Host`` header, without the port; a foreign page can make it another one."""
    host = headers.get(b"host", b"").decode("latin-1")
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
