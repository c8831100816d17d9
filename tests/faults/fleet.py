"""Three or four small facilities, told alike to allocators (inventory), gateways (site file) and checker (plain facts)."""

import random
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ResourceType
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory, LadderState, RampBudget
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup
from tests.faults.records import Facility, Group, Limit

OFF, IDLE = DeviceState.CURTAILED, DeviceState.IDLE
ECO, FULL, INFERENCE = DeviceState.MINING_ECO, DeviceState.MINING_FULL, DeviceState.INFERENCE_REALTIME
KINDS: dict[str, tuple[tuple[DeviceState, float, float], ...]] = {  # state, kW, settling seconds (simulated)
    "asic": ((OFF, 0.02, 20.0), (ECO, 2.1, 60.0), (FULL, 3.4, 80.0)),
    "hydro": ((OFF, 0.05, 15.0), (FULL, 5.3, 60.0)),
    "gpu": ((IDLE, 0.15, 10.0), (INFERENCE, 0.7, 20.0)),
}
PUE, WINDOW_S = 1.1, 300.0
PORTFOLIO_MW = 0.16
STALE_S, HOLD_S, FALLBACK_AFTER_S = 900.0, 600.0, 1200.0
POLICY_LASTS_S = 3000.0
MIN_UP_S, MIN_DOWN_S = 240.0, 180.0


def facility_ids(count: int) -> list[str]:
    """Names."""
    return [f"fac-{n}" for n in range(1, count + 1)]


def inventory(facility_id: str, rng: random.Random, *, is_scheduled: bool = False) -> FacilityInventory:
    """Two to three groups of 8 to 24 devices on two feeders; the GPUs may be the scheduler's."""
    kinds = ["asic", rng.choice(["hydro", "gpu"])] + (["gpu"] if rng.random() < 0.5 else [])
    groups, first = [], 0
    for n, kind in enumerate(kinds):
        devices = rng.randint(8, 24)
        ladder = tuple(LadderState(state, kw, settle_s) for state, kw, settle_s in KINDS[kind])
        silicon = ResourceType.GPU if kind == "gpu" else ResourceType.ASIC
        groups.append(
            GroupInventory(f"g{n}", f"f{min(n, 1)}", silicon, kind, "stock", "air", first, devices, ladder, {})
        )
        first += devices + rng.randint(0, 2)
    capacity_mw = sum(g.devices * g.ladder[-1].power_kw for g in groups) * PUE / 1000 + 0.001
    ramps = [RampBudget("feeder", "f0", 0.025, 0.03, WINDOW_S), RampBudget("feeder", "f1", 0.03, 0.03, WINDOW_S)]
    ramps += [RampBudget("facility", facility_id, 0.045, 0.05, WINDOW_S)]
    ramps += [RampBudget("portfolio", "all", PORTFOLIO_MW, PORTFOLIO_MW, WINDOW_S)]
    fallback = {g.group_id: g.ladder[0].state for g in groups}
    scheduled = frozenset(g.group_id for g in groups if is_scheduled and g.type is ResourceType.GPU)
    return FacilityInventory(
        facility_id, facility_id, 1, 1, f"P-{facility_id}", capacity_mw, PUE, ControlMode.AUTO, DispatchRegime.SELF, 0,
        "active", {"f0": capacity_mw, "f1": capacity_mw}, tuple(groups), tuple(ramps), fallback, None,  # type: ignore[arg-type]
        scheduled=scheduled,
    )  # fmt: skip


def limits_of(made: FacilityInventory, portfolio_mw: float) -> tuple[Limit, ...]:
    """Its limits; of the portfolio's its share."""
    found = []
    for ramp in made.ramps:
        share = made.capacity_mw / portfolio_mw if ramp.scope == "portfolio" else 1.0
        scope = ramp.scope_id if ramp.scope == "feeder" else ramp.scope
        found.append(Limit(scope, ramp.up_mw * share, ramp.down_mw * share, ramp.window_s))
    return tuple(found)


