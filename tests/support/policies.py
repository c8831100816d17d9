"""Random fleets and policies for the tests of `hcp_pipelines.policy`."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup

NOW = datetime(2025, 1, 1, tzinfo=UTC)
OFF, IDLE, ECO, FULL = DeviceState.CURTAILED, DeviceState.IDLE, DeviceState.MINING_ECO, DeviceState.MINING_FULL
LADDERS = ((OFF, FULL), (OFF, ECO, FULL), (OFF, IDLE, ECO, FULL))
ANCHOR_INDEX = 50.0

prices = st.floats(-60, 160)
powers_kw = st.sampled_from([0.3, 0.7, 1.3, 3.5, 10.0])


@st.composite
def groups(draw, number):
    ladder = draw(st.sampled_from(LADDERS))
    power_kw = draw(st.sampled_from([0.0, 0.025]))
    steps = []
    for state in ladder:
        steps.append(LadderStep(state=state, power_kw=power_kw))
        power_kw += draw(powers_kw)
    feeder_id, devices = draw(st.sampled_from(["f1", "f2"])), draw(st.integers(1, 40))
    return PolicyGroup(group_id=f"g{number}", feeder_id=feeder_id, devices=devices, ladder=tuple(steps))


@st.composite
def blocks_of(draw, group, slopes):
    """One or two blocks a step; neither strike rises up the ladder, which is what admission and pooling see to."""
    on = draw(st.floats(20, 120))
    off = 200.0
    out = []
    for low, high in pairwise(group.ladder):
        split = draw(st.integers(1, group.devices))
        for devices in (split, group.devices - split):
            if devices == 0:
                continue
            on -= draw(st.floats(0, 20))
            off = min(off, on + draw(st.sampled_from([0.0, 5.0, 25.0])))
            slope = draw(st.sampled_from(slopes))
            out.append(
                Block(
                    group_id=group.group_id, from_state=low.state, to_state=high.state, devices=devices,
                    mw=devices * (high.power_kw - low.power_kw) / 1000, order=0, index="hashprice",
                    on=Affine(slope=slope, offset=on - slope * ANCHOR_INDEX),
                    off=Affine(slope=slope, offset=off - slope * ANCHOR_INDEX),
                    wake_cost_usd_per_mw=draw(st.sampled_from([0.0, 4.0])),
                )
            )  # fmt: skip
    return out


@st.composite
def policies(draw, *, limits=True, floors=False, slopes=(0.0, 1.0, 2.0)):
    """A policy of one to four groups; with `limits` the site's and a feeder's cap may bind."""
    fleet = tuple(draw(groups(n)) for n in range(draw(st.integers(1, 4))))
    blocks = [b for g in fleet for b in draw(blocks_of(g, slopes))]
    ranked = sorted(range(len(blocks)), key=lambda n: (-blocks[n].off.at(ANCHOR_INDEX), n))
    top_mw = sum(g.devices * g.ladder[-1].power_kw for g in fleet) / 1000
    low_mw = sum(g.devices * g.ladder[0].power_kw for g in fleet) / 1000
    share = draw(st.floats(0.2, 1.2)) if limits else 2.0
    cap_mw = low_mw + share * (top_mw - low_mw) + 1e-6
    feeder_mw = sum(g.devices * g.ladder[0].power_kw for g in fleet if g.feeder_id == "f1") / 1000
    feeder_caps = {"f1": feeder_mw + draw(st.floats(0, 1)) * top_mw} if limits and draw(st.booleans()) else {}
    couplings = Couplings(
        cap_mw=cap_mw,
        feeder_caps_mw=feeder_caps,
        floor_mw=draw(st.floats(0, 1)) * top_mw if floors else 0.0,
        sheddable=tuple(g.group_id for g in fleet if draw(st.booleans())) if floors else (),
    )
    return Policy(
        facility_id="f", settlement_point="P", basis_tick_id=1, solved_at=NOW, refresh_due_at=NOW,
        expires_at=NOW + timedelta(hours=6), inventory_generation=1, groups=fleet,
        input_age_s={"power.rt_lmp": 0.0, "btc.usd": 0.0},
        blocks=tuple(blocks[n].model_copy(update={"order": rank}) for rank, n in enumerate(ranked)),
        couplings=couplings,
        anchor=Anchor(
            decision_price_usd_per_mwh=50.0, indices={"hashprice": ANCHOR_INDEX}, devices_by_state={}, target_by_state={}
        ),
    )  # fmt: skip


@st.composite
def cases(draw, **options):
    """(compiled policy, present counts); now and then fewer devices than the policy knows."""
    policy = draw(policies(**options))
    present = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        left = draw(st.integers(0, group.devices)) if draw(st.booleans()) else group.devices
        for step in group.ladder[1:]:
            present[g, step.state] = draw(st.integers(0, left))
            left -= present[g, step.state]
        present[g, group.ladder[0].state] = left
    return compile_policy(policy), present


def asked(compiled, present, price, index=ANCHOR_INDEX, guard=None, elapsed_h=0.0):
    """The evaluation at a price, with nothing on the guard's accounts unless given."""
    accounts = guard or GuardState.empty(compiled)
    return evaluate(compiled, present, price, {"hashprice": index}, NOW, accounts, elapsed_h)


def load_mw(compiled, counts, groups=None):
    """All-in MW of some counts."""
    per_group = (counts * compiled.power_mw).sum(axis=1)
    return float(per_group.sum() if groups is None else per_group[groups].sum())


def on_at_or_above(compiled, counts):
    """[block] devices at the block's state or above it in its group."""
    return [
        sum(int(counts[g, s]) for s in compiled.ladders[g][k:])
        for g, k in zip(compiled.block_group, compiled.block_step, strict=True)
    ]
