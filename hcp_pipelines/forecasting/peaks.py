"""The probability that an hour is its month's peak, from what is known then: of the peak itself only once the month is over.

A logistic regression on the corrected demand forecast against the month's highest demand so far and to come today, on the rest of
the month, the temperature and the hour. Asked twice: when an hour begins, and when its day-ahead figures are published.
As an hour begins `peak_paths` knows better wherever it can say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import peak_paths
from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import Floats, Hours, Ints, instant
from hcp_pipelines.markets.central import CENTRAL

SEASON = (5, 6, 7, 8, 9, 10)  # months that are like those of the charge: learnt from
FORECAST_ERROR = 0.027  # standard deviation: the forecasts of 2024 are 2.2 % off on average
FORECAST_MEMORY = 0.9  # of the error, from hour to hour
NEAR = 0.05  # below the highest by more than this an hour is no candidate
MONTH_H = 30 * 24
MOST_MISSING_H = 6  # of a month that teaches and is charged: a grid that ends at midnight UTC lacks its last evening
TRUST = 10.0  # inverse of the regularization: 2022 learnt from 2023 and the other way, 0.1 better than 1
COUNTED, REGRESSED, NOT_CHARGED = "counted", "logistic", "not charged"


class Classifier(Protocol):
    """What predicts; scikit-learn's own."""

    def predict_proba(self, rows: Floats) -> Floats:
        """A column a class."""
        ...


@dataclass(frozen=True)
class PeakModel:
    """Probability of being the month's peak; `trained_until`: nothing that was known later is in it."""

    classifier: Classifier
    trained_until: datetime

    def probability(self, hours: Hours, known_rows: Ints, wanted: Ints) -> Floats:
        """Of the wanted hours. `known_rows`: by hour, how many rows of demand are known when it is asked.

        Raises:
            TrainedTooLateError: an hour wanted begins before the model's training ended.
        """
        if len(wanted):
            refuse_hindsight("the model of peaks", self.trained_until, instant(int(hours.starts_us[wanted.min()])))
        rows, is_candidate = features(hours, hours.forecast_mw, known_rows, wanted)
        probability = np.zeros(len(wanted))
        if is_candidate.any():
            probability[is_candidate] = self.classifier.predict_proba(rows[is_candidate])[:, 1]
        return probability


