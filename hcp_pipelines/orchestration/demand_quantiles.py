"""Quantiles of the GPUs that each class of work will ask for, hour by hour of a day: the champion's, where one serves.

The newest word of it goes to Postgres too, where solves read it.
"""

from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.learnable.targets.demand import TOTAL
from hcp_pipelines.optimizer.queue.forecast import DEMAND, asked_from, usable
from hcp_pipelines.orchestration import day_answers
from hcp_pipelines.orchestration.forecasting import DayForecast, refuse_future
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import expected_demand

TABLE = "core.hcp__demand_quantiles"
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
    keep_newest(connection, table)
    kept = day_answers.kept(settings, TABLE, "asked_at", day, SCHEMA)
    if len(table):
        kept = kept.filter(pl.col("asked_at") < table["asked_at"].min())
    whole = pl.concat([table, kept]).sort("asked_at", "demand_class", "start_at")
    return DayForecast(whole, {"method": said.model or "none", "why": said.why})


def judge_champion(connection: "psycopg.Connection[Any]", now: datetime) -> Judged:
    """Whether solves can use the champion's newest word; passes where none serves yet, and says so."""
    said = expected_demand.said(connection, DEMAND)
    if said.serves is None:
        return Judged(True, f"room for work to come is the fixed share: {day_answers.nobody(DEMAND)}")
    try:
        usable(said, now, day_answers.QUANTILES[0])
    except ModelError as error:
        return Judged(False, f"room for work to come is the fixed share: {error}")
    if said.model != said.serves:
        until = f"{said.serves} serves and is asked from {asked_from(said):%Y-%m-%dT%H:%MZ} on; until then"
        return Judged(True, f"{until} the word of {said.model} stands, asked at {said.asked_at:%Y-%m-%dT%H:%MZ}")
    return Judged(True, f"{said.serves} serves, asked at {said.asked_at:%Y-%m-%dT%H:%MZ}")


def keep_newest(connection: "psycopg.Connection[Any]", table: pl.DataFrame) -> None:
    """Keep what was said in the last hour asked, of classes alone, for the solves."""
    newest = table.filter((pl.col("asked_at") == pl.col("asked_at").max()) & (pl.col("demand_class") != TOTAL))
    if newest.is_empty():
        return
    columns = ["demand_class", "start_at", *day_answers.QUANTILES]
    hours = [expected_demand.Hour(name, at, gpus) for name, at, *gpus in newest.select(columns).iter_rows()]
    expected_demand.keep(connection, hours, newest["model"][0], newest["asked_at"][0])
