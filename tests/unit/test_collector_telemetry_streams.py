"""What a gateway may send that is broken or hostile: nothing of the collector, and of its own facility no more than must be."""

import asyncio
from dataclasses import replace

import pytest

from hcp_pipelines.collector.telemetry import streams
from hcp_pipelines.collector.telemetry.intake import Intake
from hcp_pipelines.collector.telemetry.streams import AHEAD_MS, EARLY_S, FacilityStream, FutureSeqError
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.wire.telemetry import Meter, decode_sample, encode_sample
from tests.support.telemetry import PARTS, sample

NOW_MS = round(SystemClock().real_now().timestamp() * 1000)
SOON_US = 1000 * NOW_MS + round(2e6 * EARLY_S)


async def parts_of(_):
    return PARTS


@pytest.fixture
def stream():
    return FacilityStream("one", "unix:/nowhere", None, Intake(), parts_of, SystemClock(), 2**20)


async def taken(stream, *samples):
    for each in samples:
        await stream._take(encode_sample(each))
    return [each.seq for each in stream._intake.take()]


@pytest.mark.parametrize("name", ["sampled_at_us", "simulated_at_us"])
async def test_instants_ahead_of_the_clocks_are_refused(stream, name):
    assert await taken(stream, replace(sample(1), **{name: SOON_US})) == []
    assert name.removesuffix("_us") in stream.reason
    assert f"at most {EARLY_S:.0f}" in stream.reason


async def test_a_meter_whose_clock_is_ahead_costs_its_reading_alone(stream):
    await stream._take(encode_sample(sample(1, meter=Meter(SOON_US, 1.0, 1.0))))
    [found] = stream._intake.take()
    assert (found.seq, found.meter) == (1, None)


async def test_a_number_far_ahead_ends_the_stream_and_is_not_stored(stream):
    with pytest.raises(FutureSeqError, match="move the facility's telemetry folder away"):
        await taken(stream, replace(sample(1), seq=NOW_MS + 2 * AHEAD_MS))
    assert await taken(stream, sample(1)) == [1]


async def test_what_was_refused_is_let_go_of_once_all_before_it_is_stored(stream):
    assert await taken(stream, sample(1), sample(2, facility="two"), sample(3, facility="two")) == [1]
    assert stream.done_up_to == 0
    stream.stored(1)
    assert stream.done_up_to == 3
    await stream._take(b"\xff" * 9)
    assert stream.done_up_to == 3


async def test_a_gateway_that_minds_no_window_is_read_no_further_until_something_is_stored(stream, monkeypatch):
    monkeypatch.setattr(streams, "MESSAGE_MAX_BYTES", 0)
    stream._window_bytes = len(encode_sample(sample(1)))
    assert await taken(stream, sample(1), sample(2), sample(3)) == [1, 2, 3]
    waiting = asyncio.create_task(stream._wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert "beyond its window" in stream.reason
    stream.stored(1)
    await asyncio.wait_for(waiting, 30)


async def test_a_gateway_is_read_no_faster_than_catching_up_wants(stream, monkeypatch):
    monkeypatch.setattr(streams, "SAMPLES_PER_S", 1e-6)
    monkeypatch.setattr(streams, "SAMPLES_AT_ONCE", 3.0)
    for _ in range(3):
        await asyncio.wait_for(stream._keep_pace(), 30)
    waiting = asyncio.create_task(stream._keep_pace())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


def test_what_can_be_told_of_a_refused_sample_is_its_number():
    payload = encode_sample(replace(sample(7), generation=0))
    with pytest.raises(ValueError, match="generation is 0"):
        decode_sample(payload)
    assert streams.seq_of(payload) == 7
    assert streams.seq_of(b"\xff" * 9) == 0
