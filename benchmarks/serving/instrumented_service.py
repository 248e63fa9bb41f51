"""The service as it is, with one route more: a constant body of any size, from the same process and the same layers.

BentoML imports this by its name (``bentoml serve benchmarks.serving.instrumented_service:Measured``).
"""

from __future__ import annotations

from typing import Any

import bentoml
from pydantic import BaseModel, Field
from starlette.responses import Response

from bento import service as served
from bento.middleware.asgi import Front

_AS_SERVED: Any = served.Marquee


class Wanted(BaseModel):
    """How many bytes the answer is to have."""

    size: int = Field(ge=2, le=1_000_000)


_BODIES: dict[int, bytes] = {}


@bentoml.asgi_app(served._RESOURCES, path="/v1")
@bentoml.service(
    name="Marquee",
    envs=[{"name": variable.name, "value": variable.value} for variable in _AS_SERVED.envs],
    **_AS_SERVED.config,
)
class Measured(_AS_SERVED.inner):
    """What is served, beside a yardstick."""

    @bentoml.api(route="/constant")
    async def constant(self, request: Wanted, /) -> Any:
        """Return a JSON text of ``request.size`` bytes, built once per size."""
        size = request.size
        if size not in _BODIES:
            _BODIES[size] = b'"' + b"x" * (size - 2) + b'"'
        return Response(_BODIES[size], media_type="application/json")


Measured.add_asgi_middleware(Front, state=served._RESOURCES.state)
