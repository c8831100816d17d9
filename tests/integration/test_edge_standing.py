"""Locks, direct orders, deadlines and compaction at a gateway over real sockets; what devices did is judged by their own log."""

import asyncio
import contextlib
import os
import time
import uuid

import numpy as np
import pytest

from hcp_pipelines.domain.fencing import JUMP_MAX
from hcp_pipelines.edge.compaction import shorten
from hcp_pipelines.edge.config import LogConfig
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.edge import BATCH, FIRST_GPU, FULL, IDLE, MINERS, OFF, PUE, SLOTS, Owner, bits, until
from tests.support.gateway_site import Site, events, folder, local_events, site

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["folder", "site"]  # fixtures


# -- locks ------------------------------------------------------------------------------------------------------------


async def test_a_locked_device_goes_down_at_once_and_nothing_energises_it_also_after_a_restart(site):
    owner = await site.owner()
    await owner.send(owner.make((FULL, range(10))))
    held = await site.lock(owner, [3, 4, 50])
    assert (held.refusal, held.version, held.seq > 0) == ("", 1, True)
    (event,) = events(owner, "lockout")
    assert (bits(event.slots), event.state, event.reason) == ([3, 4], OFF, "lockout")
    assert event.mw_delta == pytest.approx(2 * (0.025 - 3.5) * PUE / 1000, rel=1e-5)
    for generation in range(2):
        ack = await owner.send(owner.make((FULL, [3, 5, 50]), (OFF, [4])))
        first, second = ack.assignments
        assert (bits(first.accepted), {r.code: bits(r.slots) for r in first.refused}) == ([5], {"locked": [3, 50]})
        assert bits(second.accepted) == [4]
        state = await owner.state()
        assert (bits(state.locked), state.locks_version) == ([3, 4, 50], 1)
        await until(lambda: np.all(site.world.commanded()[[3, 4, 50]] == OFF), "they are down")
        assert (site.world.commanded()[[0, 5]] == FULL).all()
        await site.restart()
        owner = await site.owner(epoch=generation + 2)


async def test_locks_are_absolute_a_lower_version_is_refused_and_lifting_them_raises_nothing(site):
    owner = await site.owner()
    await owner.send(owner.make((FULL, range(4))))
    assert (await site.lock(owner, [1, 2], version=5)).refusal == ""
    assert (await site.lock(owner, [1, 2], version=5)).refusal == ""
    assert [e.kind for e in await owner.log()].count("locks") == 1, "the same again is not stored again"
    for slots, changes, refusal in (
        ([1], {"version": 4}, "replayed"),
        ([1], {"version": 5}, "replayed"),
        ([1], {"version": 6, "epoch": 0}, "old_epoch"),
        ([1], {"version": 6, "epoch": 9}, "epoch_too_high"),
        ([1], {"version": 6, "facility_id": "two"}, "unknown_facility"),
        ([], {"version": 6, "slots": b"\xff" * 20}, "bad_message"),
        ([], {"version": 5 + JUMP_MAX + 1}, "bad_message"),
        ([], {"version": 2**64 - 1}, "bad_message"),
    ):
        assert (await site.lock(owner, slots, **changes)).refusal == refusal
        assert bits((await owner.state()).locked) == [1, 2]
    assert (await site.lock(owner, [], version=6)).refusal == ""
    assert (await owner.state()).locked == b""
    assert (site.world.commanded()[:4] == [FULL, OFF, OFF, FULL]).all()
    assert (await owner.send(owner.make((FULL, [1])))).assignments[0].refused == []


async def test_what_is_locked_is_not_raised_by_driving_again_nor_by_the_fallback_plan(folder):
    async with Site(folder, fallback_after_s=900.0, fallback={"asic": FULL}) as site:
        owner = await site.owner()
        await owner.send(owner.make((FULL, range(6))))
        await site.world.kill()
        await until(lambda: site.facility.problem, "the loss is noticed")
        await site.lock(owner, [0, 1])  # pending from before: on; told when the world is back: off
        await site.world.start()
        await until(lambda: np.all(site.world.commanded()[:MINERS] == [OFF] * 2 + [FULL] * 98), "fallback")
    switched_on = [s for line in site.world.log() if line["state"] == FULL for s in site.world.switched(line["ref"])]
    assert not {0, 1} & set(switched_on[6:])


async def test_locks_that_can_not_be_stored_are_refused_and_change_nothing(site, monkeypatch):
    owner = await site.owner()
    await owner.send(owner.make((FULL, [1])))
    monkeypatch.setattr(os, "fdatasync", _no_space)
    held = await site.lock(owner, [1])
    assert (held.refusal, "No space" in held.detail) == ("store_failed", True)
    monkeypatch.undo()
    assert ((await owner.state()).locked, site.world.commanded()[1]) == (b"", FULL)


