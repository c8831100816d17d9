"""What can be counted on of a facility's load: devices, what is on of it, and what stands over it. Reading only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from hcp_pipelines.domain.modes import DispatchRegime, ResourceType
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory
from hcp_pipelines.fleet.ramps import ramp_limits
from hcp_pipelines.policy.obligations import BASE_POINT_GOOD_S
from hcp_pipelines.policy.outlook import HeldOn, Limit, Outlook
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots

SLOTS_MAX = 1_000_000
Bools = npt.NDArray[np.bool_]
_LOCKOUTS = "select scope, feeder_id, slots from lockouts where facility_id = %s and removed_at is null"
_WINDOWS = """
    select 'maintenance/' || id, empties_at, ends_at, scope, feeder_id, slots from maintenance_windows
    where facility_id = %s and ended_at is null and ends_at > %s order by id"""
_QUARANTINED = "select memory -> 'quarantined' from owner_memory where facility_id = %s"

_LIMITS = """
    select kind || '/' || id, coalesce((value ->> 'cap_mw')::float8, 0), valid_from, valid_until,
           coalesce(scope ->> 'feeder_id', '')
    from operator_overrides
    where facility_id = %s and kind in ('curtail', 'stop_all') and status = 'standing' and released_at is null
      and (valid_until is null or valid_until > %s) order by id"""
_OVERRIDES = """
    select 'override/' || id, scope ->> 'group_id', valid_from, valid_until from operator_overrides
    where facility_id = %s and kind = 'override' and status = 'standing' and released_at is null
      and (valid_until is null or valid_until > %s) order by id"""
_BASE_POINT = """
    select 'base_point/' || id, (payload ->> 'mw')::float8, effective_at, effective_at + make_interval(secs => %s), ''
    from grid_signals where facility_id = %s and kind = 'base_point' order by effective_at desc, id desc limit 1"""


@dataclass(frozen=True)
class Away:
    """Devices that maintenance takes away from an instant to another one, simulated Unix seconds; `slots`: whether each is."""

    name: str
    start_s: float
    end_s: float
    slots: Bools


@dataclass(frozen=True)
class CountedOn:
    """What an award is judged by. `unavailable`: devices by group that can't be counted on; of others, when they are `away`."""

    outlook: Outlook
    unavailable: dict[str, int] = field(default_factory=dict)
    away: tuple[Away, ...] = ()

    def away_in(self, start_s: float, end_s: float) -> list[Away]:
        """What is away at any time of an interval."""
        return [each for each in self.away if each.start_s < end_s and start_s < each.end_s]

    def unavailable_in(self, inventory: FacilityInventory, start_s: float, end_s: float) -> dict[str, int]:
        """Devices by group that can't be counted on over a whole interval."""
        mask = np.zeros(inventory.slots, dtype=np.bool_)
        for each in self.away_in(start_s, end_s):
            mask |= each.slots
        planned = _by_group(mask, inventory)
        return {name: self.unavailable.get(name, 0) + devices for name, devices in planned.items()}


def counted_on(
    connection: psycopg.Connection[Any],
    inventory: FacilityInventory,
    state: pb.FacilityState | None,
    now: datetime,
    share: float,
) -> CountedOn:
    """What there is; `share`: of the portfolio's capacity. Without the gateway's word nobody knows what is on."""
    miners = [g for g in inventory.groups if g.type is ResourceType.ASIC]
    outlook = Outlook(
        now.timestamp(),
        None if state is None else _on_mw(connection, inventory, state),
        _rest_mw(inventory),
        max((step.settle_s for group in miners for step in group.ladder[1:]), default=0.0),
        ramp_limits(inventory.ramps, share),
        _limits(connection, inventory, now),
        _held_on(connection, inventory, now),
    )
    unavailable = unavailable_of(connection, inventory, state)
    return CountedOn(outlook, unavailable, _away(connection, inventory, state, now))


def unavailable_of(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, state: pb.FacilityState | None
) -> dict[str, int]:
    """Devices by group; without the gateway's word (`state`) only the locks and what its owner has quarantined are known."""
    mask = _unavailable(connection, inventory, state)
    row = connection.execute(_QUARANTINED, (inventory.facility_id,)).fetchone()
    quarantined: dict[str, int] = (row[0] if row else None) or {}
    return {name: devices + quarantined.get(name, 0) for name, devices in _by_group(mask, inventory).items()}


def _by_group(mask: Bools, inventory: FacilityInventory) -> dict[str, int]:
    return {
        group.group_id: int(mask[group.first_slot : group.first_slot + group.devices].sum())
        for group in inventory.groups
    }


