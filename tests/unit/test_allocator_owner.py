"""One owned facility on a clock that moves by hand: what leaves on which price, under ramps, holds and modes."""

import uuid
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.allocator.admit import judge, reason_of
from hcp_pipelines.allocator.approvals import Approved
from hcp_pipelines.allocator.decide import InForce, LastPolicy, Limits
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.schema import Adder
from hcp_pipelines.policy.waves import Move
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.slots import decode_slots
from tests.support import fleet
from tests.support.fleet import FIVE, NOON, row

LIMITS = Limits(power_staleness_s=900.0, bitcoin_staleness_s=7200.0, hold_s=1800.0)
OFF, FULL = int(DeviceState.CURTAILED), int(DeviceState.MINING_FULL)


class Rig:
    """An owner whose gateway follows it, with a policy and everything switched on."""

    def __init__(self, price=30.0, clock=None, **changes):
        self.inventory = fleet.inventory(**changes)
        self.site = fleet.site(**changes)
        self.clock = clock or ManualClock(NOON)
        self.book = fleet.book(price)
        self.owner = Owner(self.site, 1, self.clock, LIMITS)
        policy = fleet.policy(self.inventory, self.book)
        self.owner.follow(InForce(1, policy, compile_policy(policy)))
        states = np.zeros(self.site.shape.slots, dtype=np.uint8)
        for g, ladder in enumerate(self.site.shape.ladders):
            states[self.site.shape.group_of_slot == g] = ladder[-1]
        self.owner.devices.adopt(states.tobytes(), states.tobytes(), NOON.timestamp())
        self.owner.is_ready = True
        self.next_id = 100

    def tick(self, price, minutes=5.0):
        """The clock moves and a new price comes."""
        self.clock.advance(minutes * 60)
        self.next_id += 1
        at = self.clock.now().replace(second=0, microsecond=0)
        self.book.take([row(self.next_id, price, at, origin_ns=1)])
        return self.plan()

    def plan(self):
        wave = self.owner.plan(self.book)
        if wave is not None:
            self.owner.take(wave)
        return wave

    def miners_on(self):
        counts, asic = self.owner.present(), [n for n, t in enumerate(self.site.group_types) if t == "ASIC"]
        return int(counts[asic].sum() - counts[asic, OFF].sum())


def test_a_spike_puts_miners_to_sleep_and_a_low_price_wakes_them():
    rig = Rig()
    assert rig.plan() is None, "at its own anchor nothing moves"
    wave = rig.tick(400.0)
    assert rig.miners_on() == 0
    assert all(r.to_state == OFF and r.mw_delta < 0 and r.usd_per_hour > 0 for r in wave.rows)
    assert {(r.tick_id, r.policy_id, r.wave, r.reason) for r in wave.rows} == {(101, 1, 0, "economics")}
    assert sum(len(decode_slots(a.slots, 600)) for a in wave.command.assignments) == sum(r.devices for r in wave.rows)
    for _ in range(6):
        rig.tick(-20.0, minutes=15)
    assert rig.miners_on() == 500


def test_a_plan_changes_nothing_until_it_is_taken():
    rig = Rig()
    rig.clock.advance(300)
    rig.book.take([row(101, 400.0, NOON + FIVE)])
    before = rig.owner.present()
    wave = rig.owner.plan(rig.book)
    assert wave is not None
    assert np.array_equal(rig.owner.present(), before)
    rig.owner.ask()
    again = rig.owner.plan(rig.book)
    assert {r.devices for r in again.rows} == {r.devices for r in wave.rows}


def test_within_the_band_nothing_moves_and_the_same_tick_is_planned_once():
    rig = Rig()
    assert rig.tick(31.0) is None
    assert rig.tick(400.0) is not None
    assert rig.plan() is None, "nothing new, nothing asked"
    rig.owner.ask()
    assert rig.plan() is None, "all that it asks for is under way already"


