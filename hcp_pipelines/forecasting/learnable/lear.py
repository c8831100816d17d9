"""LEAR, the field's reference for hourly prices: a LASSO-estimated autoregression of each hour of the day, learnt anew each day.

To be beaten, not to be shipped. Days are local; scikit-learn is imported as it fits.
Source: J. Lago, G. Marcjasz, B. De Schutter, R. Weron, Forecasting day-ahead electricity prices, Applied Energy 2021: regressors,
the transform, calibration windows and their mean. The penalty is by Akaike's criterion, here corrected for few days.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.hours import Floats, Hours, Ints

DAY_H = 24
WINDOWS_DAYS = (56, 84, 1092, 1456)
LEAST_DAYS = 49  # of a window, below its length: the first days of the data have no lags
PRICE_LAGS, EXOGENOUS_LAGS = (1, 2, 3, 7), (0, 1, 7)  # days
MAD_PER_SIGMA = 1.4826
MOST_STEPS = 60  # of a path: the criterion's least lies before
TINY = 1e-12
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Days:
    """Hourly figures by local day, `[day, hour]`: a doubled hour is a mean, a skipped one that of its neighbours.

    `first`: days since 1970 of the first row.
    """

    first: int
    prices: Floats
    exogenous: tuple[Floats, ...]  # known, for a day, before its prices are asked for

    @property
    def regressors(self) -> Floats:
        """`[day, column]`: prices of 1, 2, 3 and 7 days ago, figures of the day itself, of 1 and 7 days ago, and the weekday."""
        parts = [days_ago(self.prices, lag) for lag in PRICE_LAGS]
        parts += [days_ago(each, lag) for each in self.exogenous for lag in EXOGENOUS_LAGS]
        weekday = (self.first + np.arange(len(self.prices)) + 3) % 7
        return np.hstack([*parts, np.eye(7)[weekday]])

    @property
    def first_whole(self) -> int:
        """The first row of which all is known, 0 where there is none: an older one costs a window every figure that it lacks."""
        is_whole = np.isfinite(np.hstack([self.prices, *self.exogenous])).all(axis=1)
        return int(is_whole.argmax())


def days_of(hours: Hours, prices: Floats, exogenous: Sequence[Floats]) -> Days:
    """Hourly series by local day."""
    first = int(hours.day[0])
    return Days(first, _by_day(hours, prices), tuple(_by_day(hours, each) for each in exogenous))


def lear(
    days: Days, asked: Ints, windows_days: Sequence[int] = WINDOWS_DAYS, progress: Progress = lambda *_: None
) -> Floats:
    """`[asked, hour]` prices of some days (rows of `days`), each from the days before it; NaN where too few are known.

    The mean over the calibration windows; those that reach back beyond the first whole day are what there is, each length once.
    """
    found = np.full((len(asked), DAY_H), np.nan)
    regressors, first = days.regressors, days.first_whole + PRICE_LAGS[-1]
    for n, day in enumerate(asked):
        progress("days", n, len(asked))
        of_windows = [
            _day_ahead(regressors[day - length : day + 1], days.prices[day - length : day])
            for length in sorted({min(window, int(day) - first) for window in windows_days})
            if length >= LEAST_DAYS
        ]
        if of_windows:
            found[n] = np.mean(of_windows, axis=0)
    progress("days", len(asked), len(asked))
    return found


def _day_ahead(regressors: Floats, prices: Floats) -> Floats:
    """`[hour]` of the last row's day from the rows before it, whose prices are given."""
    seen = np.isfinite(regressors).all(axis=0)
    dummies = np.zeros(regressors.shape[1], dtype=bool)
    dummies[-7:] = True
    numbers = transformed(regressors[:, seen & ~dummies], regressors[:-1, seen & ~dummies])[0]
    rows = np.hstack([numbers, regressors[:, dummies]])
    targets, middle, spread = transformed(prices, prices)
    found = np.array([_lasso(rows[:-1], targets[:, hour], rows[-1]) for hour in range(DAY_H)])
    ahead: Floats = np.sinh(found) * spread + middle
    return ahead


def _lasso(rows: Floats, target: Floats, asked: Floats) -> float:
    """What the best step of the LASSO's path says of a row, no further out than what was learnt from."""
    from sklearn.linear_model import lars_path

    n, middle, spread = len(rows), rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled, centred = (rows - middle) / spread, target - target.mean()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that rounding leaves out: the path up to there stands
        _, _, path = lars_path(scaled, centred, method="lasso", max_iter=min(MOST_STEPS, n // 2))
    errors = ((centred[:, None] - scaled @ path) ** 2).mean(axis=0)
    chosen = path[:, int(np.argmin(_akaike(errors, (path != 0).sum(axis=0) + 1, n)))]
    found = ((asked - middle) / spread) @ chosen + target.mean()
    return float(np.clip(found, target.min(), target.max()))


def _akaike(errors: Floats, parameters: Ints, n: int) -> Floats:
    """The criterion with its correction for few rows.

    Source: C. M. Hurvich, C.-L. Tsai, Regression and time series model selection in small samples, Biometrika 1989.
    """
    correction = 2 * parameters * (parameters + 1) / np.maximum(n - parameters - 1, 1)
    criterion: Floats = n * np.log(errors + TINY) + 2 * parameters + correction
    return criterion


def transformed(values: Floats, lessons: Floats) -> tuple[Floats, Floats, Floats]:
    """Asinh of the distance to the median by the median absolute deviation, both of the lessons; and the two."""
    middle = np.median(lessons, axis=0)
    spread = np.median(np.abs(lessons - middle), axis=0) * MAD_PER_SIGMA
    spread = np.where(spread > 0, spread, 1.0)
    return np.arcsinh((values - middle) / spread), middle, spread


def days_ago(values: Floats, lag: int) -> Floats:
    """Of so many days before, NaN where those are not there."""
    shifted: Floats = np.vstack([np.full((lag, values.shape[1]), np.nan), values[: len(values) - lag]])
    return shifted


def _by_day(hours: Hours, values: Floats) -> Floats:
    """`[day, hour]` means; the hour that a day lacks is the mean of its neighbours."""
    mean = hourly_means(hours, values)
    lacks = np.flatnonzero(np.isnan(mean[1:-1])) + 1
    mean[lacks] = (mean[lacks - 1] + mean[lacks + 1]) / 2
    return mean.reshape(-1, DAY_H)


def hourly_means(hours: Hours, values: Floats) -> Floats:
    """The mean of each hour of the local days, one after the other, 24 each; NaN where there is nothing."""
    cell = (hours.day - hours.day[0]) * DAY_H + hours.local_hour
    there, cells = np.isfinite(values), int((hours.day[-1] - hours.day[0] + 1) * DAY_H)
    count = np.bincount(cell[there], minlength=cells)
    total = np.bincount(cell[there], weights=values[there], minlength=cells)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
