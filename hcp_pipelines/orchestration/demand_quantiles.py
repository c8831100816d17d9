"""Quantiles of the GPUs that each class of work will ask for, hour by hour of a day: the champion's, where one serves."""

from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.orchestration import day_answers
from hcp_pipelines.orchestration.forecasting import DayForecast, refuse_future
from hcp_pipelines.settings import Settings

DEMAND, TABLE = "demand", "core.hcp__demand_quantiles"
SCHEMA: dict[str, Any] = {"demand_class": pl.String} | {k: v for k, v in day_answers.SCHEMA.items() if k != "entity"}


def demand_quantiles(
    connection: "psycopg.Connection[Any]", settings: Settings, day: tuple[datetime, datetime], now: datetime
) -> DayForecast:
    """Quantiles asked in each hour of a day that has begun; of the hours before the champion's training what stands stays.

    Raises:
        ConfigError: the day has not begun.
    """
    refuse_future(day[0], now)
    said = day_answers.answers(connection, settings, DEMAND, day_answers.begun(day, now), now)
    table = said.table.rename({"entity": "demand_class"}).select(*SCHEMA)
    kept = day_answers.kept(settings, TABLE, "asked_at", day, SCHEMA)
    if len(table):
        kept = kept.filter(pl.col("asked_at") < table["asked_at"].min())
    whole = pl.concat([table, kept]).sort("asked_at", "demand_class", "start_at")
    return DayForecast(whole, {"method": said.model or "none", "why": said.why})
