"""Maintenance windows: devices asleep in time, left alone from an instant to another one, and given back by themselves.

A window is no lock for hands inside: it ends by itself, and lets devices be woken. Its lock is one like any other all the same
(`lockouts`), which a facility's owner places and removes when the time has come. Instants are simulated.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.errors import ConfigError, HcpError, NotPermittedError
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.fleet.ramps import ramp_limits
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.availability import SLOTS_MAX, covered, mask_of
from hcp_pipelines.operators.building import feeder_of, group_of, slots_of
from hcp_pipelines.operators.orders import require, unlock
from hcp_pipelines.operators.progress import gateway_addresses, read_gateways
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, decode_slots, encode_slots

UNDER_WAY, NOT_CONFIRMED = "under way", "not confirmed by its gateway"
MOST_DAYS = 30  # that a window lasts: Postgres refuses more
_TOO_LONG = f"a window lasts {MOST_DAYS} days at most: what is away for longer is locked (`hcp lock`)"
SETTLE_FACTOR = 1.5  # of the usual time into sleep: as the owner waits before it calls a device late
_PLAN = """
    insert into maintenance_windows (facility_id, scope, group_id, feeder_id, slots, planned_by, reason, empties_at, begins_at,
        ends_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning id"""
_SOLD = """
    select id from grid_obligations
    where facility_id = %s and status in ('awarded', 'armed', 'deployed', 'recovering') and during && tstzrange(%s, %s)
    order by id"""
_ONE = """
    select w.planned_by, w.facility_id, w.ended_at, l.id from maintenance_windows w
    left join lockouts l on l.maintenance_id = w.id where w.id = %s for update of w"""
_END = "update maintenance_windows set ended_at = clock_timestamp(), ended_by = %s where id = %s and ended_at is null"
_LIST = """
    select w.id, w.facility_id, case when w.group_id is not null then 'group ' || w.group_id
               when w.feeder_id is not null then 'feeder ' || w.feeder_id else w.scope end,
           w.slots, w.planned_by, w.reason, w.empties_at, w.begins_at, w.ends_at, w.ended_at, w.ended_by,
           case when w.ended_at is not null then 'over' when l.id is null then 'planned' when l.is_emptying then 'emptying'
                else 'under way' end, w.scope, w.feeder_id
    from maintenance_windows w left join lockouts l on l.maintenance_id = w.id
    where %s or w.ended_at is null order by w.ended_at is not null, w.begins_at, w.id limit 200"""


@dataclass(frozen=True)
class Part:
    """What is maintained: `scope` is device, feeder or site; `devices` by group."""

    scope: str
    devices: dict[str, int]
    group_id: str | None = None
    feeder_id: str | None = None
    slots: Slots | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """When devices begin to go to sleep, and from when to when they are left alone; simulated."""

    empties_at: datetime
    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Planned:
    """A window in the books, and the grid obligations that hold meanwhile: what is asleep sheds nothing for them."""

    name: str
    facility_id: str
    empties_at: datetime
    begins_at: datetime
    ends_at: datetime
    obligations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A window as listed; `ended_at` is real. It is under way where its gateway holds the lock, whatever the books say."""

    name: str
    facility_id: str
    of: str
    planned_by: str
    reason: str
    empties_at: datetime
    begins_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    state: str


def part_of(
    inventory: FacilityInventory,
    *,
    devices: Sequence[str] = (),
    group_id: str | None = None,
    feeder_id: str | None = None,
) -> Part:
    """Some slots, a group, a feeder, or, where nothing is named, the whole site.

    Raises:
        ConfigError: there is none of that id.
    """
    if group_id is not None:
        group = group_of(inventory, group_id)
        slots = np.arange(group.first_slot, group.first_slot + group.devices, dtype=np.uint32)
        return Part("device", {group_id: group.devices}, group_id=group_id, slots=slots)
    if devices:
        slots = slots_of(inventory, devices)
        inside = {
            g.group_id: int(((slots >= g.first_slot) & (slots < g.first_slot + g.devices)).sum())
            for g in inventory.groups
        }
        return Part("device", {name: count for name, count in inside.items() if count}, slots=slots)
    if feeder_id is not None:
        feeder_of(inventory, feeder_id)
        own = {g.group_id: g.devices for g in inventory.groups if g.feeder_id == feeder_id}
        return Part("feeder", own, feeder_id=feeder_id)
    return Part("site", {g.group_id: g.devices for g in inventory.groups})


def lead_of(inventory: FacilityInventory, part: Part, share: float) -> timedelta:
    """How long before its beginning a window has to empty: everything on, and nothing else using the ramps meanwhile.

    `share`: the facility's part of the portfolio's capacity, and so of its ramp.
    """
    falls_mw, settle_s = dict[str, float](), 0.0
    for group in (g for g in inventory.groups if part.devices.get(g.group_id)):
        top, low, count = group.ladder[-1].state, group.ladder[0], part.devices[group.group_id]
        mw = inventory.all_in_mw(group, top, count) - inventory.all_in_mw(group, low.state, count)
        falls_mw[group.feeder_id] = falls_mw.get(group.feeder_id, 0.0) + mw
        settle_s = max(settle_s, low.settle_s * SETTLE_FACTOR)
    ramp_s = 0.0
    for limit in ramp_limits(inventory.ramps, share):
        is_whole = limit.scope in (FACILITY, PORTFOLIO)
        mw = sum(falls_mw.values()) if is_whole else falls_mw.get(limit.scope, 0.0)
        ramp_s = max(ramp_s, math.ceil(mw / limit.down_mw) * limit.window_s)
    return timedelta(seconds=math.ceil(ramp_s + settle_s))


def times_of(
    facility_id: str, now: datetime, lead: timedelta, begins_at: datetime | None, ends: datetime | timedelta
) -> Times:
    """When a window empties, begins (as soon as may be, if not given) and ends: at an instant, or so long after its beginning.

    Raises:
        ConfigError: it can't be empty by its beginning, ends before that, or lasts too long.
    """
    earliest = now + lead
    if isinstance(ends, timedelta) and ends > timedelta(days=MOST_DAYS):
        raise ConfigError(_TOO_LONG)
    begin = earliest if begins_at is None else begins_at
    try:
        end_at = begin + ends if isinstance(ends, timedelta) else ends
    except OverflowError:
        raise ConfigError(f"no calendar has an end that far after {begin:%Y-%m-%d}") from None
    if begin < earliest:
        raise ConfigError(
            f"{facility_id}: under its ramps these devices may need {lead.total_seconds():.0f} s to be asleep: at the earliest "
            f"by {earliest:%Y-%m-%d %H:%M:%S}Z, simulated, not by {begin:%Y-%m-%d %H:%M:%S}Z; `hcp lock` waits for no ramp"
        )
    if end_at <= begin:
        raise ConfigError(f"it would end {end_at:%Y-%m-%d %H:%M}Z, and begins {begin:%Y-%m-%d %H:%M}Z, simulated")
    return Times(begin - lead, begin, end_at)


def plan(
    connection: psycopg.Connection[Any], operator: Operator, facility_id: str, part: Part, times: Times, reason: str
) -> Planned:
    """Put a window in the books.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: it lasts too long.
    """
    require(connection, operator, "maintenance", facility_id)
    bitmap = None if part.slots is None else encode_slots(part.slots)
    instants = (times.empties_at, times.begins_at, times.ends_at)
    with connection.transaction():
        values = (facility_id, part.scope, part.group_id, part.feeder_id, bitmap, operator.name, reason, *instants)
        name = f"maintenance/{_entered(connection, values)}"
        told = {key: at.isoformat() for key, at in asdict(times).items()}
        devices = part.devices
        note(
            connection,
            operator.name,
            "maintenance.planned",
            name,
            facility_id=facility_id,
            devices=devices,
            reason=reason,
            **told,
        )
        sold = connection.execute(_SOLD, (facility_id, times.empties_at, times.ends_at)).fetchall()
    return Planned(name, facility_id, *instants, tuple(number for (number,) in sold))


def _entered(connection: psycopg.Connection[Any], values: Sequence[object]) -> int:
    try:
        with connection.transaction():
            row = connection.execute(_PLAN, values).fetchone()
    except psycopg.errors.CheckViolation as error:
        if error.diag.constraint_name != "ends_in_time":
            raise
        raise ConfigError(_TOO_LONG) from None
    assert row is not None
    return int(row[0])


def end(connection: psycopg.Connection[Any], operator: Operator, number: int) -> str:
    """End a window now, or see to it that it never begins; its facility. Its devices are given back.

    Raises:
        NotPermittedError: somebody else planned it, and the operator is no admin.
        ConfigError: there is no such window (any more).
    """
    name = f"maintenance/{number}"
    require(connection, operator, "maintenance.end", name)
    with connection.transaction():
        row = connection.execute(_ONE, (number,)).fetchone()
        if row is None or row[2] is not None:
            raise ConfigError(f"{name} is not there (any more): `hcp maintenance list` shows those that are")
        planned_by, facility_id, _, lockout = row
        is_allowed = operator.name == planned_by or operator.role is OperatorRole.ADMIN
        if is_allowed and lockout is not None:
            unlock(connection, operator, lockout)
        elif is_allowed:
            connection.execute(_END, (operator.name, number))
        action = "maintenance.ended" if is_allowed else "maintenance.end_refused"
        note(connection, operator.name, action, name, facility_id=facility_id, planned_by=planned_by)
    if not is_allowed:
        raise NotPermittedError(f"{name} was planned by {planned_by}: only {planned_by} or an admin ends it")
    return str(facility_id)


def list_windows(settings: Settings, connection: psycopg.Connection[Any], *, with_ended: bool) -> list[Window]:
    """Windows by when they begin, those that are over last, at most 200; gateways are asked for those that have begun."""
    rows = connection.execute(_LIST, (with_ended,)).fetchall()
    begun = sorted({row[1] for row in rows if row[11] == UNDER_WAY})
    told = read_gateways(settings, gateway_addresses(connection), begun)
    inventories = {each.facility_id: each for each in load_inventories(connection, begun)} if begun else {}
    return [_window(row, inventories.get(row[1]), told.get(row[1])) for row in rows]


def _window(
    row: Sequence[Any], inventory: FacilityInventory | None, state: pb.FacilityState | HcpError | None
) -> Window:
    (number, facility_id, of, slots), told, (scope, feeder_id) = row[:4], row[4:12], row[12:]
    window = Window(f"maintenance/{number}", facility_id, _words_of(of, slots), *told)
    if window.state != UNDER_WAY:
        return window
    if inventory is None or not isinstance(state, pb.FacilityState):
        return replace(window, state=NOT_CONFIRMED)
    is_held = not (covered(inventory, scope, feeder_id, slots) & ~mask_of(state.locked, inventory)).any()
    return window if is_held else replace(window, state=NOT_CONFIRMED)


def _words_of(scope: str, slots: bytes | None) -> str:
    return f"{len(decode_slots(bytes(slots), SLOTS_MAX))} devices" if scope == "device" and slots is not None else scope
