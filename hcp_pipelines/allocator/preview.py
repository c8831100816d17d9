"""What an order or a policy would do: the owner's own plans on a clock of their own, at today's prices. Pure; nothing leaves.

What an owner starts from is read in `preview_load`. Prices stay as they are, and so do devices that do not answer.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.desired_table import NOTHING_STORED, StoredRows
from hcp_pipelines.allocator.devices import Switched
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.memory import Memory
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import Lockout, Standing, Timed
from hcp_pipelines.allocator.wave import Wave
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.policy.arrays import Floats, Ints
from hcp_pipelines.policy.obligations import Status
from hcp_pipelines.policy.waves import States

HORIZON_S = 3600.0  # simulated: what a preview looks ahead
STEP_S = 60.0  # at most; less where a ramp has room again sooner
WITHOUT_END = timedelta(days=1)


@dataclass(frozen=True)
class Situation:
    """What is: the facility, its devices as their gateway sees them, prices, the policy in force, what stands."""

    site: Site
    commanded: bytes
    observed: bytes
    book: MarketBook
    in_force: InForce | None
    standing: Standing
    obligations: Rows
    bookings: Sequence[tuple[float, str, float]]  # (Unix seconds, feeder, signed MW): what the ramps' windows hold
    switches: Sequence[Switched]  # of the last hour: what dwell limits count
    memory: Memory
    now: datetime
    desired: StoredRows = NOTHING_STORED


@dataclass(frozen=True, slots=True)
class GroupMix:
    """Devices of a group by state, now and once it is done."""

    group_id: str
    now: dict[str, int]
    then: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reached:
    """The load, all in, once everything has settled that left so many simulated seconds from now."""

    after_s: float
    mw: float


@dataclass(frozen=True)
class Preview:
    """What would be: by group, in MW, in $/h at today's prices (None without any), and what is reached by when."""

    facility_id: str
    groups: tuple[GroupMix, ...]
    devices: int  # that change, each once
    mw_now: float
    mw_then: float
    usd_per_hour_now: float | None
    usd_per_hour_then: float | None
    waves: int
    reached: tuple[Reached, ...]
    reasons: tuple[str, ...]
    unmet: tuple[str, ...]
    broken: tuple[str, ...]  # armed obligations whose load is not on any more, and at what penalty
    is_complete: bool  # within HORIZON_S
    resting: int  # devices that dwell limits keep from following the price, where it is most


def preview(situation: Situation) -> Preview:
    """What the facility's owner would do now with all that stands, and with nothing new from outside."""
    clock = ManualClock(situation.now)
    owner = owner_in(situation, clock)
    before, states = owner.present(), owner.devices.states.copy()
    waves, resting = _waves(owner, clock, situation)
    after, moved = owner.present(), int((owner.devices.states != states).sum())
    value = _value(owner, situation)
    lowest = _mw(owner, states)
    return Preview(
        facility_id=situation.site.facility_id,
        groups=_mixes(situation.site, before, after),
        devices=moved,
        mw_now=lowest,
        mw_then=_mw(owner, owner.devices.states),
        usd_per_hour_now=None if value is None else float((before * value).sum()),
        usd_per_hour_then=None if value is None else float((after * value).sum()),
        waves=len(waves),
        reached=_reached(waves, situation, lowest),
        reasons=tuple(sorted({row.reason for _, wave in waves for row in wave.rows})),
        unmet=tuple(sorted({text for _, wave in waves for text in wave.decision.binding if "can't go" in text})),
        broken=_broken(owner),
        is_complete=_is_complete(owner, waves),
        resting=resting,
    )


def with_order(situation: Situation, timed: Timed) -> Situation:
    """The same with one more order, or directive, that stands."""
    standing = dataclasses.replace(situation.standing, timed=(*situation.standing.timed, timed))
    return dataclasses.replace(situation, standing=standing)


def with_lock(situation: Situation, lockout: Lockout) -> Situation:
    """The same with one more lock."""
    standing = dataclasses.replace(situation.standing, lockouts=(*situation.standing.lockouts, lockout))
    return dataclasses.replace(situation, standing=standing)


def with_policy(situation: Situation, in_force: InForce) -> Situation:
    """The same with another policy in force, in control mode `auto`: what that policy would do."""
    site = dataclasses.replace(situation.site, control_mode=ControlMode.AUTO)
    return dataclasses.replace(situation, site=site, in_force=in_force)


