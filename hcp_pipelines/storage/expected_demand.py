"""The GPUs that work will ask for, as rows of `expected_demand`: the newest word of a model that serves or did, and no other.

Forecasts write them, solves read them: the lake, which keeps every word, is too far from a tick's run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

_NEWEST = "select max(asked_at) from expected_demand"
_KEEP = "insert into expected_demand (demand_class, hour_at, gpus, model, asked_at) values (%s, %s, %s, %s, %s)"
# One statement: rows of one asking, and who serves at the same instant. The newest audit row of a champion began its reign.
_SAID = """
    with c as materialized (
        select m.name || '/' || m.version as serves, m.trained_until, m.name || '/' || reign.before as before
        from (select %s::text as name) asked
        left join models m on m.name = asked.name and m.status = 'champion'
        left join lateral (
            select case when action = 'model.promote' then detail ->> 'before' end as before from audit_log
            where action in ('model.promote', 'model.rollback') and subject = m.name || ' ' || m.version
            order by id desc limit 1) reign on true)
    select e.demand_class, e.hour_at, e.gpus, e.model, e.asked_at,
           extract(epoch from clock_timestamp() - e.recorded_at)::float8, c.serves, c.trained_until, c.before
    from c left join expected_demand e on true order by e.demand_class, e.hour_at"""


@dataclass(frozen=True, slots=True)
class Hour:
    """Quantiles of what a class asks for in the hour that begins then, lowest first."""

    demand_class: str
    hour_at: datetime
    gpus: Sequence[float]


@dataclass(frozen=True, slots=True)
class Said:
    """What was said last, by whom, when it was asked and how long ago it was kept (real); and who serves now, none: nobody.

    `trained_until`: of who serves; `before`: whose place that took as it was promoted, none where nobody served or by a rollback.
    """

    hours: tuple[Hour, ...]
    model: str
    asked_at: datetime | None
    kept_for_s: float | None
    serves: str | None
    trained_until: datetime | None = None
    before: str | None = None


def keep(connection: "psycopg.Connection[Any]", hours: Sequence[Hour], model: str, asked_at: datetime) -> bool:
    """Keep what was said in place of what was said before, in one transaction; an older word changes nothing."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("lock table expected_demand in share row exclusive mode")
        row = cursor.execute(_NEWEST).fetchone()
        if row is not None and row[0] is not None and row[0] > asked_at:
            return False
        cursor.execute("delete from expected_demand")
        cursor.executemany(_KEEP, [(one.demand_class, one.hour_at, list(one.gpus), model, asked_at) for one in hours])
    return True


def said(connection: "psycopg.Connection[Any]", name: str) -> Said:
    """The newest word, whoever said it, and which version of the name serves."""
    rows = connection.execute(_SAID, (name,)).fetchall()
    hours = tuple(Hour(row[0], row[1], row[2]) for row in rows if row[0] is not None)
    model, *others = rows[0][3:]  # of who serves there is always a row
    return Said(hours, model or "", *others)
