"""A policy at the gateway: judged once more, kept, and applied only where it is cut off and has a price of its own."""

import asyncio
import json
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.edge import FULL, GPUS, LADDERS, MINERS, OFF, PUE, bits, until
from tests.support.gateway_site import Site, folder, local_events, site

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["folder", "site"]  # fixtures

STRIKE = 60.0  # $/MWh below which miners are worth their power
AGES = {"power.rt_lmp": 30.0}


def policy(site, basis=5, **changes):
    now = site.world.clock_now()
    ladder = {
        group: tuple(LadderStep(state=DeviceState(s), power_kw=kw * PUE) for s, kw, _ in LADDERS[group] if s != 2)
        for group in LADDERS
    }
    full_mw = MINERS * (3.5 - 0.025) * PUE / 1000
    block = Block(
        group_id="asic", from_state=DeviceState.CURTAILED, to_state=DeviceState.MINING_FULL, devices=MINERS, mw=full_mw,
        order=0, index="hashprice", on=Affine(offset=STRIKE), off=Affine(offset=STRIKE),
    )  # fmt: skip
    fields = {
        "facility_id": "one", "settlement_point": "HB_NORTH", "basis_tick_id": basis, "solved_at": now, "refresh_due_at": now,
        "expires_at": now + timedelta(days=30), "input_age_s": AGES, "inventory_generation": 1,
        "groups": (
            PolicyGroup(group_id="asic", feeder_id="f1", devices=MINERS, ladder=ladder["asic"]),
            PolicyGroup(group_id="gpu", feeder_id="f1", devices=GPUS, ladder=ladder["gpu"]),
        ),
        "blocks": (block,), "couplings": Couplings(cap_mw=0.6),
        "anchor": Anchor(decision_price_usd_per_mwh=40, indices={"hashprice": 50}, devices_by_state={}, target_by_state={}),
    }  # fmt: skip
    return Policy(**fields | changes)


async def put(owner, made, policy_id=7, **changes):
    fields = {
        "facility_id": "one",
        "epoch": owner.epoch,
        "policy_id": policy_id,
        "body": made.model_dump_json().encode(),
    }
    before = len(owner.of("policy_judged"))
    await owner.call.write(pb.OwnerMessage(set_policy=pb.SetPolicy(**fields | changes)))
    await until(lambda: len(owner.of("policy_judged")) > before, "judged")
    return owner.of("policy_judged")[-1]


def _with_floor(made, floor_mw):
    """The policy's JSON with a floor that no schema of ours would write."""
    body = json.loads(made.model_dump_json())
    body["couplings"]["floor_mw"] = floor_mw
    return json.dumps(body).encode()


@pytest.fixture
async def capped(folder):
    async with Site(folder, limit_kw=700.0, feeder_limits_kw={"f1": 650.0}) as running:
        yield running


async def test_a_policy_is_judged_again_stored_once_and_outlives_a_restart(capped):
    owner = await capped.owner()
    bounded = {"couplings": Couplings(cap_mw=0.6, feeder_caps_mw={"f1": 0.65})}
    good = policy(capped, **bounded)
    assert (await put(owner, good)).refusal == ""
    entries = len(await owner.log())
    assert (await put(owner, good)).refusal == ""
    assert len(await owner.log()) == entries
    for made, changes, code in (
        (policy(capped, **bounded), {"policy_id": 8}, "basis"),
        (policy(capped, basis=6, **bounded | {"inventory_generation": 2}), {}, "generation"),
        (policy(capped, basis=6, couplings=Couplings(cap_mw=0.8, feeder_caps_mw={"f1": 0.65})), {}, "cap"),
        (policy(capped, basis=6, couplings=Couplings(cap_mw=0.6, feeder_caps_mw={"f1": 0.66})), {}, "feeder"),
        (policy(capped, basis=6, **bounded | {"facility_id": "two"}), {}, "facility"),
        (policy(capped, basis=6, **bounded | {"input_age_s": {}}), {}, "stale"),
        (policy(capped, basis=6, **bounded | {"input_age_s": {"power.rt_lmp": 1e6}}), {}, "stale"),
        (policy(capped, basis=6, **bounded), {"body": b"{"}, "bad_message"),
        (
            policy(capped, basis=6, **bounded),
            {"body": _with_floor(policy(capped, basis=6, **bounded), 1e308)},
            "bad_message",
        ),
        (policy(capped, basis=6, **bounded), {"body": b" " * 5_000_000}, "bad_message"),
        (policy(capped, basis=6, **bounded), {"epoch": 0}, "old_epoch"),
    ):
        assert (await put(owner, made, **changes)).refusal.startswith(code)
        assert (await owner.state()).policy_id == 7
    await capped.restart()
    assert capped.facility.state().policy_id == 7


