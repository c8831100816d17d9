"""Miners and GPU nodes of one facility over TCP: real drivers behind one face, a real gateway, a real allocator."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hcp_pipelines.allocator import service
from hcp_pipelines.devices.gpu_node import repairs
from hcp_pipelines.devices.many import ManySites
from hcp_pipelines.devices.settling import GPU_FAMILY, GPU_LARGE, GPU_TRAINING, Transition, timing
from hcp_pipelines.edge.settling import Pending
from simulators import faults
from simulators.gpus.timings import TIMINGS
from tests.support.edge import until
from tests.support.miner_driver import OLD_MD5
from tests.support.miner_site import FACILITY, miner_site

GROUPS = (("lux", "S21", "luxos", 40), ("h100", "H100 SXM5", "stock", 28))
MINERS, GPUS = range(40), range(40, 68)
OFF, IDLE, FULL, BATCH = 0, 1, 3, 5
DECEIVER, STUCK, LOST = 45, 50, 62


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@OLD_MD5
@pytest.mark.usefixtures("own_time")
async def test_miners_and_gpus_obey_one_allocator_or_are_found_out(folder, settings, database, monkeypatch):
    monkeypatch.setattr(service, "RECONCILE_S", 0.4)
    monkeypatch.setattr(repairs, "QUIET_S", 60.0)
    async with miner_site(folder, settings, database, GROUPS, speed=300.0) as site:
        assert type(site.facility.devices.site) is ManySites
        assert site.facility.states.tolist() == [OFF] * 40 + [IDLE] * 28, "what the devices do is read from them"
        await site.start_allocator()
        site.publish_policy()
        await until(lambda: _all_are(site, FULL, BATCH), "a low price wakes miners and loads GPUs")
        await until(lambda: not site.facility.devices._under_way.pending, "and they settle")
        assert site.failed_slots() == [], "slow and honest: no alarm"

        site.impose(faults.FALSE_ACK, [DECEIVER])
        site.impose(faults.STUCK, [STUCK])
        site.impose(faults.FALLEN_OFF_BUS, [LOST])
        await until(
            lambda: np.flatnonzero(np.isnan(site.facility.devices.power_kw)).tolist() == [LOST], "one is lost", 10
        )
        high = asyncio.create_task(_price_stays(site, 3000.0))
        await until(lambda: {DECEIVER, STUCK} <= set(site.failed_slots()), "false acks are found by their power")
        high.cancel()
        assert set(site.failed_slots()) <= {DECEIVER, STUCK, LOST}, "nobody else was ever accused"
        others = sorted({*MINERS, *GPUS} - {DECEIVER, STUCK, LOST})
        assert site.power_w()[others].max() < 600, "the others rest"
        await until(lambda: not _is_lost(site, LOST), "its node is restarted once nothing else runs there")
        await until(lambda: _journalled_failures(database) >= 2, "and stands in the journal")


async def _price_stays(site, usd_per_mwh):
    """In every interval: one alone is a third of what is settled, which batch work may still earn."""
    while True:
        site.price(usd_per_mwh)
        await asyncio.sleep(0.5)


def _journalled_failures(database):
    query = "select coalesce(sum(failed), 0) from switch_journal where facility_id = %s and event = 'settled'"
    return database.execute(query, (FACILITY,)).fetchone()[0]


def _all_are(site, miners, gpus):
    return site.site.commanded.tolist() == [miners] * 40 + [gpus] * 28


def _is_lost(site, slot):
    return faults.FALLEN_OFF_BUS in site.site.faults.at(slot, site.site.at_s)


COLLECTED_EACH_S = 30.0  # by the exporters, each in its own time
WAKE_RAMP_S, SLEEP_RAMP_S = 60.0, 10.0
HONEST = (
    (GPU_FAMILY, Transition.WAKE, "start/small/cold"),
    (GPU_LARGE, Transition.WAKE, "start/large/cold"),
    (GPU_TRAINING, Transition.WAKE, "start/training"),
    (GPU_FAMILY, Transition.SLEEP, "pause/1"),
    (GPU_TRAINING, Transition.SLEEP, "checkpoint/application"),
)


def accused(row, allowed_s, period_s, transition, n=100_000):
    """How many of so many honest GPUs fail, whose agents take the times of a row and whose exporters say old things."""
    random = np.random.default_rng(7)
    least_s, most_s, _ = TIMINGS[row]
    from_kw, to_kw = (0.45, 1.3) if transition is Transition.WAKE else (1.3, 0.45)
    ramp_s = WAKE_RAMP_S if transition is Transition.WAKE else SLEEP_RAMP_S
    begins_s = random.uniform(least_s, most_s, n)
    phase_s = random.uniform(0.0, COLLECTED_EACH_S, n)
    newest = np.zeros(n, dtype=np.uint32)
    waits = Pending("c", 0, BATCH, np.arange(n, dtype=np.uint32), np.full(n, to_kw, dtype=np.float32), allowed_s)
    waits.begin(0.0)
    waits.confirm(np.zeros(0, dtype=np.uint32))
    read_s = np.arange(random.uniform(0.0, period_s), allowed_s + 10 * period_s + COLLECTED_EACH_S, period_s)
    for at_s in read_s:
        collected_s = np.floor((at_s - phase_s) / COLLECTED_EACH_S) * COLLECTED_EACH_S + phase_s
        share = np.clip((collected_s - begins_s) / ramp_s, 0.0, 1.0)
        noise = random.normal(1.0, 0.01, n)
        power_kw = ((from_kw + (to_kw - from_kw) * share) * noise).astype(np.float32)
        if waits.observe(power_kw, newest, float(at_s) - COLLECTED_EACH_S):
            break
    assert len(waits.waiting) == 0
    return len(waits.failed)


@pytest.mark.parametrize("period_s", [30.0, 300.0], ids=["speed 1", "speed 60"])
@pytest.mark.parametrize(("family", "transition", "row"), HONEST)
def test_100_000_honest_gpus_raise_no_alarm_though_their_exporters_are_stale(family, transition, row, period_s):
    allowed_s = timing(family, transition).deadline_s + 2 * period_s
    assert accused(row, allowed_s, period_s, transition) == 0


def test_a_large_model_under_a_small_one_s_deadline_would_be_accused():
    small_s = timing(GPU_FAMILY, Transition.WAKE).deadline_s
    assert accused("start/large/cold", small_s, 5.0, Transition.WAKE) > 1000
