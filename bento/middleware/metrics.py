"""The service's Prometheus metrics, sent in place of BentoML's route, which has a series for every path ever asked for.

Those paths name users, and anybody could make so many of them that the worker's memory is full.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response


def send_metrics(_: Request) -> Response:
    """Return the metrics of all workers in the text format; in a thread of the pool, for it reads their files."""
    # Imported late: prometheus_client looks only once for the folder that the workers share.
    from bentoml._internal.configuration.containers import BentoMLContainer

    client = BentoMLContainer.metrics_client.get()
    return Response(client.generate_latest(), media_type=client.CONTENT_TYPE_LATEST)
