"""What a wave promises, over random fleets: headroom, order, conservation, arrival."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.policy.ramps import UNLIMITED, Headroom
from hcp_pipelines.policy.waves import FacilityShape, Pool, plan_wave

few = settings(max_examples=60, deadline=None)
LADDERS = ((0, 3), (0, 2, 3), (1, 5, 6))
POWER_MW = np.array([0.0001, 0.0004, 0.0028, 0.0035, 0.0, 0.0013, 0.0013])


@st.composite
def fleets(draw):
    """(shape, states, eligible): groups in runs or scattered, gaps between, some devices not to be commanded."""
    sizes = draw(st.lists(st.integers(0, 25), min_size=1, max_size=4))
    ladders = tuple(draw(st.sampled_from(LADDERS)) for _ in sizes)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    group_of_slot = np.repeat(np.arange(-1, len(sizes)), [draw(st.integers(0, 4)), *sizes])
    if draw(st.booleans()):
        rng.shuffle(group_of_slot)
    power = np.zeros((len(sizes), 7))
    for g, ladder in enumerate(ladders):
        power[g, list(ladder)] = POWER_MW[list(ladder)]
    states = np.array([255 if g < 0 else rng.choice(ladders[g]) for g in group_of_slot], dtype=np.uint8)
    eligible = rng.random(len(states)) < draw(st.sampled_from([1.0, 0.8]))
    feeders = tuple(draw(st.sampled_from(["f1", "f2"])) for _ in sizes)
    ids = tuple(f"g{n}" for n in range(len(sizes)))
    return FacilityShape("f", 1, ids, feeders, ladders, group_of_slot.astype(np.int64), power), states, eligible


def random_targets(shape, states, eligible, seed):
    """As many devices a group as there are, spread anew over its ladder."""
    rng = np.random.default_rng(seed)
    counts = shape.counts(states, eligible)
    targets = np.zeros_like(counts)
    for g, ladder in enumerate(shape.ladders):
        targets[g, list(ladder)] = rng.multinomial(counts[g].sum(), np.full(len(ladder), 1 / len(ladder)))
    return targets


budgets_mw = st.sampled_from([0.0, 0.003, 0.01, 0.05])
headrooms = st.builds(
    lambda up, down: Headroom(dict(up), dict(down)),
    st.dictionaries(st.sampled_from(["f1", "f2", "facility", "portfolio"]), budgets_mw),
    st.dictionaries(st.sampled_from(["f1", "f2", "facility", "portfolio"]), budgets_mw),
)


def apply(states, plan):
    after = states.copy()
    for move in plan.moves:
        assert (after[move.slots] == move.from_state).all(), "a slot moved twice, or from where it is not"
        after[move.slots] = move.to_state
    return after


def distance(shape, states, eligible, targets):
    return int(np.abs(shape.counts(states, eligible) - targets).sum())


@few
@given(fleets(), headrooms, st.integers(0, 99))
def test_a_wave_stays_inside_its_headroom_and_only_brings_devices_nearer(fleet, headroom, seed):
    shape, states, eligible = fleet
    targets = random_targets(shape, states, eligible, seed)
    plan = plan_wave(Pool(shape, states, eligible), targets, headroom, np.random.default_rng(seed))
    after = apply(states, plan)
    assert (after[~eligible] == states[~eligible]).all()
    assert (shape.counts(after, eligible).sum(axis=1) == targets.sum(axis=1)).all()
    moved = sum(len(m.slots) for m in plan.moves)
    assert distance(shape, after, eligible, targets) == distance(shape, states, eligible, targets) - 2 * moved
    assert plan.deferred_devices == distance(shape, after, eligible, targets) // 2
    assert plan.is_complete == (plan.deferred_devices == 0)
    for scope in ("f1", "f2", "facility", "portfolio"):
        mine = [
            m.mw_delta for m in plan.moves if scope in (shape.feeder_of_group[m.group_index], "facility", "portfolio")
        ]
        assert sum(mw for mw in mine if mw > 0) <= headroom.up_mw.get(scope, np.inf) + 1e-9
        assert -sum(mw for mw in mine if mw < 0) <= headroom.down_mw.get(scope, np.inf) + 1e-9
    rises = [m.mw_delta > 0 for m in plan.moves]
    assert rises == sorted(rises), "an increase before a reduction"
    change = (shape.counts(after, eligible) - shape.counts(states, eligible)) * shape.power_mw
    assert sum(plan.mw_delta_by_feeder.values()) == pytest.approx(change.sum(), abs=1e-9)
    left = (targets - shape.counts(after, eligible)) * shape.power_mw
    assert plan.deferred_mw_up - plan.deferred_mw_down == pytest.approx(left.sum(), abs=1e-9)


@few
@given(fleets(), st.integers(0, 99), st.floats(0.004, 0.05))
def test_waves_arrive_exactly_when_headroom_returns(fleet, seed, budget_mw):
    shape, states, eligible = fleet
    targets = random_targets(shape, states, eligible, seed)
    headroom = Headroom({"facility": budget_mw}, {"facility": budget_mw})
    rng = np.random.default_rng(seed)
    for _ in range(120):
        plan = plan_wave(Pool(shape, states, eligible), targets, headroom, rng)
        if not plan.moves:
            break
        states = apply(states, plan)
    assert np.array_equal(shape.counts(states, eligible), targets)
    assert plan_wave(Pool(shape, states, eligible), targets, headroom, rng).is_complete


@few
@given(fleets(), st.integers(0, 99))
def test_exempt_reductions_take_no_notice_of_headroom_and_increases_do(fleet, seed):
    shape, states, eligible = fleet
    targets = random_targets(shape, states, eligible, seed)
    nothing = Headroom({"facility": 0.0}, {"facility": 0.0})
    plan = plan_wave(Pool(shape, states, eligible), targets, nothing, np.random.default_rng(seed), is_down_exempt=True)
    assert plan.deferred_mw_down == 0.0
    assert all(m.mw_delta <= 0 for m in plan.moves)


def test_the_slots_of_a_wave_are_drawn_anew_each_time_and_from_everywhere():
    devices = 3000
    power = np.zeros((1, 7))
    power[0, 3] = 0.0035
    shape = FacilityShape("f", 1, ("a",), ("f1",), ((0, 3),), np.zeros(devices, dtype=np.int64), power)
    targets = np.zeros((1, 7), dtype=np.int64)
    targets[0, 0], targets[0, 3] = devices - 600, 600
    states, rng = np.zeros(devices, dtype=np.uint8), np.random.default_rng(5)
    waves = [plan_wave(Pool(shape, states, states == 0), targets, UNLIMITED, rng).moves[0].slots for _ in range(2)]
    assert waves[0].tolist() != waves[1].tolist()
    for slots in waves:
        assert (np.diff(slots.astype(np.int64)) > 0).all()
        rows = np.bincount(slots // 300, minlength=10)
        assert 30 < rows.min() <= rows.max() < 95
