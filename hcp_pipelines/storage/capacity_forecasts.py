"""Forecasts of the use of devices by day, as rows of `capacity_forecasts`: the API tells the newest word on each day.

A day's word is kept once for each instant at which it was asked: what is made again changes nothing.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg

BUFFER_PERCENT = 20.0  # of the devices that will be in use, on top of them: what `recommended_capacity` has in it
_KEEP = """
    insert into capacity_forecasts (facility_id, type, day, predicted_utilization, recommended_capacity, model, made_at)
    select %s, %s, %s, %s, %s, %s, %s where exists (select from facilities where id = %s)
    on conflict do nothing"""


class DayForecast(NamedTuple):
    """One row."""

    facility_id: str
    type: str
    day: date
    predicted_utilization: float
    recommended_capacity: int
    model: str
    made_at: datetime


def keep(connection: "psycopg.Connection[Any]", forecasts: Iterable[DayForecast]) -> int:
    """Keep forecasts in one transaction; how many were new. Those of facilities that are no more are left out."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_KEEP, [(*each, each.facility_id) for each in forecasts])
        return cursor.rowcount
