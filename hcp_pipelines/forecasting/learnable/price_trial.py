"""The price models beside each other on recorded months: the weekly naive, the day-ahead price, what ships, and LEAR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.baselines import pairs
from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.compare import Comparison, compare
from hcp_pipelines.forecasting.learnable.lear import DAY_H, Days, Progress, days_of, lear
from hcp_pipelines.forecasting.learnable.protocol import Examples, Model
from hcp_pipelines.forecasting.learnable.rolling import rolling
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.forecasting.learnable.targets.price import ASKED_EVERY_H, asked_of

LEAR = "lear"


@dataclass(frozen=True)
class Soundness:
    """LEAR on the task that it was made for, day-ahead prices: its error, and over that of the week and the day before."""

    days: int
    mae_usd_per_mwh: float
    over_weekly: float
    over_daily: float


@dataclass(frozen=True)
class Trial:
    """Forecasts by model, asked every fifth hour and at local midnights."""

    series: PowerSeries
    window: tuple[datetime, datetime]
    forecasts: Mapping[str, Forecasts]

    def beside(self, one: str, other: str, levels: Sequence[float] = (), *, published: bool = False) -> Comparison:
        """Two of them on the same questions; `published`: where the day-ahead price is known alone."""
        pair = [self.forecasts[name] for name in (one, other)]
        if published:
            pair = [_only(each, np.isfinite(each.examples.feature("da"))) for each in pair]
            pair[1] = replace(pair[1], model=f"{other}, where published")
        return compare(pair[0], pair[1], levels)

    def beside_lear(self, name: str, progress: Progress = lambda *_: None) -> Comparison:
        """One of them beside LEAR of real-time prices: the local day that begins, asked at its midnight, by absolute error."""
        own = self.forecasts[name]
        own = _only(own, _of_day(self.series, own.examples))
        return compare(own, lear_real_time(self.series, own.examples, progress), (0.5,))


def price_trial(
    series: PowerSeries,
    window: tuple[datetime, datetime],
    models: Sequence[Model],
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Trial:
    """What models say of a window, each learnt anew every thirty days from what was over."""
    rows = np.union1d(np.arange(0, len(series.hours), ASKED_EVERY_H), np.flatnonzero(series.hours.local_hour == 0))
    examples = asked_of(series, *pairs(rows[rows > 0], len(series.hours)))
    found = {model.name: rolling(examples, model, window, seed=seed, progress=progress).forecasts for model in models}
    return Trial(series, window, found)


def lear_real_time(series: PowerSeries, examples: Examples, progress: Progress = lambda *_: None) -> Forecasts:
    """LEAR of real-time prices, with the day-ahead price and the demand forecast as what is known of the day; a median alone."""
    days = days_of(series.hours, series.real_time, (series.day_ahead, series.hours.forecast_mw))
    return Forecasts(LEAR, examples, _by_question(series, examples, days, progress)[:, None], (0.5,))


def soundness(
    series: PowerSeries, window: tuple[datetime, datetime], progress: Progress = lambda *_: None
) -> Soundness:
    """LEAR of day-ahead prices, of the whole local days of a window."""
    days = days_of(series.hours, series.day_ahead, (series.hours.forecast_mw,))
    first, end = (int(series.hours.day[min(series.hours.row_at(at), len(series.hours) - 1)]) for at in window)
    asked = np.arange(first + 1, end) - days.first
    found, came_to = lear(days, asked, progress=progress), days.prices[asked]
    errors = [np.abs(each - came_to) for each in (found, days.prices[asked - 7], days.prices[asked - 1])]
    there = np.isfinite(np.stack(errors)).all(axis=0)
    own, weekly, daily = (float(each[there].mean()) for each in errors)
    return Soundness(len(asked), own, own / weekly, own / daily)


def _by_question(series: PowerSeries, examples: Examples, days: Days, progress: Progress) -> Floats:
    rows = _rows(series, examples.wanted_us)
    day = series.hours.day[rows] - days.first
    asked, number = np.unique(day, return_inverse=True)
    found: Floats = lear(days, asked, progress=progress)[number, series.hours.local_hour[rows]]
    return found


def _of_day(series: PowerSeries, examples: Examples) -> npt.NDArray[np.bool_]:
    """Questions at local midnight about the day that begins."""
    asked, wanted = (_rows(series, us) for us in (examples.asked_us, examples.wanted_us))
    hours = series.hours
    is_first: npt.NDArray[np.bool_] = (hours.local_hour[asked] == 0) & (hours.day[asked] == hours.day[wanted])
    return is_first & (wanted - asked < DAY_H + 1)


def _rows(series: PowerSeries, us: Ints) -> Ints:
    """The hour that each instant lies in."""
    found: Ints = np.searchsorted(series.hours.starts_us, us, side="right") - 1
    return found


def _only(forecasts: Forecasts, kept: npt.NDArray[np.bool_]) -> Forecasts:
    return Forecasts(forecasts.model, forecasts.examples.only(kept), forecasts.quantiles[kept], forecasts.levels)
