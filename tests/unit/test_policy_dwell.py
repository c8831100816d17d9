"""Minimum up and down times, and the limit on starts: who is locked, and what a wave does with it."""

import math

import numpy as np
import pytest

from hcp_pipelines.policy.dwell import DwellLocks, dwell_locks
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO, UNLIMITED, Headroom
from hcp_pipelines.policy.starts import HOUR_S, REMEMBERED, Starts
from hcp_pipelines.policy.waves import FacilityShape, Pool, plan_wave

OFF, ECO, FULL = 0, 2, 3
NEVER = -np.inf


def locks(changed_at_s, rose, now_s=1000.0, min_up_s=300.0, min_down_s=100.0):
    return dwell_locks(np.array(changed_at_s), np.array(rose), now_s, min_up_s, min_down_s)


def test_what_rose_may_not_fall_and_what_fell_may_not_rise_until_its_time_is_over():
    found = locks([NEVER, 701.0, 700.0, 901.0, 900.0], [False, True, True, False, False])
    assert found.may_not_fall.tolist() == [False, True, False, False, False]
    assert found.may_not_rise.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("changed_at_s", "limits"),
    [([NEVER, NEVER], (300.0, 100.0)), ([999.0, 999.0], (0.0, 0.0)), ([1.0, 2.0], (300.0, 100.0))],
)
def test_nothing_locked_is_none(changed_at_s, limits):
    assert locks(changed_at_s, [True, False], min_up_s=limits[0], min_down_s=limits[1]) is None


def shape(devices=10):
    power = np.zeros((1, 7))
    power[0, ECO], power[0, FULL] = 0.003, 0.004
    return FacilityShape("f", 1, ("a",), ("f1",), ((OFF, ECO, FULL),), np.zeros(devices, dtype=np.int64), power)


def plan(states, targets, locked=None, **more):
    eligible = np.ones(len(states), dtype=bool)
    wanted = np.zeros((1, 7), dtype=np.int64)
    for state, devices in targets.items():
        wanted[0, state] = devices
    rng = np.random.default_rng(3)
    return plan_wave(
        Pool(shape(len(states)), np.array(states, dtype=np.uint8), eligible),
        wanted,
        UNLIMITED,
        rng,
        locked=locked,
        **more,
    )


def where(devices, *, rise=(), fall=()):
    may_not_rise, may_not_fall = np.zeros(devices, dtype=bool), np.zeros(devices, dtype=bool)
    may_not_rise[list(rise)] = True
    may_not_fall[list(fall)] = True
    return DwellLocks(may_not_rise, may_not_fall)


def test_locked_slots_are_not_drawn_and_what_they_leave_undone_is_deferred():
    got = plan([FULL] * 10, {OFF: 6, FULL: 4}, where(10, fall=range(7)))
    assert [m.slots.tolist() for m in got.moves] == [[7, 8, 9]]
    assert (got.deferred_devices, got.deferred_mw_up) == (3, 0.0)
    assert got.deferred_mw_down == pytest.approx(3 * 0.004)
    assert got.mw_delta_by_feeder == {"f1": pytest.approx(-3 * 0.004)}
    assert got.locked_devices == 3


def test_a_lock_holds_one_direction_only():
    fall_only = where(4, fall=range(4))
    assert plan([ECO] * 4, {FULL: 4}, fall_only).is_complete
    assert plan([ECO] * 4, {OFF: 4}, fall_only).deferred_devices == 4
    rise_only = where(4, rise=range(4))
    assert plan([ECO] * 4, {OFF: 4}, rise_only).is_complete
    assert plan([ECO] * 4, {FULL: 4}, rise_only).deferred_mw_up == pytest.approx(4 * 0.001)


def test_locked_devices_are_counted_so_that_others_go_instead_but_no_more_than_needed():
    got = plan([OFF] * 8, {OFF: 5, FULL: 3}, where(8, rise=[0, 1, 2, 3]))
    assert got.is_complete
    assert set(got.moves[0].slots.tolist()) < {4, 5, 6, 7}


def test_a_reduction_for_safety_waits_for_no_minimum_up_time():
    got = plan([FULL] * 5, {OFF: 5}, where(5, fall=range(5)), is_down_exempt=True)
    assert got.is_complete
    assert len(got.moves[0].slots) == 5


def test_what_the_ramps_hold_back_is_not_put_down_to_the_locks():
    tight = Headroom({"f1": math.inf}, {"f1": 0.008, FACILITY: math.inf, PORTFOLIO: math.inf})
    eligible, wanted = np.ones(10, dtype=bool), np.zeros((1, 7), dtype=np.int64)
    wanted[0, OFF], wanted[0, FULL] = 6, 4
    states = np.full(10, FULL, dtype=np.uint8)
    got = plan_wave(
        Pool(shape(), states, eligible), wanted, tight, np.random.default_rng(3), locked=where(10, fall=range(9))
    )
    assert (got.deferred_devices, got.locked_devices) == (5, 1), "two fit, one of these may fall"


ALL = np.arange(3, dtype=np.uint32)


def started(*instants_s, slots=ALL):
    found = Starts(3)
    for at_s in instants_s:
        found.note(slots, at_s)
    return found


def test_an_hour_that_rolls_and_each_device_by_itself():
    found = started(0.0, 600.0)
    found.note(ALL[1:2], 900.0)
    assert found.used_up(3, 901.0).tolist() == [False, True, False]
    assert found.used_up(2, 901.0).tolist() == [True, True, True]
    assert found.used_up(2, HOUR_S).tolist() == [False, True, False], (
        "the first is an hour old, for the second it is the third"
    )


def test_a_start_that_did_not_happen_is_forgotten_and_the_one_before_is_not():
    found = started(0.0, 600.0)
    found.forget(ALL[:2])
    assert found.used_up(2, 601.0).tolist() == [False, False, True]
    assert found.used_up(1, 601.0).tolist() == [True, True, True]


def test_a_higher_limit_than_before_looks_back_further_from_then_on():
    many = REMEMBERED + 2
    found = started(*(float(n) for n in range(many)))
    assert not found.used_up(many, 100.0).any(), "what was not remembered counts for nobody"
    for n in range(many):
        found.note(ALL, 50.0 + n)
    assert found.used_up(many, 100.0).all()
    assert found.used_up(1, 100.0).all(), "and a lower one again is judged from the same"
