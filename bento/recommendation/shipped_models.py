"""The models that a bundle ships, by the names that requests call them by."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from bento.errors import RequestRefused
from models.base import Recommender
from models.serving.bundle import Bundle

#: The name of the model of the films' words.
CONTENT: Final = "content"


def shipped_models(bundle: Bundle) -> dict[str, Recommender]:
    """Return the models of a bundle by name, the promoted recommender first."""
    models = {bundle.recommender.name: bundle.recommender, "popularity": bundle.popularity}
    if bundle.content is not None:
        models.setdefault(CONTENT, bundle.content)
    return models


def shipped_model(bundle: Bundle, name: str | None) -> Recommender:
    """Return the model of a name, the promoted one for None; raise ``RequestRefused`` (400) for an unknown name."""
    if name is None:
        return bundle.recommender
    models = shipped_models(bundle)
    if name not in models:
        lacks = " Promote a bundle that ships the films' words (`make run`) for `content`." if name == CONTENT else ""
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST,
            f"The served bundle {bundle.version} ships no model {name!r}.",
            f"Its models are: {', '.join(models)}.{lacks}",
        )
    return models[name]
