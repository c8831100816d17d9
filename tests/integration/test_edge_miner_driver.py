"""500 simulated miners over TCP: real drivers, a real gateway, a real allocator. What they did, the miners themselves say."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hcp_pipelines.allocator import service
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.settling import SAMPLES_AFTER_DEADLINE, Pending
from hcp_pipelines.wire.slots import EMPTY
from simulators import faults
from tests.support.edge import until
from tests.support.miner_driver import OLD_MD5
from tests.support.miner_site import FACILITY, miner_site

GROUPS = (
    ("lux", "S21", "luxos", 200), ("wm", "M60S", "whatsminer", 150), ("stock", "S19 XP", "stock", 100),
    ("v3", "M60S", "whatsminer-v3", 50),
)  # fmt: skip
FULL, OFF = int(DeviceState.MINING_FULL), int(DeviceState.CURTAILED)
STUBBORN = [3, 77, 203, 351, 420, 460]  # false acks that stay: every dialect
ONCE = [5, 150, 260, 360, 440, 490]  # false acks that are mended
DEAF = [9, 210, 365, 455]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="m", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@OLD_MD5
async def test_500_miners_obey_or_are_found_out(folder, settings, database, monkeypatch):
    monkeypatch.setattr(service, "RECONCILE_S", 0.4)
    async with miner_site(folder, settings, database, GROUPS) as site:
        site.watch_judgement(monkeypatch)
        assert set(site.facility.states.tolist()) == {OFF}, "what the miners do is read from them"
        await site.start_allocator()
        site.publish_policy()
        await until(lambda: len(site.asleep()) == 0, "a low price wakes every miner")
        await until(lambda: not site.facility.devices._under_way.pending, "and they settle")
        assert site.failed_slots() == [], "slow and honest: no alarm"

        site.impose(faults.FALSE_ACK, STUBBORN + ONCE)
        site.impose(faults.HUNG, DEAF[:2])
        site.impose(faults.UNREACHABLE, DEAF[2:])
        site.price(3000.0)
        bad = set(STUBBORN + ONCE + DEAF)
        await until(lambda: len(site.asleep()) == 500 - len(bad), "a spike puts the others to sleep")
        mended = set()

        def are_found_and_mended():
            found = set(ONCE) & set(site.failed_slots()) - mended
            site.lift([faults.FALSE_ACK], found)
            mended.update(found)
            return mended == set(ONCE)

        await until(are_found_and_mended, "false acks are found out")
        await until(lambda: set(ONCE) <= set(site.asleep().tolist()), "driven again, the mended ones obey")
        await until(lambda: set(site.failed_slots()) == bad, "those that don't answer are found out too")
        await until(lambda: site.quarantined() >= len(STUBBORN), "the stubborn ones are left alone")
        _found_within_two_samples(site)
        assert set(site.failed_slots()) == bad, "nobody else was ever accused"
        assert len(site.asleep()) == 500 - len(STUBBORN) - len(DEAF)
    journalled = database.execute(
        "select sum(failed) from switch_journal where facility_id = %s and event = 'settled'", (FACILITY,)
    ).fetchone()[0]
    assert journalled >= len(bad)


def _found_within_two_samples(site):
    looks = [look for many in site.judged.values() for look in many if look.failed]
    assert looks
    for many in site.judged.values():
        for look in many:
            if look.failed:
                late = [other for other in many if look.deadline_s <= other.at_s <= look.at_s]
                assert len(late) <= SAMPLES_AFTER_DEADLINE


def test_100_000_honest_slow_transitions_raise_no_alarm():
    n, period_s, allowed_s = 100_000, 5.0, 510.0
    random = np.random.default_rng(7)
    slots = np.arange(n, dtype=np.uint32)
    from_kw, to_kw = np.full(n, 0.025, dtype=np.float32), random.uniform(2.9, 3.6, n).astype(np.float32)
    begins_s = random.uniform(0.0, 120.0, n)
    ends_s = begins_s + random.uniform(1.0, allowed_s - 120.0, n)  # up to the last moment
    newest = np.zeros(n, dtype=np.uint32)
    waits = Pending("c", 0, FULL, slots, to_kw.copy(), allowed_s)
    waits.begin(0.0)
    for at_s in np.arange(0.0, allowed_s + 10 * period_s, period_s):
        share = np.clip((at_s - begins_s) / (ends_s - begins_s), 0.0, 1.0).astype(np.float32)
        noise = random.normal(1.0, 0.01, n).astype(np.float32)
        if waits.observe((from_kw + (to_kw - from_kw) * share) * noise, newest, float(at_s)):
            break
    assert len(waits.waiting) == 0
    assert waits.failed is EMPTY
    assert sum(len(part) for part in waits.settled) == n


def test_among_100_000_those_that_lie_are_found_and_nobody_else():
    n, allowed_s = 100_000, 100.0
    liars = np.arange(0, n, 1000, dtype=np.uint32)
    power = np.full(n, 0.025, dtype=np.float32)
    power[liars] = 3.5
    waits = Pending("c", 0, OFF, np.arange(n, dtype=np.uint32), np.full(n, 0.025, dtype=np.float32), allowed_s)
    waits.begin(0.0)
    newest = np.zeros(n, dtype=np.uint32)
    samples = [at_s for at_s in np.arange(5.0, 200.0, 5.0) if not waits.observe(power, newest, float(at_s))]
    assert waits.failed.tolist() == liars.tolist()
    assert len([at_s for at_s in samples if at_s >= allowed_s]) < SAMPLES_AFTER_DEADLINE
