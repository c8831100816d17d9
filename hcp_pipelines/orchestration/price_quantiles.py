"""Quantiles of the power price of a day, hour by hour: the registered champion says them; where it can't, a plain anchor.

Nothing is learnt here but the anchor's errors.
"""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.forecasting.baselines import known_hours, learn_baseline
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.known_prices import GRACE, known_series, points_of, starts_until
from hcp_pipelines.forecasting.power_forecast import LEVEL_COLUMNS, PLAIN, POINT_COLUMNS, empty_table, forecast_table
from hcp_pipelines.orchestration import day_answers
from hcp_pipelines.orchestration.forecasting import QUANTILES, DayForecast, read_prices, recorded_grid, refuse_future
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.training.lessons import LOOKED_BACK
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings

PRICE = "price"
KEYS = ["settlement_point", "issued_at", "start_at"]
_NAMES = {
    "entity": "settlement_point", "asked_at": "issued_at", "model": "method",
    **dict(zip(day_answers.QUANTILES, LEVEL_COLUMNS, strict=True)),
}  # fmt: skip
_NEWEST = f"""
select issued_at, min(method) from lake.{QUANTILES} where issued_at = (select max(issued_at) from lake.{QUANTILES})
group by all"""  # noqa: S608 - our table


def price_quantiles(
    connection: "psycopg.Connection[Any]", settings: Settings, day: tuple[datetime, datetime], now: datetime
) -> DayForecast:
    """Quantiles asked at each hour of a day that began `GRACE` ago or earlier, of nothing that was known later.

    The champion says them of the hours since its training; of those before, what a champion of then said stays as it is. All
    others have the plain anchor, with the quantiles of its errors when the day began: no hour goes without.

    Raises:
        ConfigError: the day has not begun.
    """
    refuse_future(day[0], now)
    until = min(day[1], now)
    prices = read_prices(settings, (day[0] - LOOKED_BACK, until + timedelta(days=2)))
    if not (points := points_of(prices)):
        return DayForecast(empty_table(), {"method": "none", "why": "no real-time settlement price is in the lake yet"})
    starts = starts_until(prices, until)
    grid = recorded_grid(settings, starts)
    lessons = known_series(prices, points, day[0], grid, starts)
    plain, tables = learn_baseline(lessons, day[0]), [empty_table()]
    begun = day_answers.begun(day, now - GRACE)  # asked of later ones, only the anchor would answer
    hours = [at for at in begun if microseconds(at) >= starts[0]]  # before, nothing is recorded
    for at in hours:
        row = np.array([np.searchsorted(starts, microseconds(at))])
        tables += [forecast_table(plain, series, row) for series in known_series(prices, points, at, grid, starts)]
    said = day_answers.answers(connection, settings, PRICE, hours, now)
    table = _joined(pl.concat(tables), said.table.rename(_NAMES), _kept(settings, day))
    told = {
        "method": said.model or plain.method,
        "why": said.why,
        "rows_by_method": ", ".join(f"{method}: {n}" for method, n in table["method"].value_counts().sort("method").rows()),
        "history_h": max(known_hours(series, day[0]) for series in lessons),
        "points": ", ".join(points),
        "recorded": ", ".join(name for name, values in grid.items() if np.isfinite(values).any()) or "prices alone",
    }  # fmt: skip
    return DayForecast(table, told)


def judge_champion(connection: "psycopg.Connection[Any]", settings: Settings) -> Judged:
    """Whether the newest forecast is the champion's; passes where none serves yet, and says so."""
    from hcp_pipelines.storage import lake

    serving, why = day_answers.who_serves(connection, PRICE)
    if serving is None:
        return Judged(why == day_answers.nobody(PRICE), f"the plain anchor stands: {why}")
    row = None
    if has_tables(settings, [QUANTILES]):
        with lake.attach(settings, read_only=True) as on_lake:
            row = on_lake.execute(_NEWEST).fetchone()
    if row is None or row[0] < serving.fitted.trained_until or row[1] == serving.model:
        return Judged(True, f"{serving.model} serves")
    return Judged(
        False, f"{serving.model} serves, and {row[1]} made the newest forecast: the run of {QUANTILES} says why"
    )


def _kept(settings: Settings, day: tuple[datetime, datetime]) -> pl.DataFrame:
    """What models said of a day before, from the lake."""
    rows = day_answers.kept(settings, QUANTILES, "issued_at", day, empty_table().schema)
    return rows.filter(~pl.col("method").str.contains(PLAIN))


def _joined(anchored: pl.DataFrame, said: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """The champion's rows beside the baselines, then what stays of earlier champions, then the anchor's."""
    ahead = ((pl.col("start_at") - pl.col("issued_at")).dt.total_hours() + 1).alias("ahead_h")
    beside = anchored.select(*KEYS, *POINT_COLUMNS)
    answered = said.with_columns(ahead).join(beside, on=KEYS, how="left", maintain_order="left")
    if len(answered):
        kept = kept.filter(pl.col("issued_at") < answered["issued_at"].min())
    whole = pl.concat(each.select(anchored.columns) for each in (answered, kept, anchored))
    return whole.unique(KEYS, keep="first", maintain_order=True).sort("issued_at", "settlement_point", "start_at")
