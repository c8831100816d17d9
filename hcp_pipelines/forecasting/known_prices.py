"""A settlement point's series as they were known at an instant, from rows that say since when each is known. Reads nothing.

What is not in the rows (demand, its forecast, capacity prices, wind, temperature) comes as columns by hour, and is cut by the
rules of `forecasting.hours`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.forecasting.horizon_features import LONGEST_AHEAD_H, PowerSeries
from hcp_pipelines.forecasting.hours import (
    FORECAST,
    GRID,
    HOUR_US,
    LOAD,
    MCPC,
    TEMPERATURE,
    WIND,
    Floats,
    Hours,
    Ints,
    hours_of,
    microseconds,
    published_at,
)  # fmt: skip

PRICES: Mapping[str, pl.DataType] = {
    "stream": pl.String(),
    "settlement_point": pl.String(),
    "start_at": INSTANT,
    "price_usd_per_mwh": pl.Float64(),
    "known_at": INSTANT,
}
INTERVAL = timedelta(minutes=15)
LEAST_INTERVALS = 3  # of an hour's four: with fewer its mean is not known


def history_known(newest: pl.DataFrame, corrected: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Rows of `PRICES` from fetched history, each known since the rule says so, and corrections since they were heard of.

    Args:
        newest: `start_at`, `settlement_point` and `price_usd_per_mwh` as they stand.
        corrected: every word on those that were corrected, with `revision` and `known_at` too; null where withdrawn.
        stream: real-time or day-ahead prices.
    """
    untouched = newest.join(corrected, on=["start_at", "settlement_point"], how="anti")
    first, later = corrected.filter(pl.col("revision") == 0), corrected.filter(pl.col("revision") > 0)
    words = [_by_rule(pl.concat([untouched, first.select(untouched.columns)]), stream), later]
    return pl.concat(
        each.with_columns(stream=pl.lit(stream.value)).select(pl.col(n).cast(t) for n, t in PRICES.items())
        for each in words
    )


def _by_rule(history: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """With the instant since which a price that was not corrected is known."""
    if stream is Stream.POWER_RT_SPP:
        known = pl.col("start_at") + INTERVAL
    else:
        hours = history["start_at"].unique().to_list()
        known = pl.col("start_at").replace_strict(hours, [published_at(hour) for hour in hours], return_dtype=INSTANT)
    return history.with_columns(known_at=known)


def points_of(prices: pl.DataFrame) -> list[str]:
    """Settlement points with real-time prices, by name."""
    is_real_time = pl.col("stream") == Stream.POWER_RT_SPP.value
    return sorted(prices.filter(is_real_time)["settlement_point"].unique().to_list())


def as_of(prices: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """The newest row of each stream, point and start among those known by an instant, where that has a price."""
    known = prices.filter(pl.col("known_at") <= at).sort("known_at", maintain_order=True)
    newest = known.unique(["stream", "settlement_point", "start_at"], keep="last", maintain_order=True)
    return newest.drop_nulls("price_usd_per_mwh")


def starts_until(prices: pl.DataFrame, at: datetime) -> Ints:
    """Hours from the first price to the last one that a forecast asked at an instant may want, microseconds since 1970."""
    first = prices["start_at"].min()
    assert isinstance(first, datetime)
    last = microseconds(at) // HOUR_US * HOUR_US + LONGEST_AHEAD_H * HOUR_US
    return np.arange(microseconds(first) // HOUR_US * HOUR_US, last, HOUR_US, dtype=np.int64)


def known_series(
    prices: pl.DataFrame, points: Sequence[str], at: datetime, grid: Mapping[str, Floats], starts: Ints
) -> list[PowerSeries]:
    """The series of points as they were known at an instant.

    Args:
        prices: rows of `PRICES`.
        points: settlement points, each with a series in the answer.
        at: nothing that became known later is in it.
        grid: columns of `GRID` by hour of `starts`, NaN where nothing is recorded; what is missing is NaN.
        starts: of the hours, microseconds since 1970.
    """
    known, hours = as_of(prices, at), known_hours_of(grid, starts, at)
    wind = _cut(grid.get(WIND, np.full(len(starts), np.nan)), np.arange(len(starts)) < _row_of(starts, at))
    frame = pl.DataFrame({"start_at": starts}).with_columns(pl.col("start_at").cast(INSTANT))
    found = []
    for point in points:
        rows = known.filter(pl.col("settlement_point") == point)
        real_time = _of_hours(rows.filter(pl.col("stream") == Stream.POWER_RT_SPP.value), frame, at)
        day_ahead = frame.join(
            rows.filter(pl.col("stream") == Stream.POWER_DA_SPP.value), on="start_at", how="left", maintain_order="left"
        )
        found.append(
            PowerSeries(
                point,
                hours,
                _values(real_time, "mean"),
                _values(real_time, "last"),
                _values(day_ahead, "price_usd_per_mwh"),
                wind,
            )
        )
    return found


def known_hours_of(grid: Mapping[str, Floats], starts: Ints, at: datetime) -> Hours:
    """The hours of the grid as they were known at an instant."""
    nothing = np.full(len(starts), np.nan)
    column = {name: grid.get(name, nothing) for name in GRID}
    mcpc = np.stack([column[name] for name in MCPC])
    whole = hours_of(starts, mcpc, column[LOAD], column[FORECAST], column[TEMPERATURE])
    row = _row_of(starts, at)
    over, published = np.arange(len(whole)) < row, whole.ahead_rows < row
    load, forecast = _cut(column[LOAD], over), _cut(column[FORECAST], published)
    return hours_of(starts, _cut(mcpc, published), load, forecast, _cut(column[TEMPERATURE], over))


def _row_of(starts: Ints, at: datetime) -> int:
    """The hour that an instant lies in: those before it are over."""
    return int(np.searchsorted(starts, microseconds(at), side="right")) - 1


def _of_hours(rows: pl.DataFrame, hours: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Mean and last interval of each hour that is over, null where too few intervals are known."""
    by_hour = (
        rows.filter(pl.col("start_at").dt.truncate("1h") + timedelta(hours=1) <= at)
        .sort("start_at")
        .group_by(pl.col("start_at").dt.truncate("1h"))
        .agg(mean=pl.col("price_usd_per_mwh").mean(), last=pl.col("price_usd_per_mwh").last(), intervals=pl.len())
        .filter(pl.col("intervals") >= LEAST_INTERVALS)
    )
    return hours.join(by_hour, on="start_at", how="left", maintain_order="left")


def _values(frame: pl.DataFrame, column: str) -> Floats:
    values: Floats = frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values


def _cut(values: Floats, known: np.ndarray) -> Floats:
    return np.where(known, values, np.nan)
