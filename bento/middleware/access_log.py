"""What came of each request: one line of JSON, and Prometheus metrics by route, status and stage.

A route is named as the documents name it, so that neither a line nor a metric says whose user was asked for.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bento.telemetry import WATCHED, Arrival

logger = logging.getLogger("marquee.requests")

#: Routes outside of the app under ``/v1``, beside those that BentoML's document lists.
_OWN = frozenset(
    {
        "/", "/healthz", "/livez", "/readyz", "/metrics", "/docs.json", "/v1/openapi.json", "/v1/docs",
        "/v1/docs/initializer.js", "/login", "/refresh",
    }
)  # fmt: skip
_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_MOUNTED = "/v1"
#: Anybody may send any other, each of which would be a metric of its own.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class RequestLog:
    """Takes note of requests. ``answering`` are BentoML's routes, ``mounted`` the routes of the app under ``/v1``.

    Made in the worker, where the metrics' folder is set.
    """

    def __init__(self, answering: Sequence[str], mounted: Sequence[Any]) -> None:
        from prometheus_client import Counter, Histogram

        self._known = _OWN | set(answering)
        self._mounted = [route for route in mounted if hasattr(route, "path_regex")]
        self._labelled: dict[tuple[Any, ...], Any] = {}
        self._requests = Counter(
            "marquee_requests",
            "Requests by route, as the documents name it, and status.",
            ["method", "route", "status"],
        )
        self._seconds = Histogram(
            "marquee_request_seconds", "Time from a request to the end of its answer.", ["route"], buckets=_SECONDS
        )
        self._stages = Histogram(
            "marquee_stage_seconds",
            "Time of a request's stages: the app's store, the online features, the model, the body.",
            ["route", "stage"],
            buckets=_SECONDS,
        )

    def note(
        self, scope: Mapping[str, Any], came: Arrival, at: datetime, seconds: float, status: int, role: str | None
    ) -> None:
        """One request: when it came, how long its answer took, its status (499: nobody waited), and who asked."""
        route, method, stages = self.route_of(scope), str(scope["method"]), dict(came.stages)
        method = method if method in _METHODS else "other"
        self._of(self._requests, method, route, str(status)).inc()
        self._of(self._seconds, route).observe(seconds)
        for name, of_stage in stages.items():
            self._of(self._stages, route, name).observe(of_stage)
        if route in WATCHED:
            return
        line = {
            "at": at.isoformat(timespec="milliseconds"),
            "request_id": came.request_id,
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "role": role,
            "stages_ms": {name: round(of_stage * 1000, 2) for name, of_stage in stages.items()},
        }
        logger.info("%s", json.dumps(line))

    def _of(self, metric: Any, *labels: str) -> Any:
        """Return the metric with these labels from a cache: looking it up takes as long as counting."""
        place = (metric, *labels)
        if (found := self._labelled.get(place)) is None:
            found = self._labelled[place] = metric.labels(*labels)
        return found

    def route_of(self, scope: Mapping[str, Any]) -> str:
        """Return the route as the documents name it; ``other`` for an unknown path."""
        path = str(scope["path"])
        if path in self._known:
            return path
        if path.startswith(f"{_MOUNTED}/"):
            found = getattr(scope.get("route"), "path", None)
            if found is not None:
                return f"{_MOUNTED}{found}"
            # Refused before the app saw it.
            rest = path.removeprefix(_MOUNTED)
            for route in self._mounted:
                if route.path_regex.match(rest):
                    return f"{_MOUNTED}{route.path}"
        return "other"


def write_lines() -> None:
    """Have the lines go to standard output as they are, without the log's own beginnings."""
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
