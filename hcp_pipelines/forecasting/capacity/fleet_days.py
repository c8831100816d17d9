"""The fleet by day from the lake's hours: matrices of entity and day, NaN where too little is known.

A day is known at the midnight that ends it. Hours that became known later are left out: a question asked then is never told them.

An entity is a facility's group (`hou-1/h100`) or a facility's devices of a type (`hou-1/GPU`). Reads nothing, forecasts nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, microseconds

TABLE = "core.fleet__hours"
FLEET_HOURS: Mapping[str, Any] = {
    "start_at": INSTANT, "facility_id": pl.String, "group_id": pl.String, "type": pl.String, "installed": pl.Int32,
    "available_h": pl.Float64, "in_use_h": pl.Float64, "failures": pl.Int32, "hottest_celsius": pl.Float64,
    "outdoor_celsius": pl.Float64, "price_usd_per_mwh": pl.Float64, "known_at": INSTANT,
    "outdoor_known_at": INSTANT,
}  # fmt: skip
DAY_US = 24 * HOUR_US
LEAST_HOURS = 6  # of a day that are known, or nothing is said of it: a world's first day is seldom whole
EVENING_H = 18  # from here on it is the day's end
NEVER_US = np.iinfo(np.int64).max


@dataclass(frozen=True)
class FleetDays:
    """`[entity, day]`; per device where a share is told. Day n begins at `first_us` + n days.

    Attributes:
        installed: devices.
        available: share of the installed device-hours that were available; `evening`: of the day's last six hours.
        in_use: share of the installed device-hours in which devices worked.
        failures: devices that ceased to be available.
        hottest, outdoor_max, outdoor_mean: °C, of the hottest hour or over the day; `price`: mean, $/MWh.
        known_us: the midnight after the day; `NEVER_US` where it is not known.
        outdoor_known_us: when the day's weather was known, which is fetched once it is over.
    """

    entities: tuple[str, ...]
    is_gpu: Floats
    facility: Ints
    first_us: int
    installed: Floats
    available: Floats
    evening: Floats
    in_use: Floats
    failures: Floats
    hottest: Floats
    outdoor_max: Floats
    outdoor_mean: Floats
    price: Floats
    known_us: Ints
    outdoor_known_us: Ints

    @property
    def days(self) -> int:
        """How many days."""
        return int(self.known_us.shape[1])

    def on(self, asked_us: Ints, values: Floats, back: int) -> Floats:
        """`[entity, asked]` the value of the day so many days before each instant (a midnight), NaN if it was not known then."""
        return self._on(asked_us, values, back, self.known_us)

    def weather_on(self, asked_us: Ints, values: Floats, back: int) -> Floats:
        """The same of outdoor temperatures."""
        return self._on(asked_us, values, back, self.outdoor_known_us)

    def _on(self, asked_us: Ints, values: Floats, back: int, known_us: Ints) -> Floats:
        day = (asked_us - self.first_us) // DAY_US - back
        inside = (day >= 0) & (day < self.days)
        place = np.clip(day, 0, self.days - 1)
        is_known = inside & (known_us[:, place] <= asked_us)
        found: Floats = np.where(is_known, values[:, place], np.nan)
        return found


def by_group(hours: pl.DataFrame) -> FleetDays:
    """Days of each facility's groups."""
    return _days(hours, pl.col("facility_id") + "/" + pl.col("group_id"))


def by_type(hours: pl.DataFrame) -> FleetDays:
    """Days of each facility's devices of a type."""
    return _days(hours, pl.col("facility_id") + "/" + pl.col("type"))


