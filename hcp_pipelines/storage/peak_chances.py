"""The chances that hours are their month's peak of demand, as rows of `peak_chances`: the newest word on each hour.

Forecasts write them, solves read them: the lake, which keeps every word, is too far from a tick's run.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

HOUR = timedelta(hours=1)
_KEEP = """
    insert into peak_chances (hour_at, probability, known_at) values (%s, %s, %s)
    on conflict (hour_at) do update set probability = excluded.probability, known_at = excluded.known_at,
        recorded_at = clock_timestamp()
    where peak_chances.known_at <= excluded.known_at"""
_CHANCES = """
    select hour_at, probability from peak_chances
    where hour_at > %s and hour_at < %s and known_at <= %s and probability > 0 order by hour_at"""


def keep(connection: "psycopg.Connection[Any]", chances: Mapping[datetime, float], known_at: datetime) -> None:
    """Keep the chances of hours by their beginning, in one transaction; an older word changes nothing."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_KEEP, [(hour_at, chance, known_at) for hour_at, chance in chances.items()])


def chances(connection: "psycopg.Connection[Any]", start: datetime, end: datetime) -> list[tuple[datetime, float]]:
    """(beginning, chance) of the hours that touch [start, end) and may be a peak, as known at `start`; oldest first."""
    return connection.execute(_CHANCES, (start - HOUR, end, start)).fetchall()
