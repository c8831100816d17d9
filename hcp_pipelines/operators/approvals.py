"""What waits for a second person, and the decision: an override, a wave, a policy. Who asked never decides."""

from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import ConfigError, NotPermittedError
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.orders import require

_WAITING = """
    select facility_id, what, subject, requested_by, expires_at, decision, mw from approvals where id = %s for update"""
_DECIDE = (
    "update approvals set decision = %s, decided_by = %s, decided_at = clock_timestamp(), reason = %s where id = %s"
)
_OVERRIDE = """
    update operator_overrides set status = %s, approved_by = case when %s then %s end, decided_at = clock_timestamp(),
        decision_reason = %s
    where id = %s and status = 'pending' and released_at is null returning kind || '/' || id"""


def decide(
    connection: psycopg.Connection[Any],
    operator: Operator,
    approval_id: int,
    reason: str,
    now: datetime,
    *,
    is_approved: bool,
) -> str:
    """Approve or reject what waits; its subject in words.

    Raises:
        NotPermittedError: the operator may only look, or asked for it.
        ConfigError: nothing waits under that id (any more).
    """
    decision = "approved" if is_approved else "rejected"
    require(connection, operator, "approve", f"approval/{approval_id}")
    with connection.transaction():
        row = connection.execute(_WAITING, (approval_id,)).fetchone()
        facility_id, what, subject, requested_by = _open(row, approval_id, now)
        is_other = operator.name != requested_by
        if is_other:
            _write(connection, operator, approval_id, decision, reason, what, subject)
        action = f"approval.{decision}" if is_other else "approval.refused"
        name = f"{what}/{subject}"
        note(connection, operator.name, action, name, facility_id=facility_id, approval=approval_id, reason=reason)
    if not is_other:
        raise NotPermittedError(f"approval {approval_id} was asked for by {requested_by}: another person has to decide")
    return f"{facility_id}: {name}"


def _open(row: tuple[Any, ...] | None, approval_id: int, now: datetime) -> tuple[str, str, str, str]:
    if row is None:
        raise ConfigError(f"no approval {approval_id}: `hcp directives` shows what waits")
    facility_id, what, subject, requested_by, expires_at, decision, _ = row
    if decision is not None:
        raise ConfigError(f"approval {approval_id} was {decision} already")
    if expires_at <= now:
        raise ConfigError(
            f"approval {approval_id} could be given until {expires_at:%Y-%m-%d %H:%M}Z, it is {now:%Y-%m-%d %H:%M}Z: ask anew"
        )
    return facility_id, what, subject, requested_by


def _write(
    connection: psycopg.Connection[Any],
    operator: Operator,
    approval_id: int,
    decision: str,
    reason: str,
    what: str,
    subject: str,
) -> None:
    connection.execute(_DECIDE, (decision, operator.name, reason, approval_id))
    if what != "override":
        return
    is_approved = decision == "approved"
    values = ("standing" if is_approved else "rejected", is_approved, operator.name, reason, int(subject))
    if connection.execute(_OVERRIDE, values).fetchone() is None:
        raise ConfigError(f"override {subject} was released meanwhile: there is nothing to decide")
