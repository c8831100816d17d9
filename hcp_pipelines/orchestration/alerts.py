"""Alerts of Dagster's part, as rows of `audit_log`; who is told about them is not decided here."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

ACTOR = "dagster"
SOLVE_FAILED = "alert.solve_failed"  # about a facility, or about TICK_JOB where the run got nowhere

EXPIRING_SQL = """
select p.id, f.id, p.refresh_due_at, p.expires_at
from facilities f cross join lateral (
    select id, refresh_due_at, expires_at from policies
    where facility_id = f.id and status = 'live' order by id desc limit 1) p
order by f.id
"""


def record_alert(connection: "psycopg.Connection[Any]", action: str, subject: str, detail: dict[str, Any]) -> None:
    """Append one alert, e.g. `alert.run_failed` about a run id."""
    connection.execute(
        "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)",
        (ACTOR, action, subject, Jsonb(detail)),
    )


def alert_overdue_policies(connection: "psycopg.Connection[Any]", now: datetime, alerted: set[int]) -> set[int]:
    """Alert once about each policy in force past its refresh date; the ids of all that are overdue (`now` simulated)."""
    overdue = [row for row in connection.execute(EXPIRING_SQL).fetchall() if row[2] <= now]
    for policy_id, facility_id, refresh_due_at, expires_at in overdue:
        if policy_id not in alerted:
            detail = {
                "policy_id": policy_id,
                "refresh_due_at": refresh_due_at.isoformat(),
                "expires_at": expires_at.isoformat(),
            }
            record_alert(connection, "alert.policy_overdue", facility_id, detail)
    return {row[0] for row in overdue}
