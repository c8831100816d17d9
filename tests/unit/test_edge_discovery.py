"""A gateway's scans: paced, one at a time, whatever goes wrong in one; and a scan's way over the wire."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from hcp_pipelines.devices.discovery.found import GPU_NODE, Found, Scan, merge
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.gpu_node.values import GpuSpecification
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge import discovery
from hcp_pipelines.edge.config import DiscoveryConfig, FacilityConfig
from hcp_pipelines.edge.discovery import Discovery, Pace, parts_of, sweeps
from hcp_pipelines.fleet.gateway_scans import ScanReplyError, scan_of

LADDER = [{"state": 0, "power_kw": 0.025, "settle_s": 20}, {"state": 3, "power_kw": 3.5, "settle_s": 60}]
GPU_LADDER = [{"state": 1, "power_kw": 0.45, "settle_s": 20}, {"state": 5, "power_kw": 1.3, "settle_s": 60}]
MINERS, NODES = {"kind": "miner_api"}, {"kind": "gpu_node"}
BOARD = GpuSpecification("H100 SXM5", 79.6, "9.0", 700.0, 0.0)


def group(name, first, devices, addresses=(), driver=None):
    ladder = GPU_LADDER if driver is NODES else LADDER
    own = {"group_id": name, "feeder_id": "f1", "first_slot": first, "devices": devices, "pue": 1.1, "ladder": ladder}
    return own | {"addresses": addresses, "driver": driver}


def facility(*groups, **own):
    return FacilityConfig.model_validate(
        {"facility_id": "f", "generation": 1, "driver": MINERS, "groups": groups, "discovery": own}
    )


TWO = group("a", 0, 3, ["10.0.0.1-3"])
MIXED = (TWO, group("b", 3, 16, ["10.0.1.1-2"], NODES))


class Clock(SystemClock):
    """Seconds that pass by sleeping only."""

    def __init__(self):
        super().__init__()
        self.at_s = 0.0

    def monotonic_s(self):
        return self.at_s


class Loop(Discovery):
    """Scans that take as long as a list says, or fail."""

    def __init__(self, clock, *took_s, **own):
        config = facility(TWO, **own)
        super().__init__(config, config.discovery, clock, lambda: False)
        self._took_s, self._own_clock = list(took_s), clock
        self.began_at_s, self.running = [], 0

    async def _scan(self):
        assert self.running == 0, "a scan overlaps the next"
        self.running += 1
        self.began_at_s.append(self._own_clock.at_s)
        took_s = self._took_s.pop(0)
        await self._own_clock.sleep(abs(took_s))
        self.running -= 1
        if took_s < 0:
            raise ConnectionError("in the middle")
        return Scan(["10.0.0.1"])


async def run(loop, clock, monkeypatch):
    """Until the list is empty, in virtual time."""

    async def sleep(seconds):
        clock.at_s += seconds
        if not loop._took_s and loop.running == 0:
            await asyncio.Event().wait()

    clock.sleep = sleep
    monkeypatch.setattr(discovery, "asyncio", SimpleNamespace(sleep=sleep))
    running = asyncio.create_task(loop._scan_on())
    while loop._took_s or loop.running:
        await asyncio.wait({running}, timeout=0.001)
        assert not running.done(), running.exception()
    running.cancel()


async def test_scans_begin_each_period_and_a_long_one_is_followed_at_once(monkeypatch):
    clock = Clock()
    late = discovery.metrics.SCANS_LATE.labels("f")
    before = late._value.get()
    loop = Loop(clock, 2.0, 75.0, 1.0, 1.0, every_s=30)
    await run(loop, clock, monkeypatch)
    assert loop.began_at_s == [0.0, 30.0, 105.0, 135.0]
    assert late._value.get() == before + 1


async def test_a_scan_that_fails_is_told_and_the_next_one_begins(monkeypatch):
    clock = Clock()
    loop = Loop(clock, 1.0, -1.0, every_s=30)
    await run(loop, clock, monkeypatch)
    assert "in the middle" in loop.problem
    assert [part.scan for part in loop.parts_after("", 0)] == [1], "the last good one is still there"
    loop = Loop(clock, -1.0, 1.0, every_s=30)
    await run(loop, clock, monkeypatch)
    assert loop.problem == ""


async def test_what_was_read_is_not_read_again_until_there_is_more_or_another_process(monkeypatch):
    clock = Clock()
    loop = Loop(clock, 1.0, every_s=30)
    assert list(loop.parts_after("", 0)) == []
    await run(loop, clock, monkeypatch)
    (part,) = loop.parts_after("", 0)
    assert list(loop.parts_after(part.process_id, part.scan)) == []
    assert len(list(loop.parts_after("another process", 99))) == 1


async def test_connections_keep_a_pace_and_a_tenth_of_it_while_devices_are_told(monkeypatch):
    clock, telling = Clock(), []

    async def sleep(seconds):
        clock.at_s += seconds

    monkeypatch.setattr(discovery, "asyncio", SimpleNamespace(sleep=sleep))
    pace = Pace(100.0, clock, lambda: bool(telling))
    for _ in range(200):
        await pace.wait()
    assert clock.at_s == pytest.approx(2.0, abs=0.02)
    telling.append("a command")
    for _ in range(20):
        await pace.wait()
    assert clock.at_s == pytest.approx(4.0, abs=0.05)


def test_each_driver_s_own_addresses_are_swept_or_every_range_that_is_named():
    config = facility(*MIXED)
    swept = [(driver.kind, addresses) for driver, addresses in sweeps(config, config.discovery)]
    assert swept == [
        ("miner_api", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        ("gpu_node", ["10.0.1.1", "10.0.1.2"]),
    ]
    config = facility(*MIXED, ranges=["10.9.0.1-2"])
    assert [addresses for _, addresses in sweeps(config, config.discovery)] == [["10.9.0.1", "10.9.0.2"]] * 2


@pytest.mark.parametrize(
    ("own", "words"),
    [({"ranges": ["miner-1"]}, "no range"), ({"every_s": 0}, "greater than"), ({"evry_s": 1}, "Extra")],
)
def test_a_wrong_section_is_refused(own, words):
    with pytest.raises(ValidationError, match=words):
        facility(TWO, **own)


def test_a_site_without_addresses_can_not_be_scanned():
    bulk = {"kind": "bulk", "address": "unix:x", "site": "f"}
    with pytest.raises(ValidationError, match="no group has a driver with addresses"):
        facility(group("a", 0, 3, driver=bulk))
    assert DiscoveryConfig().every_s == 30


def test_a_scan_comes_over_the_wire_as_it_was(monkeypatch):
    monkeypatch.setattr(discovery, "PART_DEVICES", 3)
    devices = [Found(f"10.0.0.{n}", "luxos", "S21", "fw", f"MAC{n}", f"SN{n}") for n in range(1, 8)]
    devices.append(Found("10.0.0.20", GPU_NODE, "H100 SXM5", "550", "", "host", "", ("GPU-1", "GPU-2"), BOARD))
    scan = Scan(expand(["10.0.0.1-30"]), devices, ["10.0.0.9", "10.0.0.11"], ["10.0.0.30"])
    parts = list(parts_of(scan, "p", 4, "now"))
    assert [(len(part.found), part.is_last) for part in parts] == [(3, False), (3, False), (2, True)]
    assert [bool(part.scanned) for part in parts] == [True, False, False]
    came = scan_of(parts)
    assert came.found == devices
    assert (came.hung, came.looked_at) == (scan.hung, scan.looked_at)
    empty = list(parts_of(Scan([]), "p", 5, "now"))
    assert (len(empty), scan_of(empty).found) == (1, [])
    for broken in (parts[:2], [*parts[:2], *parts_of(scan, "p", 5, "now")]):
        with pytest.raises(ScanReplyError, match="did not come whole"):
            scan_of(broken)


def test_who_answers_in_one_sweep_hangs_in_none():
    miners = Scan(["10.0.0.1", "10.0.0.2"], [], ["10.0.0.1", "10.0.0.2"])
    nodes = Scan(["10.0.0.1"], [Found("10.0.0.1", GPU_NODE)])
    whole = merge([miners, nodes])
    assert (whole.addresses, whole.hung) == (["10.0.0.1", "10.0.0.2"], ["10.0.0.2"])
    assert replace(whole, found=[]).looked_at == {"10.0.0.1"}


@pytest.mark.parametrize(("own", "expected"), [({}, 3), ({"authenticate": True}, 5)])
async def test_only_where_the_inventory_has_miners_may_a_password_be_shown(monkeypatch, own, expected):
    shown = []

    async def scan(addresses, _options, _clock, _progress, _probes, _gate, log_on):
        shown.append(set(addresses) & log_on)
        return Scan(addresses)

    monkeypatch.setattr("hcp_pipelines.devices.discovery.scan.scan", scan)
    config = facility(*MIXED, ranges=["10.0.0.1-5"], **own)
    scans = Discovery(config, config.discovery, Clock(), lambda: False)
    await scans._sweep(config.driver, config.discovery.addresses)
    assert shown == [set(expand([f"10.0.0.1-{expected}"]))]
