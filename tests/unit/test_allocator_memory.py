"""What a successor knows of its predecessor: guard accounts, the mix to restore, and what the gateway did meanwhile."""

import json

import numpy as np
import pytest

from hcp_pipelines.allocator.admit import judge, reason_of
from hcp_pipelines.allocator.decide import InForce, LastPolicy
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.memory import guard_of, memory_of, shadow_of
from hcp_pipelines.allocator.shadow import Shadow
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.settings import Settings
from tests.support import fleet
from tests.unit.test_allocator_directives import curtail, load_mw, order
from tests.unit.test_allocator_owner import FULL, LIMITS, OFF, Rig


def last_policy(rig):
    """What the store has of it."""
    return LastPolicy(rig.owner.following.newest_basis, rig.owner.following.expires_at_s)


def successor(rig):
    """Another owner of the same facility: what the gateway says, and what was kept as JSON."""
    after = Rig(ramps=rig.site.ramps, clock=rig.clock)
    after.book = rig.book
    after.owner.following.guard = None
    after.owner.following.in_force = None
    after.owner.inherit(json.loads(json.dumps(rig.owner.memory())), last_policy(rig))
    if rig.owner.in_force is not None:
        after.owner.follow(rig.owner.in_force)
    states = rig.owner.devices.states.tobytes()
    after.owner.devices.adopt(states, states, rig.clock.now().timestamp())
    after.next_id = rig.next_id
    return after


def test_guard_accounts_go_on_where_they_were():
    for price in range(20, 400, 3):  # somewhere inside a block's band there is something on account
        rig = Rig()
        rig.tick(float(price))
        rig.tick(float(price))
        before = rig.owner.following.guard
        if before["lost_usd_per_mw"].any():
            break
    assert before["lost_usd_per_mw"].any() or before["forgone_usd_per_mw"].any()
    after = successor(rig)
    assert np.allclose(after.owner.following.guard["lost_usd_per_mw"], before["lost_usd_per_mw"], atol=1e-5)
    assert np.allclose(after.owner.following.guard["forgone_usd_per_mw"], before["forgone_usd_per_mw"], atol=1e-5)


def test_what_a_directive_took_is_restored_by_the_successor():
    rig = Rig()
    before = load_mw(rig)
    order(rig, curtail(before / 4), hours=0.5)
    after = successor(rig)
    after.owner.stand(rig.owner.standing)
    assert after.plan() is None
    for _ in range(8):
        after.tick(30.0)
    assert load_mw(after) == pytest.approx(before)


def test_memory_is_by_names_and_leaves_out_what_no_longer_fits():
    rig = Rig()
    compiled, shape = rig.owner.in_force.compiled, rig.site.shape
    memory = {"guard": {compiled.block_keys[1]: [1.5, 0.0], "gone/mining_full/0": [9, 9]}, "mix": {"gone": {"idle": 3}}}
    state = guard_of(memory, compiled)
    assert state["forgone_usd_per_mw"].tolist() == [1.5 if n == 1 else 0.0 for n in range(len(compiled.block_keys))]
    assert shadow_of(memory, shape).kept == {}
    for odd in ([1.0] * 99, None, ["x", float("nan")]):
        guard_of({"guard": {compiled.block_keys[0]: odd}}, compiled)  # another release's, or nobody's: no reason to end
    assert memory_of(GuardState.empty(compiled), Shadow(), shape) == {"guard": {}, "mix": {}}


def test_an_owner_without_a_policy_yet_hands_on_what_it_was_handed():
    rig = Rig()
    rig.owner.following.guard = None
    rig.owner.inherit({"guard": {"x/mining_full/0": [1.0, 2.0]}, "mix": {}})
    assert rig.owner.memory()["guard"] == {"x/mining_full/0": [1.0, 2.0]}


def test_what_the_gateway_does_by_itself_uses_the_ramp_windows():
    rig = Rig(ramps=(fleet.ramp("facility", 0.3),))
    slots = np.flatnonzero(rig.owner.devices.states == FULL)[:80].astype(np.uint32)
    by_group = rig.owner.take_local(slots, OFF, rig.clock.now().timestamp())
    assert sum(by_group.values()) == pytest.approx(
        -80 * (rig.site.shape.power_mw[0, FULL] - rig.site.shape.power_mw[0, OFF])
    )
    left = 0.3 + sum(by_group.values())
    wave = rig.tick(400.0, minutes=1)
    assert wave is None or -sum(r.mw_delta for r in wave.rows) <= left + 1e-9


