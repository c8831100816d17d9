"""Directives: any no wins, nothing energises a locked device, only reductions are exempt, only ramps make them wait."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.directed import LOCK, plan_directed
from hcp_pipelines.policy.directives import Directive, Kind, Load, direct
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO, UNLIMITED, Headroom
from hcp_pipelines.policy.waves import Pool
from tests.property.test_policy_waves import apply, fleets, headrooms, random_targets

few = settings(max_examples=120, deadline=None)
NONE_MAY = Headroom({"facility": 0.0}, {"facility": 0.0})
LIMITS = (Kind.RESPONSE, Kind.DEPLOY, Kind.CURTAIL, Kind.SHED)


@st.composite
def directives(draw, most=3):
    def one(n):
        kind = draw(st.sampled_from([*LIMITS, Kind.STOP, Kind.OVERRIDE]))
        common = {"directive_id": f"d/{n}", "kind": kind, "actor": "ann"}
        if kind is Kind.OVERRIDE:
            state = draw(st.sampled_from(list(DeviceState)))
            devices = draw(st.none() | st.integers(0, 30))
            return Directive(**common, group_id=f"g{draw(st.integers(0, 4))}", state=state, devices=devices)
        if kind is Kind.STOP:
            return Directive(**common, cap_mw=0.0)
        feeder = draw(st.sampled_from(["", "f1", "f2"]))
        within_s = draw(st.sampled_from([10.0, 100.0, math.inf]))
        return Directive(**common, cap_mw=draw(st.floats(0, 0.2)), feeder_id=feeder, within_s=within_s)

    return [one(n) for n in range(draw(st.integers(0, most)))]


def load_of(shape, seed, fixed=0.0):
    rng = np.random.default_rng(seed)
    value = rng.uniform(-0.3, 0.5, shape.power_mw.shape) * (shape.power_mw > 0.001)
    return Load(value, rng.choice([5.0, 50.0, 500.0], shape.power_mw.shape), {"f1": fixed} if fixed else {})


def mw_of(shape, counts, feeder=""):
    return sum(
        float((counts[g] * shape.power_mw[g]).sum())
        for g, f in enumerate(shape.feeder_of_group)
        if not feeder or f == feeder
    )


def lowest_mw(shape, counts, feeder=""):
    return sum(
        counts[g].sum() * shape.power_mw[g, shape.ladders[g][0]]
        for g, f in enumerate(shape.feeder_of_group)
        if not feeder or f == feeder
    )


def setting(fleet, some, seed, fixed=0.0, floor=0.0):
    shape, states, eligible = fleet
    present = shape.counts(states, eligible)
    base = random_targets(shape, states, eligible, seed)
    return shape, present, base, direct(shape, base, present, some, load_of(shape, seed, fixed), floor)


@few
@given(fleets(), directives(), st.integers(0, 99), st.sampled_from([0.0, 0.01]))
def test_every_limit_holds_or_is_said_to_be_out_of_reach(fleet, some, seed, fixed):
    shape, _, base, found = setting(fleet, some, seed, fixed)
    assert np.array_equal(found.targets.sum(axis=1), base.sum(axis=1))
    assert (found.targets >= 0).all()
    for directive in some:
        if directive.kind is Kind.OVERRIDE:
            continue
        extra = fixed if directive.feeder_id in ("", "f1") else 0.0
        has_room = mw_of(shape, found.targets, directive.feeder_id) + extra <= directive.cap_mw + 1e-9
        assert has_room or any(text.startswith(directive.directive_id) for text in found.unmet)
        if not has_room:
            low = lowest_mw(shape, found.targets, directive.feeder_id)
            assert mw_of(shape, found.targets, directive.feeder_id) <= low + 1e-9


@few
@given(fleets(), st.integers(0, 99), st.sampled_from(LIMITS), st.floats(0, 0.2))
def test_a_limit_takes_no_more_than_a_device_beyond_it_and_the_cheapest_first(fleet, seed, kind, cap_mw):
    shape, _, base, found = setting(fleet, [Directive("d", kind, "ann", cap_mw=cap_mw)], seed)
    before, after = mw_of(shape, base), mw_of(shape, found.targets)
    assert after <= before + 1e-12
    assert before <= cap_mw or after > cap_mw - shape.power_mw.max() - 1e-9 or after <= lowest_mw(shape, base) + 1e-9
    if before <= cap_mw:
        assert np.array_equal(found.targets, base)


@few
@given(fleets(), directives(), st.integers(0, 99))
def test_applying_it_to_what_came_of_it_changes_nothing(fleet, some, seed):
    shape, present, _, found = setting(fleet, some, seed)
    again = direct(shape, found.targets, present, some, load_of(shape, seed))
    assert np.array_equal(again.targets, found.targets)


@few
@given(fleets(), directives(), st.integers(0, 99))
def test_what_nothing_delays_only_ever_reduces(fleet, some, seed):
    shape, present, _, found = setting(fleet, some, seed)
    for g, ladder in enumerate(shape.ladders):
        below = [
            found.at_once[g, list(ladder[: n + 1])].sum() - present[g, list(ladder[: n + 1])].sum()
            for n in range(len(ladder))
        ]
        assert min(below, default=0) >= 0
    if not any(d.kind.is_exempt for d in some):
        assert np.array_equal(found.at_once, present)


@few
@given(fleets(), directives(), st.integers(0, 99), st.integers(0, 99), headrooms)
def test_no_locked_slot_is_ever_energised_and_those_that_are_on_go_down_at_once(fleet, some, seed, who, headroom):
    shape, states, eligible = fleet
    *_, found = setting(fleet, some, seed)
    locked = np.random.default_rng(who).random(len(states)) < 0.3
    free = shape.counts(states, eligible & ~locked)
    base = random_targets(shape, states, eligible & ~locked, seed)
    found = direct(shape, base, free, some, load_of(shape, seed))
    pool = Pool(shape, states, eligible & ~locked)
    planned = plan_directed(pool, eligible & locked, found, headroom, np.random.default_rng(seed))
    after = apply(states, planned.plan)
    for slot in np.flatnonzero(locked & eligible & (shape.group_of_slot >= 0)):
        assert after[slot] == shape.ladders[shape.group_of_slot[slot]][0]
    assert (after[~eligible] == states[~eligible]).all()
    for move, word in zip(planned.plan.moves, planned.words, strict=True):
        assert (word == LOCK) == bool(locked[move.slots].all() and len(move.slots))


@few
@given(fleets(), directives(), st.integers(0, 99), headrooms)
def test_what_maintenance_empties_goes_down_within_the_ramps_but_at_once_where_nothing_may_delay(
    fleet, some, seed, headroom
):
    shape, states, eligible = fleet
    emptying = eligible & (np.random.default_rng(seed).random(len(states)) < 0.3)
    nobody, free = np.zeros(len(states), dtype=bool), eligible & ~emptying
    base, present = random_targets(shape, states, free, seed), shape.counts(states, free)
    emptied = shape.counts(states, emptying)
    found = direct(shape, base, present, some, replace(load_of(shape, seed), emptying=emptied))

    def plan(room):
        rng = np.random.default_rng(seed)
        return plan_directed(Pool(shape, states, free), nobody, found, room, rng, emptying=emptying)

    planned = plan(headroom)
    told = list(zip(planned.plan.moves, planned.words, strict=True))
    exempt = [d for d in some if d.kind.is_exempt]
    for move, word in told:
        is_emptied = emptying[move.slots]
        assert is_emptied.all() if word == LOCK else not is_emptied.any() or (is_emptied.all() and word in exempt)
    for scope, most_mw in headroom.down_mw.items():
        moves = [(m, w) for m, w in told if scope in (shape.feeder_of_group[m.group_index], FACILITY, PORTFOLIO)]
        at_leisure = sum(-m.mw_delta for m, word in moves if word not in exempt and m.mw_delta < 0)
        assert at_leisure <= most_mw + 1e-9 or scope not in (FACILITY, PORTFOLIO, *shape.feeder_of_group)
    after = shape.counts(apply(states, plan(Headroom({FACILITY: 0.0}, headroom.down_mw)).plan), eligible)
    for d in exempt:
        least_mw = lowest_mw(shape, after, d.feeder_id)
        assert mw_of(shape, after, d.feeder_id) <= max(d.cap_mw, least_mw) + 1e-9
    assert exempt or np.array_equal(found.emptied_at_once, emptied)
    lowest = np.array([ladder[0] for ladder in shape.ladders])[shape.group_of_slot]
    awake = emptying & (shape.group_of_slot >= 0) & (apply(states, planned.plan) != lowest)
    assert not awake.any() or not planned.plan.is_complete, "the owner waits for room"
    assert (apply(states, plan(UNLIMITED).plan) == lowest)[emptying & (shape.group_of_slot >= 0)].all()


@few
@given(fleets(), directives(), st.integers(0, 99))
def test_with_no_room_on_the_ramps_exempt_limits_still_hold_and_nothing_rises(fleet, some, seed):
    shape, states, eligible = fleet
    *_, found = setting(fleet, some, seed)
    nobody = np.zeros(len(states), dtype=bool)
    planned = plan_directed(Pool(shape, states, eligible), nobody, found, NONE_MAY, np.random.default_rng(seed))
    after = shape.counts(apply(states, planned.plan), eligible)
    assert all(move.mw_delta <= 1e-12 for move in planned.plan.moves)
    for directive in some:
        if directive.kind.is_exempt and not any(text.startswith(directive.directive_id) for text in found.unmet):
            assert mw_of(shape, after, directive.feeder_id) <= directive.cap_mw + 1e-9


@few
@given(fleets(), directives(), st.integers(0, 99))
def test_with_room_on_the_ramps_two_waves_arrive(fleet, some, seed):
    shape, states, eligible = fleet
    nobody, rng = np.zeros(len(states), dtype=bool), np.random.default_rng(seed)
    base = random_targets(shape, states, eligible, seed)
    for _ in range(2):
        found = direct(shape, base, shape.counts(states, eligible), some, load_of(shape, seed))
        states = apply(states, plan_directed(Pool(shape, states, eligible), nobody, found, UNLIMITED, rng).plan)
    assert np.array_equal(shape.counts(states, eligible), found.targets)


@few
@given(fleets(), st.integers(0, 99), st.floats(0, 0.1), st.none() | st.floats(0, 0.1))
def test_an_override_does_not_go_below_the_floor_and_a_limit_does(fleet, seed, floor, cap):
    shape = fleet[0]
    override = [Directive(f"o/{g}", Kind.OVERRIDE, "ann", group_id=f"g{g}") for g in range(4)]
    limit = [] if cap is None else [Directive("c", Kind.CURTAIL, "ann", cap_mw=cap)]
    _, _, base, found = setting(fleet, [*override, *limit], seed, floor=floor)
    lowest = lowest_mw(shape, base)
    full = sum(base[g].sum() * shape.power_mw[g].max() for g in range(len(shape.ladders))) - lowest
    mw = mw_of(shape, found.targets)
    if cap is None:
        assert mw - lowest >= min(floor, full) - 1e-9
    else:
        assert mw <= max(cap, lowest_mw(shape, base)) + 1e-9


@few
@given(fleets(), st.integers(0, 99), st.integers(0, 30) | st.none())
def test_an_override_puts_so_many_at_least_and_nobody_else_moves_for_it(fleet, seed, devices):
    shape = fleet[0]
    state = shape.ladders[0][-1]
    wanted = Directive("o", Kind.OVERRIDE, "ann", group_id="g0", state=DeviceState(state), devices=devices)
    _, _, base, found = setting(fleet, [wanted], seed)
    have = int(base[0].sum())
    assert found.targets[0, state] >= (have if devices is None else min(devices, have))
    assert np.array_equal(found.targets[1:], base[1:])
