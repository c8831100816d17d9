"""What a learnt forecast sees of a price series at each interval: known prices, day-ahead prices, the calendar. No model.

Every column uses only what is known when its interval's decision is made: known prices up to the row itself, and day-ahead
prices at most `DAY_AHEAD_H` ahead, which were published the day before. Tests shuffle and blank everything later.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.markets.central import CENTRAL

Floats = npt.NDArray[np.float64]

DAY_AHEAD_H = 4
MINUTES_PER_DAY = 1440
MICROSECONDS_PER_H = 3_600_000_000
LAGS_MINUTES = (15, 30, 45, 60, 120)
AHEAD_MINUTES = (0, 15, 30, 60, 90, 120, 180, 240)
DAYS_IN_PROFILE = 7
SUN_AHEAD_H = 2
LATITUDE_DEG, LONGITUDE_DEG = 31.0, -98.0  # the middle of Texas
LEAST_DAY_AHEAD_USD_PER_MWH = 5.0  # below it a ratio to the day-ahead price says nothing
CHANGES = (
    ("now", "ago_15"), ("now", "ago_30"), ("now", "mean_60"), ("now", "yesterday_mean"), ("day_ahead_60", "now"),
    ("day_ahead_60", "day_ahead_0"), ("day_ahead_120", "day_ahead_0"), ("day_ahead_0", "day_ahead_before"),
)  # fmt: skip


@dataclass(frozen=True)
class PowerFeatures:
    """Columns by name: `levels` are prices in $/MWh, `spreads` differences of prices, `plain` are neither (time, ratios)."""

    levels: dict[str, Floats]
    spreads: dict[str, Floats]
    plain: dict[str, Floats]

    @property
    def peak_usd_per_mwh(self) -> Floats:
        """The highest of the last three hours' prices and the next four hours' day-ahead prices."""
        return np.fmax(self.levels["max_180"], self.levels["day_ahead_max"])


def power_features(
    known: Floats, day_ahead: Floats, starts_us: npt.NDArray[np.int64], step_minutes: int, delay: int
) -> PowerFeatures:
    """The features of each interval.

    Args:
        known: the newest price known at each interval's decision, $/MWh; NaN where there is none.
        day_ahead: the day-ahead price of each interval itself, NaN where there is none.
        starts_us: starts of the intervals, microseconds since 1970.
        step_minutes: of an interval.
        delay: intervals between the known price's own interval and the one that is decided on (0 or 1).
    """

    def steps(minutes: int) -> int:
        return max(1, round(minutes / step_minutes))

    levels = {"now": known} | {f"ago_{m}": shifted(known, steps(m)) for m in LAGS_MINUTES}
    levels |= _rolling(known, steps)
    levels |= {f"day_ahead_{m}": shifted(day_ahead, -round(m / step_minutes)) for m in AHEAD_MINUTES}
    levels["day_ahead_before"] = shifted(day_ahead, steps(60))
    levels["day_ahead_max"] = _roll(day_ahead[::-1], steps(DAY_AHEAD_H * 60), pl.Series.rolling_max)[::-1]
    levels |= _profile(known, steps, delay)
    spreads = _spreads(known - shifted(day_ahead, delay), steps) | _changes(levels)
    ratio = {"of_day_ahead": known / np.maximum(levels["day_ahead_0"], LEAST_DAY_AHEAD_USD_PER_MWH)}
    return PowerFeatures(levels, spreads, _calendar(starts_us) | ratio)


def _rolling(known: Floats, steps: Callable[[int], int]) -> dict[str, Floats]:
    """Highest, lowest and mean prices of the last hours."""
    return {
        "max_60": _roll(known, steps(60), pl.Series.rolling_max),
        "max_180": _roll(known, steps(180), pl.Series.rolling_max),
        "max_day": _roll(known, steps(MINUTES_PER_DAY), pl.Series.rolling_max),
        "min_60": _roll(known, steps(60), pl.Series.rolling_min),
        "min_120": _roll(known, steps(120), pl.Series.rolling_min),
        "mean_60": _roll(known, steps(60), pl.Series.rolling_mean),
        "mean_day": _roll(known, steps(MINUTES_PER_DAY), pl.Series.rolling_mean),
    }


def _profile(known: Floats, steps: Callable[[int], int], delay: int) -> dict[str, Floats]:
    """What the next interval and the next hour were like yesterday, and on the seven days before, on average."""
    hour, day = steps(60), steps(MINUTES_PER_DAY)
    highest, mean = (_roll(known, hour, f) for f in (pl.Series.rolling_max, pl.Series.rolling_mean))
    days = range(1, DAYS_IN_PROFILE + 1)
    return {
        "yesterday_next": shifted(known, day - 1 - delay),
        "yesterday_max": shifted(highest, day - hour - delay),
        "yesterday_mean": shifted(mean, day - hour - delay),
        "week_next": mean_of([shifted(known, day * d - 1 - delay) for d in days]),
        "week_max": mean_of([shifted(highest, day * d - hour - delay) for d in days]),
    }


def _spreads(error: Floats, steps: Callable[[int], int]) -> dict[str, Floats]:
    """How far real-time prices are from day-ahead ones: now, of the last hour, of the last day."""
    return {
        "error": error,
        "error_60": _roll(error, steps(60), pl.Series.rolling_mean),
        "error_day": _roll(error, steps(MINUTES_PER_DAY), pl.Series.rolling_mean),
    }


def _changes(levels: dict[str, Floats]) -> dict[str, Floats]:
    """Differences that matter: how fast the price moves, and where the day-ahead curve goes."""
    return {f"{to}_less_{before}": levels[to] - levels[before] for to, before in CHANGES}


def _calendar(starts_us: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Local hour of the day with fractions, quarter of the hour, weekend, and the sun: solar power leaves when it sets."""
    local = pl.Series(starts_us).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(CENTRAL.key).dt
    minute = local.minute().to_numpy().astype(np.float64)
    weekend = (local.weekday().to_numpy() >= 6).astype(np.float64)
    sun, later = _sun(starts_us), _sun(starts_us + SUN_AHEAD_H * MICROSECONDS_PER_H)
    return {
        "hour": local.hour().to_numpy() + minute / 60, "quarter": minute // 15, "weekend": weekend,
        "sun": sun, "sun_ahead": later - sun,
    }  # fmt: skip


