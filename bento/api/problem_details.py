"""RFC 9457: what every error of every route looks like, whoever raised it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One field of a request that is not as it must be."""

    field: str = Field(description="Where: the path to the field.", examples=["body.rating"])
    message: str = Field(description="What is wrong with it.", examples=["Input should be a multiple of 0.5"])


class Problem(BaseModel):
    """An error, as RFC 9457 describes it; `error` and `request_id` are members of our own."""

    type: str = Field(description="`about:blank`: the status says it all.", examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(ge=400, le=599, description="The HTTP status.", examples=[404])
    detail: str = Field(description="What to do about it, or what went wrong.", examples=["There is no user 5."])
    error: str = Field(description="What went wrong.", examples=["There is no user 5."])
    instance: str = Field(description="The path that was asked.", examples=["/v1/users/5"])
    request_id: str = Field(description="As in the answer's `X-Request-ID`, for a look into the log.")
    errors: list[FieldError] | None = Field(default=None, description="For a request of the wrong form: each field.")


def problem(status: int, said: Any, *, instance: str, request_id: str) -> dict[str, Any]:
    """Make a problem of the body of an error answer: text, BentoML's or FastAPI's JSON, or nothing."""
    title = _phrase(status)
    # BentoML answers some of its refusals as a list of one.
    if isinstance(said, list) and said:
        said = said[0]
    if isinstance(said, str):
        said = {"detail": said}
    facts: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    detail, error = facts.get("detail"), facts.get("error")
    errors = None
    if isinstance(detail, list):
        errors = [
            {"field": ".".join(map(str, part.get("loc", ()))), "message": str(part.get("msg", ""))} for part in detail
        ]
        detail = "; ".join(f"{part['field']}: {part['message']}" for part in errors)
    text = str(detail or error or title).strip()
    made = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": text,
        "error": str(error or text).strip(),
        "instance": instance,
        "request_id": request_id,
    }
    return made if errors is None else {**made, "errors": errors}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
