"""What operators order, as rows that the facilities' owners follow: locks, curtailments, stops, overrides, and their end.

Each order is one transaction with its line in the audit log; so is each attempt that was refused. Instants are simulated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import ConfigError, NotPermittedError
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.audit import note

APPROVAL_WITHIN = timedelta(hours=4)  # simulated; an override that ends sooner waits no longer than that
_PLACE = """
    insert into operator_overrides (facility_id, kind, scope, value, mw_change, actor, reason, valid_from, valid_until, status)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning id"""
_ASK = """
    insert into approvals (facility_id, what, subject, mw, detail, requested_by, expires_at)
    values (%s, 'override', %s, %s, %s, %s, %s) returning id"""
_RELEASE = """
    update operator_overrides set released_at = clock_timestamp(), released_by = %s
    where released_at is null and status <> 'rejected' and (id = any(%s::bigint[]) or %s)
      and (valid_until is null or valid_until > %s)
    returning kind || '/' || id, facility_id"""
_LOCK = """
    insert into lockouts (facility_id, scope, feeder_id, slots, holder, reason) values (%s, %s, %s, %s, %s, %s) returning id"""
_LOCKOUT = "select holder, facility_id, removed_at from lockouts where id = %s for update"
_UNLOCK = "update lockouts set removed_at = clock_timestamp(), removed_by = %s where id = %s"


@dataclass(frozen=True)
class Order:
    """A directive to be placed: `kind` is override, curtail or stop_all; scope and value are read by `allocator.standing`."""

    facility_id: str
    kind: str
    reason: str
    valid_from: datetime
    valid_until: datetime | None
    scope: Mapping[str, Any] = field(default_factory=dict)
    value: Mapping[str, Any] = field(default_factory=dict)
    most_mw: float | None = None  # what it can change at most; an override above the approval limit waits

    @property
    def says(self) -> str:
        """In words, without the reason."""
        facts = {**self.scope, **self.value}.items()
        parts = [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts if v is not None]
        return f"{self.kind} {', '.join(parts)}".strip()


@dataclass(frozen=True, slots=True)
class Placed:
    """An order in the books: its name (`curtail/7`), and the approval that it waits for."""

    name: str
    facility_id: str
    approval_id: int | None = None


def require(connection: psycopg.Connection[Any], operator: Operator, action: str, subject: str) -> None:
    """Refuse those who may only look; the attempt is kept.

    Raises:
        NotPermittedError: the operator is a viewer.
    """
    if not operator.role.may(OperatorRole.OPERATOR):
        note(connection, operator.name, f"{action}.refused", subject, role=operator.role.value)
        raise NotPermittedError(
            f"{operator.name} is a {operator.role}: {action} of {subject} takes an operator or an admin"
        )


def place(connection: psycopg.Connection[Any], operator: Operator, order: Order, approval_mw: float) -> Placed:
    """Put an order in the books; an override that may change more than `approval_mw` waits for a second person.

    Curtailments and stops only ever reduce, and never wait.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: an override that is over already, or never ends.
    """
    require(connection, operator, order.kind, order.facility_id)
    if order.valid_until is None and order.kind == "override":
        raise ConfigError("an override has to end: give --until T or --for 2h")
    if order.valid_until is not None and order.valid_until <= order.valid_from:
        raise ConfigError(
            f"{order.valid_until:%Y-%m-%d %H:%M}Z is past: it is {order.valid_from:%Y-%m-%d %H:%M}Z, simulated"
        )
    waits = order.kind == "override" and (order.most_mw or 0.0) > approval_mw
    with connection.transaction():
        values = (
            order.facility_id, order.kind, Jsonb(dict(order.scope)), Jsonb(dict(order.value)), order.most_mw, operator.name,
            order.reason, order.valid_from, order.valid_until, "pending" if waits else "standing",
        )  # fmt: skip
        number = _one(connection.execute(_PLACE, values))
        placed = Placed(
            f"{order.kind}/{number}", order.facility_id, _ask(connection, operator, order, number) if waits else None
        )
        note(
            connection, operator.name, f"{order.kind}.{'asked' if waits else 'placed'}", placed.name,
            facility_id=order.facility_id, says=order.says, reason=order.reason, most_mw=order.most_mw,
            until=order.valid_until.isoformat() if order.valid_until else None, approval=placed.approval_id,
        )  # fmt: skip
    return placed


def release(
    connection: psycopg.Connection[Any],
    operator: Operator,
    now: datetime,
    ids: Mapping[int, str] | None,
    reason: str,
) -> list[tuple[str, str]]:
    """End some overrides, curtailments and stops, or (None) all of them; (name, facility) of each. Locks stay.

    `ids` gives each number the kind that was named with it, or nothing.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: one of the ids does not stand, or is of another kind; then none is released.
    """
    require(connection, operator, "release", "all" if ids is None else ", ".join(map(str, ids)))
    with connection.transaction():
        parameters = (operator.name, list(ids or ()), ids is None, now)
        released = connection.execute(_RELEASE, parameters).fetchall()
        if ids is not None and len(released) < len(set(ids)):
            found = {int(name.rpartition("/")[2]) for name, _ in released}
            raise ConfigError(f"{min(set(ids) - found)} does not stand (any more): `hcp directives` shows what does")
        for name, _ in released:
            kind, _, number = name.partition("/")
            if ids and ids[int(number)] not in ("", kind):
                raise ConfigError(f"{ids[int(number)]}/{number} does not stand; {name} does: nothing was released")
        for name, facility_id in released:
            note(connection, operator.name, "directive.released", name, facility_id=facility_id, reason=reason)
    return released


def lock(
    connection: psycopg.Connection[Any],
    operator: Operator,
    facility_id: str,
    reason: str,
    *,
    slots: bytes | None = None,
    feeder_id: str | None = None,
) -> Placed:
    """Lock out devices (a bitmap of slots), a feeder, or the whole site; the operator is the holder.

    Raises:
        NotPermittedError: the operator may only look.
    """
    require(connection, operator, "lock", facility_id)
    scope = "device" if slots is not None else "feeder" if feeder_id is not None else "site"
    with connection.transaction():
        values = (facility_id, scope, feeder_id, slots, operator.name, reason)
        name = f"lockout/{_one(connection.execute(_LOCK, values))}"
        note(
            connection,
            operator.name,
            "lockout.placed",
            name,
            facility_id=facility_id,
            scope=scope,
            feeder_id=feeder_id,
            reason=reason,
        )
    return Placed(name, facility_id)


def unlock(connection: psycopg.Connection[Any], operator: Operator, number: int) -> Placed:
    """Remove a lock.

    Raises:
        NotPermittedError: somebody else holds it, and the operator is no admin.
        ConfigError: there is no such lock (any more).
    """
    name = f"lockout/{number}"
    require(connection, operator, "unlock", name)
    with connection.transaction():
        row = connection.execute(_LOCKOUT, (number,)).fetchone()
        if row is None or row[2] is not None:
            raise ConfigError(f"{name} is not there (any more): `hcp directives` shows those that are")
        holder, facility_id, _ = row
        is_allowed = operator.name == holder or operator.role is OperatorRole.ADMIN
        if is_allowed:
            connection.execute(_UNLOCK, (operator.name, number))
        action = "lockout.removed" if is_allowed else "lockout.removal_refused"
        note(connection, operator.name, action, name, facility_id=facility_id, holder=holder)
    if not is_allowed:
        raise NotPermittedError(f"{name} is held by {holder}: only {holder} or an admin removes it")
    return Placed(name, facility_id)


def _ask(connection: psycopg.Connection[Any], operator: Operator, order: Order, number: int) -> int:
    ends_at = order.valid_from + APPROVAL_WITHIN
    until = ends_at if order.valid_until is None else min(ends_at, order.valid_until)
    detail = f"{order.says}: {order.reason}"
    return _one(connection.execute(_ASK, (order.facility_id, str(number), order.most_mw, detail, operator.name, until)))


def _one(cursor: "psycopg.Cursor[tuple[Any, ...]]") -> int:
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])
