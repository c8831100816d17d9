"""Desired rows under a policy's bound: never more than it lets be, no gang in parts, those before go first, others untouched."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.desired import DesiredRows, assigned_to, at_once, bent, counts_of, granted, resting_state
from hcp_pipelines.policy.ramps import FACILITY, UNLIMITED, Headroom
from hcp_pipelines.policy.waves import FacilityShape, Pool, plan_wave

GPU_LADDERS = ((0, 1, 5, 4, 6), (1, 5), (0, 1, 6), (0, 5))
MINER = (0, 2, 3)


@st.composite
def situations(draw):
    """A facility of miners and of groups where work is scheduled, what its devices do, rows in line, and a policy's word."""
    ladders = [MINER, *draw(st.lists(st.sampled_from(GPU_LADDERS), min_size=1, max_size=2)), MINER]
    sizes = [draw(st.integers(1, 24)) for _ in ladders]
    group_of_slot = np.repeat(np.arange(len(ladders)), sizes)
    power = np.zeros((len(ladders), STATE_COUNT))
    for g, ladder in enumerate(ladders):
        power[g, list(ladder)] = 0.001 * (1 + np.arange(len(ladder)))
    names = tuple(f"g{g}" for g in range(len(ladders)))
    shape = FacilityShape("x", 1, names, ("f1",) * len(ladders), tuple(ladders), group_of_slot, power)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states = np.array([random.choice(ladders[g]) for g in group_of_slot], dtype=np.uint8)
    eligible = random.random(len(states)) < draw(st.sampled_from((0.7, 1.0)))
    rows = lined_up(shape, random, draw(st.integers(0, 8)))
    bound = np.zeros((len(ladders), STATE_COUNT), dtype=np.int64)
    for g, ladder in enumerate(ladders):
        left = int(eligible[group_of_slot == g].sum())
        for state in random.permutation(ladder[1:]):
            bound[g, state] = random.integers(0, left + 1)
            left -= bound[g, state]
        bound[g, ladder[0]] = left
    return Pool(shape, states, eligible), rows, bound


def scheduled(shape):
    return tuple(g for g, ladder in enumerate(shape.ladders) if ladder != MINER)


def lined_up(shape, random, most):
    """Rows that do not overlap, of slots in the groups where work is scheduled."""
    found = []
    free = {g: random.permutation(np.flatnonzero(shape.group_of_slot == g)) for g in scheduled(shape)}
    for _ in range(most):
        g = int(random.choice(list(free)))
        work = [s for s in shape.ladders[g] if s > 1]
        size = int(random.integers(1, 9))
        if len(free[g]) >= size:
            found.append((g, int(random.choice(work)), np.sort(free[g][:size])))
            free[g] = free[g][size:]
    groups, states, slots = [x[0] for x in found], [x[1] for x in found], [x[2] for x in found]
    return DesiredRows(
        np.arange(len(found)), np.array(groups, dtype=np.int64), np.array(states, dtype=np.int64),
        np.array([len(x) for x in slots], dtype=np.int64),
        np.concatenate(slots).astype(np.uint32) if slots else np.zeros(0, dtype=np.uint32),
        1 + np.arange(len(found)),
    )  # fmt: skip


def one_by_one(shape, rows, bound, may_run):
    """The rows that run, as one would say it: in line, whoever has room at each step up to his own."""
    room = {g: np.cumsum(bound[g, list(ladder)][::-1])[::-1] for g, ladder in enumerate(shape.ladders)}
    found = []
    for r, (g, state, size) in enumerate(zip(rows.groups, rows.states, rows.sizes, strict=True)):
        step = shape.ladders[g].index(state)
        fits = may_run[r] and (room[g][: step + 1] >= size).all()
        found.append(bool(fits))
        if fits:
            room[g] = room[g] - np.where(np.arange(len(room[g])) <= step, size, 0)
    return found


def whole(pool, rows):
    return ~rows.with_any(~pool.eligible)


def carried_out(pool, plan):
    states = pool.states.copy()
    for move in plan.moves:
        assert (states[move.slots] == move.from_state).all()
        states[move.slots] = move.to_state
    return states