def _away(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, state: pb.FacilityState | None, now: datetime
) -> tuple[Away, ...]:
    """Maintenance that is not over, of devices that are there now."""
    there = ~_unavailable(connection, inventory, state)
    rows = connection.execute(_WINDOWS, (inventory.facility_id, now)).fetchall()
    return tuple(
        Away(name, start.timestamp(), end.timestamp(), covered(inventory, *what) & there)
        for name, start, end, *what in rows
    )


def _unavailable(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, state: pb.FacilityState | None
) -> Bools:
    mask = _locked(connection, inventory)
    if state is not None:
        mask |= mask_of(state.held, inventory) | mask_of(state.dark, inventory) | ~mask_of(state.reachable, inventory)
    return mask


def _on_mw(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, state: pb.FacilityState
) -> dict[str, float]:
    """By group, all-in MW above the lowest states of devices that count, by the lower of what they were told and draw."""
    free = ~_unavailable(connection, inventory, state)
    told, seen = (np.frombuffer(raw, dtype=np.uint8) for raw in (state.states, state.observed))
    found = {}
    for group in inventory.groups:
        mine = slice(group.first_slot, group.first_slot + group.devices)
        power = _above_lowest_kw(group)
        drawn = np.minimum(power[_padded(told, inventory)[mine]], power[_padded(seen, inventory)[mine]])
        found[group.group_id] = float(drawn[free[mine]].sum()) * inventory.pue / 1000
    return found


def _above_lowest_kw(group: GroupInventory) -> npt.NDArray[np.float64]:
    """[256] kW of a device above its lowest state by state code; 0 where the state is none of its own or not known."""
    power = np.zeros(256)
    for step in group.ladder:
        power[step.state] = step.power_kw - group.ladder[0].power_kw
    return power


def _padded(states: npt.NDArray[np.uint8], inventory: FacilityInventory) -> npt.NDArray[np.uint8]:
    padded = np.full(inventory.slots, 255, dtype=np.uint8)
    padded[: len(states)] = states[: inventory.slots]
    return padded


def _rest_mw(inventory: FacilityInventory) -> dict[str, float]:
    """By feeder, all-in MW that may be drawn beside the flexible load: GPUs at their most, miners at their least."""
    found = dict.fromkeys((group.feeder_id for group in inventory.groups), 0.0)
    for group in inventory.groups:
        step = group.ladder[0] if group.type is ResourceType.ASIC else group.ladder[-1]
        found[group.feeder_id] += inventory.all_in_mw(group, step.state, group.devices)
    return found


def _limits(connection: psycopg.Connection[Any], inventory: FacilityInventory, now: datetime) -> list[Limit]:
    """Curtailments and stops that stand, and the market's base point where the facility follows them."""
    rows: list[Sequence[Any]] = connection.execute(_LIMITS, (inventory.facility_id, now)).fetchall()
    if inventory.dispatch_regime is DispatchRegime.CLR_BASE_POINT:
        rows += connection.execute(_BASE_POINT, (BASE_POINT_GOOD_S, inventory.facility_id)).fetchall()
    return [Limit(name, mw, start.timestamp(), _end_s(end), feeder) for name, mw, start, end, feeder in rows]


def _held_on(connection: psycopg.Connection[Any], inventory: FacilityInventory, now: datetime) -> list[HeldOn]:
    rows = connection.execute(_OVERRIDES, (inventory.facility_id, now)).fetchall()
    return [HeldOn(name, group_id, start.timestamp(), _end_s(end)) for name, group_id, start, end in rows]


def _end_s(end: datetime | None) -> float:
    return math.inf if end is None else end.timestamp()


def _locked(connection: psycopg.Connection[Any], inventory: FacilityInventory) -> Bools:
    mask = np.zeros(inventory.slots, dtype=np.bool_)
    for what in connection.execute(_LOCKOUTS, (inventory.facility_id,)).fetchall():
        mask |= covered(inventory, *what)
    return mask


def covered(inventory: FacilityInventory, scope: str, feeder_id: str | None, slots: bytes | None) -> Bools:
    """[slots] whether each is of a lock's or a window's part: some devices, a feeder, or the site."""
    if scope == "device":
        return mask_of(bytes(slots or b""), inventory)
    mask = np.zeros(inventory.slots, dtype=np.bool_)
    for group in inventory.groups:
        if scope == "site" or group.feeder_id == feeder_id:
            mask[group.first_slot : group.first_slot + group.devices] = True
    return mask


def mask_of(payload: bytes, inventory: FacilityInventory) -> Bools:
    """[slots] whether each is in a bitmap; slots beyond the inventory's are left out."""
    mask = np.zeros(inventory.slots, dtype=np.bool_)
    slots = decode_slots(payload, SLOTS_MAX)
    mask[slots[slots < inventory.slots]] = True
    return mask
