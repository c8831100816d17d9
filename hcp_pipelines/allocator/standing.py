"""What stands over a facility besides its policy: locks and operators' directives. Read from Postgres, pure from then on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.waves import FacilityShape
from hcp_pipelines.wire.slots import Slots, decode_slots

_OVERRIDES = """
    select facility_id, id, kind, scope, value, actor, reason, valid_from, valid_until from operator_overrides
    where facility_id = any(%s) and status = 'standing' and released_at is null
      and (valid_until is null or valid_until > %s) order by id"""
_LOCKOUTS = """
    select facility_id, id, scope, feeder_id, slots, holder, reason, maintenance_id is not null, is_emptying from lockouts
    where facility_id = any(%s) and removed_at is null order by id"""
_VERSIONS = """
    select f.id, f.lockouts_version, f.obligations_version, (
        select min(case when l.id is null then w.empties_at when l.is_emptying then w.begins_at else w.ends_at end)
        from maintenance_windows w left join lockouts l on l.maintenance_id = w.id
        where w.facility_id = f.id and w.ended_at is null)
    from facilities f where f.id = any(%s)"""
_REPAIRS = """
    select c.facility_id, array_agg(distinct c.slot) from repair_cases c
    where c.facility_id = any(%s) and (c.outcome is null or c.outcome = 'retired') and not exists (
        select 1 from repair_cases later where later.facility_id = c.facility_id and later.slot = c.slot and later.id > c.id)
    group by c.facility_id"""
_KINDS = {"override": Kind.OVERRIDE, "curtail": Kind.CURTAIL, "stop_all": Kind.STOP}


@dataclass(frozen=True, slots=True)
class Timed:
    """A directive and when it holds: [from, until), simulated."""

    directive: Directive
    valid_from: datetime
    valid_until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether it holds at an instant."""
        return self.valid_from <= now and (self.valid_until is None or now < self.valid_until)


@dataclass(frozen=True, slots=True)
class Lockout:
    """Devices that somebody holds locked out; those of maintenance are only put to sleep while it is `is_emptying`."""

    lockout_id: int
    holder: str
    reason: str
    scope: str  # device, feeder, site
    feeder_id: str = ""
    slots: bytes = b""
    is_maintenance: bool = False
    is_emptying: bool = False


@dataclass(frozen=True)
class Standing:
    """Everything that stands over one facility; `version` counts the changes of its locks, the other those of its obligations.

    `changes_at`: simulated, when maintenance has its next step; None where none is planned.
    """

    timed: tuple[Timed, ...] = ()
    lockouts: tuple[Lockout, ...] = ()
    version: int = 0
    obligations_version: int = 0
    changes_at: datetime | None = None
    in_repair: tuple[int, ...] = ()  # slots with a repair case that is open, or that retired the device; rising

    def at(self, now: datetime) -> list[Directive]:
        """The directives that hold at an instant."""
        return [timed.directive for timed in self.timed if timed.holds(now)]

    def locked(self, shape: FacilityShape) -> Bools:
        """[n] slots that are locked out."""
        return _slots_of([x for x in self.lockouts if not x.is_emptying], shape)

    def emptying(self, shape: FacilityShape) -> Bools:
        """[n] slots that are put to sleep under the ramps, for maintenance that begins later."""
        return _slots_of([x for x in self.lockouts if x.is_emptying], shape)

    def in_maintenance(self, shape: FacilityShape) -> Bools:
        """[n] slots that are locked for maintenance alone."""
        by_hand = _slots_of([x for x in self.lockouts if not x.is_maintenance], shape)
        return _slots_of([x for x in self.lockouts if x.is_maintenance and not x.is_emptying], shape) & ~by_hand

    def unfit(self, shape: FacilityShape) -> Bools:
        """[n] slots of devices that somebody is to repair, or has retired."""
        mask = np.zeros(shape.slots, dtype=bool)
        mask[[slot for slot in self.in_repair if slot < shape.slots]] = True
        return mask

    def lock_words(self) -> tuple[str, str]:
        """Whose locks they are, and which: actor and detail for the journal."""
        holders = sorted({lockout.holder for lockout in self.lockouts})
        return ", ".join(holders), ", ".join(f"lockout/{x.lockout_id}: {x.reason}" for x in self.lockouts)[:500]


NOTHING_STANDS = Standing()


async def read_standing(
    connection: "psycopg.AsyncConnection[Any]", facility_ids: Sequence[str], now: datetime
) -> dict[str, Standing]:
    """What stands over some facilities, each one named."""
    ids = list(facility_ids)
    overrides = await (await connection.execute(_OVERRIDES, (ids, now))).fetchall()
    lockouts = await (await connection.execute(_LOCKOUTS, (ids,))).fetchall()
    versions = {row[0]: row[1:] for row in await (await connection.execute(_VERSIONS, (ids,))).fetchall()}
    repairs = dict(await (await connection.execute(_REPAIRS, (ids,))).fetchall())
    found = dict[str, Standing]()
    for facility_id in ids:
        version, obligations_version, changes_at = versions.get(facility_id, (0, 0, None))
        found[facility_id] = Standing(
            tuple(timed_of(row[1:]) for row in overrides if row[0] == facility_id),
            tuple(_lockout(row[1:]) for row in lockouts if row[0] == facility_id),
            version,
            obligations_version,
            changes_at,
            tuple(repairs.get(facility_id, ())),
        )
    return found


def timed_of(row: Sequence[Any]) -> Timed:
    """A directive of its row: (id, kind, scope, value, actor, reason, valid_from, valid_until)."""
    number, kind, scope, value, actor, reason, valid_from, valid_until = row
    directive = Directive(
        directive_id=f"{kind}/{number}",
        kind=_KINDS[kind],
        actor=actor,
        detail=reason,
        group_id=scope.get("group_id", ""),
        state=DeviceState[value.get("state", "curtailed").upper()],
        devices=value.get("devices"),
        cap_mw=float(value.get("cap_mw", 0.0)),
        feeder_id=scope.get("feeder_id", ""),
        within_s=float(value.get("within_s", "inf")),
    )
    return Timed(directive, valid_from, valid_until)


def _lockout(row: Sequence[Any]) -> Lockout:
    number, scope, feeder_id, slots, holder, reason, *maintenance = row
    return Lockout(number, holder, reason, scope, feeder_id or "", bytes(slots or b""), *maintenance)


def _slots_of(lockouts: Sequence[Lockout], shape: FacilityShape) -> Bools:
    mask = np.zeros(shape.slots, dtype=bool)
    for lockout in lockouts:
        if lockout.scope == "device":
            mask[_inside(lockout.slots, shape)] = True
        else:
            groups = [
                g for g, f in enumerate(shape.feeder_of_group) if lockout.scope == "site" or f == lockout.feeder_id
            ]
            mask |= np.isin(shape.group_of_slot, groups)
    mask &= shape.group_of_slot >= 0
    return mask


def _inside(payload: bytes, shape: FacilityShape) -> Slots:
    """Slots of a bitmap that this inventory has: a lock outlives devices that are gone."""
    slots = decode_slots(payload, 1_000_000)
    return slots[slots < shape.slots]
