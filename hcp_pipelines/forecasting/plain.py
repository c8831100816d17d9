"""The plain power forecast: the day-ahead price, bent towards the last real-time price, which fades with its age.

No training, no weather: the reference that a learnt forecast has to beat. Quantiles come with that one.
"""

from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT

HALF_LIFE_MINUTES = 45.0  # setting: after so long half of the last deviation from the day-ahead price is left
STEP = "15m"
FORECAST_SCHEMA = {
    "settlement_point": pl.String(), "interval_start": INSTANT, "price_usd_per_mwh": pl.Float64(),
    "day_ahead_usd_per_mwh": pl.Float64(), "available_at": INSTANT, "method": pl.String(),
}  # fmt: skip


def forecast_power(
    da_prices: pl.DataFrame,
    last_lmps: pl.DataFrame,
    at: datetime,
    horizon: timedelta,
    half_life_minutes: float = HALF_LIFE_MINUTES,
) -> pl.DataFrame:
    """Expected real-time price of each 15-minute interval that starts in [at, at + horizon), by settlement point.

    price = day-ahead + 2^(−age / half life) · (last LMP − day-ahead at the last LMP); where no day-ahead price is known,
    the last LMP stays. Points without any LMP by then get the day-ahead price, or no row.

    Args:
        da_prices: `settlement_point`, `interval_start` (hour), `price_usd_per_mwh`, `available_at`.
        last_lmps: `settlement_point`, `source_at`, `lmp_usd_per_mwh`, `available_at`; any number of rows a point.
        at: what became available later is not looked at.
        horizon: how far ahead.
        half_life_minutes: of the last deviation.

    Returns:
        `FORECAST_SCHEMA`, one row per point and interval, sorted; `available_at` is `at`.
    """
    known_da = _newest(da_prices.filter(pl.col("available_at") <= at), ["settlement_point", "interval_start"])
    hours = known_da.select("settlement_point", "interval_start", day_ahead_usd_per_mwh="price_usd_per_mwh")
    last = _last_lmp(last_lmps, hours, at)
    minutes = (pl.col("interval_start") - pl.col("source_at")).dt.total_minutes()
    left = pl.lit(2.0).pow(-pl.max_horizontal(minutes, pl.lit(0)) / half_life_minutes)
    day_ahead = pl.col("day_ahead_usd_per_mwh")
    deviation = pl.col("lmp_usd_per_mwh") - pl.col("day_ahead_at_last")
    price = (
        pl.when(day_ahead.is_null())
        .then(pl.col("lmp_usd_per_mwh"))
        .when(deviation.is_null())
        .then(day_ahead)
        .otherwise(day_ahead + left * deviation)
    )
    points = pl.concat([hours.select("settlement_point"), last.select("settlement_point")]).unique()
    return (
        _with_day_ahead(points.join(_grid(at, horizon), how="cross"), "interval_start", hours)
        .join(last, on="settlement_point", how="left")
        .with_columns(price_usd_per_mwh=price, available_at=pl.lit(at), method=pl.lit("plain"))
        .drop_nulls("price_usd_per_mwh")
        .sort("settlement_point", "interval_start")
        .select(*FORECAST_SCHEMA)
    )


def _newest(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The last published row of each key."""
    return frame.sort("available_at").unique(keys, keep="last", maintain_order=True)


def _last_lmp(lmps: pl.DataFrame, hours: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """The newest LMP known of each point, with the day-ahead price of its hour."""
    known = lmps.filter(pl.col("available_at") <= at).sort("source_at", "available_at")
    newest = known.unique("settlement_point", keep="last", maintain_order=True)
    newest = newest.select("settlement_point", "source_at", "lmp_usd_per_mwh")
    return _with_day_ahead(newest, "source_at", hours).rename({"day_ahead_usd_per_mwh": "day_ahead_at_last"})


def _with_day_ahead(frame: pl.DataFrame, instant: str, hours: pl.DataFrame) -> pl.DataFrame:
    hour = frame.with_columns(_hour=pl.col(instant).dt.truncate("1h"))
    return hour.join(
        hours, left_on=["settlement_point", "_hour"], right_on=["settlement_point", "interval_start"], how="left"
    ).drop("_hour")


def _grid(at: datetime, horizon: timedelta) -> pl.DataFrame:
    """Interval starts of the horizon."""
    starts = pl.datetime_range(at, at + horizon, STEP, closed="left", eager=True, time_zone="UTC")
    return starts.dt.truncate(STEP).alias("interval_start").to_frame().unique(maintain_order=True)
