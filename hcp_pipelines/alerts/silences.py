"""Silences: alerts that are kept and not told, because somebody said so, until an instant of real time.

A silence is of labels, and holds for every alert that has all of them. That of critical alerts says so, and is short: Postgres
holds the limits. What a silence does to deliveries is in `store.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.alerts.condition import LABEL_MAX
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.orders import require

_PLACE = """
    insert into alert_silences (matches, is_critical, placed_by, reason, ends_at)
    values (%(matches)s, %(is_critical)s, %(by)s, %(reason)s, %(ends_at)s) returning id"""
_COVERED = """
    select count(*) filter (where is_covered), count(*) filter (where not is_covered) from (
        select %(is_critical)s or severity <> 'critical' as is_covered from alerts
        where resolved_at is null and labels @> %(matches)s) open"""
_END = """
    update alert_silences set ended_at = clock_timestamp(), ended_by = %s
    where id = %s and ended_at is null and ends_at > clock_timestamp() returning matches"""
_LIST = """
    select s.id, s.matches, s.is_critical, s.placed_by, s.reason, s.placed_at, s.ends_at, s.ended_at, s.ended_by,
           (select count(*) from alerts a where a.resolved_at is null and a.silenced_by = 'silence/' || s.id)
    from alert_silences s where %s or (s.ended_at is null and s.ends_at > clock_timestamp()) order by s.id desc limit 200"""


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence as listed; `open_alerts` are those that it keeps from being told now."""

    number: int
    matches: dict[str, str]
    is_critical: bool
    placed_by: str
    reason: str
    placed_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    open_alerts: int

    @property
    def says(self) -> str:
        """Of which alerts, in words."""
        also = " (critical ones, too)" if self.is_critical else ""
        return ", ".join(f"{label} {value}" for label, value in sorted(self.matches.items())) + also


@dataclass(frozen=True, slots=True)
class Covered:
    """Open alerts with a silence's labels: those that it keeps from being told, and critical ones that it leaves out."""

    alerts: int
    left_out: int


def silence(
    connection: psycopg.Connection[Any],
    operator: Operator,
    matches: Mapping[str, str],
    reason: str,
    ends_at: datetime,
    *,
    is_critical: bool = False,
) -> tuple[int, Covered]:
    """Tell nobody of alerts with all of these labels until then, real time; its number, and what it is about of the open ones.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: no label, one that no alert can have, or an end that is past or too far.
    """
    said = ", ".join(f"{label}={value}" for label, value in sorted(matches.items()))
    _check(matches)
    require(connection, operator, "alerts.silence", said)
    values = {
        "matches": Jsonb(dict(matches)), "is_critical": is_critical, "by": operator.name, "reason": reason,
        "ends_at": ends_at,
    }  # fmt: skip
    with connection.transaction():
        number = _placed(connection, values)
        note(
            connection, operator.name, "alerts.silenced", f"silence/{number}", matches=dict(matches), reason=reason,
            is_critical=is_critical, until=ends_at.isoformat(),
        )  # fmt: skip
        covered, left_out = connection.execute(_COVERED, values).fetchone() or (0, 0)
    return number, Covered(covered, left_out)


def end_silence(connection: psycopg.Connection[Any], operator: Operator, number: int) -> dict[str, str]:
    """Tell of these alerts again, from now on; the labels that they have.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: there is no such silence, or it is over.
    """
    name = f"silence/{number}"
    require(connection, operator, "alerts.end_silence", name)
    with connection.transaction():
        row = connection.execute(_END, (operator.name, number)).fetchone()
        if row is None:
            raise ConfigError(f"{name} does not hold (any more): `hcp alerts silences` lists those that do")
        note(connection, operator.name, "alerts.silence_ended", name, matches=row[0])
    matches: dict[str, str] = row[0]
    return matches


def list_silences(connection: psycopg.Connection[Any], *, with_ended: bool) -> list[Silence]:
    """Silences, newest first, at most 200."""
    return [Silence(*row) for row in connection.execute(_LIST, (with_ended,)).fetchall()]


def until(now: datetime, ends_at: datetime | None, lasts: timedelta | None) -> datetime:
    """When a silence ends, real time.

    Raises:
        ConfigError: neither is given, or both are, or no calendar goes that far.
    """
    if (ends_at is None) == (lasts is None):
        raise ConfigError("until when? --for 2h or --until T, real time: a silence ends by itself")
    try:
        return ends_at if ends_at is not None else now + (lasts or timedelta())
    except OverflowError:
        raise ConfigError(
            f"no calendar has an end that far after {now:%Y-%m-%d}: a silence ends within 30 days"
        ) from None


def _placed(connection: psycopg.Connection[Any], values: Mapping[str, object]) -> int:
    try:
        with connection.transaction():
            row = connection.execute(_PLACE, values).fetchone()
    except psycopg.errors.CheckViolation:
        raise ConfigError(
            f"until {values['ends_at']:%Y-%m-%d %H:%M}Z: a silence ends after now, real time, within 30 days, or with --critical "
            "within one hour"
        ) from None
    assert row is not None
    return int(row[0])


def _check(matches: Mapping[str, str]) -> None:
    if not matches:
        raise ConfigError(
            "silence what? --kind, --facility, --group, --device or --label NAME=VALUE; `hcp alerts list --json` tells labels"
        )
    for label, value in matches.items():
        if not label or not value or len(value) > LABEL_MAX:
            told = f"label {label!r}, value {value[:40]!r}"
            raise ConfigError(f"{told}: neither may be empty, and a value has {LABEL_MAX} characters at most")
