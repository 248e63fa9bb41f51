"""OpenTelemetry traces of BentoML's requests, sent to a collector as OTLP over HTTP; nothing of it runs unasked.

BentoML makes the spans. The exporter that it would load needs other versions of OpenTelemetry than it has itself, so
the few lines that turn spans into OTLP's messages are here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

logger = logging.getLogger("marquee.traces")

#: Seconds that the collector has to take a batch; it is sent by a thread, and no request waits.
TIMEOUT_S = 5.0


class OtlpExporter(SpanExporter):
    """Posts spans to a collector's URL, as a rule ``http://host:4318/v1/traces``; what it does not take is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.Client(timeout=TIMEOUT_S, headers={"content-type": "application/x-protobuf"})
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        try:
            answer = self._http.post(self._url, content=message_of(spans).SerializeToString())
            answer.raise_for_status()
        except httpx.HTTPError as error:
            if not self._is_away:
                logger.warning("traces are lost: the collector does not take them (%s)", type(error).__name__)
            self._is_away = True
            return SpanExportResult.FAILURE
        self._is_away = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the connection."""
        self._http.close()


class Traces:
    """BentoML's spans on their way to a collector; ``stop`` sends what is left."""

    def __init__(self, url: str) -> None:
        # BentoML has no public name for its provider of tracers, and does not set OpenTelemetry's own.
        from bentoml._internal.configuration.containers import BentoMLContainer

        self._processor = BatchSpanProcessor(OtlpExporter(url))
        BentoMLContainer.tracer_provider.get().add_span_processor(self._processor)

    def stop(self) -> None:
        """Send what is left, and end."""
        self._processor.shutdown()


def message_of(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Return the spans as an OTLP message, grouped by resource and scope."""
    message = ExportTraceServiceRequest()
    places: dict[tuple[int, str], ScopeSpans] = {}
    for span in spans:
        scope = span.instrumentation_scope
        place = (id(span.resource), "" if scope is None else scope.name)
        if place not in places:
            of_resource: ResourceSpans = message.resource_spans.add()
            of_resource.resource.attributes.extend(_attributes(span.resource.attributes))
            places[place] = of_resource.scope_spans.add()
            if scope is not None:
                places[place].scope.name, places[place].scope.version = scope.name, scope.version or ""
        places[place].spans.append(_span(span))
    return message


def _span(span: ReadableSpan) -> Span:
    context = span.get_span_context()
    assert context is not None
    return Span(
        trace_id=context.trace_id.to_bytes(16),
        span_id=context.span_id.to_bytes(8),
        parent_span_id=b"" if span.parent is None else span.parent.span_id.to_bytes(8),
        name=span.name,
        # OTLP counts from 1, for 0 is an unknown kind.
        kind=span.kind.value + 1,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_attributes(span.attributes or {}),
        status=Status(code=span.status.status_code.value, message=span.status.description or ""),  # type: ignore[arg-type]
    )


def _attributes(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list | tuple):
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    return AnyValue(string_value=str(value))