def _no_space(*_):
    raise OSError(28, "No space left on device")


# -- direct orders ----------------------------------------------------------------------------------------------------


async def on(site, owner):
    await owner.send(owner.make((FULL, range(MINERS)), (BATCH, range(FIRST_GPU, SLOTS))))


async def test_a_stop_brings_all_down_and_holds_it_until_it_is_released(site):
    owner = await site.owner()
    await on(site, owner)
    reply = await site.direct(stop=True)
    assert (reply.accepted, reply.devices) == (True, 120)
    assert reply.expected_kw == pytest.approx((100 * 0.025 + 20 * 0.45) * PUE, rel=0.01)
    await until(lambda: not site.world.commanded()[:MINERS].any(), "down")
    assert (site.world.commanded()[FIRST_GPU:] == IDLE).all()
    await until(lambda: sum(len(bits(e.slots)) for e in events(owner, "direct")) == 120, "the owner is told of all")
    told = events(owner, "direct")
    assert {(e.actor, e.detail, e.reason) for e in told} == {("ann", "smoke", "emergency_stop")}
    assert len({e.order_id for e in told}) == 1
    assert sum(e.mw_delta for e in told) == pytest.approx(-(100 * 3.475 + 20 * 0.85) * PUE / 1000, rel=1e-4)
    await site.restart()
    owner = await site.owner(epoch=2)
    assert len(bits((await owner.state()).held)) == 120
    ack = await owner.send(owner.make((FULL, [1])))
    assert {r.code: bits(r.slots) for r in ack.assignments[0].refused} == {"held": [1]}
    assert (await site.direct(release=True, operator="bob")).accepted
    await until(lambda: events(owner, "released"), "released")
    assert (events(owner, "released")[-1].actor, (await owner.state()).held) == ("bob", b"")
    assert not site.world.commanded()[:MINERS].any()  # nothing rises by itself
    assert (await owner.send(owner.make((FULL, [1])))).assignments[0].refused == []
    await site.restart()
    assert not site.facility.devices.bars.held.any()


async def test_a_curtailment_takes_what_is_needed_quickest_first_and_says_what_is_left(site):
    owner = await site.owner()
    await on(site, owner)
    reply = await site.direct(to_kw=200.0)
    assert reply.accepted
    assert 200.0 - 3.5 * PUE < reply.expected_kw <= 200.0
    assert (site.facility.states[FIRST_GPU:] == BATCH).all()  # miners shed more a second
    down = np.flatnonzero(site.facility.states[:MINERS] == OFF)
    assert len(down) == reply.devices
    await until(lambda: np.all(site.world.commanded()[down] == OFF), "told")
    ack = await owner.send(owner.make((OFF, range(MINERS)), (FULL, [int(down[0])])))
    assert ack.assignments[0].refused == []  # the owner may go on down
    assert [r.code for r in ack.assignments[1].refused] == ["held"]
    impossible = await site.direct(to_kw=5.0)
    assert (impossible.accepted, "can't go" in impossible.detail) == (True, True)
    to_nothing = await site.direct(to_kw=0.0)
    assert (to_nothing.accepted, "can't go" in to_nothing.detail) == (True, True), "asleep they still draw something"
    assert (await site.direct(release=True)).accepted
    assert not site.facility.devices.bars.held.any()


async def test_an_order_by_so_much_counts_from_the_meter(site):
    owner = await site.owner()
    command = owner.make((FULL, range(MINERS)))
    await owner.send(command)
    await until(lambda: owner.settled(command.command_id), "all draw")
    before_kw = (await owner.state()).power_kw
    reply = await site.direct(by_kw=100.0)
    await until(lambda: site.facility.state().power_kw <= before_kw - 100.0, "at the meter")
    assert 100 / (3.5 * PUE) - 1 < reply.devices < 100 / (3.4 * PUE) + 3


async def test_the_same_order_is_carried_out_once_and_another_under_its_id_is_refused(site):
    owner = await site.owner()
    await on(site, owner)
    order_id = str(uuid.uuid4())
    first = await site.direct(order_id=order_id, to_kw=300.0)
    entries = len(await owner.log())
    assert await site.direct(order_id=order_id, to_kw=300.0) == first
    assert (await site.direct(order_id=order_id, to_kw=100.0)).refusal == "replayed"
    await site.restart()
    again = await site.direct(order_id=order_id, to_kw=300.0)
    assert (again.accepted, again.devices) == (True, 0)
    assert len([e for e in site.facility.log_entries(0, 999) if e.kind == "direct"]) == 1
    assert entries <= site.facility.state().last_seq


