"""Forecasts that need no learning, to beat or to fall back on: the last same hour, the last price, the day-ahead price.

Their quantiles are the point forecast and what its errors have been lately. Nothing looks at what was not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.horizon_features import LONGEST_AHEAD_H, PowerSeries, last_same_hour
from hcp_pipelines.forecasting.hours import Floats, Ints, instant
from hcp_pipelines.forecasting.learnable.protocol import LEVELS

NAIVE, PERSISTENCE, DAY_AHEAD, ANCHOR = "naive", "persistence", "day_ahead", "anchor"
POINT_FORECASTS = (NAIVE, PERSISTENCE, DAY_AHEAD)
HORIZONS_H = (1, 6, 12, 24, 36, 48)  # ends of the horizons that errors are kept and scores are told by
ERRORS_OF_HOURS = 56 * 24  # the last eight weeks
ERRORS_EVERY_H = 5
LEAST_ERRORS = 60  # of a horizon: below that the errors of all horizons, and below that the assumed ones
ASSUMED_ERRORS_USD_PER_MWH = (-28.9, -15.9, -6.5, -0.8, 4.7, 14.3, 26.2)  # of the anchor, HB_HUBAVG 2024-01..11


class PowerForecast(Protocol):
    """What forecasts quantiles. `trained_until`: nothing that was known later is in it."""

    @property
    def method(self) -> str:
        """Its name."""
        ...

    @property
    def trained_until(self) -> datetime:
        """What it has learnt is from before this instant."""
        ...

    def predict(self, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
        """$/MWh, [pair, level of `LEVELS`], rising along the levels; NaN where nothing can be said."""
        ...


@dataclass(frozen=True)
class Baseline:
    """A point forecast with the quantiles of its errors, [horizon, level]; `is_assumed`: there were too few to count."""

    name: str
    errors_usd_per_mwh: Floats
    trained_until: datetime
    is_assumed: bool

    @property
    def method(self) -> str:
        """Its name, and whether the spread is assumed."""
        return f"{self.name}_assumed_errors" if self.is_assumed else f"{self.name}_errors"

    def predict(self, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
        """As `PowerForecast`.

        Raises:
            TrainedTooLateError: an hour asked begins before the errors end.
        """
        refuse_pairs(self, series, asked)
        errors = self.errors_usd_per_mwh[horizon_of(wanted - asked + 1)]
        return point_forecast(self.name, series, asked, wanted)[:, None] + errors


def learn_baseline(lessons: Sequence[PowerSeries], until: datetime, name: str = ANCHOR) -> Baseline:
    """A baseline with the errors of its last eight weeks before an instant, of all points together."""
    found = [_errors(series, until, name) for series in lessons]
    errors, horizon = (
        (np.concatenate(column) for column in zip(*found, strict=True)) if found else (np.empty(0), np.empty(0))
    )
    if len(errors) < LEAST_ERRORS:
        assumed = np.tile(ASSUMED_ERRORS_USD_PER_MWH, (len(HORIZONS_H), 1))
        return Baseline(name, assumed, until, is_assumed=True)
    of_each = [errors[horizon == n] for n in range(len(HORIZONS_H))]
    quantiles = [np.quantile(each if len(each) >= LEAST_ERRORS else errors, LEVELS) for each in of_each]
    return Baseline(name, np.array(quantiles), until, is_assumed=False)


def _errors(series: PowerSeries, until: datetime, name: str) -> tuple[Floats, Ints]:
    end = series.hours.row_at(until)
    asked, wanted = pairs(np.arange(max(end - ERRORS_OF_HOURS, 0), end, ERRORS_EVERY_H), end)
    error = series.real_time[wanted] - point_forecast(name, series, asked, wanted)
    there = np.isfinite(error)
    return error[there], horizon_of(wanted - asked + 1)[there]


def horizon_of(ahead_h: Ints) -> Ints:
    """Index into `HORIZONS_H`."""
    found: Ints = np.searchsorted(HORIZONS_H, ahead_h)
    return found


def point_forecast(name: str, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
    """$/MWh by pair, NaN where unknown: `naive` is the same hour of the last day that is over, `anchor` the best of all."""
    if name == ANCHOR:
        return anchor(series, asked, wanted)
    if name == DAY_AHEAD:
        return series.published(series.day_ahead, asked, wanted)
    row = last_same_hour(asked, wanted) if name == NAIVE else asked - 1
    return np.where(row >= 0, series.real_time[np.maximum(row, 0)], np.nan)


def anchor(series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
    """The best that is known without learning: the day-ahead price, else the last same hour, else the last price, $/MWh."""
    best = np.full(len(asked), np.nan)
    for name in (DAY_AHEAD, NAIVE, PERSISTENCE):
        best = np.where(np.isfinite(best), best, point_forecast(name, series, asked, wanted))
    return best


def pairs(asked: Ints, hours: int) -> tuple[Ints, Ints]:
    """(asked, wanted) rows: each hour asked with the 48 from itself on, as far as a grid of `hours` goes."""
    wanted = (asked[:, None] + np.arange(LONGEST_AHEAD_H)).ravel()
    asked = np.repeat(asked, LONGEST_AHEAD_H)
    return asked[wanted < hours], wanted[wanted < hours]


def known_hours(series: PowerSeries, until: datetime) -> int:
    """Hours with a real-time price before an instant."""
    return int(np.isfinite(series.real_time[: series.hours.row_at(until)]).sum())


def refuse_pairs(forecast: PowerForecast, series: PowerSeries, asked: Ints) -> None:
    """Raise TrainedTooLateError where an hour asked begins before the forecast's training ended."""
    if len(asked):
        refuse_hindsight(
            f"the price forecast {forecast.method}",
            forecast.trained_until,
            instant(int(series.hours.starts_us[asked.min()])),
        )