def _days(hours: pl.DataFrame, entity: pl.Expr) -> FleetDays:
    """The matrices.

    Raises:
        ConfigError: no rows, or columns that are not there.
    """
    if missing := sorted(set(FLEET_HOURS) - set(hours.columns)):
        raise ConfigError(f"{TABLE} lacks {', '.join(missing)}: it was written by another version")
    if hours.is_empty():
        raise ConfigError(f"{TABLE} has no rows of these days: materialize core_fleet__hours")
    keyed = hours.with_columns(entity=entity, day=pl.col("start_at").dt.truncate("1d"))
    keyed = keyed.filter(pl.col("known_at") <= pl.col("day") + timedelta(days=1)).sort("entity", "start_at", "group_id")
    of_hour = keyed.group_by("entity", "day", "start_at", maintain_order=True).agg(  # sums in one order are the same sums
        pl.col("facility_id").first(), pl.col("type").first(), pl.col("installed", "available_h", "in_use_h", "failures").sum(),
        pl.col("hottest_celsius").max(), pl.col("outdoor_celsius", "price_usd_per_mwh").mean(),
        pl.col("outdoor_known_at").max(),
    )  # fmt: skip
    table = (
        of_hour.group_by("entity", "day", maintain_order=True)
        .agg(**_measures())
        .filter(pl.col("hours") >= LEAST_HOURS)
        .sort("entity", "day")
    )
    return _matrices(table, of_hour.group_by("entity").agg(pl.col("facility_id", "type").first()).sort("entity"))


def _measures() -> dict[str, pl.Expr]:
    """Of the hours of a day that are there."""
    installed_h, is_evening = _some(pl.col("installed").sum()), pl.col("start_at").dt.hour() >= EVENING_H
    return {
        "hours": pl.len(),
        "installed": _some(pl.col("installed").max()),
        "available": pl.col("available_h").sum() / installed_h,
        "evening": pl.col("available_h").filter(is_evening).sum() / _some(pl.col("installed").filter(is_evening).sum()),
        "in_use": pl.col("in_use_h").sum() / installed_h,
        "failures": pl.col("failures").sum(),
        "hottest": pl.col("hottest_celsius").max(),
        "outdoor_max": pl.col("outdoor_celsius").max(),
        "outdoor_mean": pl.col("outdoor_celsius").mean(),
        "price": pl.col("price_usd_per_mwh").mean(),
        "outdoor_known_us": pl.col("outdoor_known_at").max().dt.epoch("us"),
    }


def _some(count: pl.Expr) -> pl.Expr:
    """Null instead of no devices: shares of none are not known."""
    return pl.when(count > 0).then(count)


def _matrices(table: pl.DataFrame, entities: pl.DataFrame) -> FleetDays:
    names = entities["entity"].to_list()
    if table.is_empty():
        raise ConfigError(f"{TABLE} has no day with {LEAST_HOURS} hours yet: nothing can be said of a day")
    day_us = table["day"].dt.epoch("us").to_numpy()
    first_us, days = int(day_us.min()), int((day_us.max() - day_us.min()) // DAY_US) + 1
    row = table["entity"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    column = (day_us - first_us) // DAY_US
    _, facility = np.unique(entities["facility_id"].to_numpy(), return_inverse=True)
    shape = (len(names), days)

    def laid(name: str) -> Floats:
        matrix = np.full(shape, np.nan)
        matrix[row, column] = table[name].cast(pl.Float64).to_numpy()
        return matrix

    known, outdoor = np.full(shape, NEVER_US, dtype=np.int64), np.full(shape, NEVER_US, dtype=np.int64)
    known[row, column] = day_us + DAY_US
    outdoor[row, column] = table["outdoor_known_us"].fill_null(NEVER_US).to_numpy()
    is_gpu = (entities["type"] == "GPU").cast(pl.Float64).to_numpy()
    told = {
        each.name: laid(each.name) for each in fields(FleetDays) if each.type is Floats and each.name in table.columns
    }
    return FleetDays(
        entities=tuple(names), is_gpu=is_gpu, facility=facility.astype(np.int64), first_us=first_us, known_us=known,
        outdoor_known_us=outdoor, **told,
    )  # fmt: skip


def midnights(window: tuple[datetime, datetime]) -> Ints:
    """The UTC midnights of a window, microseconds."""
    first = -(-microseconds(window[0]) // DAY_US) * DAY_US
    return np.arange(first, microseconds(window[1]), DAY_US, dtype=np.int64)


def only(days: FleetDays, groups: Sequence[str]) -> Callable[[Ints], Ints]:
    """Which rows of entities to keep: all, or those that are named.

    Raises:
        ConfigError: there is none of that name.
    """
    if unknown := sorted(set(groups) - set(days.entities)):
        raise ConfigError(f"{', '.join(unknown)}: there are {', '.join(days.entities)}")
    wanted = [days.entities.index(name) for name in groups] or range(len(days.entities))
    kept = np.array(wanted, dtype=np.int64)
    return lambda entity: np.flatnonzero(np.isin(entity, kept))
