"""The API reference: both OpenAPI documents, each made once, and the page that shows them, from this service alone.

The page is Swagger UI as BentoML ships it (`/static_content`): no script, style or picture comes from another host.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from bento.api.openapi import complete

# Addresses are relative, so that the page also works where a proxy serves it under a path of its own.
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Marquee API</title>
<link rel="icon" type="image/png" href="../static_content/favicon-light-32x32.png">
<link rel="stylesheet" href="../static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="../static_content/swagger-ui-bundle.js"></script>
<script src="../static_content/swagger-ui-standalone-preset.js"></script>
<script src="docs/initializer.js"></script>
</body>
</html>
"""
# A file of its own, for the policy of the page forbids scripts inside it. With a `validatorUrl`, as by default, Swagger
# UI has a host of its makers look at the document.
_INITIALIZER = """\
window.ui = SwaggerUIBundle({
  urls: [
    { url: "../docs.json", name: "Recommendations, and everything else" },
    { url: "openapi.json", name: "Users, ratings, movies, people, catalogs, events" },
  ],
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  // Its makers' logo has a style sheet inside it, which the page's policy forbids too.
  plugins: [function () { return { components: { Logo: function () { return null; } } }; }],
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
});
"""


class Document:
    """An OpenAPI document as bytes with their tag, made by ``make`` at the first request and never again."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._making = threading.Lock()
        self._made: tuple[bytes, str] | None = None

    def send(self, request: Request) -> Response:
        """Return the document, or 304 for a caller who has it; in a thread of the pool, for making it takes long."""
        body, tag = self._once()
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    def _once(self) -> tuple[bytes, str]:
        with self._making:
            if self._made is None:
                body = json.dumps(self._make(), ensure_ascii=False).encode()
                self._made = body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            return self._made


def reference_routes(whole: Callable[[], dict[str, Any]], resources: Callable[[], dict[str, Any]]) -> list[Route]:
    """Return the routes of the API reference; ``whole`` makes BentoML's document, ``resources`` that of ``/v1``.

    Mount them before BentoML's own pages, so that they answer instead: `/`, whose page loads third-party scripts, and
    `/docs.json`, which BentoML builds again for each request.
    """
    document, own = Document(lambda: complete(whole())), Document(resources)
    return [
        Route("/", lambda _: RedirectResponse("v1/docs")),
        Route("/docs.json", document.send),
        Route("/v1/openapi.json", own.send),
        Route("/v1/docs", lambda _: HTMLResponse(_PAGE)),
        Route("/v1/docs/initializer.js", lambda _: Response(_INITIALIZER, media_type="text/javascript")),
    ]
