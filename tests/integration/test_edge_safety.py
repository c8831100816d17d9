"""What a gateway does by itself and at once: heat, a feeder over its limit, lost power and its return; over real sockets."""

import asyncio
import os
import time

import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.devices.site import Reading
from tests.support.edge import FULL, MINERS, OFF, PUE, OwnTime, bits, until
from tests.support.gateway_site import Site, events, folder, local_events

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["folder"]  # fixtures

RAMPS = [{"scope": "f1", "up_mw": 0.1, "down_mw": 10, "window_s": 600}]
ALL_KW = 3.5 * MINERS * PUE


def hot_reading(site, slots):
    watts = (site.facility.devices.power_kw * 1000).astype(np.float32)
    return Reading(site.world.clock_now().timestamp(), watts, hot=np.array(slots, dtype=np.uint32))


class Fleet:
    """The simulated site, without power where a test wants it."""

    def __init__(self, site, monkeypatch) -> None:
        self._site, self._monkeypatch = site.world.fleet.sites["one"], monkeypatch
        self._power_w, self.is_dark = self._site.power_w, False
        monkeypatch.setattr(self._site, "power_w", self._watts)

    def _watts(self, now_s):
        return self._power_w(now_s) * (0.0 if self.is_dark else 1.0)


@pytest.fixture
async def limited(folder):
    """A feeder that carries 60 of its 100 miners; settling is short, so that it may act again."""
    async with Site(folder, feeder_limits_kw={"f1": 0.6 * ALL_KW}) as running:
        await until(
            lambda: running.facility.devices.is_seen, "a first reading: until then no feeder seems to have power"
        )
        yield running


async def test_a_feeder_over_its_limit_is_relieved_within_a_second_and_may_rise_later(limited):
    owner = await limited.owner()
    await owner.send(owner.make((FULL, range(50))))
    await asyncio.sleep(0.3)
    assert not events(owner, "safety")
    await owner.send(owner.make((FULL, range(50, MINERS))))
    own = OwnTime()
    await until(lambda: events(owner, "safety"), "it acts")
    assert own.end_s() < 1.0
    (event,) = events(owner, "safety")[:1]
    assert (event.reason, event.state, event.actor) == ("local_safety", OFF, "gateway")
    assert "its limit is" in event.detail
    assert event.mw_delta < 0
    refused = (await owner.send(owner.make((FULL, [bits(event.slots)[0]])))).assignments[0].refused
    assert [r.code for r in refused] == ["unsafe"]
    await until(lambda: limited.facility.state().power_kw < 0.6 * ALL_KW, "below the limit")
    fell = len(events(owner, "safety"))
    await owner.send(owner.make((OFF, range(20))))
    await until(lambda: not limited.facility.devices.bars.overloaded.any(), "it was well for long enough")
    assert len(events(owner, "safety")) == fell
    assert (await owner.send(owner.make((FULL, [0])))).assignments[0].refused == []


async def test_devices_that_are_too_hot_go_down_at_once_also_on_a_full_disk_and_are_logged_later(limited, monkeypatch):
    owner = await limited.owner()
    await owner.send(owner.make((FULL, range(5))))
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", _no_space)
    own = OwnTime()
    for listener in limited.facility.devices.listeners:
        listener(hot_reading(limited, [2, 3, 60]))
    await until(lambda: np.all(limited.world.commanded()[[2, 3]] == OFF), "down")
    assert own.end_s() < 1.0
    monkeypatch.setattr(os, "fdatasync", real)
    await until(lambda: events(owner, "safety"), "stored and told when there is room")
    (event,) = events(owner, "safety")
    assert (bits(event.slots), "over their model's temperature" in event.detail) == ([2, 3], True)
    limited.facility.devices.listeners[0](hot_reading(limited, [2, 3, 60]))
    refused = (await owner.send(owner.make((FULL, [2, 60, 4])))).assignments[0].refused
    assert {r.code: bits(r.slots) for r in refused} == {"unsafe": [2, 60]}
    await until(lambda: not limited.facility.devices.bars.hot.any(), "cool for long enough")
    assert (await owner.send(owner.make((FULL, [2])))).assignments[0].refused == []


