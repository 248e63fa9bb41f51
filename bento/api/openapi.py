"""BentoML's OpenAPI document, completed with the statuses and bodies that its routes really answer.

BentoML writes the same fixed set of errors to each route, in a shape that the layer around it (``asgi``) replaces.
"""

from __future__ import annotations

from typing import Any

from bento.api.problem_details import MEDIA_TYPE, Problem

_REF = "#/components/schemas/Problem"
_SAYS = {
    "400": "The body is not of the form that is wanted; `errors` names the fields.",
    "401": "The caller has not logged in, or his token is not valid (any more).",
    "403": "The user is somebody else, or the request comes from where it may not.",
    "404": "What the body names does not exist; a user whom nobody knows is no such case, he gets popular films.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "429": "Too many requests; `Retry-After` says for how long to wait.",
    "431": "The request's headers are too many or too large.",
    "500": "An error of the service; the log has it under the request id.",
    "503": "Nothing is served yet, or the service is overloaded; `detail` says what to do.",
    "504": "The answer took longer than it may.",
}
#: What BentoML's own routes answer beside 200.
_OF_ANSWERS = ("400", "401", "403", "404", "413", "415", "429", "431", "500", "503", "504")
_STATUSES = {
    "/recommend": _OF_ANSWERS,
    "/similar": _OF_ANSWERS,
    "/recommend_batch": _OF_ANSWERS,
    "/recommend_for_movie": _OF_ANSWERS,
    "/cold_start": _OF_ANSWERS,
    "/predict_rating": _OF_ANSWERS,
    "/explain": _OF_ANSWERS,
    "/readyz": ("503",),
}
#: BentoML's own routes that answer.
ANSWERING = tuple(path for path in _STATUSES if path != "/readyz")


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Put every route's real errors into the document, as problems, and return it."""
    for path, statuses in _STATUSES.items():
        for operation in document.get("paths", {}).get(path, {}).values():
            responses = operation["responses"]
            kept = {status: said for status, said in responses.items() if str(status) == "200"}
            operation["responses"] = {**kept, **{status: error_response(_SAYS[status]) for status in statuses}}
    # BentoML names its own makers as those to turn to.
    document.get("info", {}).pop("contact", None)
    document.setdefault("components", {}).setdefault("schemas", {}).update(problem_schemas())
    return document


def error_response(description: str) -> dict[str, Any]:
    """Return an OpenAPI response whose body is a problem."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": _REF}}}}


def problem_schemas() -> dict[str, Any]:
    """Return the schemas that ``error_response`` refers to."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return {**parts, "Problem": schema}