@pytest.mark.parametrize(
    "what",
    [
        {}, {"stop": False}, {"to_kw": float("nan")}, {"to_kw": -1.0}, {"by_kw": float("inf")}, {"by_kw": 0.0},
        {"stop": True, "order_id": "seven"}, {"stop": True, "order_id": str(uuid.UUID(int=4))},
        {"stop": True, "reason": " "}, {"stop": True, "reason": "x" * 501},
    ],
)  # fmt: skip
async def test_an_order_that_makes_no_sense_changes_nothing(site, what):
    owner = await site.owner()
    await owner.send(owner.make((FULL, range(5))))
    reply = await site.direct(**what)
    assert (reply.accepted, reply.refusal, bool(reply.detail)) == (False, "bad_message", True)
    assert (site.facility.states[:5] == FULL).all()
    assert not site.facility.devices.bars.held.any()


# -- deadlines --------------------------------------------------------------------------------------------------------


async def test_what_is_stored_after_its_deadline_is_not_carried_out_now_nor_after_a_restart(site, monkeypatch):
    owner = await site.owner()
    await owner.send(owner.make((FULL, [9])))
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (time.sleep(0.2), real(fd)))
    late = owner.make((FULL, range(5)), (BATCH, [3]), deadline_ms=50)
    ack = await owner.send(late)
    monkeypatch.undo()
    first, second = ack.assignments
    assert (ack.detail, bits(first.deferred), first.accepted) == ("deadline_passed", list(range(5)), b"")
    assert [r.code for r in second.refused] == ["state_not_supported"]
    assert (await owner.send(late)).duplicate
    kinds = [e.kind for e in await owner.log() if e.kind != "settled"]
    assert kinds[-3:] == ["command", "ack", "expired"]
    await site.restart()
    assert (site.facility.states[:5] == OFF).all()
    assert (site.world.switched(late.command_id), site.world.commanded()[9]) == ([], FULL)
    successor = await site.owner(epoch=2)
    assert [a.detail for a in successor.of("ack") if a.command_id == late.command_id] == ["deadline_passed"]
    repeated = pb.Command.FromString(late.SerializeToString())
    repeated.epoch = 2
    again = await successor.send(repeated)
    assert (again.duplicate, again.detail) == (True, "deadline_passed")


async def test_that_a_late_command_is_void_is_stored_when_the_disk_has_room_again(site, monkeypatch):
    owner = await site.owner()
    first = owner.make((FULL, [9]))
    await owner.send(first)
    await until(lambda: owner.settled(first.command_id), "nothing else is to be stored")
    real, calls = os.fdatasync, []

    def slow_and_then_full(fd):
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        time.sleep(0.2)
        real(fd)

    late = owner.make((FULL, range(5)), deadline_ms=50)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", slow_and_then_full)
        ack = await owner.send(late)
        assert (ack.refusal, ack.detail, ack.assignments[0].accepted) == ("", "deadline_passed", b"")
        await until(lambda: len(calls) > 2, "it is tried again")
    log = site.facility.log_entries
    await until(lambda: "expired" in [e.kind for e in log(0, 99)], "the log says so")
    assert [e.seq for e in log(0, 99)] == sorted({e.seq for e in log(0, 99)})
    assert (await owner.send(late)).duplicate
    await site.restart()
    assert (site.facility.states[:5] == OFF).all()
    assert site.world.switched(late.command_id) == []


async def test_a_command_that_was_made_for_an_earlier_session_is_refused_unless_it_was_taken_on_then(site, monkeypatch):
    owner = await site.owner(session=7)
    taken, refused = (owner.make((FULL, range(n, n + 5)), session=7) for n in (0, 10))
    await owner.send(taken)
    with monkeypatch.context() as full:
        full.setattr(os, "fdatasync", _no_space)
        assert (await owner.send(refused)).refusal == "store_failed"
    await site.restart()
    again = await site.owner(session=8)
    ack = await again.send(refused)
    assert (ack.refusal, "session 7" in ack.detail, ack.duplicate) == ("replayed", True, False)
    ack = await again.send(taken)
    assert (ack.refusal, bits(ack.assignments[0].accepted), ack.duplicate) == ("", list(range(5)), True)
    assert site.world.switched(refused.command_id) == []


