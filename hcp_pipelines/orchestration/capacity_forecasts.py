"""What the assets of the fleet's forecasts do: ask who serves for a day's questions, and keep the rows that the API tells.

Nothing is fitted here. Until a model of a target has been promoted, and where the champion can't be asked, persistence answers,
with errors that are assumed where there is too little history to count them; `model` says which it was.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fleet_days import FLEET_HOURS, TABLE
from hcp_pipelines.forecasting.capacity.needs import NEEDS, forecast_capacity_needs
from hcp_pipelines.forecasting.capacity.risk import chance_of_any
from hcp_pipelines.forecasting.capacity.targets import CAPACITY, FAILURE_RISK, UTILIZATION, FleetTarget
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.models import Naive
from hcp_pipelines.forecasting.learnable.protocol import LAST, LEVELS, Examples, Fitted
from hcp_pipelines.forecasting.serving import Served
from hcp_pipelines.orchestration.day_answers import who_serves
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import capacity_forecasts as kept

LOOKED_BACK = timedelta(days=90)
DAY = timedelta(days=1)
# Errors of persistence as shares of the scale, a level each, while too few can be counted: of use, and of what is available.
ASSUMED = {
    UTILIZATION.name: (-0.25, -0.15, -0.05, 0.0, 0.05, 0.15, 0.25),
    CAPACITY.name: (-0.05, -0.03, -0.01, 0.0, 0.005, 0.01, 0.02),
    FAILURE_RISK.name: (-1.0, -1.0, 0.0, 0.0, 1.0, 2.0, 3.0),
}
PLANNED: dict[str, Any] = {**NEEDS, "model": pl.String}
QUANTILES: dict[str, Any] = {
    "target": pl.String, "entity": pl.String, "asked_at": INSTANT, "start_at": INSTANT, "scale": pl.Float64,
    **{f"q{round(level * 100):02}": pl.Float64 for level in LEVELS}, "chance_of_any": pl.Float64, "model": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Foretold:
    """A table, and what a reader must know of it."""

    table: pl.DataFrame
    told: dict[str, Any]


def plan(settings: Settings, connection: psycopg.Connection[Any], day: datetime) -> Foretold:
    """Use and recommended devices of the thirty days from a midnight on, asked then: by facility and type. Kept for the API."""
    asked = _questions(settings, UTILIZATION, day)
    if isinstance(asked, str):
        return Foretold(pl.DataFrame(schema=PLANNED), {"model": "none", "why": asked})
    fitted, model, why = _who_answers(connection, UTILIZATION, asked, day)
    table = forecast_capacity_needs(fitted, asked.of_day).with_columns(model=pl.lit(model))
    columns = ["facility_id", "type", "date", "predicted_utilization", "recommended_capacity", "model", "asked_at"]
    new = kept.keep(connection, (kept.DayForecast(*row) for row in table.select(columns).iter_rows()))
    return Foretold(table, {"model": model, "why": why, "new_rows": new})


def availability(settings: Settings, connection: psycopg.Connection[Any], day: datetime) -> Foretold:
    """Quantiles of available device-hours of seven days and of failures of one, from a midnight on, by facility and group."""
    tables, models, reasons = [pl.DataFrame(schema=QUANTILES)], [], []
    for target in (CAPACITY, FAILURE_RISK):
        asked = _questions(settings, target, day)
        if isinstance(asked, str):
            reasons.append(asked)
            continue
        fitted, model, why = _who_answers(connection, target, asked, day)
        tables.append(_quantile_rows(target, fitted, asked.of_day, model))
        models.append(model)
        reasons.append(why)
    whys = "; ".join(dict.fromkeys(reasons))
    return Foretold(pl.concat(tables), {"model": ", ".join(models) or "none", "why": whys})


@dataclass(frozen=True)
class _Asked:
    """Questions of the weeks before, and those of the day alone."""

    before: Examples
    of_day: Examples


def _questions(settings: Settings, target: FleetTarget, day: datetime) -> _Asked | str:
    """A target's questions at a midnight; why there are none."""
    with reading(settings) as reader:
        sql = f"select * from lake.{TABLE} where start_at >= ? and start_at < ? and known_at <= ? order by all"  # noqa: S608
        hours = reader.table(TABLE, sql, (day - LOOKED_BACK, day, day), FLEET_HOURS)
    try:
        before = target.examples({TABLE: hours}, (day - LOOKED_BACK, day + DAY))
        of_day = target.examples({TABLE: hours}, (day, day + DAY))
    except ConfigError as error:
        return str(error)
    return _Asked(before, of_day)


def _who_answers(
    connection: psycopg.Connection[Any], target: FleetTarget, asked: _Asked, day: datetime
) -> tuple[Fitted, str, str]:
    """Who is asked about a day, its name and why: the champion, unless it can't be, or learnt from later; else persistence."""
    served, why = who_serves(connection, target.name)
    if served is not None and not (why := _why_not(served, asked, day)):
        return served.fitted, served.model, _how(served.fitted)
    highest = None if target is FAILURE_RISK else 1.0
    plain = Naive(Framing(LAST, lowest=0.0, highest=highest), assumed=ASSUMED[target.name])
    fitted = plain.fit(asked.before, day)
    return fitted, f"{target.name}/{plain.name}", f"{_how(fitted)}; {why}"


def _why_not(served: Served, asked: _Asked, day: datetime) -> str:
    """Why a champion can't be asked about a day; empty where it can."""
    if served.fitted.trained_until > day:
        return f"{served.model} learnt from what was later than the day"
    try:
        asked.of_day.matrix(served.fitted.columns)
    except ConfigError as error:
        return f"{served.model} can't be asked: {error}"
    return ""


def _how(fitted: Fitted) -> str:
    about = fitted.describe()
    if about.get("is_assumed"):
        return f"persistence with assumed errors: {about['why']}"
    return f"{fitted.name}, learnt from what was known by {fitted.trained_until:%Y-%m-%dT%H:%MZ}"


def _quantile_rows(target: FleetTarget, fitted: Fitted, asked: Examples, model: str) -> pl.DataFrame:
    quantiles = fitted.predict(asked)
    at, start = (pl.Series(each).cast(INSTANT) for each in (asked.asked_us, asked.wanted_us))
    columns: dict[str, Any] = {
        "target": target.name, "entity": pl.Series(asked.entities, dtype=pl.String).gather(asked.entity), "asked_at": at,
        "start_at": start, "scale": asked.scale, "model": model,
    }  # fmt: skip
    columns |= {f"q{round(level * 100):02}": quantiles[:, n] for n, level in enumerate(fitted.levels)}
    is_count = target is FAILURE_RISK
    columns["chance_of_any"] = chance_of_any(quantiles, fitted.levels) if is_count else np.full(len(asked), np.nan)
    rows = pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None))
    return rows.select(pl.col(name).cast(kind) for name, kind in QUANTILES.items()).drop_nulls("q50")
