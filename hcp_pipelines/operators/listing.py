"""What stands: directives, locks, and what waits for a second person. Reading only; the owners read their own way."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

_ORDERS = """
    select kind || '/' || id, facility_id, status, actor, reason, scope, value, valid_from, valid_until, mw_change
    from operator_overrides
    where released_at is null and status in ('standing', 'pending') and (valid_until is null or valid_until > %s) order by id"""
_LOCKOUTS = """
    select 'lockout/' || id, facility_id, scope, coalesce(feeder_id, ''), holder, reason, placed_at,
           coalesce('maintenance/' || maintenance_id, ''), is_emptying from lockouts
    where removed_at is null order by id"""
_AT_GATEWAYS = """
    select 'direct/' || subject, subject, 'standing', actor, detail ->> 'reason', '{"held": "at its gateway"}'::jsonb,
           jsonb_build_object('devices brought down', detail -> 'devices'), (detail ->> 'simulated_at')::timestamptz, null, null
    from (select distinct on (subject) * from audit_log where action in ('gateway.direct', 'gateway.released')
          order by subject, id desc) newest
    where action = 'gateway.direct' order by subject"""
_WAITING = """
    select a.id, a.facility_id, a.what || '/' || a.subject, a.mw, a.detail, a.requested_by, a.expires_at
    from approvals a left join operator_overrides o on a.what = 'override' and o.id::text = a.subject
    where a.decision is null and a.expires_at > %s and o.released_at is null order by a.id"""


@dataclass(frozen=True, slots=True)
class Directive:
    """An override, curtailment or stop that is in the books, or a direct order at a gateway; instants are simulated."""

    name: str
    facility_id: str
    status: str
    actor: str
    reason: str
    scope: dict[str, Any]
    value: dict[str, Any]
    valid_from: datetime
    valid_until: datetime | None
    most_mw: float | None

    @property
    def says(self) -> str:
        """What it orders, in words; everything down where there is nothing more to say."""
        facts = ((k, v) for k, v in {**self.scope, **self.value}.items() if v is not None)
        return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in facts) or "everything down"


@dataclass(frozen=True, slots=True)
class Lockout:
    """Devices that somebody holds locked out, or that a window of `maintenance` empties or holds; `placed_at` is real."""

    name: str
    facility_id: str
    scope: str
    feeder_id: str
    holder: str
    reason: str
    placed_at: datetime
    maintenance: str
    is_emptying: bool

    @property
    def status(self) -> str:
        """What whoever wants to open the cabinet has to know of it."""
        if self.is_emptying:
            return "emptying, NOT locked yet"
        return "maintenance, ends by itself" if self.maintenance else "standing"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits for a second person, until `expires_at` (simulated)."""

    approval_id: int
    facility_id: str
    subject: str
    mw: float
    detail: str
    requested_by: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything over all facilities."""

    directives: tuple[Directive, ...]
    lockouts: tuple[Lockout, ...]
    approvals: tuple[Waiting, ...]

    def counts(self) -> dict[str, int]:
        """How much there is of each; what is only emptied is not locked."""
        locks = sum(not lockout.is_emptying for lockout in self.lockouts)
        return {"orders": len(self.directives), "locks": locks, "approvals": len(self.approvals)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def what_stands(connection: psycopg.Connection[Any], now: datetime) -> Standing:
    """What stands at a simulated instant, or begins later; of direct orders those that an owner has heard of from the gateway."""
    ordered, at_gateways = connection.execute(_ORDERS, (now,)).fetchall(), connection.execute(_AT_GATEWAYS).fetchall()
    return Standing(
        tuple(Directive(*row) for row in (*ordered, *at_gateways)),
        tuple(Lockout(*row) for row in connection.execute(_LOCKOUTS).fetchall()),
        tuple(Waiting(*row) for row in connection.execute(_WAITING, (now,)).fetchall()),
    )
