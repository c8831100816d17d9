"""Ranges of addresses, and several sites behind one face."""

import asyncio
import uuid
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.devices.discovery.ranges import compress, expand
from hcp_pipelines.devices.many import ManySites
from hcp_pipelines.devices.site import Evidence, Reading
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.wire.slots import encode_slots
from simulators.addresses import address_of

ADDRESSES = st.integers(0x0A000001, 0x0A000800).map(lambda n: str(IPv4Address(n)))


@pytest.mark.parametrize(
    ("text", "first", "last", "number"),
    [
        ("10.1.0.1", "10.1.0.1", "10.1.0.1", 1),
        ("10.1.0.250-10.1.1.3", "10.1.0.250", "10.1.1.3", 8),
        ("10.1.0.1-40", "10.1.0.1", "10.1.0.40", 40),
        ("10.1.0.0/22", "10.1.0.1", "10.1.3.254", 4 * 254),
        (" 10.1.0.7/32 ", "10.1.0.7", "10.1.0.7", 1),
    ],
)
def test_ranges_are_read_as_people_write_them(text, first, last, number):
    found = expand([text])
    assert (found[0].split("/")[0], found[-1].split("/")[0], len(found)) == (first, last, number)


def test_a_range_is_that_of_the_simulated_world():
    assert expand(["127.16.0.1-127.16.1.246"]) == [address_of(0, slot) for slot in range(500)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.1.0", "no range"), ("10.1.0.1-", "no range"), ("10.1.0.9-10.1.0.1", "backwards"), ("10.1.0.1-300", "no range"),
        ("10.0.0.0/8", "limit"), ("::1", "no range"), ("10.1.0.0/33", "no range"), ("", "no range"), ("miner-1", "no range"),
    ],
)  # fmt: skip
def test_what_is_no_range_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        expand([text])


@given(st.lists(ADDRESSES, max_size=60))
def test_compressed_addresses_expand_to_themselves(addresses):
    assert expand(compress(addresses)) == addresses


# -- several sites -----------------------------------------------------------------------------------------------------


class FakeSite:
    """Keeps what it is told, and tells what a test says."""

    def __init__(self, devices, on_reading) -> None:
        self.devices, self.tell, self.told = devices, on_reading, []
        self.is_open, self.period_ms, self._ended = False, None, asyncio.Event()

    async def connect(self, power_period_ms):
        self.is_open, self.period_ms = True, power_period_ms

    async def closed(self):
        await self._ended.wait()

    def end(self):
        self._ended.set()

    async def close(self):
        self.is_open = False

    def send_state(self, ref, assignment, state, slots, _work=None):
        if not self.is_open:
            raise DeviceUnreachableError("closed")
        self.told.append((state, slots))
        return asyncio.ensure_future(asyncio.sleep(0))

    async def finish_state(self, sent):
        await sent
        return np.array([], dtype=np.uint32), np.array([4], dtype=np.uint32) if self.devices == 5 else np.array(
            [], dtype=np.uint32
        )

    async def read_states(self):
        return np.full(self.devices, 2 if self.devices == 5 else 3, dtype=np.uint8)


def both():
    """Slots 0, 1 here, slots 3, 4 there; slot 2 is empty."""
    sites, seen = [], []

    def make(devices):
        def made(on_reading):
            sites.append(FakeSite(devices, on_reading))
            return sites[-1]

        return made

    here, there = np.array([1, 1, 0, 0, 0], dtype=bool), np.array([0, 0, 0, 1, 1], dtype=bool)
    many = ManySites([(make(5), here, 500), (make(6), there, 5000)], 5, seen.append)
    return many, sites, seen


async def test_each_part_is_connected_at_its_own_period_and_told_its_own_slots():
    many, (here, there), _ = both()
    assert many.devices == 0
    await many.connect(1)
    assert (many.devices, here.period_ms, there.period_ms) == (5, 500, 5000)
    sent = many.send_state(uuid.uuid4(), 0, 3, encode_slots(np.array([1, 3, 4], dtype=np.uint32)))
    _, refused = await many.finish_state(sent)
    assert refused.tolist() == [4]
    assert here.told == [(3, encode_slots(np.array([1], dtype=np.uint32)))]
    assert there.told == [(3, encode_slots(np.array([3, 4], dtype=np.uint32)))]
    assert (await many.read_states()).tolist() == [2, 2, 255, 3, 3]
    there.end()
    await asyncio.wait_for(many.closed(), 60)
    await many.close()
    assert not here.is_open


async def test_a_reading_is_whole_when_every_part_has_told_one_and_as_old_as_the_oldest():
    many, (here, there), seen = both()
    await many.connect(1)
    here.tell(Reading(100.0, np.array([10, 11, 0, 0, 0], dtype=np.float32)))
    here.tell(Reading(105.0, np.array([12, 13, 0, 0, 0], dtype=np.float32)))
    assert seen == []
    told = np.array([0, 0, 0, 30, np.nan, 0], dtype=np.float32)
    heat = np.array([1, 2, 3, 70, np.nan, 0], dtype=np.float32)
    there.tell(Reading(102.0, told, np.array([0, 0, 0, 3, 0, 0], dtype=np.uint8), temperature_celsius=heat))
    (reading,) = seen
    assert reading.simulated_at_s == 102.0
    assert reading.values.tolist()[:4] == [12.0, 13.0, 0.0, 30.0]
    assert np.isnan(reading.values[4])
    assert reading.evidence.tolist() == [1, 1, 1, Evidence.INFERRED, Evidence.NONE]
    assert reading.hashrate_th_per_s is None
    assert np.isnan(reading.temperature_celsius).tolist() == [True, True, True, False, True]
    there.tell(Reading(110.0, told))
    assert len(seen) == 1, "the other part has told nothing new"


async def test_a_part_that_is_not_connected_refuses_the_whole():
    many, (here, _), _ = both()
    await many.connect(1)
    here.is_open = False
    with pytest.raises(DeviceUnreachableError):
        many.send_state(uuid.uuid4(), 0, 3, encode_slots(np.array([0], dtype=np.uint32)))
