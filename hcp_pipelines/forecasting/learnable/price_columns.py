"""What price models see beside `horizon_features`: levels that last, and the linear autoregression. No model.

The same hour's usual price of the last week, and the newest day-ahead figures where the hour's own are not published yet. As
there, what is not known when an hour begins is NaN.
"""

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.horizon_features import DAY_H, WEEK_H, PowerSeries, last_same_hour
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.autoregression import autoregression

DAYS = 7
PUBLISHED_BEFORE = 3  # days: of the hour's own day, or of the two before
MEANS_H, MEDIANS_H = (6, 48, WEEK_H), (DAY_H, WEEK_H)
USUAL, AUTOREGRESSION = "usual", "autoregression"


def price_columns(series: PowerSeries, asked: Ints, wanted: Ints, anchor: Floats) -> dict[str, Floats]:
    """Columns by name, a row per pair of rows of the grid; `usual` is the anchor that is not one day's luck.

    That is the day-ahead price, else the median of the same hour's last seven prices, else `anchor`.
    """
    last = last_same_hour(asked, wanted)
    week = np.stack([at(series.real_time, last - DAY_H * n) for n in range(DAYS)])
    spreads = week - np.stack([at(series.day_ahead, last - DAY_H * n) for n in range(DAYS)])
    day_ahead = [series.published(series.day_ahead, asked, wanted - DAY_H * n) for n in range(DAYS + 2)]
    columns = {
        "week_median": median_of(week),
        "spread_median": median_of(spreads),
        "day_ahead_last": _first(day_ahead),
        "day_ahead_week": median_of(np.stack(day_ahead)),
        "lag_2": week[1],
        "lag_3": week[2],
    }
    for name, values in (("load_last", series.hours.forecast_mw), ("day_ahead_mean", _day_means(series))):
        newest = [series.published(values, asked, wanted - DAY_H * n) for n in range(PUBLISHED_BEFORE)]
        columns[name] = _first(newest)
    columns |= {name: values[asked] for name, values in _recent(series.real_time).items()}
    columns[USUAL] = _first([day_ahead[0], columns["week_median"], anchor])
    columns[AUTOREGRESSION] = autoregression(series, asked, wanted)
    return columns


def at(values: Floats, rows: Ints) -> Floats:
    """Values at rows, NaN before the first."""
    return np.where(rows >= 0, values[np.maximum(rows, 0)], np.nan)


def median_of(stacked: Floats) -> Floats:
    """The median of what is there along the first axis, NaN where nothing is."""
    ordered, count = np.sort(stacked, axis=0), np.isfinite(stacked).sum(axis=0)  # NaN is last
    low, high = (np.maximum(each, 0)[None] for each in ((count - 1) // 2, count // 2))
    high = np.minimum(high, len(stacked) - 1)
    middle: Floats = np.take_along_axis(ordered, low, axis=0)[0] + np.take_along_axis(ordered, high, axis=0)[0]
    return np.where(count > 0, middle / 2, np.nan)


def _first(columns: list[Floats]) -> Floats:
    """The first that is known, row by row."""
    found = columns[-1]
    for column in columns[-2::-1]:
        found = np.where(np.isfinite(column), column, found)
    return found


def _day_means(series: PowerSeries) -> Floats:
    """The mean day-ahead price of each hour's local day, NaN where an hour of it has none."""
    _, first, number = np.unique(series.hours.day, return_index=True, return_inverse=True)
    means: Floats = np.add.reduceat(series.day_ahead, first) / np.bincount(number)
    return means[number]


def _recent(real_time: Floats) -> dict[str, Floats]:
    """Means and medians of the hours before each."""
    known = pl.Series(np.r_[np.nan, real_time[:-1]]).fill_nan(None)
    columns = {f"mean_{n}h": known.rolling_mean(n, min_samples=1) for n in MEANS_H}
    columns |= {f"median_{n}h": known.rolling_median(n, min_samples=1) for n in MEDIANS_H}
    return {name: column.fill_null(np.nan).to_numpy().astype(np.float64) for name, column in columns.items()}