def test_an_hour_that_may_be_a_coincident_peak_costs_what_it_may_add():
    rig = Rig()
    hour = Adder(start=NOON + FIVE, end=NOON + FIVE * 3, usd_per_mwh=325.0)
    policy = fleet.policy(rig.inventory, rig.book, adders=(hour,))
    rig.owner.follow(InForce(2, policy, compile_policy(policy)))
    wave = rig.tick(30.0)
    assert rig.miners_on() == 0
    assert all(r.price == 30.0 and "a coincident peak may add 325.00 $/MWh" in r.reason_detail for r in wave.rows)
    margin = sum(r.usd_per_hour for r in wave.rows)
    energy = 325.0 * sum(r.mw_delta for r in wave.rows)
    assert 0 < margin < -energy, "gained is the charge that may be saved, less what would have been earned"
    for _ in range(6):
        rig.tick(30.0, minutes=15)
    assert rig.miners_on() == 500, "the hour is over"


def test_waves_stay_inside_the_ramps_and_say_that_they_continue():
    rig = Rig(ramps=(fleet.ramp("facility", 0.3),))
    load = [rig.tick(400.0)]
    assert sum(r.mw_delta for r in load[0].rows) >= -0.3
    for _ in range(70):
        rig.clock.advance(30)
        rig.book.take([row(200 + len(load), 400.0, rig.clock.now())])
        wave = rig.plan()
        if wave:
            load.append(wave)
    assert rig.miners_on() == 0
    booked = [(r.simulated_at.timestamp(), r.mw_delta) for w in load for r in w.rows]
    for at_s, _ in booked:
        window = [mw for other_s, mw in booked if at_s - 300 < other_s <= at_s]
        assert -sum(mw for mw in window if mw < 0) <= 0.3 + 1e-9
    assert "ramp_continuation" in {r.reason for w in load for r in w.rows}


def test_what_a_ramp_held_back_leaves_the_moment_it_has_room():
    rig = Rig(ramps=(fleet.ramp("facility", 0.5),))
    first = rig.tick(5000.0)
    assert not first.plan.is_complete
    assert rig.owner.pace.has_room_in_s() == pytest.approx(300.0, abs=0.01)
    rig.clock.advance(299.8)
    assert rig.plan() is None
    assert rig.owner.pace.has_room_in_s() == pytest.approx(0.2, abs=0.01)
    rig.clock.advance(0.21)  # sooner than it would be looked at anyway
    assert rig.plan().command.wave > 0


def test_a_successor_counts_its_predecessors_window():
    rig = Rig(ramps=(fleet.ramp("facility", 0.3),))
    rig.owner.restore_ramps([(NOON.timestamp() - 10, "feeder-1", -0.3)])
    assert rig.tick(400.0, minutes=1) is None
    rig.owner.restore_ramps([])
    rig.owner.ask()
    assert rig.plan() is not None


@pytest.mark.parametrize("mode", [ControlMode.OBSERVE, ControlMode.APPROVE])
def test_observing_facilities_are_never_switched(mode):
    rig = Rig(control_mode=mode)
    assert rig.tick(400.0) is None
    assert rig.miners_on() == 500


def test_without_prices_it_holds_then_takes_the_fallback_plan_then_recovers_on_two_values():
    rig = Rig()
    rig.clock.advance(901)
    rig.owner.ask()
    assert rig.plan() is None
    rig.clock.advance(1800)
    rig.owner.ask()
    wave = rig.plan()
    assert {(r.reason, r.actor) for r in wave.rows} == {("fallback_plan", "facility file")}
    assert rig.miners_on() == 0, "the demo's fallback plan puts miners to sleep"
    assert rig.tick(30.0) is None, "one good value is not enough"
    wave = rig.tick(30.0)
    assert {r.reason for r in wave.rows} == {"recovery"}
    assert rig.miners_on() == 500


def test_an_expired_policy_moves_nothing_even_when_prices_do():
    rig = Rig()
    for hour in range(24):
        rig.book.take([row(1000 + hour, 95_000.0, rig.clock.now(), "btc.usd", "consensus")])
        assert rig.tick(30.0, minutes=15) is None
    assert rig.tick(400.0) is None


def test_dagster_down_for_an_hour_moves_nothing_at_constant_prices_and_follows_moving_ones():
    rig = Rig()
    for _ in range(12):
        assert rig.tick(30.0) is None
    assert rig.tick(400.0) is not None


