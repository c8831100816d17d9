"""Spans as OpenTelemetry's, exported over OTLP/HTTP; loaded only where an endpoint is configured."""

from collections.abc import Callable
from datetime import timedelta

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.runtime.spans import TICK, Span, send_to, span_id_of, trace_id_of

WITHIN_S = 2.0  # an endpoint that takes longer loses what it was sent


def configure_tracing(process: str, endpoint: str) -> Callable[[], None]:
    """Export spans of this process to `endpoint` from now on, in batches by a thread; what sends the rest and ends it."""
    resource = Resource.create({"service.namespace": "hcp", "service.name": process})
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=WITHIN_S))
    clock = SystemClock()
    forget = send_to(lambda span: processor.on_end(_readable(span, resource, clock)))

    def close() -> None:
        forget()
        processor.shutdown()  # type: ignore[no-untyped-call]

    return close


def _readable(span: Span, resource: Resource, clock: SystemClock) -> ReadableSpan:
    ended_at = clock.real_now() - timedelta(seconds=span.ago_s)
    began_at = ended_at - timedelta(seconds=span.took_s)
    return ReadableSpan(
        span.name,
        context=_context(span.tick_id, span.key),
        parent=None if span.key == TICK else _context(span.tick_id, span.under),
        resource=resource,
        attributes={"hcp.tick_id": span.tick_id} | {f"hcp.{name}": value for name, value in span.facts.items()},
        start_time=round(began_at.timestamp() * 1e9),
        end_time=round(ended_at.timestamp() * 1e9),
    )


def _context(tick_id: int, key: str) -> SpanContext:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_id_of(tick_id), span_id_of(tick_id, key), is_remote=True, trace_flags=sampled)