def _no_space(*_):
    raise OSError(28, "No space left on device")


async def test_a_command_that_was_stored_while_safety_acted_raises_nothing(limited, monkeypatch):
    owner = await limited.owner()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (time.sleep(0.2), real(fd)))
    sending = asyncio.create_task(owner.send(owner.make((FULL, range(4)))))
    await asyncio.sleep(0.1)
    for listener in limited.facility.devices.listeners:
        listener(hot_reading(limited, [1]))
    await sending
    monkeypatch.undo()
    assert limited.facility.states[:4].tolist() == [FULL, OFF, FULL, FULL]
    await until(lambda: np.all(limited.world.commanded()[[0, 2, 3]] == FULL), "the others are told")
    assert limited.world.commanded()[1] == OFF
    await until(lambda: [e for e in local_events(limited) if bits(e.slots) == [1]], "the log says so")
    await limited.restart()
    assert limited.facility.states[:4].tolist() == [FULL, OFF, FULL, FULL]


def dark_devices(site):
    labels = {"facility_id": site.facility.devices.shape.facility_id, "feeder_id": "f1"}
    return REGISTRY.get_sample_value("hcp_edge_dark_devices", labels)


async def test_a_feeder_without_power_is_not_driven_and_comes_back_asleep(limited, monkeypatch):
    owner, fleet = await limited.owner(), Fleet(limited, monkeypatch)
    await owner.send(owner.make((FULL, range(50))))
    fleet.is_dark = True
    own = OwnTime()
    await until(lambda: events(owner, "shed"), "noticed")
    assert own.end_s() < 1.0
    shed = events(owner, "shed")
    assert {(e.reason, e.detail) for e in shed} == {("shed_by_relay", "feeder f1 has no power")}
    assert sorted(s for e in shed if e.state == OFF for s in bits(e.slots)) == list(range(50))
    assert len(bits((await owner.state()).dark)) == 120
    assert dark_devices(limited) == 120
    await until(lambda: limited.facility.state().is_metered, "the site's meter is read")
    told = len(limited.world.log())
    refused = (await owner.send(owner.make((FULL, [7])))).assignments[0].refused
    assert [r.code for r in refused] == ["device_unreachable"]
    assert (await owner.send(owner.make((OFF, [7])))).assignments[0].refused == []
    assert len(limited.world.log()) == told  # nothing was driven meanwhile
    fleet.is_dark = False
    await until(lambda: events(owner, "power_returned"), "power is back")
    await until(lambda: not limited.world.commanded()[:MINERS].any(), "they are told to stay down")
    assert dark_devices(limited) == 0
    assert (await owner.send(owner.make((FULL, [7])))).assignments[0].refused == []
    await asyncio.sleep(1.2)
    assert limited.facility.states[:MINERS].sum() == FULL  # raising the rest is the owner's


async def test_without_an_owner_devices_come_back_in_waves_under_the_ramps(folder, monkeypatch):
    async with Site(folder, ramps=RAMPS, fallback_after_s=100_000.0) as site:
        owner, fleet = await site.owner(), Fleet(site, monkeypatch)
        for first in range(0, 50, 10):  # the ramp of the way up is the owner's to keep
            await owner.send(owner.make((FULL, range(first, first + 10))))
        fleet.is_dark = True
        await until(lambda: events(owner, "shed"), "noticed")
        owner.call.cancel()
        await until(lambda: not site.facility.owners.is_owned, "gone")
        fleet.is_dark = False
        await until(lambda: np.all(site.facility.states[:50] == FULL), "all are back")
        waves = [e for e in local_events(site) if e.kind == "restore"]
        assert sum(len(bits(e.slots)) for e in waves) == 50
        assert max(e.mw_delta for e in waves) <= 0.1
        at_s = [np.datetime64(e.simulated_at[:19]).astype(int) for e in waves]
        assert min(np.diff(at_s)) >= 595