@pytest.mark.parametrize("jump", [1_000_001, 2**63, 2**64 - 1])
async def test_an_epoch_that_jumps_too_far_is_refused_and_shuts_nobody_out(site, jump):
    owner = await site.owner()
    reply = await Owner(site.gateway.address, name="z").announce(
        epoch=jump + 1 if jump < 2**63 else jump, lease_epoch=2**64 - 1
    )
    assert (reply.accepted, reply.refusal, reply.highest_epoch) == (False, "epoch_too_high", 1)
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""


# -- the log stays short ----------------------------------------------------------------------------------------------


async def test_a_new_file_holds_all_that_a_restart_needs_and_the_old_ones_go_when_journalled(site):
    owner = await site.owner()
    slow = owner.make((FULL, range(20, 30)))
    site.facility.shape.settle_s[:] = 1e6
    site.world.fleet.sites["one"]._tables.power_w[FULL, 20:30] = 900.0  # they will never settle
    await owner.send(slow)
    await site.lock(owner, [3])
    order_id = str(uuid.uuid4())
    await site.direct(order_id=order_id, to_kw=20.0)
    left = site.facility.states.copy()
    log, short = site.gateway.logs["one"], LogConfig(file_mb=1e-6, keep_mb=0)
    await until(lambda: not site.facility.devices.is_storing, "quiet")
    last = site.facility.state().last_seq
    await shorten(site.facility, log, short)
    assert log.base_seq == last + 1
    assert next(iter(log.entries())).seq == 1  # nobody has journalled them
    beat = pb.Heartbeat(epoch=1, journalled_seq=last)
    await owner.call.write(pb.OwnerMessage(heartbeat=beat))
    await until(lambda: site.facility.owners.journalled_seq == last, "heard")
    await shorten(site.facility, log, LogConfig(keep_mb=0))
    assert next(iter(log.entries())).seq == last + 1
    await site.restart()
    state = site.facility.state()
    assert (site.facility.states == left).all()
    assert (bits(state.locked), len(bits(state.held)), state.highest_epoch) == ([3], 120, 1)
    assert slow.command_id in state.unfinished_command_ids
    assert (await site.direct(order_id=order_id, to_kw=20.0)).devices == 0
    successor = await site.owner(epoch=2)
    repeated = pb.Command.FromString(slow.SerializeToString())
    repeated.epoch = 2
    assert (await successor.send(repeated)).duplicate


# -- cut off ----------------------------------------------------------------------------------------------------------


RAMPS = [{"scope": "f1", "up_mw": 10, "down_mw": 0.1, "window_s": 600}]


async def test_a_gateway_that_is_cut_off_comes_down_in_waves_within_its_ramps(folder):
    async with Site(folder, fallback_after_s=600.0, ramps=RAMPS) as site:
        owner = await site.owner()
        await owner.send(owner.make((FULL, range(50))))
        owner.call.cancel()
        await until(lambda: not site.facility.states[:MINERS].any(), "the whole plan")
        local = local_events(site)
        assert {(e.kind, e.reason) for e in local} == {("fallback", "fallback_plan")}
        sizes = [len(bits(e.slots)) for e in local]
        assert sum(sizes) == 50
        assert max(sizes) == 23  # 0.1 MW at the meter; the owner's own wave went up
        assert all(-0.1 <= e.mw_delta < 0 for e in local)
        at_s = [np.datetime64(e.simulated_at[:19]).astype(int) for e in local]
        assert min(np.diff(at_s)) >= 595
        assert bits(local[0].slots) != list(range(sizes[0]))  # drawn at random


async def test_it_holds_its_mix_as_long_as_the_last_price_is_fresh(folder):
    async with Site(folder, fallback_after_s=300.0, price_staleness_s=900.0) as site:
        owner = await site.owner()
        await owner.send(owner.make((FULL, range(5))))
        beat = pb.Heartbeat(epoch=1, decision_price_usd_per_mwh=20, price_at=site.world.clock_now().isoformat())
        await owner.call.write(pb.OwnerMessage(heartbeat=beat))
        await asyncio.sleep(0.1)
        owner.call.cancel()
        heard = site.world.clock_now()
        await until(lambda: not site.facility.states[:5].any(), "fallback")
        assert (site.world.clock_now() - heard).total_seconds() >= 850


async def test_one_facility_at_a_standstill_does_not_hold_up_the_other(site):
    one, two = await site.owner(), await site.owner(facility="two")
    async with site.facility.devices.turn:
        stuck = asyncio.create_task(one.send(one.make((FULL, [1]))))
        assert (await two.send(two.make((FULL, [1])))).refusal == ""
        assert not stuck.done()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stuck, 60)
    assert stuck.result().refusal == ""
