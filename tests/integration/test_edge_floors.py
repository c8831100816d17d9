"""A gateway that is cut off keeps on what a grid obligation has sold, whatever its fallback plan or its policy ask for."""

import json
import math
from itertools import pairwise

import pytest

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.recovery import recover
from hcp_pipelines.policy.schema import LadderStep
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.integration.test_edge_policy import policy, put
from tests.support.edge import FULL, LADDERS, MINERS, OFF, PUE, until
from tests.support.gateway_site import Site, folder

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["folder"]  # a fixture

SOLD_MW = 0.2
KW = {state: kw * PUE for state, kw, _ in LADDERS["asic"]}


def now_s(site):
    return site.world.clock_now().timestamp()


async def say(site, owner, *floors, epoch=1):
    """A heartbeat with floors."""
    told = pb.Floors(
        floors=[pb.Floor(mw=mw, start_s=start, end_s=end, sheddable=["asic"]) for mw, start, end in floors]
    )
    await owner.call.write(pb.OwnerMessage(heartbeat=pb.Heartbeat(epoch=epoch, floors=told)))


def stored(site):
    """What the durable log has, oldest first."""
    return [pb.Floors.FromString(e.payload) for e in site.facility.log_entries(0, 999) if e.kind == "floors"]


def sheddable_mw(site):
    """What the miners are told to draw above their lowest state."""
    return sum(KW[int(state)] - KW[OFF] for state in site.facility.states[:MINERS]) / 1000


ALL_MW = MINERS * (KW[FULL] - KW[OFF]) / 1000
KEPT_MW = pytest.approx(SOLD_MW, abs=KW[FULL] / 1000)  # devices are whole


def dear(site):
    """A policy by which miners, in each of their states, are off."""
    made = policy(site)
    (full,), (asic, gpu) = made.blocks, made.groups
    steps = tuple(LadderStep(state=DeviceState(state), power_kw=KW[state]) for state in sorted(KW, key=KW.get))
    blocks = tuple(
        full.model_copy(
            update={
                "from_state": low.state, "to_state": high.state, "order": n,
                "mw": MINERS * (high.power_kw - low.power_kw) / 1000,
            }
        )
        for n, (low, high) in enumerate(pairwise(steps))
    )  # fmt: skip
    return made.model_copy(update={"groups": (asic.model_copy(update={"ladder": steps}), gpu), "blocks": blocks})


async def test_the_fallback_plan_stops_at_an_armed_floor_after_a_restart_too_and_a_direct_order_does_not(folder):
    async with Site(folder, fallback_after_s=300.0, price_staleness_s=300.0) as site:
        owner = await site.owner()
        await owner.send(owner.make((FULL, range(MINERS))))
        floor = (SOLD_MW, now_s(site) - 60, now_s(site) + 1e7)
        for _ in range(3):
            await say(site, owner, floor)
        await until(lambda: stored(site), "it is kept")
        owner.call.cancel()
        await until(lambda: sheddable_mw(site) < ALL_MW, "the fallback plan")
        await _two_looks(site)
        assert SOLD_MW <= sheddable_mw(site) == KEPT_MW
        assert len(stored(site)) == 1, "stored when it changes, not with each heartbeat"
        await site.restart()
        await _two_looks(site)
        assert SOLD_MW <= sheddable_mw(site) == KEPT_MW
        assert (await site.direct(stop=True)).accepted
        assert sheddable_mw(site) == 0


async def test_a_policy_at_a_local_price_stops_at_a_floor_until_its_interval_ends(folder, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.local_prices.READ_EACH_S", 0.05)
    prices = {"file": str(folder / "price.json"), "settlement_point": "HB_NORTH"}
    async with Site(folder, fallback_after_s=300.0, price_staleness_s=1e6, local_prices=prices) as site:
        owner = await site.owner()
        assert (await put(owner, dear(site))).refusal == ""
        await owner.send(owner.make((FULL, range(MINERS))))
        begins_s = now_s(site) + 1e6
        half = (SOLD_MW / 2, now_s(site) - 1, begins_s)
        await say(site, owner, half, half, (9.0, begins_s, begins_s + 1), (9.0, 0.0, 1.0))
        await until(lambda: stored(site), "it is kept")
        (folder / "new").write_text(json.dumps({"price_usd_per_mwh": 900.0, "at": site.world.clock_now().isoformat()}))
        (folder / "new").replace(folder / "price.json")
        owner.call.cancel()
        await until(lambda: sheddable_mw(site) < ALL_MW, "dear")
        await _two_looks(site)
        assert SOLD_MW <= sheddable_mw(site) == KEPT_MW, "those that hold now add up; one is over, one is to come"
        successor = await site.owner(epoch=2)
        await say(site, successor, epoch=2)
        await until(lambda: len(stored(site)) == 2, "none is kept, too")
        successor.call.cancel()
        await until(lambda: sheddable_mw(site) == 0, "all are off")


async def test_floors_that_make_no_sense_change_nothing(folder):
    async with Site(folder) as site:
        owner, end_s = await site.owner(), now_s(site) + 1e6
        for bad in ((math.nan, 0.0, end_s), (-1.0, 0.0, end_s), (1.0, -math.inf, end_s)):
            await say(site, owner, (0.1, 0.0, end_s), bad)
        await say(site, owner, *[(0.1, 0.0, end_s)] * 1001)
        await say(site, owner, (0.3, 0.0, end_s))
        await until(lambda: stored(site), "the good one is kept")
        snapshot = pb.LogEntry(kind="snapshot", payload=site.facility.snapshot().SerializeToString())
        assert recover([snapshot], site.facility.shape).floors == stored(site)[0], "compaction keeps it"
        assert [f.mw for told in stored(site) for f in told.floors] == [0.3]


async def _two_looks(site):
    """The cut-off gateway has looked twice more since its time came."""
    cutoff, looked = site.facility._cutoff, []
    look = cutoff._look

    async def counted():
        is_time = now_s(site) > cutoff.begins_at_s
        await look()
        looked.append(is_time)

    cutoff._look = counted
    await until(lambda: sum(looked) >= 2, "two looks")
    cutoff._look = look
