"""What operators order, as rows that the facilities' owners follow: locks, curtailments, stops, overrides, and their end.

Each order is one transaction with its line in the audit log; so is each attempt that was refused. Instants are simulated.
"""

from collections.abc import Mapping, Sequence
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
    insert into operator_overrides (facility_id, kind, scope, value, actor, reason, valid_from, valid_until)
    values (%s, %s, %s, %s, %s, %s, %s, %s) returning id, status, mw_change"""
_HOLD_BACK = "update operator_overrides set status = 'pending' where id = any(%s) and status = 'standing'"
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


def require(
    connection: psycopg.Connection[Any],
    operator: Operator,
    action: str,
    subject: str,
    least: OperatorRole = OperatorRole.OPERATOR,
) -> None:
    """Refuse those who may only look, or whose role is below `least`; the attempt is kept.

    Raises:
        NotPermittedError: the operator's role may not.
    """
    if not operator.role.may(least):
        note(connection, operator.name, f"{action}.refused", subject, role=operator.role.value)
        takes = "an admin" if least is OperatorRole.ADMIN else "an operator or an admin"
        raise NotPermittedError(f"{operator.name} is a {operator.role}: {action} of {subject} takes {takes}")


def place(connection: psycopg.Connection[Any], operator: Operator, given: Sequence[Order]) -> list[Placed]:
    """Put orders in the books, all or none; overrides wait for a second person where Postgres says so of one of them.

    It does where all that this operator has overridden lately may change more than the platform's approval limit. Curtailments
    and stops only ever reduce, and never wait.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: an override that is over already, or never ends.
    """
    for order in given:
        require(connection, operator, order.kind, order.facility_id)
        _check_end(order)
    with connection.transaction():
        rows = [_insert(connection, operator, order) for order in given]
        waits = any(status == "pending" for _, status, _ in rows)
        if waits:
            connection.execute(_HOLD_BACK, ([number for number, _, _ in rows],))
        return [_entered(connection, operator, order, row, waits=waits) for order, row in zip(given, rows, strict=True)]


def _check_end(order: Order) -> None:
    if order.valid_until is None and order.kind == "override":
        raise ConfigError("an override has to end: give --until T or --for 2h")
    if order.valid_until is not None and order.valid_until <= order.valid_from:
        raise ConfigError(
            f"{order.valid_until:%Y-%m-%d %H:%M}Z is past: it is {order.valid_from:%Y-%m-%d %H:%M}Z, simulated"
        )


def _insert(connection: psycopg.Connection[Any], operator: Operator, order: Order) -> tuple[int, str, float | None]:
    """Its number, whether it stands, and what it can change at most, MW; all by Postgres."""
    values = (
        order.facility_id, order.kind, Jsonb(dict(order.scope)), Jsonb(dict(order.value)), operator.name, order.reason,
        order.valid_from, order.valid_until,
    )  # fmt: skip
    row = connection.execute(_PLACE, values).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _entered(
    connection: psycopg.Connection[Any],
    operator: Operator,
    order: Order,
    row: tuple[int, str, float | None],
    *,
    waits: bool,
) -> Placed:
    """The order as it is in the books, with its question and its line in the audit log."""
    number, _, most_mw = row
    approval_id = _ask(connection, operator, order, number, most_mw) if waits else None
    name = f"{order.kind}/{number}"
    note(
        connection, operator.name, f"{order.kind}.{'asked' if waits else 'placed'}", name,
        facility_id=order.facility_id, says=order.says, reason=order.reason, most_mw=most_mw,
        until=order.valid_until.isoformat() if order.valid_until else None, approval=approval_id,
    )  # fmt: skip
    return Placed(name, order.facility_id, approval_id)


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


def _ask(
    connection: psycopg.Connection[Any], operator: Operator, order: Order, number: int, most_mw: float | None
) -> int:
    ends_at = order.valid_from + APPROVAL_WITHIN
    until = ends_at if order.valid_until is None else min(ends_at, order.valid_until)
    detail = f"{order.says}: {order.reason}"
    return _one(connection.execute(_ASK, (order.facility_id, str(number), most_mw, detail, operator.name, until)))


def _one(cursor: "psycopg.Cursor[tuple[Any, ...]]") -> int:
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])
