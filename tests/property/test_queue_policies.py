"""What a policy promises (DESIGN §6 a–f) holds of groups that work for the queue, over random queues, fleets and prices."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.admission import AdmissionContext, Admitted, admit
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy
from tests.support.policies import load_mw, on_at_or_above
from tests.support.work import CLASSES, GPU_LADDER, INDICES, NOW, asked, gpus, held, inputs, job, miners, queue, site

few = settings(max_examples=25, deadline=None)
prices = st.one_of(st.floats(-100, 300), st.floats(300, 6000))


@st.composite
def jobs(draw, number, groups):
    more = {
        "kind": draw(st.sampled_from(CLASSES)),
        "gpu_count": draw(st.integers(1, 12)),
        "is_interruptible": draw(st.booleans()),
        "credit_fraction": draw(st.sampled_from([0.0, 0.1, 0.25])),
        "estimated_s": draw(st.floats(60, 40_000)),
        "due_in_s": draw(st.one_of(st.none(), st.floats(-1000, 90_000))),
        "level": draw(st.integers(1, 10)),
    }
    if draw(st.booleans()):
        return job(number, limit_usd_per_gpu_hour=draw(st.one_of(st.none(), st.floats(0.01, 10))), **more)
    running = {"saved_s": draw(st.floats(0, 20_000)), "unsaved_s": draw(st.floats(0, 20_000))}
    return held(number, draw(st.sampled_from(groups)), agreed=draw(st.floats(0.01, 10)), **more, **running)


@st.composite
def facilities(draw, tight=True):
    """Inputs of a facility of scheduled GPUs and miners."""
    names = [f"h100-{n}" for n in range(draw(st.integers(1, 2)))]
    ladders = [GPU_LADDER, (*GPU_LADDER[:2], GPU_LADDER[3])]
    fleet = [gpus(draw(st.integers(1, 60)), name, ladder=draw(st.sampled_from(ladders))) for name in names]
    fleet += [miners(draw(st.integers(1, 60)))] if draw(st.booleans()) else []
    top_mw = sum(g.devices * g.ladder[-1].power_kw for g in fleet) / 1000
    rest_mw = sum(g.devices * g.ladder[0].power_kw for g in fleet) / 1000
    share = draw(st.floats(0.1, 1.1)) if tight else 2.0
    one = site(
        fleet, capacity_mw=rest_mw + share * (top_mw - rest_mw) + 1e-3, adders_usd_per_mwh=draw(st.floats(-5, 20))
    )
    work = queue(*(draw(jobs(n, names)) for n in range(draw(st.integers(0, 12)))), spare=draw(st.floats(0, 0.2)))
    [found] = asked([inputs(one, price=draw(prices))], work)
    return found


@st.composite
def cases(draw, **more):
    """(inputs, compiled policy, present counts)."""
    found = draw(facilities(**more))
    policy = solve_facility(found)
    present = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        left = draw(st.integers(0, group.devices)) if draw(st.booleans()) else group.devices
        for step in group.ladder[1:]:
            present[g, step.state] = draw(st.integers(0, left))
            left -= present[g, step.state]
        present[g, group.ladder[0].state] = left
    return found, compile_policy(policy), present


def ask(compiled, present, price, factor=1.0, guard=None, elapsed_h=0.0):
    moved = {name: value * factor for name, value in INDICES.items()}
    return evaluate(compiled, present, price, moved, NOW, guard or GuardState.empty(compiled), elapsed_h)


def counts_of(policy, by_state):
    out = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        for step in group.ladder:
            out[g, step.state] = by_state[group.group_id].get(step.state.label, 0)
    return out


@few
@given(facilities())
def test_a_the_anchor_is_what_it_asks_for_there_and_it_is_admitted(found):
    solved = solve_facility(found)
    policy = Policy.model_validate_json(solved.model_dump_json())
    assert policy.digest() == solved.digest()
    compiled, anchor = compile_policy(policy), policy.anchor
    got = ask(compiled, counts_of(policy, anchor.devices_by_state), anchor.decision_price_usd_per_mwh)
    assert np.array_equal(got.targets, counts_of(policy, anchor.target_by_state))
    context = AdmissionContext(NOW, "f", 1, 0, 6, found.site.capacity_mw, digest=solved.digest())
    assert admit(policy, context) == Admitted()


@few
@given(cases(), prices, prices)
def test_b_neither_the_load_nor_any_block_rises_with_the_price(case, one, other):
    _, compiled, present = case
    low, high = (ask(compiled, present, price).targets for price in (min(one, other), max(one, other)))
    assert load_mw(compiled, high) <= load_mw(compiled, low) + 1e-9
    assert all(h <= lo for h, lo in zip(on_at_or_above(compiled, high), on_at_or_above(compiled, low), strict=True))


@few
@given(cases(), prices, st.floats(0.901, 1.099))
def test_c_within_a_tenth_of_an_index_no_new_policy_is_asked_for_and_the_load_falls_with_the_price_all_the_same(
    case, price, factor
):
    _, compiled, present = case
    here = ask(compiled, present, price, factor)
    assert here.needs_resolve == ()
    dearer = ask(compiled, present, price + 100.0, factor).targets
    assert load_mw(compiled, dearer) <= load_mw(compiled, here.targets) + 1e-9


@few
@given(cases(tight=False), st.data())
def test_d_inside_every_band_nothing_moves(case, data):
    _, compiled, present = case
    values = compiled.index_values(INDICES)[compiled.block_index]
    strikes = (compiled.on_slope * values + compiled.on_offset, compiled.off_slope * values + compiled.off_offset)
    edges = np.unique(np.concatenate([*strikes, [-200.0, 9000.0]]))
    n = data.draw(st.integers(0, len(edges) - 2))
    assume(edges[n + 1] - edges[n] > 1e-6)
    inside = st.floats(edges[n], edges[n + 1], exclude_min=True, exclude_max=True)
    state = ask(compiled, present, data.draw(inside)).targets
    for price in data.draw(st.lists(inside, min_size=1, max_size=4)):
        assert np.array_equal(ask(compiled, state, price).targets, state)


@few
@given(cases(), prices)
def test_d_evaluating_what_was_asked_for_changes_nothing_and_devices_and_limits_hold(case, price):
    found, compiled, present = case
    got = ask(compiled, present, price).targets
    assert np.array_equal(ask(compiled, got, price).targets, got)
    assert np.array_equal(got.sum(axis=1), present.sum(axis=1))
    rest = np.zeros_like(present)
    for g, group in enumerate(compiled.policy.groups):
        rest[g, group.ladder[0].state] = present[g].sum()
    assert load_mw(compiled, got) <= max(found.site.capacity_mw, load_mw(compiled, rest)) + 1e-6


@few
@given(facilities(tight=False), prices)
def test_where_nothing_else_binds_each_state_has_what_is_worth_the_price(found, price):
    """From rest, who is let in; from full, who stays: counted one by one."""
    policy = solve_facility(found)
    compiled = compile_policy(policy)
    values = compiled.index_values(INDICES)[compiled.block_index]
    edges = np.concatenate(
        [compiled.on_slope * values + compiled.on_offset, compiled.off_slope * values + compiled.off_offset]
    )
    assume(not len(edges) or np.abs(edges - price).min() > 0.1)  # beside the merit order's nudge
    for strike, is_full in (("on", False), ("off", True)):
        present, wanted = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64), {}
        for g, group in enumerate(policy.groups):
            steps = found.work.get(group.group_id, ())
            assume(sum(step.gpus for step in steps) <= group.devices)  # else more was held than there is
            for step in steps:
                present[g, step.state] += step.gpus * is_full
                if getattr(step, strike).at(2.0) > price:
                    wanted[g, step.state] = wanted.get((g, step.state), 0) + step.gpus
            present[g, group.ladder[0].state] = group.devices - present[g].sum()
        got = ask(compiled, present, price).targets
        for g, group in enumerate(policy.groups):
            if group.group_id in found.work:
                assert {s.state: got[g, s.state] for s in group.ladder[1:]} == {
                    s.state: wanted.get((g, s.state), 0) for s in group.ladder[1:]
                }


@few
@given(st.data())
def test_e_facilities_share_the_queue_and_nothing_is_asked_for_twice(data):
    names = ["here", "there"]
    sites = [inputs(site([gpus(data.draw(st.integers(1, 40)))], name), data.draw(prices)) for name in names]
    work = [data.draw(jobs(n, ["h100"])) for n in range(data.draw(st.integers(0, 12)))]
    work = [
        each if each["group_id"] is None else each | {"facility_id": data.draw(st.sampled_from(names))} for each in work
    ]
    found = asked(sites, queue(*work))
    asked_for = sum(step.gpus for each in found for step in each.work["h100"])
    assert asked_for + sum(left.gpus for left in found[0].unplaced) == sum(each["gpus"] for each in work)
    for each in found:
        running = sum(w["gpus"] for w in work if w["facility_id"] == each.site.facility_id)
        waiting = sum(step.gpus for step in each.work["h100"]) - running
        assert waiting == 0 or running + waiting <= each.site.groups[0].devices


@few
@given(cases(tight=False), prices)
def test_f_what_loses_as_much_as_stopping_it_costs_is_turned_down_within_its_band(case, price):
    """The guard books each block's own worth: held on by its off-strike alone, it goes once its losses add up to its own stop."""
    _, compiled, _ = case
    work = ~np.isnan(compiled.worth_slope)
    values = compiled.index_values(INDICES)[compiled.block_index]
    worth = compiled.worth_slope * values + compiled.worth_offset
    off = compiled.off_slope * values + compiled.off_offset
    assume(work.any())
    b = int(np.flatnonzero(work)[0])
    assume(worth[b] + 1.0 < off[b] - 1.0 and compiled.wake_cost_usd_per_mw[b] > 0)
    price = worth[b] + 0.5 * (off[b] - worth[b])
    g, k = int(compiled.block_group[b]), int(compiled.block_step[b])
    group = compiled.policy.groups[g]
    assume(compiled.plain.block_devices[b] <= group.devices)
    present = np.zeros((len(compiled.policy.groups), STATE_COUNT), dtype=np.int64)
    for n, each in enumerate(compiled.policy.groups):
        present[n, each.ladder[0].state] = each.devices
    on = compiled.plain.block_devices[b]
    present[g, group.ladder[0].state] -= on
    present[g, group.ladder[k].state] += on
    hours = compiled.wake_cost_usd_per_mw[b] / (price - worth[b])
    short = ask(compiled, present, price, guard=GuardState.empty(compiled), elapsed_h=0.5 * hours)
    assert short.guard["lost_usd_per_mw"][b] == pytest.approx(0.5 * compiled.wake_cost_usd_per_mw[b])
    after = ask(compiled, present, price, guard=short.guard, elapsed_h=0.6 * hours)
    assert after.guard["lost_usd_per_mw"][b] >= compiled.wake_cost_usd_per_mw[b]
    assert on_at_or_above(compiled, after.targets)[b] == 0