def test_nothing_leaves_before_the_gateway_follows():
    rig = Rig()
    rig.owner.is_ready = False
    assert rig.tick(400.0) is None


def test_devices_that_refuse_are_put_back_and_left_alone_for_a_moment():
    rig = Rig()
    wave = rig.tick(400.0)
    move = wave.plan.moves[0]
    rig.owner.devices.put_back(move.slots, move.to_state, rig.clock.monotonic_s(), 5.0)
    rig.owner.ask()
    assert rig.plan() is None
    rig.clock.advance(6)
    rig.owner.ask()
    again = rig.plan()
    assert sum(r.devices for r in again.rows) == len(move.slots)


def test_devices_that_do_not_obey_are_driven_again_and_then_quarantined():
    rig = Rig()
    states = rig.owner.devices.states.copy()
    move = rig.tick(400.0).plan.moves[0]
    disobedient = move.slots[:7]
    for attempt in range(3):
        rig.owner.devices.failed(disobedient)
        seen = rig.owner.devices.states.copy()
        seen[disobedient] = states[disobedient]
        told = rig.owner.devices.states.tobytes()
        found = rig.owner.devices.reconcile(told, seen.tobytes(), rig.clock.now().timestamp() + 1e6)
        assert sum(len(d.slots) for d in found) == 7
        rig.clock.advance(1)
        rig.owner.ask()
        again = rig.plan()
        assert (again is None) == (attempt == 2)
        assert again is None or {row.reason for row in again.rows} == {"re_drive"}
    assert sum(rig.owner.devices.quarantined.values()) == 7


def test_a_discrepancy_is_found_once():
    rig = Rig()
    devices, later_s = rig.owner.devices, rig.clock.now().timestamp() + 1e6
    told, seen = devices.states.tobytes(), devices.states.copy()
    seen[:5] = OFF
    assert sum(len(d.slots) for d in devices.reconcile(told, seen.tobytes(), later_s)) == 5
    assert devices.reconcile(told, seen.tobytes(), later_s) == [], "the gateway's old word is not taken for a new one"
    assert rig.miners_on() == 495


def test_an_honest_slow_device_under_way_is_no_discrepancy():
    rig = Rig()
    before = rig.owner.devices.states.tobytes()
    rig.tick(400.0)
    told = rig.owner.devices.states.tobytes()
    assert rig.owner.devices.reconcile(told, before, rig.clock.now().timestamp()) == []


def test_history_says_what_each_touched_group_should_do():
    rig = Rig()
    history = rig.owner.history(rig.tick(400.0))
    assert {(h.recommended_workload, h.actual_workload) for h in history} >= {("curtailed", "curtailed")}
    assert sum(h.devices for h in history if h.recommended_workload == "curtailed") == 500


