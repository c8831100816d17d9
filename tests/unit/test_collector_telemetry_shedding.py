"""What the collector says of samples that gateways gave up: how many of late, and nothing once it is over."""

from datetime import UTC, datetime

import structlog

from hcp_pipelines.collector.telemetry.service import SHED_TOLD_FOR_S, Telemetry
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings


def test_it_counts_over_gateways_that_begin_anew_and_ends_when_nothing_more_is_given_up(tmp_path):
    clock = ManualClock(datetime(2025, 1, 1, tzinfo=UTC))
    context = ProcessContext("collector", Settings(state_dir=tmp_path), clock, structlog.get_logger("test"))
    telemetry = Telemetry(context)
    assert telemetry._shedding({"one": 0, "two": 0}) == ""
    assert telemetry._shedding({"one": 7, "two": 0}).startswith("gateways gave up 7 samples")
    assert telemetry._shedding({"one": 0, "two": 0}).startswith("gateways gave up 7 samples"), (
        "its gateway was restarted"
    )
    assert telemetry._shedding({"one": 2, "two": 1}).startswith("gateways gave up 10 samples")
    clock.advance(SHED_TOLD_FOR_S + 1)
    assert telemetry._shedding({"one": 2, "two": 1}) == ""
    assert telemetry._shedding({"one": 3, "two": 1}).startswith("gateways gave up 1 samples")
