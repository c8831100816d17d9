"""What operators order, over what the policy wants, on a clock that moves by hand."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.allocator.standing import Lockout, Standing, Timed
from hcp_pipelines.devices.settling import GPU_FAMILY, Transition, timing
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.wire.slots import decode_slots, encode_slots
from tests.support import fleet
from tests.support.fleet import NOON
from tests.unit.test_allocator_owner import FULL, OFF, Rig


def standing(*directives, lockouts=(), since=NOON, hours=1.0, version=1):
    until = since + timedelta(hours=hours)
    return Standing(tuple(Timed(d, since, until) for d in directives), tuple(lockouts), version)


def load_mw(rig):
    return float((rig.owner.present() * rig.site.shape.power_mw).sum())


def curtail(cap_mw):
    return Directive("curtail/7", Kind.CURTAIL, "ann", "transformer hot", cap_mw=cap_mw)


def order(rig, *directives, **more):
    rig.owner.stand(standing(*directives, **more))
    return rig.plan()


def test_a_curtailment_goes_at_once_past_the_ramps_and_says_who_ordered_it():
    rig = Rig(ramps=(fleet.ramp("facility", 0.1),))
    before = load_mw(rig)
    wave = order(rig, curtail(before / 4))
    assert load_mw(rig) <= before / 4
    assert {(r.reason, r.actor, r.reason_detail) for r in wave.rows} == {
        ("operator_curtailment", "ann", "curtail/7: transformer hot")
    }
    assert rig.plan() is None


def usual_s(rig, row):
    """Seconds that a device of a row's group usually takes down to the row's state."""
    group = next(g for g in rig.inventory.groups if g.group_id == row.group_id)
    transition = Transition.STEP if row.to_state == DeviceState.MINING_ECO else Transition.SLEEP
    return timing(GPU_FAMILY if group.type == "GPU" else group.firmware, transition, group.model).typical_s


@pytest.mark.parametrize(("within_s", "takes_s"), [(9.0, 5.0), (10.0, 5.0), (14.0, 10.0), (30.0, 10.0)])
def test_what_is_down_in_time_goes_first_where_it_is_enough(within_s, takes_s):
    rig, limit_mw = Rig(), 0.95 * load_mw(Rig())
    wave = order(rig, replace(curtail(limit_mw), within_s=within_s))
    assert max(usual_s(rig, row) for row in wave.rows) == takes_s
    assert load_mw(rig) <= limit_mw
    at_leisure = Rig()
    assert max(usual_s(at_leisure, row) for row in order(at_leisure, curtail(limit_mw)).rows) > 20.0


def test_its_end_is_ramped_and_what_it_took_is_on_the_window():
    rig = Rig(ramps=(fleet.ramp("facility", 0.1),))
    before = load_mw(rig)
    order(rig, curtail(before / 4), hours=0.1)
    rig.tick(30.0, minutes=7)
    assert load_mw(rig) <= before / 4 + 0.1 + 1e-9
    for _ in range(16):
        rig.tick(30.0)
    assert load_mw(rig) == pytest.approx(before)


def test_a_limit_counts_devices_that_nobody_can_command():
    rig = Rig()
    out_of_reach = np.flatnonzero(rig.owner.devices.states == FULL)[:100].astype(np.uint32)
    for _ in range(3):
        rig.owner.devices.failed(out_of_reach)
    asic_mw = rig.site.shape.power_mw[:, FULL].max()
    total = load_mw(rig) + 100 * asic_mw
    order(rig, curtail(total / 2))
    assert load_mw(rig) + 100 * asic_mw <= total / 2 + 1e-9


def test_stop_all_leaves_everything_in_its_lowest_state_also_while_prices_are_stale():
    rig = Rig()
    rig.clock.advance(1200)  # stale: a hold
    rig.owner.ask()
    assert rig.plan() is None
    wave = order(rig, Directive("stop_all/1", Kind.STOP, "bob", "drill", cap_mw=0.0), since=rig.clock.now())
    assert {r.reason for r in wave.rows} == {"emergency_stop"}
    counts = rig.owner.present()
    lowest = [ladder[0] for ladder in rig.site.shape.ladders]
    assert all(counts[g, low] == counts[g].sum() for g, low in enumerate(lowest))


@pytest.mark.parametrize("mode", [ControlMode.OBSERVE, ControlMode.APPROVE])
def test_what_somebody_ordered_happens_in_every_mode_and_nothing_else_does(mode):
    rig = Rig(control_mode=mode)
    wave = order(rig, curtail(load_mw(rig) / 2))
    assert {r.actor for r in wave.rows} == {"ann"}
    assert rig.tick(400.0) is None


def test_without_any_policy_operators_still_work():
    rig = Rig()
    rig.owner.following.in_force = None
    wave = order(rig, curtail(0.0))
    assert wave.rows[0].policy_id is None
    assert rig.miners_on() == 0


def test_an_override_holds_against_the_price_and_is_paced_by_the_ramps():
    rig = Rig(ramps=(fleet.ramp("facility", 0.3),))
    group = rig.site.shape.group_ids[0]
    keep = Directive("override/3", Kind.OVERRIDE, "ann", "test", group_id=group, state=DeviceState.CURTAILED)
    wave = order(rig, keep)
    assert sum(r.mw_delta for r in wave.rows) >= -0.3 - 1e-9
    assert {r.reason for r in wave.rows} == {"operator_override"}
    for _ in range(40):
        rig.tick(-20.0, minutes=1)  # the policy would mine
    assert rig.owner.present()[0, OFF] == rig.owner.present()[0].sum()


def test_a_locked_slot_goes_down_at_once_and_no_price_brings_it_back():
    rig = Rig(ramps=(fleet.ramp("facility", 0.05),))
    slots = np.arange(3, 40, dtype=np.uint32)
    lock = Lockout(5, "carl", "hands inside", "device", slots=encode_slots(slots))
    wave = order(rig, lockouts=[lock])
    told = np.concatenate([decode_slots(a.slots, 600) for a in wave.command.assignments])
    assert set(told.tolist()) == set(slots.tolist())
    assert {(r.reason, r.actor) for r in wave.rows} == {("lockout", "carl")}
    assert (rig.owner.devices.states[slots] == OFF).all()
    for _ in range(10):
        rig.tick(-20.0)
    assert (rig.owner.devices.states[slots] == OFF).all()
    assert rig.owner.present()[0].sum() == rig.site.shape.counts(rig.owner.devices.states, ~rig.owner.locked)[0].sum()
    for _ in range(3):
        rig.owner.devices.failed(slots[:2])
    assert rig.owner.memory()["failed_slots"] == slots[:2].tolist()
    rig.owner.stand(standing(version=2))
    assert "failed_slots" not in rig.owner.memory(), "who unlocks has looked at them"
    for _ in range(12):
        rig.tick(-20.0)
    assert (rig.owner.devices.states[slots] == FULL).all()


def test_maintenance_empties_under_the_ramps_and_then_nobody_touches_what_sleeps_there():
    rig = Rig(ramps=(fleet.ramp("facility", 0.05),))
    slots, before = np.arange(3, 40, dtype=np.uint32), rig.owner.present()[0].sum()
    window = Lockout(5, "carl", "maintenance/1: a pump", "device", "", encode_slots(slots), True, True)
    wave = order(rig, lockouts=[window])
    assert 0 < sum(r.devices for r in wave.rows) < len(slots)
    assert sum(r.mw_delta for r in wave.rows) >= -0.05 - 1e-9
    assert {(r.reason, r.actor, r.reason_detail) for r in wave.rows} == {
        ("lockout", "carl", "lockout/5: maintenance/1: a pump")
    }
    assert rig.owner.present()[0].sum() == before - len(slots), "no policy counts on them from now on"
    assert not rig.owner.locked.any(), "the gateway is not told yet: its locks wait for no ramp"
    for _ in range(6):
        rig.tick(30.0)
    states = rig.owner.devices.states
    assert (states[slots] == OFF).all()
    arrive(rig, slots)
    rig.owner.stand(standing(lockouts=[replace(window, is_emptying=False)], version=2))
    assert rig.plan() is None
    assert np.flatnonzero(rig.owner.locked).tolist() == slots.tolist()
    look(rig, awake=[5])  # somebody tries it out
    assert states[5] == FULL
    assert rig.plan() is None
    by_hand = Lockout(6, "ann", "hands inside", "device", "", encode_slots(np.array([5], dtype=np.uint32)))
    assert order(rig, lockouts=[replace(window, is_emptying=False), by_hand], version=3) is not None
    assert states[5] == OFF
    rig.owner.stand(standing(version=4))
    for _ in range(12):
        rig.tick(-20.0)
    assert (states[slots] == FULL).all()


def drawn_mw(rig):
    shape = rig.site.shape
    return float(shape.power_mw[shape.group_of_slot, rig.owner.devices.states].sum())


@pytest.mark.parametrize("scope", ["device", "site"])
@pytest.mark.parametrize("kind", [Kind.DEPLOY, Kind.CURTAIL, Kind.STOP, Kind.SHED])
def test_what_nothing_delays_reaches_devices_that_maintenance_empties(kind, scope):
    rig = Rig(ramps=(fleet.ramp("facility", 0.05),))
    slots = encode_slots(np.arange(3, 400, dtype=np.uint32)) if scope == "device" else b""
    window = Lockout(5, "carl", "maintenance/1: a pump", scope, "", slots, True, True)
    order(rig, lockouts=[window])
    before, cap_mw = drawn_mw(rig), 0.0 if kind is Kind.STOP else 0.5
    assert before > 1.5, "most are still awake"
    word = Directive("x/1", kind, "bob", "at once", cap_mw=cap_mw)
    wave = order(rig, word, lockouts=[window], version=2, since=rig.clock.now())
    shape = rig.site.shape
    lowest = np.array([ladder[0] for ladder in shape.ladders])[shape.group_of_slot]
    least_mw = float(shape.power_mw[shape.group_of_slot, lowest].sum())
    assert drawn_mw(rig) <= max(cap_mw, least_mw) + 1e-9
    if kind is not Kind.STOP:
        assert drawn_mw(rig) > cap_mw - 2 * shape.power_mw.max(), "no more than the order needs"
    exempt = [r for r in wave.rows if r.reason == kind.reason.value and r.actor == "bob"]
    assert exempt
    mw_at_once = -sum(r.mw_delta for r in exempt)
    assert before - drawn_mw(rig) == pytest.approx(mw_at_once), "it has used up the ramp: nothing else goes with it"
    if scope == "site":
        assert all(r.mw_delta <= 0 for r in wave.rows)
    for _ in range(60):
        rig.tick(30.0)
    if scope == "site":
        assert (rig.owner.devices.states == lowest).all(), "and the rest is emptied as planned"


def test_a_limit_that_holds_already_hurries_nobody_to_maintenance():
    rig = Rig(ramps=(fleet.ramp("facility", 0.05),))
    window = Lockout(5, "carl", "maintenance/1: a pump", "site", "", b"", True, True)
    before = drawn_mw(rig)
    wave = order(rig, curtail(before + 1.0), lockouts=[window])
    assert {r.reason for r in wave.rows} == {"lockout"}
    assert before - drawn_mw(rig) <= 0.05 + 1e-9


def arrive(rig, slots):
    """The gateway takes on what devices were told, and says that they do it."""
    rig.owner.devices.taken_on(slots, OFF)
    rig.owner.devices.settled(slots)


def look(rig, awake):
    """What gateway and meter say some time later: all as they were told, but for miners that draw full power."""
    rig.clock.advance(200)
    told = rig.owner.devices.states.copy()
    seen = told.copy()
    seen[awake] = FULL
    rig.owner.reconcile(told.tobytes(), seen.tobytes(), rig.clock.now().timestamp())
    rig.owner.ask()


def begin_window(rig):
    slots = np.arange(3, 40, dtype=np.uint32)
    window = Lockout(5, "carl", "maintenance/1: a pump", "device", "", encode_slots(slots), True)
    assert sum(r.devices for r in order(rig, lockouts=[window]).rows) == len(slots)
    rig.owner.ask()
    assert rig.plan() is None, "they are on their way"
    return slots


def test_what_does_not_go_to_sleep_in_its_window_is_told_again_and_given_up_on_like_any_other():
    rig = Rig()
    slots = begin_window(rig)
    bad, told = slots[:10], 0
    rig.owner.devices.taken_on(slots, OFF)
    for _ in range(3):
        rig.owner.devices.settled(slots[10:])
        rig.owner.devices.failed(bad)
        rig.owner.ask()
        assert rig.plan() is None, "nobody has seen them yet"
        look(rig, awake=bad)
        wave = rig.plan()
        if wave is not None:
            told += sum(r.devices for r in wave.rows)
            rig.owner.devices.taken_on(bad, OFF)
    assert told == 2 * len(bad)
    assert rig.owner.memory()["failed_slots"] == bad.tolist()


def test_what_a_gateway_refused_in_a_window_is_told_again():
    rig = Rig()
    slots = begin_window(rig)
    rig.owner.devices.put_back(slots, OFF, rig.clock.monotonic_s(), 5.0)
    assert (rig.owner.devices.states[slots] == FULL).all()
    rig.clock.advance(60)
    rig.owner.ask()
    assert sum(r.devices for r in rig.plan().rows) == len(slots)


def test_what_slept_before_its_window_and_is_woken_by_hand_before_it_goes_down_as_it_begins():
    rig = Rig()
    rig.tick(400.0)
    slots = np.arange(3, 40, dtype=np.uint32)
    arrive(rig, slots)
    rig.clock.advance(60)
    look(rig, awake=[5])
    window = Lockout(5, "carl", "maintenance/1: a pump", "device", "", encode_slots(slots), True)
    assert sum(r.devices for r in order(rig, lockouts=[window]).rows) == 1
    assert rig.owner.devices.states[5] == OFF
    arrive(rig, slots[2:3])
    look(rig, awake=[5, 6])  # both seen asleep in the window by now
    wave = rig.plan()
    assert wave is None or all(r.reason != "lockout" for r in wave.rows)
    assert (rig.owner.devices.states[[5, 6]] == FULL).all()


def test_the_end_of_a_window_does_not_wake_what_is_in_repair_and_the_end_of_its_case_does():
    rig, bad = Rig(), np.array([7, 8, 9], dtype=np.uint32)
    for _ in range(3):
        rig.owner.devices.failed(bad)
    window = Lockout(5, "carl", "maintenance/1: firmware", "site", "", b"", True)
    for lockouts, in_repair, quarantined in (
        ((), (7, 8), [7, 8, 9]),
        ((window,), (7, 8), [7, 8, 9]),
        ((), (7, 8), [7, 8]),  # the window is over: slot 9 has no case
        ((), (8,), [8]),  # that of slot 7 is closed, slot 8 was retired
        ((window,), (8, 599, 100_000), [8]),  # slots of an earlier inventory, too
        ((), (8,), [8]),
        ((), (), None),
    ):
        rig.owner.stand(Standing(lockouts=lockouts, in_repair=in_repair))
        assert rig.owner.memory().get("failed_slots") == quarantined


@pytest.mark.parametrize("scope", ["feeder", "site"])
def test_a_lock_of_a_feeder_or_the_site_holds_all_of_its_devices(scope):
    rig = Rig()
    feeder = rig.site.shape.feeder_of_group[0]
    order(rig, lockouts=[Lockout(6, "carl", "works", scope, feeder_id=feeder if scope == "feeder" else "")])
    groups = [g for g, f in enumerate(rig.site.shape.feeder_of_group) if scope == "site" or f == feeder]
    for g in groups:
        own = rig.site.shape.group_of_slot == g
        assert (rig.owner.devices.states[own] == rig.site.shape.ladders[g][0]).all()


def test_a_directive_holds_from_its_beginning_to_its_end():
    rig = Rig()
    rig.owner.stand(standing(curtail(0.0), since=NOON + timedelta(minutes=10), hours=0.5))
    assert rig.plan() is None
    assert rig.tick(30.0, minutes=11) is not None
    assert rig.miners_on() == 0
    for _ in range(12):
        rig.tick(30.0)
    assert rig.miners_on() == 500


def test_nothing_rises_that_a_direct_order_at_the_gateway_holds_down():
    rig = Rig()
    order(rig, curtail(0.0), hours=0.05)
    rig.owner.held = rig.site.shape.group_of_slot >= 0
    for _ in range(3):
        assert rig.tick(-20.0) is None
    assert rig.miners_on() == 0
    rig.owner.held = np.zeros_like(rig.owner.held)
    rig.tick(-20.0)
    assert rig.miners_on() == 500


def test_what_is_held_down_may_still_go_further_down():
    rig = Rig()
    rig.owner.held = rig.site.shape.group_of_slot >= 0
    assert rig.tick(400.0) is not None
    assert rig.miners_on() == 0
