"""What the forecast assets do: read prices from the lake as they were known, peaks of a day, how good its forecasts were.

Quantiles of prices are in `price_quantiles`. Models and scores are in `forecasting`, where no Dagster is. Demand, its forecast,
capacity prices, wind and weather are recorded only where the world replays a folder that has them; elsewhere the forecasts do
without, and say so.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.ticks import ACTIONABLE, Stream
from hcp_pipelines.forecasting import peaks
from hcp_pipelines.forecasting.hours import FORECAST, HOUR_US, LOAD, Floats, Hours, Ints, microseconds
from hcp_pipelines.forecasting.known_prices import (
    PRICES,
    history_known,
    known_hours_of,
    known_series,
    points_of,
)  # fmt: skip
from hcp_pipelines.forecasting.power_forecast import empty_table
from hcp_pipelines.forecasting.quantile_scores import empty_scores, scores
from hcp_pipelines.forecasting.rolling import with_prices
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.site import FourPeaks
from hcp_pipelines.optimizer.backtest.power_series import grid_columns
from hcp_pipelines.orchestration.history.tables import POWER_PRICE
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb

LESSONS = timedelta(days=400)  # of history that is learnt from
PEAK_LESSONS = timedelta(days=4 * 366)
PEAKS_AHEAD = timedelta(hours=48)  # past a day of UTC: the local day after its last hour's is over before that
NO_DEMAND = f"no demand is recorded: replay a folder that has {LOAD} and {FORECAST} (HCP_WORLD=replay:DIR)"
PEAKS: dict[str, Any] = {
    "start_at": INSTANT, "is_charged": pl.Boolean, "probability_day_ahead": pl.Float64, "probability": pl.Float64,
    "trained_until": INSTANT,
}  # fmt: skip
TICKS, QUANTILES = "raw.price_ticks", "core.power__price_quantiles"
HISTORY = {"raw.ercot__rt_spp": Stream.POWER_RT_SPP, "raw.ercot__da_spp": Stream.POWER_DA_SPP}
HISTORY_SQL = """
select start_at, settlement_point, price_usd_per_mwh from lake.{} where start_at >= ? and start_at < ?
  and price_usd_per_mwh is not null"""  # nobody withdraws a price here: that is a revision
CORRECTED_SQL = """
select start_at, settlement_point, case when not is_withdrawn then price_usd_per_mwh end as price_usd_per_mwh, revision, known_at
from lake.{}_revisions where start_at >= ? and start_at < ?
qualify max(revision) over (partition by start_at, settlement_point) > 0"""
NOT_CORRECTED = pl.DataFrame(
    schema={"start_at": INSTANT, "settlement_point": pl.String, "price_usd_per_mwh": pl.Float64, "revision": pl.Int32,
            "known_at": INSTANT}
)  # fmt: skip
TICKS_SQL = f"""
select stream, series as settlement_point, "timestamp" as start_at, value as price_usd_per_mwh, received_at as known_at
from lake.{TICKS}
where stream in ('{Stream.POWER_RT_SPP}', '{Stream.POWER_DA_SPP}') and "timestamp" >= ? and "timestamp" < ?
  and quality in ({", ".join(f"'{quality}'" for quality in ACTIONABLE)})"""  # noqa: S608 - our constants


@dataclass(frozen=True)
class DayForecast:
    """A table, and what a reader must know of it."""

    table: pl.DataFrame
    told: dict[str, Any]


def coincident_peaks(settings: Settings, day: tuple[datetime, datetime], now: datetime) -> DayForecast:
    """The probability that each hour of a day is its month's peak, as of the day before and as of its beginning.

    Null where it could not be asked yet. What is known is cut at the present, and learnt from what was over when the day began.
    `method` tells how many hours were counted over paths, and for how many the regression spoke.

    Raises:
        ConfigError: the day has not begun.
    """
    refuse_future(day[0], now)
    at = min(day[1], now)
    ends = microseconds(day[1] + PEAKS_AHEAD)
    starts = np.arange(microseconds(day[0] - PEAK_LESSONS), ends, HOUR_US, dtype=np.int64)
    grid = recorded_grid(settings, starts)
    there = np.flatnonzero(np.isfinite(grid[LOAD]) & (starts < microseconds(day[1])))
    if not len(there):
        return _no_peaks(NO_DEMAND)
    starts, grid = starts[there[0] :], {name: values[there[0] :] for name, values in grid.items()}
    hours = known_hours_of(grid, starts, at)
    rows = np.arange(hours.row_at(day[0]), hours.row_at(day[1]))
    if not np.isfinite(hours.load_mw[max(rows[0] - 24, 0) : rows[0]]).any():
        return _no_peaks(f"no {LOAD} of the day before is recorded")
    try:
        begun, ahead, way = peaks.chances_told(hours, rows, FourPeaks().months, day[0])
    except ConfigError as error:
        return _no_peaks(str(error))
    table = _peak_table(hours, rows, at, (begun, ahead)).with_columns(trained_until=pl.lit(day[0], INSTANT))
    said = pl.Series("way", way).filter(table["probability"].is_not_null())
    method = ", ".join(f"{name}: {n} h" for name, n in said.value_counts().sort("way").rows())
    return DayForecast(table, {"method": method or "none", "why": "demand and its forecast are recorded"})


def upcoming_chances(table: pl.DataFrame, now: datetime) -> dict[datetime, float]:
    """The newest chance of the running hour and of those to come, by beginning; hours without one are left out."""
    chance = pl.coalesce("probability", "probability_day_ahead")
    rows = table.filter(pl.col("start_at") > now - timedelta(hours=1)).select("start_at", chance).drop_nulls()
    return dict(rows.iter_rows())


def _no_peaks(why: str) -> DayForecast:
    return DayForecast(pl.DataFrame(schema=PEAKS), {"method": "none", "why": why})


def _peak_table(hours: Hours, rows: Ints, at: datetime, chances: tuple[Floats, Floats]) -> pl.DataFrame:
    """The chances of hours as they begin and the day before; null where, at an instant, they could not be asked yet."""
    begun, ahead = chances
    is_charged = np.isin(hours.month_of_year[rows], FourPeaks().months)
    is_published = np.isfinite(hours.forecast_mw[rows])
    has_begun = hours.starts_us[rows] <= microseconds(at)
    table = {
        "start_at": hours.starts_us[rows],
        "is_charged": is_charged,
        "probability_day_ahead": np.where(is_published | ~is_charged, ahead, np.nan),
        "probability": np.where(has_begun & is_published | ~is_charged, begun, np.nan),
    }
    return pl.DataFrame(table).with_columns(pl.col("start_at").cast(INSTANT), pl.col(pl.Float64).fill_nan(None))


def forecast_scores(settings: Settings, day: tuple[datetime, datetime], now: datetime) -> pl.DataFrame:
    """Scores of the forecasts of a day's hours, as far as those are over: a row a point, method and horizon."""
    forecasts = forecasts_of(settings, day)
    if forecasts.is_empty():
        return empty_scores()
    prices = read_prices(settings, (day[0], min(day[1], now)))
    starts = np.arange(microseconds(day[0]), microseconds(day[1]), HOUR_US, dtype=np.int64)
    found = [empty_scores()]
    for series in known_series(prices, points_of(prices), now, {}, starts):
        settled = with_prices(forecasts.filter(pl.col("settlement_point") == series.point), series)
        settled = settled.filter(pl.col("price_usd_per_mwh").is_not_null())
        for (method,), rows in settled.group_by("method", maintain_order=True):
            told = scores(rows).with_columns(
                day_start_at=pl.lit(day[0], INSTANT), settlement_point=pl.lit(series.point), method=pl.lit(method)
            )
            found.append(told.select(found[0].columns))
    return pl.concat(found)


