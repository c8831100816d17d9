"""DESIGN §6 (a): at its anchor a policy asks for what the optimizer recorded, whoever reads it from the database."""

from datetime import UTC, datetime

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState, ResourceType
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.admission import AdmissionContext, Admitted, admit
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy
from tests.support.policies import load_mw

NOW = datetime(2025, 1, 1, tzinfo=UTC)
OFF, IDLE, ECO, FULL = DeviceState.CURTAILED, DeviceState.IDLE, DeviceState.MINING_ECO, DeviceState.MINING_FULL
BATCH = DeviceState.INFERENCE_BATCH


@st.composite
def groups(draw, number):
    feeder, devices = draw(st.sampled_from(["f1", "f2"])), draw(st.integers(1, 500))
    if draw(st.booleans()):
        ladder = (StateInputs(IDLE, 0.45), StateInputs(BATCH, 1.3))
        return GroupInputs(f"g{number}", feeder, ResourceType.GPU, devices, ladder, gpu_type="H100")
    hashes, kw = draw(st.floats(90, 250)), draw(st.floats(2.5, 4.0))
    ladder = (StateInputs(OFF, 0.025), StateInputs(ECO, 0.8 * kw, 0.86 * hashes), StateInputs(FULL, kw, hashes))
    return GroupInputs(f"g{number}", feeder, ResourceType.ASIC, devices, ladder)


@st.composite
def facilities(draw):
    fleet = tuple(draw(groups(n)) for n in range(draw(st.integers(1, 5))))
    top_mw = sum(g.devices * g.ladder[-1].power_kw for g in fleet) / 1000
    asleep_mw = sum(g.devices * g.ladder[0].power_kw for g in fleet) / 1000
    capacity_mw = max(asleep_mw, draw(st.floats(0.3, 1.2)) * top_mw)
    site = SiteInputs("f", "HB_HOUSTON", 1, 0, capacity_mw, fleet, {"f1": capacity_mw, "f2": capacity_mw})
    present = {g.group_id: {g.ladder[-1].state: draw(st.integers(0, g.devices))} for g in fleet}
    indices = {"hashprice": draw(st.floats(30, 80)), "gpu.H100": draw(st.floats(0.5, 4))}
    steps = {(g.group_id, s.state) for g in fleet for s in g.ladder[1:] if draw(st.booleans())}
    worth = {step: draw(st.floats(0, 1)) for step in sorted(steps)}  # what a model says of some of them
    return FacilityInputs(site, 7, NOW, draw(st.floats(-50, 250)), indices, present=present, worth_wakes=worth)


def counts_of(policy, by_state):
    out = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        for label, devices in by_state[group.group_id].items():
            out[g, DeviceState[label.upper()]] = devices
    return out


def _miners(number, devices):
    ladder = (StateInputs(OFF, 0.025), StateInputs(ECO, 2.4, 77.4), StateInputs(FULL, 3.0, 90.0))
    return GroupInputs(f"g{number}", "f1", ResourceType.ASIC, devices, ladder)


def full_is_worth_more_once_it_is_awake():
    """Waking the first group costs more than the others' last step earns, and its own last step earns more than theirs."""
    fleet = (_miners(0, 4), _miners(1, 1), _miners(2, 1))
    site = SiteInputs("f", "HB_HOUSTON", 1, 0, 0.009, fleet, {"f1": 0.009, "f2": 0.009})
    present = {group.group_id: {FULL: 0} for group in fleet}
    indices = {"hashprice": 30.0, "gpu.H100": 1.0}
    return FacilityInputs(site, 7, NOW, 0.0, indices, present=present, worth_wakes={("g0", ECO): 0.5})


@settings(max_examples=60, deadline=None)
@given(facilities())
@example(full_is_worth_more_once_it_is_awake())
def test_the_anchor_is_what_the_policy_asks_for_there_and_the_policy_is_admitted(inputs):
    solved = solve_facility(inputs)
    policy = Policy.model_validate_json(solved.model_dump_json())
    compiled, anchor = compile_policy(policy), policy.anchor
    present, price = counts_of(policy, anchor.devices_by_state), anchor.decision_price_usd_per_mwh
    got = evaluate(compiled, present, price, anchor.indices, NOW, GuardState.empty(compiled))
    assert np.array_equal(got.targets, counts_of(policy, anchor.target_by_state))
    assert got.needs_resolve == ()
    again = evaluate(compiled, got.targets, price, anchor.indices, NOW, GuardState.empty(compiled))
    assert np.array_equal(again.targets, got.targets)
    assert load_mw(compiled, got.targets) <= inputs.site.capacity_mw + 1e-6
    context = AdmissionContext(
        NOW, "f", 1, 0, 6, inputs.site.capacity_mw, inputs.site.feeder_caps_mw, digest=solved.digest()
    )
    assert admit(policy, context) == Admitted()
