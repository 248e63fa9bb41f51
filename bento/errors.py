"""What can go wrong in serving, each with its message and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class ServingError(Exception):
    """The root of the package's errors."""


class NotServable(ServingError):
    """A bundle cannot be served here; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy[0].upper()}{remedy[1:]}.")
        self.message = message
        self.remedy = remedy


class FeatureStoreUnavailable(ServingError):
    """The online store cannot be read at this moment; the request goes on without features."""


class RequestRefused(ServingError):
    """A request that has no answer: HTTP ``status``, a message and a remedy, and headers that belong to it."""

    def __init__(self, status: HTTPStatus, message: str, remedy: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.remedy = remedy
        self.headers = headers
