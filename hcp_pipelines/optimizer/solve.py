"""The live optimizer: two strikes per group and ladder step from what it earns, a wake's cost and what the champion expects.

Merit order under the site's limit. What the champion says comes with the inputs (`learnt.py`); storage is in `load.py` and
`publish.py`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.optimizer.band import PLAIN, Band
from hcp_pipelines.optimizer.inputs import (
    RESOLVE_RELATIVE,
    FacilityInputs,
    GroupInputs,
    InputsNotReadyError,
    SiteInputs,
    WorkStep,
)
from hcp_pipelines.optimizer.queue.blocks import WorkPiece, pieces, work_ladder
from hcp_pipelines.optimizer.steps import Step, revenue_per_index, steps_of
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import (
    Affine,
    Anchor,
    Block,
    Couplings,
    LadderStep,
    Policy,
    PolicyGroup,
    RampLimit,
    ResolveBounds,
)


def solve_facility(inputs: FacilityInputs) -> Policy:
    """The facility's policy, anchored at the values it was solved at.

    Every group's every step is listed, also where the site's limit can't hold them all: the evaluation projects in merit
    order, so that a step moves up when another one goes off.

    Raises:
        InputsNotReadyError: an index that a group needs has no value.
    """
    site = inputs.site
    missing = [name for name in site.indices if name not in inputs.indices]
    if missing:
        raise InputsNotReadyError(f"{site.facility_id}: no value of {', '.join(missing)} yet; is the feed running?")
    steps = merit_order(site, inputs.indices, inputs.work)
    blocks = tuple(_block(step, rank, inputs) for rank, step in enumerate(steps))
    groups = tuple(_group(g, site, inputs.work.get(g.group_id)) for g in site.groups)
    couplings = _couplings(site, inputs.floor_mw, inputs.work)
    present = {g.group_id: _present(g, inputs) for g in site.groups}
    policy = Policy(
        facility_id=site.facility_id,
        settlement_point=site.settlement_point,
        basis_tick_id=inputs.basis_tick_id,
        solved_at=inputs.solved_at,
        refresh_due_at=inputs.solved_at + timedelta(seconds=inputs.refresh_after_s),
        expires_at=inputs.solved_at + timedelta(seconds=inputs.expires_after_s),
        input_age_s=dict(inputs.input_age_s),
        inventory_generation=site.generation,
        obligations_version=site.obligations_version,
        run_id=inputs.run_id,
        groups=groups,
        blocks=blocks,
        couplings=couplings,
        resolve=ResolveBounds(relative=dict.fromkeys(site.indices, RESOLVE_RELATIVE)),
        anchor=Anchor(
            decision_price_usd_per_mwh=inputs.decision_price_usd_per_mwh,
            indices={name: inputs.indices[name] for name in site.indices},
            devices_by_state={g: _labelled(counts) for g, counts in present.items()},
            target_by_state={},
        ),
        adders=inputs.adders,
        strikes_from=inputs.strikes_from,
        unplaced=inputs.unplaced,
        expected=inputs.expected,
    )
    return _with_target(policy, present)


def _with_target(policy: Policy, present: Mapping[str, Mapping[DeviceState, int]]) -> Policy:
    """The policy with what it asks for at its own anchor, by the evaluation that the live loop uses."""
    counts = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        for state, devices in present[group.group_id].items():
            counts[g, state] = devices
    compiled, anchor = compile_policy(policy), policy.anchor
    price, empty = anchor.decision_price_usd_per_mwh, GuardState.empty(compiled)
    targets = evaluate(compiled, counts, price, anchor.indices, policy.solved_at, empty).targets
    by_state = {
        group.group_id: _labelled({DeviceState(s): int(n) for s, n in enumerate(targets[g])})
        for g, group in enumerate(policy.groups)
    }
    return policy.model_copy(update={"anchor": anchor.model_copy(update={"target_by_state": by_state})})


def merit_order(
    site: SiteInputs, indices: Mapping[str, float], work: Mapping[str, Sequence[WorkStep]] | None = None
) -> list[Step | WorkPiece]:
    """All steps of a site, most $/MWh first; a group's lower step always before its higher one.

    Of groups in `work` what the queue asks for, piece by piece.
    """
    ranked = [
        (-step.worth_at(indices[group.index]), n, group.feeder_id, group.group_id, step)
        for group in site.groups
        for n, step in enumerate(_steps(group, site, indices[group.index], work or {}))
    ]
    return [entry[-1] for entry in sorted(ranked, key=lambda e: e[:-1])]


def _steps(
    group: GroupInputs, site: SiteInputs, index: float, work: Mapping[str, Sequence[WorkStep]]
) -> Sequence[Step | WorkPiece]:
    asked = work.get(group.group_id)
    return steps_of(group, site, index) if asked is None else pieces(group, asked, index)


def _block(step: Step | WorkPiece, rank: int, inputs: FacilityInputs) -> Block:
    if isinstance(step, WorkPiece):
        return step.block(rank)
    worth = inputs.worth_wakes.get((step.group.group_id, step.to_state))
    on, off = step.strikes(rank, PLAIN if worth is None else Band.of_worth(worth))
    return Block(
        group_id=step.group.group_id,
        from_state=step.from_state,
        to_state=step.to_state,
        devices=step.group.devices,
        mw=step.mw,
        order=rank,
        index=step.group.index,
        on=on,
        off=off,
        wake_cost_usd_per_mw=step.wake_usd_per_mw(inputs.indices[step.group.index]),
    )


def _group(group: GroupInputs, site: SiteInputs, work: Sequence[WorkStep] | None) -> PolicyGroup:
    """The group's ladder; the contract's adders are taken off revenue, as they are off the strikes."""
    ladder = (
        tuple(
            LadderStep(
                state=s.state,
                power_kw=s.power_kw,
                index=group.index,
                revenue_usd_per_device_hour=Affine(
                    slope=revenue_per_index(group, s, site), offset=0.0 - site.adders_usd_per_mwh * s.power_kw / 1000
                ),
            )
            for s in group.ladder
        )
        if work is None
        else work_ladder(group, work, site)
    )
    return PolicyGroup(group_id=group.group_id, feeder_id=group.feeder_id, devices=group.devices, ladder=ladder)


def _couplings(site: SiteInputs, floor_mw: float, work: Mapping[str, Sequence[WorkStep]]) -> Couplings:
    """What the queue may use is no load that is on: a floor rests on the other groups, where there are any."""
    return Couplings(
        cap_mw=site.capacity_mw,
        floor_mw=floor_mw,
        sheddable=tuple(g.group_id for g in site.groups if g.group_id not in work) if work else (),
        feeder_caps_mw=dict(site.feeder_caps_mw),
        ramps=tuple(
            RampLimit(scope=r.scope, up_mw=r.up_mw, down_mw=r.down_mw, window_s=r.window_s) for r in site.ramps
        ),
        min_up_s=site.min_up_s,
        min_down_s=site.min_down_s,
        starts_per_hour=site.starts_per_hour,
    )


def _present(group: GroupInputs, inputs: FacilityInputs) -> dict[DeviceState, int]:
    """Devices by state on the ladder, adding up to the group; what is not accounted for is in the lowest state."""
    known = inputs.present.get(group.group_id, {})
    left, counts = group.devices, dict.fromkeys((s.state for s in group.ladder), 0)
    for state in reversed(counts):
        counts[state] = max(0, min(left, known.get(state, 0)))
        left -= counts[state]
    counts[group.ladder[0].state] += left
    return counts


def _labelled(counts: Mapping[DeviceState, int]) -> dict[str, int]:
    return {state.label: n for state, n in counts.items() if n}
