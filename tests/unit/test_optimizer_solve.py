"""The first optimizer's strikes, merit order and anchor, on a hand-made site."""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState, ResourceType
from hcp_pipelines.economics import mining, switching
from hcp_pipelines.optimizer.inputs import (
    FacilityInputs,
    GroupInputs,
    InputsNotReadyError,
    RampInputs,
    SiteInputs,
    StateInputs,
)
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.admission import AdmissionContext, Admitted, admit
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ASIC, GPU = ResourceType.ASIC, ResourceType.GPU
OFF, ECO, FULL = DeviceState.CURTAILED, DeviceState.MINING_ECO, DeviceState.MINING_FULL
IDLE, BATCH = DeviceState.IDLE, DeviceState.INFERENCE_BATCH


def asic(name, devices, hashes, joules, sleep_kw=0.0):
    kw = hashes * joules / 1000
    ladder = (StateInputs(OFF, sleep_kw), StateInputs(ECO, 0.8 * kw, 0.86 * hashes), StateInputs(FULL, kw, hashes))
    return GroupInputs(name, "f1", ASIC, devices, ladder)


def gpus(devices):
    return GroupInputs("h100", "f1", GPU, devices, (StateInputs(IDLE, 0.45), StateInputs(BATCH, 1.3)), gpu_type="H100")


def site(*groups, capacity_mw=100.0, **more):
    return SiteInputs("hou-1", "HB_HOUSTON", 1, 0, capacity_mw, groups, {"f1": 100.0}, **more)


def solved(one_site, price=30.0, hashprice=50.0, present=None, **more):
    indices = {"hashprice": hashprice, "gpu.H100": 2.4}
    return solve_facility(FacilityInputs(one_site, 7, NOW, price, indices, present=present or {}, **more))


def strikes(policy, group, state, hashprice=50.0):
    block = next(b for b in policy.blocks if (b.group_id, b.to_state) == (group, state))
    index = hashprice if block.index == "hashprice" else 2.4
    return block.on.at(index), block.off.at(index)


def test_strikes_of_an_asic_follow_from_break_even_and_wake_cost():
    policy = solved(site(asic("s21", 1000, 200, 17.5)))
    r = mining.break_even_usd_per_mwh(50.0, 17.5)
    c = switching.asic_wake_usd_per_mw(r, 17.5)
    on, off = strikes(policy, "s21", ECO)
    assert on == pytest.approx(1.075 * r - 0.1 * c / 0.8 / 0.25, rel=1e-6)
    assert off == pytest.approx(1.075 * r + 0.4 * c / 0.8 / 0.25, rel=1e-6)
    assert strikes(policy, "s21", FULL) == pytest.approx((0.7 * r, 0.7 * r), abs=1e-3)
    assert off - on <= c / 0.8 / 0.25  # never wider than one wake


def test_strikes_are_affine_in_the_hashprice_and_re_solving_moves_them_alike():
    before, after = solved(site(asic("s21", 10, 200, 17.5))), solved(site(asic("s21", 10, 200, 17.5)), hashprice=54.0)
    for state in (ECO, FULL):
        assert strikes(before, "s21", state, 54.0) == pytest.approx(strikes(after, "s21", state, 54.0), rel=1e-9)
    assert before.resolve.relative == {"hashprice": 0.1}


def test_pool_fee_and_adders_lower_the_strikes():
    dear = solved(site(asic("s21", 10, 200, 17.5), pool_fee_fraction=0.02, adders_usd_per_mwh=5.0))
    r = mining.break_even_usd_per_mwh(50.0, 17.5)
    assert strikes(dear, "s21", FULL)[0] == pytest.approx(0.98 * 0.7 * r - 5.0, abs=1e-3)


def test_merit_order_is_by_dollars_per_mwh_and_ties_are_broken():
    policy = solved(site(asic("old", 10, 140, 21.5), asic("new", 10, 200, 17.5), asic("twin", 10, 200, 17.5), gpus(10)))
    assert [(b.group_id, b.to_state) for b in policy.blocks] == [
        ("h100", BATCH), ("new", ECO), ("twin", ECO), ("old", ECO), ("new", FULL), ("twin", FULL), ("old", FULL),
    ]  # fmt: skip
    assert [b.order for b in policy.blocks] == list(range(7))
    assert strikes(policy, "new", FULL)[0] - strikes(policy, "twin", FULL)[0] == pytest.approx(1e-4, rel=1e-3)


def test_a_step_worth_more_than_the_one_below_is_pooled_with_it():
    poor_eco = (StateInputs(OFF, 0.0), StateInputs(ECO, 2.8, 100.0), StateInputs(FULL, 3.5, 200.0))
    policy = solved(site(GroupInputs("odd", "f1", ASIC, 10, poor_eco)))
    r = mining.break_even_usd_per_mwh(50.0, 17.5)
    for state in (ECO, FULL):
        on, off = strikes(policy, "odd", state)
        assert on < r < off


