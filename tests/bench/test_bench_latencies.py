"""From first waves to figures: what counts as moved, as the whole fleet, as waiting for a ramp, and that the steps add up."""

import doctest

import pytest

from benchmarks import common
from benchmarks.parts import market
from benchmarks.parts.latencies import FirstWave, Ticks, summary


def wave(facility, *, owner="a", wave=0, start=5.0, ack=20.0):
    steps = (
        {"read": start, "plan": start + 2, "journal": start + 4, "send": start + 5, "ack": ack} if wave == 0 else None
    )
    return FirstWave(facility, owner, wave, 100 if wave == 0 else 0, steps)


def test_a_tick_takes_as_long_as_its_slowest_facility():
    ticks = Ticks(2, 5, {1: [wave("x", ack=20.0), wave("y", owner="b", ack=31.0)]})
    assert summary(ticks)["p50_ms"] == 31.0


def test_ticks_are_told_apart_by_what_they_did():
    waves = {1: [wave("x"), wave("y")], 2: [wave("x")], 3: [wave("x", wave=1)], 4: [wave("x"), wave("y", wave=2)]}
    figures = summary(Ticks(2, 10, waves))
    assert figures["moved_ticks"] == 3
    assert figures["whole_fleet"]["ticks"] == 1
    assert figures["whole_fleet"]["devices_p50"] == 200
    assert figures["waited_for_ramp"] == 1


def test_the_steps_of_the_slowest_owner_add_up_to_its_ack():
    waves = [wave("x", start=5.0, ack=20.0), wave("y", start=7.0, ack=22.0), wave("z", owner="b", start=1.0, ack=9.0)]
    figures = summary(Ticks(3, 1, {1: waves}))
    steps = {name: step["p50"] for name, step in figures["breakdown_ms"].items()}
    assert steps == {"read": 5.0, "plan": 4.0, "journal": 2.0, "send": 1.0, "ack": 10.0}
    assert figures["plan_ms"] == 4.0


def test_nothing_moved_has_no_latency():
    figures = summary(Ticks(2, 3))
    assert (figures["moved_ticks"], figures["p95_ms"], figures["breakdown_ms"]) == (0, None, {})


@pytest.mark.parametrize("module", [common, market])
def test_examples_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