def facts(made: FacilityInventory, portfolio_mw: float) -> Facility:
    """What the checker knows of it."""
    groups = tuple(
        Group(
            g.group_id, g.feeder_id, tuple(range(g.first_slot, g.first_slot + g.devices)),
            {int(s.state): s.power_kw * PUE / 1000 for s in g.ladder}, {int(s.state): s.settle_s for s in g.ladder},
            g.type is ResourceType.ASIC, g.group_id in made.scheduled,
        )
        for g in made.groups
    )  # fmt: skip
    fallback = {g: int(state) for g, state in made.fallback.items()}
    return Facility(
        made.facility_id, groups, limits_of(made, portfolio_mw), fallback, FALLBACK_AFTER_S, STALE_S, HOLD_S, MIN_UP_S,
        MIN_DOWN_S,
    )  # fmt: skip


def site_config(made: FacilityInventory, portfolio_mw: float) -> FacilityConfig:
    """Its part of a gateway's file."""
    groups: list[dict[str, Any]] = [
        {
            "group_id": g.group_id, "feeder_id": g.feeder_id, "first_slot": g.first_slot, "devices": g.devices, "pue": PUE,
            "ladder": [{"state": s.state, "power_kw": s.power_kw, "settle_s": s.settle_s} for s in g.ladder],
        }
        for g in made.groups
    ]  # fmt: skip
    limits = limits_of(made, portfolio_mw)
    return FacilityConfig.model_validate(
        {
            "facility_id": made.facility_id, "generation": made.generation, "groups": groups, "fallback": made.fallback,
            "driver": {"kind": "bulk", "address": "unix:/nowhere", "site": made.facility_id},
            "fallback_after_s": FALLBACK_AFTER_S, "price_staleness_s": STALE_S,
            "ramps": [
                {"scope": x.scope, "up_mw": x.up_mw, "down_mw": x.down_mw, "window_s": x.window_s} for x in limits
            ],
        }
    )  # fmt: skip


def policy(
    made: FacilityInventory, rng: random.Random, basis: int, at: datetime, version: int, floor_mw: float
) -> Policy:
    """Strikes around the prices that come."""
    groups, blocks = [], []
    for g in made.groups:
        ladder = tuple(LadderStep(state=s.state, power_kw=s.power_kw * PUE) for s in g.ladder)
        groups.append(PolicyGroup(group_id=g.group_id, feeder_id=g.feeder_id, devices=g.devices, ladder=ladder))
        on = rng.uniform(35, 70)
        for low, high in pairwise(ladder):
            on -= rng.uniform(0, 10)
            mw = g.devices * (high.power_kw - low.power_kw) / 1000
            off = on + rng.uniform(0, 8)
            blocks.append((off, g.group_id, low.state, high.state, g.devices, mw, on))
    blocks.sort(key=lambda b: (-b[0], b[1], b[2]))
    made_blocks = [
        Block(
            group_id=i,
            from_state=a,
            to_state=b,
            devices=n,
            mw=mw,
            order=k,
            on=Affine(offset=on),
            off=Affine(offset=off),
        )
        for k, (off, i, a, b, n, mw, on) in enumerate(blocks)
    ]
    couplings = Couplings(
        cap_mw=made.capacity_mw, floor_mw=floor_mw, feeder_caps_mw=dict(made.feeder_limits_mw), min_up_s=MIN_UP_S,
        min_down_s=MIN_DOWN_S, sheddable=tuple(g.group_id for g in made.groups if g.type is ResourceType.ASIC),
    )  # fmt: skip
    return Policy(
        facility_id=made.facility_id, settlement_point=made.settlement_point, basis_tick_id=basis, solved_at=at,
        refresh_due_at=at + timedelta(seconds=POLICY_LASTS_S / 2), expires_at=at + timedelta(seconds=POLICY_LASTS_S),
        input_age_s={"power.rt_lmp": 0.0, "btc.usd": 0.0},
        inventory_generation=made.generation, obligations_version=version, groups=tuple(groups), blocks=tuple(made_blocks),
        couplings=couplings,
        anchor=Anchor(decision_price_usd_per_mwh=40.0, indices={}, devices_by_state={}, target_by_state={}),
    )  # fmt: skip
