"""OpenTelemetry spans, exported over OTLP/HTTP; set up only where an endpoint is configured."""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def configure_tracing(process: str, endpoint: str) -> None:
    """Export spans of this process to `endpoint`."""
    provider = TracerProvider(resource=Resource.create({"service.namespace": "hcp", "service.name": process}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
