"""What is known of an entity at a midnight: by name `[entity, asked]`, NaN where it was not known then. Pure.

Of the days before, as they were known (`FleetDays.on`); nothing of a weather forecast, which the platform does not keep.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.capacity.fleet_days import DAY_US, FleetDays
from hcp_pipelines.forecasting.hours import Floats, Ints

WEEK, MONTH = 7, 28
_YEAR_DAYS = 365.25


def health(days: FleetDays, asked_us: Ints) -> dict[str, Floats]:
    """Availability, failures, heat and weather, and what the facility's other groups had."""
    share = _back(days, asked_us, days.available, MONTH)
    failures = _back(days, asked_us, days.failures / days.installed, MONTH)
    hottest = _back(days, asked_us, days.hottest, WEEK)
    outdoor = np.stack([days.weather_on(asked_us, days.outdoor_max, back) for back in range(1, WEEK + 1)])
    newest = np.where(np.isfinite(outdoor[0]), outdoor[0], outdoor[1])
    return {
        "share_last": share[0],
        "share_evening": days.on(asked_us, days.evening, 1),
        "share_two_days_ago": share[1],
        "share_mean_7d": _mean(share[:WEEK]),
        "share_least_7d": _least(share[:WEEK]),
        "share_mean_28d": _mean(share),
        "share_least_28d": _least(share),
        "share_of_facility": _of_others(days, share[0]),
        "failures_last": failures[0],
        "failures_mean_7d": _mean(failures[:WEEK]),
        "failures_mean_28d": _mean(failures),
        "failures_of_fleet": np.broadcast_to(_mean(failures[0]), failures[0].shape),
        "hottest_last": hottest[0],
        "hottest_7d": -_least(-hottest),
        "outdoor_max_newest": newest,
        "outdoor_max_7d": -_least(-outdoor),
        "outdoor_max_mean_7d": _mean(outdoor),
        "outdoor_rise": newest - _mean(outdoor),
        "outdoor_mean_before": days.weather_on(asked_us, days.outdoor_mean, 2),
    }


def demand(days: FleetDays, asked_us: Ints) -> dict[str, Floats]:
    """Use: its level, its drift and its week; and the power price, which miners follow."""
    use = _back(days, asked_us, days.in_use, MONTH)
    price = _back(days, asked_us, days.price, WEEK)
    level, month = _mean(use[:WEEK]), _mean(use)
    return {
        "use_last": use[0],
        "use_level": level,
        "use_drift": level - month,
        "use_swing_28d": _mean(np.abs(use - month)),
        "price_last": price[0],
        "price_mean_7d": _mean(price),
    }


def fixed(days: FleetDays, asked_us: Ints) -> dict[str, Floats]:
    """What the entity is."""
    shape = (len(days.entities), len(asked_us))
    return {
        "is_gpu": np.broadcast_to(days.is_gpu[:, None], shape),
        "devices": np.log(installed(days, asked_us)),
    }


def installed(days: FleetDays, asked_us: Ints) -> Floats:
    """`[entity, asked]` devices by the newest of the last days that was known."""
    found = np.full((len(days.entities), len(asked_us)), np.nan)
    for back in range(WEEK, 0, -1):
        newest = days.on(asked_us, days.installed, back)
        found = np.where(np.isfinite(newest), newest, found)
    return found


def calendar(wanted_us: Ints) -> dict[str, Floats]:
    """`[…]` the day that is asked about; weekday 0 is a Monday."""
    day = wanted_us // DAY_US
    turn = 2 * np.pi * (day % _YEAR_DAYS) / _YEAR_DAYS
    return {"weekday": ((day + 3) % 7).astype(np.float64), "season_sin": np.sin(turn), "season_cos": np.cos(turn)}


def _back(days: FleetDays, asked_us: Ints, values: Floats, count: int) -> Floats:
    """`[back, entity, asked]` the days before, the last one first."""
    return np.stack([days.on(asked_us, values, back) for back in range(1, count + 1)])


def _mean(values: Floats) -> Floats:
    """Over the first axis, of what is known; NaN of nothing."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    found: Floats = np.where(count > 0, np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return found


def _least(values: Floats) -> Floats:
    least = np.where(np.isfinite(values), values, np.inf).min(axis=0)
    found: Floats = np.where(np.isinf(least), np.nan, least)
    return found


def _of_others(days: FleetDays, share: Floats) -> Floats:
    """The mean share of the other groups of an entity's facility; its own where it has no others."""
    there, found = np.isfinite(share), np.full(share.shape, np.nan)
    for facility in np.unique(days.facility):
        own = days.facility == facility
        values, known = np.where(there[own], share[own], 0.0), there[own]
        count = known.sum(axis=0) - known
        others = (values.sum(axis=0) - values) / np.maximum(count, 1)
        found[own] = np.where(count > 0, others, share[own])
    return found


def stacked(columns: dict[str, Floats], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """`[n, names]` float32 of flat columns."""
    return np.column_stack([columns[name].astype(np.float32) for name in names])