class TestAdmission:
    def refusal(self, rig, policy, digest=None, **changed):
        candidate = InForce(2, policy, compile_policy(policy))
        settings = Settings(**changed)
        digest = policy.digest() if digest is None else digest
        return reason_of(judge(rig.owner, candidate, digest, rig.book, rig.clock.now(), settings))

    def test_a_newer_basis_is_taken_and_an_equal_one_is_not(self):
        rig = Rig()
        assert self.refusal(rig, fleet.policy(rig.inventory, rig.book, basis=7)) == ""
        assert "basis" in self.refusal(rig, fleet.policy(rig.inventory, rig.book, basis=6))

    def test_changed_content_stale_inputs_and_another_generation_are_refused(self):
        rig = Rig()
        newer = fleet.policy(rig.inventory, rig.book, basis=7)
        assert "digest" in self.refusal(rig, newer, digest=uuid.uuid4().hex)
        stale = newer.model_copy(update={"input_age_s": {"power.rt_lmp": 901.0}})
        assert "stale" in self.refusal(rig, stale)
        silent = newer.model_copy(update={"input_age_s": {"power.rt_lmp": 1.0}})
        assert "btc.usd" in self.refusal(rig, silent), "it has miners, and does not say how old their price is"
        gpus = tuple(block.model_copy(update={"index": "gpu.h100"}) for block in silent.blocks)
        assert "stale" not in self.refusal(rig, silent.model_copy(update={"blocks": gpus}))
        assert "generation" in self.refusal(rig, newer.model_copy(update={"inventory_generation": 2}))
        expired = newer.model_copy(update={"expires_at": NOON - timedelta(seconds=1)})
        assert "expired" in self.refusal(rig, expired)

    def test_what_waited_for_long_is_stale_unless_a_predecessor_or_a_person_has_taken_it(self):
        rig = Rig()
        old = fleet.policy(rig.inventory, rig.book, basis=7, solved_at=NOON - timedelta(hours=2))
        assert "stale" in self.refusal(rig, old), "its inputs were fresh two hours ago"
        rig.owner.approved = Approved(policies=frozenset({"2"}))
        assert self.refusal(rig, old) == ""
        successor = Rig()
        successor.owner.following.in_force = None
        assert "stale" in self.refusal(successor, old)
        successor.owner.following.inherit({}, LastPolicy(7))
        assert self.refusal(successor, old) == ""

    def test_a_jump_beyond_the_limit_waits_for_a_person(self):
        rig = Rig()
        greedy = fleet.policy(rig.inventory, fleet.book(30.0), basis=7)
        blocks = tuple(
            b.model_copy(update={"off": b.off.model_copy(update={"slope": 0.0, "offset": 1.0}),
                                 "on": b.on.model_copy(update={"slope": 0.0, "offset": 0.0})})
            for b in greedy.blocks
        )  # fmt: skip
        reason = self.refusal(rig, greedy.model_copy(update={"blocks": blocks}), max_policy_jump_mw=0.5)
        assert "jump" in reason
        assert "0.5 MW" in reason


def test_what_rises_and_what_falls_in_one_wave_uses_both_budgets():
    rig = Rig(ramps=(fleet.ramp("facility", 5.0),))
    wave = Rig(ramps=(fleet.ramp("facility", 5.0),)).tick(400.0)
    down = wave.plan.moves[0]
    up = replace(down, from_state=down.to_state, to_state=down.from_state, mw_delta=-down.mw_delta)
    rig.owner.take(replace(wave, plan=replace(wave.plan, moves=(down, up), mw_delta_by_feeder={})))
    room = rig.owner.ledger.headroom(NOON.timestamp())
    assert room.down_mw["facility"] == pytest.approx(5.0 + down.mw_delta)
    assert room.up_mw["facility"] == pytest.approx(5.0 + down.mw_delta)


@pytest.mark.parametrize("is_second_taken", [False, True])
def test_what_was_not_taken_on_is_as_the_gateway_holds_it_however_many_commands_were_under_way(is_second_taken):
    rig = Rig()
    slots, now_s = np.arange(3, dtype=np.uint32), rig.clock.now().timestamp()
    devices, eco = rig.owner.devices, int(DeviceState.MINING_ECO)
    devices.take(Move(0, FULL, eco, slots, -0.1), now_s)
    devices.take(Move(0, eco, OFF, slots, -0.2), now_s)
    devices.put_back(slots, eco, 0.0, 5.0)
    assert (devices.states[slots] == OFF).all(), "the second is not answered yet"
    if is_second_taken:
        devices.taken_on(slots, OFF)
    else:
        devices.put_back(slots, OFF, 0.0, 5.0)
    assert (devices.states[slots] == (OFF if is_second_taken else FULL)).all()


def test_devices_that_its_gateway_had_not_reached_yet_are_known_once_it_has():
    rig = Rig()
    states, nothing = rig.owner.devices.states.copy(), bytes([255]) * rig.site.shape.slots
    rig.owner.devices.adopt(nothing, nothing, rig.clock.now().timestamp())
    assert rig.owner.devices.has_unknown
    assert rig.tick(400.0) is None, "nobody knows what they do"
    rig.owner.devices.reconcile(states.tobytes(), nothing, rig.clock.now().timestamp())
    assert not rig.owner.devices.has_unknown
    assert rig.tick(401.0) is not None
