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
GRID_ROWS: Mapping[str, pl.DataType] = {
    "series": pl.String(),
    "start_at": INSTANT,
    "value": pl.Float64(),
    "known_at": INSTANT,
}  # of the grid by hour: columns of `GRID`
GRACE = timedelta(minutes=5)  # a price comes so long after its interval at most, and forecasts are asked then
INTERVAL = timedelta(minutes=15)
HOUR = timedelta(hours=1)
AHEAD = (FORECAST, *MCPC)  # of `GRID`: known the day before
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
    is_real_time = stream is Stream.POWER_RT_SPP
    known = pl.col("start_at") + INTERVAL if is_real_time else _published("start_at", history)
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


def first_words(rows: pl.DataFrame, keys: Sequence[str] = ("stream", "settlement_point")) -> pl.DataFrame:
    """Of each key and start the word that was first known; what was corrected later stays as it was acted on."""
    first = rows.sort("known_at", maintain_order=True).unique([*keys, "start_at"], keep="first", maintain_order=True)
    return first.sort(*keys, "start_at")


def grid_rows(grid: Mapping[str, Floats], starts: Ints) -> pl.DataFrame:
    """Rows of `GRID_ROWS`: recorded columns of the grid, each known since the rule says so."""
    frame = pl.DataFrame({"start_at": starts}).with_columns(pl.col("start_at").cast(INSTANT))
    parts = [
        frame.with_columns(series=pl.lit(name), value=pl.Series(values).fill_nan(None)).drop_nulls("value")
        for name, values in grid.items()
    ]
    rows = pl.concat(parts) if parts else pl.DataFrame(schema=GRID_ROWS).drop("known_at")
    known = pl.when(_is_ahead("series", AHEAD)).then(_published("start_at", rows)).otherwise(pl.col("start_at") + HOUR)
    return rows.with_columns(known_at=known).select(pl.col(name).cast(kind) for name, kind in GRID_ROWS.items())


def series_of(prices: pl.DataFrame, points: Sequence[str], grid: pl.DataFrame, until: datetime) -> list[PowerSeries]:
    """The series of points from words that came in time, so that each hour may be asked about as it was then.

    Args:
        prices: rows of `PRICES`, one a start; what came later than its interval and the grace is left out.
        points: settlement points, each with a series in the answer.
        grid: rows of `GRID_ROWS`.
        until: the last hour asked is before it.
    """
    is_ahead = _is_ahead("stream", (Stream.POWER_DA_SPP.value,))
    in_time = prices.filter(pl.col("known_at") <= _latest(prices, is_ahead, INTERVAL)).drop_nulls("price_usd_per_mwh")
    words = first_words(grid, ("series",))
    words = words.filter(pl.col("known_at") <= _latest(words, _is_ahead("series", AHEAD), HOUR))
    starts, last = starts_until(in_time, until), until + timedelta(hours=LONGEST_AHEAD_H)
    frame = pl.DataFrame({"start_at": starts}).with_columns(pl.col("start_at").cast(INSTANT))
    columns = {
        name: _values(frame.join(own, on="start_at", how="left", maintain_order="left"), "value")
        for (name,), own in words.group_by("series")
    }
    return known_series(in_time.with_columns(known_at=pl.lit(last, INSTANT)), points, last, columns, starts)


def _latest(rows: pl.DataFrame, is_ahead: pl.Expr, lasts: timedelta) -> pl.Expr:
    """When a row must be known to count: after its interval, or before the hour in which a day's figures are first looked at."""
    ahead = _published("start_at", rows) + HOUR / 2
    return pl.when(is_ahead).then(ahead).otherwise(pl.col("start_at") + lasts) + GRACE


def _is_ahead(column: str, names: Sequence[str]) -> pl.Expr:
    return pl.col(column).is_in(names)


def _published(column: str, rows: pl.DataFrame) -> pl.Expr:
    """When the day-ahead figures of hours are published."""
    hours = rows[column].unique().to_list()
    return pl.col(column).replace_strict(hours, [published_at(hour) for hour in hours], return_dtype=INSTANT)


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