def test_what_the_gateway_did_before_it_announced_its_state_is_booked_as_it_reckoned():
    rig = Rig(ramps=(fleet.ramp("facility", 0.3),))
    slots = np.flatnonzero(rig.owner.devices.states == FULL)[:80].astype(np.uint32)
    states = rig.owner.devices.states.copy()
    states[slots] = OFF
    rig.owner.devices.adopt(states.tobytes(), states.tobytes(), rig.clock.now().timestamp())
    assert sum(rig.owner.take_local(slots, OFF, rig.clock.now().timestamp(), -0.25).values()) == pytest.approx(-0.25)
    assert rig.owner.ledger.headroom(rig.clock.now().timestamp()).down_mw["facility"] == pytest.approx(0.05)


def test_a_successor_takes_no_policy_older_than_its_predecessors():
    rig = Rig()
    after = successor(rig)
    after.owner.following.in_force = None

    def word(basis):
        policy = fleet.policy(rig.inventory, rig.book, basis=basis)
        candidate = InForce(basis, policy, compile_policy(policy))
        return reason_of(judge(after.owner, candidate, policy.digest(), rig.book, rig.clock.now(), Settings()))

    own = rig.owner.in_force.policy.basis_tick_id
    assert word(own - 1).startswith("basis: ")
    assert word(own) == word(own + 1) == ""


def test_a_new_session_of_the_same_owner_forgets_nothing_that_is_not_stored_yet():
    rig = Rig()
    stored = rig.owner.memory()
    rig.owner.inherit(stored)
    order(rig, curtail(0.2))
    mix = rig.owner.memory()["mix"]
    assert mix
    rig.owner.inherit(stored)
    assert rig.owner.memory()["mix"] == mix


def test_without_a_policy_a_successor_restores_nothing_and_forgets_nothing():
    rig = Rig()
    before = load_mw(rig)
    order(rig, curtail(before / 4), hours=0.5)
    after = successor(rig)
    policy, after.owner.following.in_force = after.owner.in_force, None
    assert after.plan() is None, "the curtailment is over, and nobody says what is wanted now"
    order(after, curtail(before / 8), hours=0.1)
    after.clock.advance(400)
    after.owner.ask()
    assert after.plan() is None
    after.owner.follow(policy)
    for _ in range(8):
        after.tick(30.0)
    assert load_mw(after) == pytest.approx(before)


def without_policy(rig):
    """A successor that may not take its predecessor's policy."""
    after = successor(rig)
    after.owner.following.in_force = None
    return after


def test_a_successor_without_a_policy_holds_and_takes_the_fallback_plan_when_prices_have_been_stale_for_long():
    after = without_policy(Rig())
    after.clock.advance(LIMITS.power_staleness_s + LIMITS.hold_s - 60)
    assert after.plan() is None, "it holds"
    after.clock.advance(120)
    wave = after.plan()
    assert {(row.reason, row.actor, row.policy_id) for row in wave.rows} == {("fallback_plan", "facility file", None)}
    assert after.miners_on() == 0


def test_without_a_policy_two_good_values_end_the_fallback_plan_and_nothing_rises_until_there_is_one():
    rig = Rig()
    policy, after = rig.owner.in_force, without_policy(rig)
    after.clock.advance(LIMITS.power_staleness_s + LIMITS.hold_s + 60)
    assert after.plan() is not None
    assert after.miners_on() == 0
    assert [after.tick(30.0), after.tick(30.0), after.tick(30.0)] == [None] * 3
    after.owner.follow(policy)
    after.tick(30.0)
    assert after.miners_on() == rig.miners_on()


def test_a_successor_without_a_policy_goes_by_when_its_predecessors_expired():
    rig = Rig()
    expires_in_s = (rig.owner.in_force.policy.expires_at - rig.clock.now()).total_seconds()
    after = without_policy(without_policy(rig))
    after.clock.advance(expires_in_s - 400)
    assert after.tick(400.0) is None, "no price moves anything without a policy"
    after.clock.advance(LIMITS.hold_s + 100 - 400)
    assert (after.tick(30.0), after.miners_on()) == (None, 500), "it holds"
    assert after.tick(30.0) is not None
    assert after.miners_on() == 0


def test_where_there_never_was_a_policy_none_expires():
    rig = Rig()
    rig.owner.following.in_force = rig.owner.following.guard = None
    rig.clock.advance(1e6)
    assert [rig.tick(30.0), rig.tick(30.0), rig.tick(30.0)] == [None] * 3


def test_without_a_policy_and_before_any_price_nothing_moves():
    after = without_policy(Rig())
    after.book = MarketBook()
    after.clock.advance(LIMITS.power_staleness_s + LIMITS.hold_s + 60)
    assert after.plan() is None
