"""Alerts and their deliveries in Postgres: a condition opens one alert, which is closed once the condition has been away.

The deliveries are an outbox: what a sink could not take is tried again, also after a restart. No sending here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.alerts.condition import Condition
from hcp_pipelines.domain.errors import ConfigError

RESOLVE_AFTER_S = 60.0  # a condition that comes and goes is one alert
GIVE_UP_AFTER = 20  # attempts: with the backoff below about a day
BACKOFF_FIRST_S, BACKOFF_LAST_S = 5.0, 7200.0

_SEE = """
    insert into alerts (key, severity, subject, summary, remedy, labels)
    values (%(key)s, %(severity)s, %(subject)s, %(summary)s, %(remedy)s,
            %(labels)s || case when exists (select from facilities where id = %(subject)s)
                               then jsonb_build_object('facility', %(subject)s::text) else '{}' end)
    on conflict (key) where resolved_at is null
    do update set seen_at = clock_timestamp(), summary = excluded.summary, severity = excluded.severity,
                  remedy = excluded.remedy, labels = excluded.labels"""
_SILENCE = """
    update alerts set silenced_by = silence_of(labels, severity)
    where resolved_at is null and silenced_by <> silence_of(labels, severity)"""
# Each sink once: what is new, and what was silenced from its beginning and is so no longer.
_OPENED = """
    insert into alert_deliveries (alert_id, sink, event)
    select a.id, s.sink, 'opened' from alerts a cross join unnest(%(sinks)s::text[]) with ordinality s (sink, n)
    where a.resolved_at is null and a.acked_at is null and a.silenced_by = ''
      and not exists (select from alert_deliveries d where d.alert_id = a.id and d.sink = s.sink)
    order by a.id, s.n"""
_AGAIN = """
    insert into alert_deliveries (alert_id, sink, event)
    select a.id, s.sink, 'repeated' from alerts a cross join unnest(%(sinks)s::text[]) s (sink)
    where a.resolved_at is null and a.acked_at is null and a.severity <> 'info' and a.silenced_by = ''
      and not exists (select from alert_deliveries d where d.alert_id = a.id and d.sink = s.sink
                      and (d.delivered_at is null or d.created_at > clock_timestamp() - make_interval(secs => %(every_s)s)))"""
# Who was told that it began, or will be, is told that it is over, in a silence, too: it closes what they have open.
_RESOLVE = """
    with over as (
        update alerts set resolved_at = clock_timestamp()
        where resolved_at is null and seen_at < clock_timestamp() - make_interval(secs => %(after_s)s)
        returning id, silenced_by)
    insert into alert_deliveries (alert_id, sink, event)
    select o.id, s.sink, 'resolved' from over o cross join unnest(%(sinks)s::text[]) with ordinality s (sink, n)
    where exists (select from alert_deliveries d where d.alert_id = o.id and d.sink = s.sink
                  and (d.delivered_at is not null or o.silenced_by = ''))
    order by o.id, s.n"""
_DUE = """
    select d.id, d.event, d.attempts, a.id, a.key, a.severity, a.subject, a.summary, a.remedy,
           a.opened_at, a.resolved_at, a.acked_by
    from alert_deliveries d join alerts a on a.id = d.alert_id
    where d.delivered_at is null and d.attempts < %s and d.sink = %s and d.next_attempt_at <= clock_timestamp()
      and (a.silenced_by = '' or d.event = 'resolved')
    order by d.id limit %s"""
_DELIVERED = "update alert_deliveries set delivered_at = clock_timestamp(), attempts = attempts + 1 where id = %s"
_FAILED = """
    update alert_deliveries set attempts = attempts + 1, last_error = %s,
        next_attempt_at = clock_timestamp() + make_interval(secs => %s) where id = %s"""
_ACK = """
    update alerts set acked_at = clock_timestamp(), acked_by = %s, ack_reason = %s
    where id = %s and resolved_at is null and acked_at is null returning key"""
_AUDIT = """
    insert into audit_log (actor, action, subject, detail)
    values (%s, 'alert_acknowledged', %s, jsonb_build_object('alert', %s::bigint, 'reason', %s::text))"""
_LIST = """
    select id, severity, key, summary, remedy, opened_at, seen_at, resolved_at, acked_by, ack_reason, labels,
           case when resolved_at is null then silence_of(labels, severity) else silenced_by end
    from alerts where %s or resolved_at is null order by resolved_at is not null, id desc limit 200"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One delivery that is due: what is told to one sink."""

    delivery_id: int
    event: str
    attempts: int
    alert_id: int
    key: str
    severity: str
    subject: str
    summary: str
    remedy: str
    opened_at: datetime
    resolved_at: datetime | None
    acked_by: str | None


def sync(connection: psycopg.Connection[Any], found: Sequence[Condition], sinks: Sequence[str], repeat_s: float) -> int:
    """Bring the table in line with what is wrong now, and enqueue what each sink must be told; how many alerts are open."""
    told = {"sinks": list(sinks), "every_s": repeat_s, "after_s": RESOLVE_AFTER_S}
    with connection.transaction():
        for condition in found:
            values = {name: getattr(condition, name) for name in ("key", "severity", "subject", "summary", "remedy")}
            connection.execute(_SEE, values | {"labels": Jsonb(condition.labels)})
        for step in (_SILENCE, _OPENED, _RESOLVE, _AGAIN):
            connection.execute(step, told)
        open_row = connection.execute("select count(*) from alerts where resolved_at is null").fetchone()
    return int(open_row[0]) if open_row else 0


def due(connection: psycopg.Connection[Any], sink: str, limit: int = 50) -> list[Notice]:
    """What a sink is to be told now, oldest first."""
    return [Notice(*row) for row in connection.execute(_DUE, (GIVE_UP_AFTER, sink, limit))]


def delivered(connection: psycopg.Connection[Any], notice: Notice) -> None:
    """A sink has taken it."""
    connection.execute(_DELIVERED, (notice.delivery_id,))


def failed(connection: psycopg.Connection[Any], notice: Notice, error: str) -> None:
    """A sink did not take it: later again, ever more rarely."""
    connection.execute(_FAILED, (error[:500], backoff_s(notice.attempts), notice.delivery_id))


def backoff_s(attempts: int) -> float:
    """Seconds until the next attempt.

    >>> backoff_s(0), backoff_s(3), backoff_s(30)
    (5.0, 40.0, 7200.0)
    """
    return float(min(BACKOFF_FIRST_S * 2.0 ** min(attempts, 30), BACKOFF_LAST_S))


def acknowledge(connection: psycopg.Connection[Any], alert_id: int, actor: str, reason: str) -> str:
    """Somebody has it in hand: it is not repeated any more; the alert's key.

    Raises:
        ConfigError: no such alert is open, or it is acknowledged already.
    """
    with connection.transaction():
        row = connection.execute(_ACK, (actor, reason, alert_id)).fetchone()
        if row is None:
            raise ConfigError(
                f"alert {alert_id} is not open, or acknowledged already: `hcp alerts` lists the open ones"
            )
        connection.execute(_AUDIT, (actor, row[0], alert_id, reason))
    return str(row[0])


def list_alerts(connection: psycopg.Connection[Any], *, with_resolved: bool) -> list[tuple[Any, ...]]:
    """Open alerts first, newest first, at most 200."""
    return connection.execute(_LIST, (with_resolved,)).fetchall()