def owner_in(situation: Situation, clock: ManualClock) -> Owner:
    """An owner that knows what the facility's own does, on a clock of its own."""
    never = Limits(math.inf, math.inf, math.inf, math.inf)
    owner = Owner(situation.site, 0, clock, never)
    owner.devices.adopt(situation.commanded, situation.observed, situation.now.timestamp())
    owner.restore_ramps(situation.bookings)
    owner.devices.restore(situation.switches)
    owner.inherit(situation.memory)
    owner.obligations.take(situation.obligations)
    if situation.in_force is not None:
        owner.follow(_lasting(situation.in_force, situation.now))
    owner.stand(_frozen(situation.standing, situation.now))
    without_end = [math.inf] * len(situation.desired.ids)
    owner.desire(dataclasses.replace(situation.desired, ends_at_s=without_end))
    owner.presume_work()
    owner.is_ready = True
    return owner


def _lasting(in_force: InForce, now: datetime) -> InForce:
    """The policy with a life that outlasts the preview: its expiry is not what is looked at."""
    expires_at = max(in_force.policy.expires_at, now + WITHOUT_END)
    return dataclasses.replace(in_force, policy=in_force.policy.model_copy(update={"expires_at": expires_at}))


def _frozen(standing: Standing, now: datetime) -> Standing:
    """What holds now, without an end: what becomes of it later is not what is looked at."""
    holding = (timed for timed in standing.timed if timed.holds(now))
    return dataclasses.replace(standing, timed=tuple(dataclasses.replace(t, valid_until=None) for t in holding))


def _waves(owner: Owner, clock: ManualClock, situation: Situation) -> tuple[list[tuple[float, Wave]], int]:
    """The waves of the next hour with the simulated seconds at which they leave, and how many devices rested at most."""
    waves, begun_s, resting = list[tuple[float, Wave]](), clock.now().timestamp(), 0
    while (elapsed_s := clock.now().timestamp() - begun_s) < HORIZON_S:
        owner.ask()
        wave = owner.plan(situation.book)
        resting = max(resting, owner.resting)
        if wave is not None:
            owner.take(wave)
            waves.append((elapsed_s, wave))
        elif _is_complete(owner, waves):
            break
        clock.advance(min(max(owner.pace.has_room_in_s(), 1e-3), STEP_S))
    return waves, resting


def _is_complete(owner: Owner, waves: Sequence[tuple[float, Wave]]) -> bool:
    """Whether nothing waits, neither for a ramp nor for dwell limits."""
    return math.isinf(owner.pace.has_room_in_s()) and not owner.resting and (not waves or waves[-1][1].plan.is_complete)


def _broken(owner: Owner) -> tuple[str, ...]:
    """The armed obligations, each with its penalty, where what is on no longer is what they have sold together."""
    on_mw, floor_mw = owner.sheddable_on_mw(), owner.obligations.floor_mw()
    if on_mw >= floor_mw - 1e-9:
        return ()
    return tuple(
        f"obligation/{o.obligation_id} ({o.programme}, {o.mw:g} MW) is armed, at {o.penalty_usd_per_mwh:g} $/MWh if missed: "
        f"{on_mw:.3f} of {floor_mw:.3f} MW that are sold would be on"
        for o in owner.obligations.obligations.values()
        if o.status is Status.ARMED
    )


def _value(owner: Owner, situation: Situation) -> Floats | None:
    """[g, s] $/h of one device: revenue less power bought."""
    if owner.in_force is None:
        return None
    rest = owner.in_force.policy.rest_of_interval
    price = situation.book.decision_price(situation.site.settlement_point, rest.slope, rest.offset)
    if price is None:
        return None
    revenue = owner.in_force.compiled.revenue_usd_per_hour(situation.book.indices)
    value: Floats = revenue - price * situation.site.shape.power_mw
    return value


def _mixes(site: Site, before: Ints, after: Ints) -> tuple[GroupMix, ...]:
    def mix(counts: Ints) -> dict[str, int]:
        return {DeviceState(s).label: int(counts[s]) for s in np.flatnonzero(counts).tolist()}

    return tuple(GroupMix(group_id, mix(before[g]), mix(after[g])) for g, group_id in enumerate(site.shape.group_ids))


def _mw(owner: Owner, states: States) -> float:
    """All-in MW of all devices whose state is known, locked ones too."""
    shape = owner.site.shape
    counts = shape.counts(states, shape.group_of_slot >= 0)
    return float((counts * shape.power_mw).sum())


def _reached(waves: Sequence[tuple[float, Wave]], situation: Situation, mw: float) -> tuple[Reached, ...]:
    """After each settling the load that is then certain; what arrives together is one line."""
    arrivals: dict[float, float] = {}
    for left_s, wave in waves:
        for move in wave.plan.moves:
            at_s = round(left_s + float(situation.site.settle_s[move.group_index, move.to_state]), 1)
            arrivals[at_s] = arrivals.get(at_s, 0.0) + move.mw_delta
    reached = []
    for at_s in sorted(arrivals):
        mw += arrivals[at_s]
        reached.append(Reached(at_s, mw))
    return tuple(reached)