def peak_hours(hours: Hours, months: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The hour of highest demand of each month of `months` (1 to 12) that is whole (`whole_months`)."""
    is_peak = np.zeros(len(hours), dtype=np.bool_)
    for month in whole_months(hours).tolist():
        if month % 12 + 1 in months:
            rows = np.flatnonzero(hours.month == month)
            is_peak[rows[np.nanargmax(hours.load_mw[rows])]] = True
    return is_peak


def whole_months(hours: Hours) -> Ints:
    """The months of a grid, as it numbers them, whose demand is recorded: in all their hours but a handful."""
    months, recorded_h = np.unique(hours.month[np.isfinite(hours.load_mw)], return_counts=True)
    lengths_h = np.array([month_h(month) for month in months.tolist()], dtype=np.int64)
    whole: Ints = months[recorded_h >= lengths_h - MOST_MISSING_H]
    return whole


def month_h(month: int) -> int:
    """Hours of a local month, numbered as `Hours` does.

    >>> [month_h(2024 * 12 + n) for n in (1, 2, 10)]
    [696, 743, 721]
    """
    start, end = (datetime(n // 12, n % 12 + 1, 1, tzinfo=CENTRAL).astimezone(UTC) for n in (month, month + 1))
    return (end - start) // timedelta(hours=1)


def trained(hours: Hours, until: datetime) -> Callable[[bool], PeakModel]:
    """By whether it is asked a day ahead the model, learnt from whole months that ended before an instant.

    Where no forecast is recorded (before 2024) demand itself with errors like a forecast's takes its place.

    Raises:
        ConfigError: no season ended before it.
    """
    end = hours.row_at(until)
    is_over = hours.month < (hours.month[end] if end < len(hours) else np.iinfo(np.int64).max)
    is_known = is_over & np.isin(hours.month, whole_months(hours))  # of others no hour is known not to be the peak
    wanted = np.flatnonzero(is_known & np.isin(hours.month_of_year, SEASON) & (np.arange(len(hours)) >= MONTH_H))
    is_peak = peak_hours(hours, SEASON)[wanted]
    if not is_peak.any():
        raise ConfigError(
            f"no month of May to October with demand ended before {until:%Y-%m-%d}: peaks can't be learnt"
        )
    forecast = np.where(np.isfinite(hours.forecast_mw), hours.forecast_mw, _simulated(hours.load_mw))

    def model(is_day_ahead: bool) -> PeakModel:
        known = hours.ahead_rows if is_day_ahead else np.arange(len(hours))
        rows, is_candidate = features(hours, forecast, known, wanted)
        return PeakModel(_fitted(rows[is_candidate], is_peak[is_candidate]), until)

    return model


def chances(hours: Hours, rows: Ints, months: tuple[int, ...], until: datetime) -> tuple[Floats, Floats]:
    """Probabilities of hours when they begin, and the day before; 0 outside the months (1 to 12) that are charged for.

    Raises:
        ConfigError: no season ended before `until`, which the model learns from.
    """
    now, ahead, _ = chances_told(hours, rows, months, until)
    return now, ahead


def chances_told(
    hours: Hours, rows: Ints, months: tuple[int, ...], until: datetime
) -> tuple[Floats, Floats, npt.NDArray[np.str_]]:
    """As `chances`, and by hour how the one of its beginning was found: `COUNTED`, `REGRESSED` or `NOT_CHARGED`.

    Paths reach past a day's end: `hours` must go on to the end of the next local day, known or not.

    Raises:
        ConfigError: as `chances`.
    """
    charged = np.isin(hours.month_of_year[rows], months)
    now, ahead = np.zeros(len(rows)), np.zeros(len(rows))
    way = np.full(len(rows), NOT_CHARGED)
    if charged.any():
        model = trained(hours, until)
        regressed = model(False).probability(hours, np.arange(len(hours)), rows[charged])
        counted = peak_paths.chances_begun(hours, rows[charged], until)
        now[charged] = np.where(np.isfinite(counted), counted, regressed)
        way[charged] = np.where(np.isfinite(counted), COUNTED, REGRESSED)
        ahead[charged] = model(True).probability(hours, hours.ahead_rows, rows[charged])
    return now, ahead, way


def chances_before(
    hours: Hours, rows: Ints, ahead: Floats, months: tuple[int, ...], until: datetime, most_h: int
) -> Floats:
    """[l, h] probabilities of hours as known 1, 2, … up to `most_h` hours before they begin; 0 outside the months (1 to 12).

    Counted over paths where that can be done, else those of the day before (`ahead`), which are out by then.
    """
    charged, found = np.flatnonzero(np.isin(hours.month_of_year[rows], months)), np.tile(ahead, (most_h, 1))
    for later in range(1, most_h + 1):
        counted = peak_paths.chances_begun(hours, rows[charged], until, later)
        found[later - 1, charged] = np.where(np.isfinite(counted), counted, ahead[charged])
    return found


def _fitted(rows: Floats, is_peak: npt.NDArray[np.bool_]) -> Classifier:
    from sklearn.linear_model import LogisticRegression  # takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted: Classifier = make_pipeline(StandardScaler(), LogisticRegression(C=TRUST, max_iter=2000)).fit(rows, is_peak)
    return fitted


def _simulated(load_mw: Floats) -> Floats:
    random = np.random.default_rng(0)
    shocks = random.normal(0.0, FORECAST_ERROR * np.sqrt(1 - FORECAST_MEMORY**2), len(load_mw))
    errors = np.zeros(len(load_mw))
    for n in range(1, len(errors)):
        errors[n] = FORECAST_MEMORY * errors[n - 1] + shocks[n]
    return load_mw * (1 + errors)


def features(hours: Hours, forecast: Floats, known_rows: Ints, wanted: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """A row of features for each wanted hour, and whether it comes near the highest so far and to come that day."""
    rows = np.zeros((len(wanted), 6))
    month_starts = np.searchsorted(hours.month, hours.month)
    month_days = _month_days(hours)
    day_ends = np.searchsorted(hours.day, hours.day, side="right")
    for n, h in enumerate(wanted.tolist()):
        rows[n] = _features_of(
            hours, forecast, h, (int(known_rows[h]), int(month_starts[h]), int(day_ends[h])), month_days[h]
        )
    return rows, (rows[:, 0] > -NEAR) & np.isfinite(rows).all(axis=1)


def _features_of(
    hours: Hours, forecast: Floats, h: int, at: tuple[int, int, int], days_left: float
) -> tuple[float, ...]:
    """Of one hour. `at`: rows known, first row of the month, the row after the day's last."""
    known, month_start, day_end = at
    seen = slice(max(known - 24, 0), known)
    ratio = _mean(hours.load_mw[seen] / forecast[seen])
    here = forecast[h] * ratio
    to_come = _max(forecast[max(known, month_start) : day_end]) * ratio
    so_far = _max(hours.load_mw[month_start:known])
    highest = max(to_come, so_far)
    month = _max(hours.load_mw[max(known - MONTH_H, 0) : known])
    warmth = _max(hours.temperature_c[seen])
    return (
        here / highest - 1, here / max(month, 1.0) - 1, here / max(so_far, 0.8 * highest) - 1, days_left, warmth,
        abs(float(hours.local_hour[h]) - 16.5),
    )  # fmt: skip


def _month_days(hours: Hours) -> Floats:
    """Days of the month that come after each hour's own, by the calendar."""
    dates = hours.day.astype("datetime64[D]")
    next_month = dates.astype("datetime64[M]") + 1
    left: Floats = (next_month.astype("datetime64[D]") - dates).astype(np.float64) - 1
    return left


def _mean(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else 1.0


def _max(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(there.max()) if len(there) else 0.0