async def test_cut_off_with_a_price_of_its_own_it_goes_on_by_the_policy_and_else_by_the_fallback_plan(
    folder, monkeypatch
):
    monkeypatch.setattr("hcp_pipelines.edge.local_prices.READ_EACH_S", 0.05)
    file = folder / "price.json"
    prices = {"file": str(file), "settlement_point": "HB_NORTH"}
    async with Site(folder, fallback_after_s=300.0, price_staleness_s=1500.0, local_prices=prices) as site:

        def say(price):
            at = site.world.clock_now().isoformat()
            (folder / "new").write_text(json.dumps({"price_usd_per_mwh": price, "at": at}))
            (folder / "new").replace(file)

        owner = await site.owner()
        assert (await put(owner, policy(site))).refusal == ""
        await owner.send(owner.make((FULL, range(10))))
        say(20.0)
        owner.call.cancel()
        await until(lambda: (site.facility.states[:MINERS] == FULL).sum() == MINERS, "cheap: all are on")
        (event,) = [e for e in local_events(site) if e.kind == "policy"]
        assert (event.state, len(bits(event.slots)), event.reason) == (FULL, 90, "economics")
        say(90.0)
        await until(lambda: not site.facility.states[:MINERS].any(), "dear: all are off")
        assert not [e for e in local_events(site) if e.kind == "fallback"]
        say(20.0)
        await until(lambda: np.all(site.facility.states[:MINERS] == FULL), "cheap again")
        file.write_text("{}")  # nothing more comes: the price grows old, and the fallback plan holds
        await until(lambda: [e for e in local_events(site) if e.kind == "fallback"], "fallback")
        await until(lambda: np.all(site.facility.states[:MINERS] == OFF), "all are off")


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_flood_of_commands_is_deferred_above_what_may_be_under_way(site, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.under_way.PENDING_MAX", 20)
    site.facility.shape.settle_s[:] = 1e6
    site.world.fleet.sites["one"]._tables.power_w[FULL, :] = 900.0  # nothing settles
    owner, other = await site.owner(), await site.owner(facility="two")
    for n in range(60):
        await owner.call.write(pb.OwnerMessage(command=owner.make((FULL, [n]))))
    assert (await other.send(other.make((FULL, [1])))).assignments[0].accepted
    await until(lambda: len(owner.of("ack")) == 60, "each is answered")
    accepted = [bool(a.assignments[0].accepted) for a in owner.of("ack")]
    assert accepted == [True] * 20 + [False] * 40
    assert all(a.assignments[0].deferred for a in owner.of("ack")[20:])
    assert (site.facility.states[:60] == FULL).sum() == 20


async def test_a_defect_in_one_facility_leaves_the_others_going(site, monkeypatch):
    owner, other = await site.owner(), await site.owner(facility="two")
    monkeypatch.setattr(site.facility.devices, "carry_out", _break)
    await owner.call.write(pb.OwnerMessage(command=owner.make((FULL, [1]))))
    await until(lambda: "defect" in site.facility.problem, "it is told")
    assert (await other.send(other.make((FULL, [1])))).refusal == ""
    monkeypatch.undo()
    await asyncio.sleep(0)
    successor = await site.owner(epoch=2)
    assert (await successor.send(successor.make((FULL, [2])))).refusal == ""


def _break(*_):
    raise RuntimeError("broken")