@pytest.mark.parametrize(("price", "state"), [(-50.0, FULL), (82.0, FULL), (90.0, ECO), (105.0, ECO), (300.0, OFF)])
def test_the_anchor_says_what_the_policy_asks_for(price, state):
    """Full's strike is 83 $/MWh, eco's on-strike 106."""
    policy = solved(site(asic("s21", 1000, 200, 17.5)), price=price)
    assert policy.anchor.target_by_state == {"s21": {state.label: 1000}}
    assert policy.anchor.devices_by_state == {"s21": {"curtailed": 1000}}


def test_inside_the_band_what_is_on_stays_on():
    running = {"s21": {FULL: 600, OFF: 400}}
    on, off = strikes(solved(site(asic("s21", 1000, 200, 17.5))), "s21", ECO)
    policy = solved(site(asic("s21", 1000, 200, 17.5)), price=(on + off) / 2, present=running)
    assert policy.anchor.target_by_state == {"s21": {"mining_eco": 600, "curtailed": 400}}


def test_a_binding_cap_sheds_the_least_worth_and_lists_every_block():
    policy = solved(site(asic("new", 1000, 200, 17.5), asic("old", 1000, 140, 21.5), capacity_mw=4.0))
    assert len(policy.blocks) == 4
    target = policy.anchor.target_by_state
    load_mw = sum(target[g.group_id].get(s.state.label, 0) * s.power_kw / 1000 for g in policy.groups for s in g.ladder)
    assert 3.99 < load_mw <= 4.0
    assert sum(target["new"].values()) - target["new"].get("curtailed", 0) == 1000
    assert target["new"].get("mining_full", 0) <= 1  # what room whole devices of the dearer step leave


def test_admission_fields_and_admission():
    ramps = (RampInputs("facility", 75.0, 75.0, 300.0), RampInputs("f1", 25.0, 25.0, 300.0))
    policy = solved(
        site(asic("s21", 1000, 200, 17.5), gpus(5), ramps=ramps),
        input_age_s={"power.rt_lmp": 12.0},
        refresh_after_s=60.0,
    )
    assert (policy.basis_tick_id, policy.inventory_generation, policy.solved_at) == (7, 1, NOW)
    assert policy.refresh_due_at == NOW + timedelta(minutes=1)
    assert policy.expires_at == NOW + timedelta(hours=6)
    assert [r.scope for r in policy.couplings.ramps] == ["facility", "f1"]
    context = AdmissionContext(NOW, "hou-1", 1, 0, 6, 100.0, {"f1": 100.0}, max_input_age_s={"power.rt_lmp": 900.0})
    assert isinstance(admit(policy, context), Admitted)


def test_without_a_gpu_rate_nothing_is_solved():
    inputs = FacilityInputs(site(gpus(5)), 7, NOW, 30.0, {"hashprice": 50.0})
    with pytest.raises(InputsNotReadyError, match=r"no value of gpu\.H100"):
        solve_facility(inputs)


def test_a_facility_of_ten_groups_is_solved_in_under_50_ms():
    big = site(*(asic(f"a{n}", 1000, 200 - n, 17.5 + n) for n in range(9)), gpus(1000))
    solved(big)
    times = []
    for _ in range(5):
        started = time.process_time()
        solved(big)
        times.append(time.process_time() - started)
    assert min(times) < 0.05


def test_the_guard_leaves_the_eco_to_full_step_to_its_strike():
    """It has no wake cost; its account must not drive it against the price."""
    policy = solved(site(asic("s21", 1000, 200, 17.5)))
    compiled = compile_policy(policy)
    present = np.zeros((1, STATE_COUNT), dtype=np.int64)
    present[0, FULL] = 1000
    guard = GuardState.empty(compiled)
    on, _ = strikes(policy, "s21", FULL)
    for price, expected in ((on - 1, FULL), (on + 1, ECO), (on - 1, FULL)):
        for _ in range(3):
            got = evaluate(compiled, present, price, policy.anchor.indices, NOW, guard, 0.25)
            assert got.targets[0, expected] == 1000
            present, guard = got.targets, got.guard


def test_a_class_of_gpu_work_sells_at_its_own_rate():
    at_market, at_half = (solved(site(gpus(10), gpu_rate_fraction=f)) for f in ({}, {BATCH: 0.5}))
    slopes = [policy.blocks[0].on.slope for policy in (at_market, at_half)]
    assert slopes[0] > 0
    assert slopes[1] == pytest.approx(slopes[0] / 2)