@given(situations())
def test_rows_run_in_line_as_far_as_the_policy_goes_and_none_in_parts(situation):
    pool, rows, bound = situation
    may = whole(pool, rows)
    runs = granted(pool.shape, rows, bound, may)
    assert runs.tolist() == one_by_one(pool.shape, rows, bound, may)
    assigned = assigned_to(pool.shape, scheduled(pool.shape), rows, runs)
    counts = counts_of(assigned, pool, bound)
    states = carried_out(
        pool,
        plan_wave(replace(pool, assigned=bent(assigned, pool, counts)), counts, UNLIMITED, np.random.default_rng(1)),
    )
    for r in range(len(rows.ids)):
        mine = rows.slots[rows.row_of == r]
        if runs[r]:
            assert (states[mine] == rows.states[r]).all(), "a gang runs whole"
    for g in scheduled(pool.shape):
        ladder, mine = pool.shape.ladders[g], (pool.shape.group_of_slot == g) & pool.eligible
        wanted = np.isin(np.arange(len(states)), rows.slots[runs[rows.row_of]])
        rest = resting_state(ladder)
        assert (np.isin(states[mine & ~wanted], ladder[: ladder.index(rest) + 1])).all(), "nothing works for nobody"
        for k in range(ladder.index(rest) + 1, len(ladder)):
            assert np.isin(states[mine], ladder[k:]).sum() <= bound[g, list(ladder[k:])].sum(), (
                "never more than the bound"
            )
        low = ladder[0]
        if low != rest:
            assert (states[mine] == low).sum() <= bound[g, low]
    assert np.array_equal(pool.shape.counts(states, pool.eligible), counts)


@given(situations(), st.floats(0.0, 0.05))
def test_groups_that_are_not_scheduled_move_as_they_did_before_there_were_rows(situation, room_mw):
    pool, rows, bound = situation
    groups = scheduled(pool.shape)
    others = bound.copy()
    others[list(groups)] = pool.counts[list(groups)]
    seeds = np.random.default_rng(5), np.random.default_rng(5)
    assigned = assigned_to(pool.shape, groups, rows, granted(pool.shape, rows, bound, whole(pool, rows)))
    before = plan_wave(pool, others, UNLIMITED, seeds[0])
    after = plan_wave(replace(pool, assigned=assigned), bound, UNLIMITED, seeds[1])
    mine = [m for m in after.moves if m.group_index not in groups]
    assert [(m.group_index, m.from_state, m.to_state, m.slots.tobytes(), m.mw_delta, m.is_work) for m in mine] == [
        (m.group_index, m.from_state, m.to_state, m.slots.tobytes(), m.mw_delta, False) for m in before.moves
    ]
    ramped = plan_wave(
        replace(pool, assigned=assigned), bound, Headroom({FACILITY: room_mw}, {FACILITY: room_mw}), seeds[0]
    )
    for sign in (1, -1):
        assert sum(max(sign * m.mw_delta, 0.0) for m in ramped.moves) <= room_mw + 1e-9, "ramps hold for all"


@given(situations(), st.randoms(use_true_random=False))
def test_what_is_taken_by_device_is_taken_from_the_last_in_line(situation, random):
    pool, rows, bound = situation
    groups = scheduled(pool.shape)
    assigned = assigned_to(pool.shape, groups, rows, granted(pool.shape, rows, bound, whole(pool, rows)))
    counts = counts_of(assigned, pool, bound)
    for g in groups:
        ladder = pool.shape.ladders[g]
        high = max((s for s in ladder if counts[g, s]), key=ladder.index, default=ladder[0])
        taken = random.randint(0, int(counts[g, high]))
        counts[g, high] -= taken
        counts[g, ladder[0]] += taken
    after = bent(assigned, pool, counts)
    for g in groups:
        mine = np.flatnonzero((pool.shape.group_of_slot == g) & pool.eligible)
        assert np.array_equal(np.bincount(after.goal[mine], minlength=STATE_COUNT), counts[g])
        for state in pool.shape.ladders[g]:
            own = mine[assigned.goal[mine] == state]
            gone, kept = own[after.goal[own] != state], own[after.goal[own] == state]
            if len(gone) and len(kept):
                assert assigned.rank[gone].min() >= assigned.rank[kept].max()


@given(situations())
def test_what_leaves_at_once_is_what_nobody_wants_and_then_the_last_in_line(situation):
    pool, rows, bound = situation
    groups = scheduled(pool.shape)
    runs = granted(pool.shape, rows, bound, whole(pool, rows))
    pool = replace(pool, assigned=assigned_to(pool.shape, groups, rows, runs))
    counts = pool.counts.copy()
    for g in groups:
        ladder = pool.shape.ladders[g]
        taken = int(counts[g, ladder[-1]]) // 2
        counts[g, ladder[-1]] -= taken
        counts[g, ladder[0]] += taken
    leaving = replace(pool, assigned=at_once(pool.assigned, pool, counts))
    plan = plan_wave(leaving, counts, UNLIMITED, np.random.default_rng(1), is_down_exempt=True)
    after, rank = carried_out(pool, plan), leaving.assigned.rank
    for g in groups:
        high = np.flatnonzero(
            (pool.shape.group_of_slot == g) & pool.eligible & (pool.states == pool.shape.ladders[g][-1])
        )
        gone, stayed = high[after[high] != pool.states[high]], high[after[high] == pool.states[high]]
        assert not len(gone) or rank[gone].min() >= rank[stayed].max(initial=0)
    assert np.array_equal(pool.shape.counts(after, pool.eligible)[list(groups)], counts[list(groups)])