def _sun(at_us: npt.NDArray[np.int64]) -> Floats:
    """Sine of the sun's elevation, −1 to 1; below 0 at night. Good to a few minutes of time.

    Source: sin h = sin φ sin δ + cos φ cos δ cos t, with the declination δ = −23.44° · cos(2π (day of year + 10) / 365.24).
    """
    days = at_us / (24 * MICROSECONDS_PER_H)
    declination = -np.deg2rad(23.44) * np.cos(2 * np.pi * (days + 10) / 365.2425)
    hour_angle = 2 * np.pi * (days % 1 - 0.5 + LONGITUDE_DEG / 360)
    latitude = np.deg2rad(LATITUDE_DEG)
    elevation: Floats = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(
        hour_angle
    )
    return elevation


def shifted(values: Floats, steps: int) -> Floats:
    """Values of `steps` intervals ago, for negative ones of later; NaN where there are none."""
    moved = np.full(len(values), np.nan)
    if steps >= 0:
        moved[steps:] = values[: max(0, len(values) - steps)]
    else:
        moved[:steps] = values[-steps:]
    return moved


def _roll(values: Floats, window: int, function: Callable[..., pl.Series]) -> Floats:
    """A rolling function over what is there of the last `window` values."""
    rolled = function(pl.Series(values).fill_nan(None), window, min_samples=1)
    return rolled.fill_null(np.nan).to_numpy().astype(np.float64)


def mean_of(columns: list[Floats]) -> Floats:
    """The mean of what is there; NaN where nothing is."""
    stacked = np.stack(columns)
    there = np.isfinite(stacked)
    count = there.sum(axis=0)
    mean: Floats = np.where(count > 0, np.where(there, stacked, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return mean