def read_prices(settings: Settings, window: tuple[datetime, datetime]) -> pl.DataFrame:
    """Rows of `PRICES` that start in a window: ticks since they came, and fetched history since it was published.

    Absurd prices are left out, whoever wrote them; what is withdrawn is null.
    """
    from hcp_pipelines.storage import lake

    found = [pl.DataFrame(schema=PRICES)]
    with lake.attach(settings, read_only=True) as connection:
        for table, stream in HISTORY.items():
            if has_tables(settings, [table]):
                newest = connection.execute(HISTORY_SQL.format(table), list(window)).pl()
                found.append(history_known(newest, _corrected(settings, connection, table, window), stream))
        if has_tables(settings, [TICKS]):
            ticks = connection.execute(TICKS_SQL, list(window)).pl()
            found.append(ticks.select(pl.col(name).cast(kind) for name, kind in PRICES.items()))
    return pl.concat(found).filter(
        pl.col("price_usd_per_mwh").is_between(*POWER_PRICE) | pl.col("price_usd_per_mwh").is_null()
    )


def _corrected(
    settings: Settings, connection: "duckdb.DuckDBPyConnection", table: str, window: tuple[datetime, datetime]
) -> pl.DataFrame:
    """Every word on the prices of a window that were corrected or withdrawn since they were first fetched."""
    if not has_tables(settings, [f"{table}_revisions"]):
        return NOT_CORRECTED
    return connection.execute(CORRECTED_SQL.format(table), list(window)).pl()


def recorded_grid(settings: Settings, starts: Ints) -> dict[str, Floats]:
    """What the replayed folder records of the grid by hour; NaN throughout where the world is not a replay."""
    return grid_columns(Sources(settings.replay_dir), starts)


def forecasts_of(settings: Settings, day: tuple[datetime, datetime]) -> pl.DataFrame:
    """Forecasts of a day's hours from the lake, whenever they were asked."""
    from hcp_pipelines.storage import lake

    if not has_tables(settings, [QUANTILES]):
        return empty_table()
    query = f"select * from lake.{QUANTILES} where start_at >= ? and start_at < ? order by all"  # noqa: S608 - our table
    with lake.attach(settings, read_only=True) as connection:
        rows = connection.execute(query, list(day)).pl()
    return rows.select(pl.col(name).cast(kind) for name, kind in empty_table().schema.items())


def refuse_future(start: datetime, now: datetime) -> None:
    """Raise ConfigError where a day has not begun."""
    if start > now:
        raise ConfigError(
            f"{start:%Y-%m-%d} has not begun: it is {now:%Y-%m-%d %H:%M}Z in this world. Choose a day up to today."
        )
