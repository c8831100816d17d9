"""A tick's trace: processes that tell one another nothing tell spans of one tree, and an endpoint takes them as OTLP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hcp_pipelines.runtime import spans
from hcp_pipelines.runtime.logs import add_trace
from hcp_pipelines.runtime.tracing import configure_tracing

TICK_ID = 41


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Takes what is posted."""
    taken: list[ExportTraceServiceRequest] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Encoding"]) == ("/v1/traces", None)
            taken.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told_by(process: str, endpoint: str, *told) -> None:
    """What a process of its own would tell."""
    close = configure_tracing(process, endpoint)
    for arguments, named in told:
        spans.tell_span(*arguments, **named)
    close()


def test_spans_of_several_processes_are_one_tree():
    with collector() as (endpoint, taken):
        told_by("feed", endpoint, ((spans.TICK, TICK_ID, 0.2), {"stream": "power.rt_lmp"}), (("none", 0, 1.0), {}))
        told_by(
            "allocator-a", endpoint,
            (("wave", TICK_ID, 50.0), {"key": "c-1", "devices": 12}),
            (("plan", TICK_ID, 0.01), {"key": "plan/c-1", "under": "c-1", "ago_s": 20.0}),
        )  # fmt: skip
        told_by("gateway-1", endpoint, (("gateway", TICK_ID, 0.01), {"key": "gateway/c-1", "under": "c-1"}))
    by_name, process_of = {}, {}
    for request in taken:
        for part in request.resource_spans:
            names = {a.key: a.value.string_value for a in part.resource.attributes}
            for span in part.scope_spans[0].spans:
                by_name[span.name], process_of[span.name] = span, names["service.name"]
    assert process_of == {"tick": "feed", "wave": "allocator-a", "plan": "allocator-a", "gateway": "gateway-1"}
    assert {span.trace_id for span in by_name.values()} == {spans.trace_id_of(TICK_ID).to_bytes(16)}
    tick, wave, plan = (by_name[name] for name in ("tick", "wave", "plan"))
    assert (tick.parent_span_id, wave.parent_span_id) == (b"", tick.span_id)
    assert plan.parent_span_id == by_name["gateway"].parent_span_id == wave.span_id
    assert round((tick.end_time_unix_nano - tick.start_time_unix_nano) / 1e9, 3) == 0.2
    assert wave.start_time_unix_nano < plan.start_time_unix_nano < plan.end_time_unix_nano < wave.end_time_unix_nano
    assert {a.key: a.value.int_value for a in wave.attributes} == {"hcp.tick_id": TICK_ID, "hcp.devices": 12}


def test_an_endpoint_that_is_not_there_costs_spans_and_nothing_else():
    with collector() as (endpoint, _):
        pass
    told_by("feed", endpoint, ((spans.TICK, TICK_ID, 0.2), {}))
    assert not spans.are_wanted()


def test_ticks_of_another_platform_have_other_traces(monkeypatch):
    def ids():
        return spans.trace_id_of(TICK_ID), spans.span_id_of(TICK_ID, "wave")

    monkeypatch.setattr(spans, "_platform", spans._Platform())
    spans.name_platform("one")
    first = ids()
    spans.name_platform("two")
    assert not set(first) & set(ids())
    spans.name_platform("one")
    assert ids() == first


def test_log_lines_about_a_tick_name_its_trace():
    line = add_trace(None, "", {"event": "ticks_recorded", "tick_id": TICK_ID})
    assert int(line["trace_id"], 16) == spans.trace_id_of(TICK_ID)
    assert json.dumps(add_trace(None, "", {"event": "x", "tick_id": 0})) == '{"event": "x", "tick_id": 0}'
