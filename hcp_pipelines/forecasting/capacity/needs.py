"""Capacity planning: use of a facility's devices day by day, and how many are recommended for it. Reads and keeps nothing.

A recommendation is of the *installed* devices: use times a buffer times what is there, so more than that means that the site is
too small. A model is fitted elsewhere, once, and given here.
"""

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fleet_days import by_type
from hcp_pipelines.forecasting.learnable.protocol import Examples, Fitted

BUFFER_PERCENT = 20.0
NEEDS: Mapping[str, Any] = {
    "facility_id": pl.String, "type": pl.String, "date": pl.Date, "predicted_utilization": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "installed": pl.Int64, "recommended_capacity": pl.Int64, "asked_at": INSTANT,
}  # fmt: skip


class Recommended(TypedDict):
    """RS-23."""

    gpu_count: int
    asic_count: int
    buffer_percent: float


def calculate_recommended_capacity(
    gpu_utilization: float,
    asic_utilization: float,
    installed: tuple[int, int],
    buffer_percent: float = BUFFER_PERCENT,
) -> Recommended:
    """How many GPUs and ASICs are recommended, of so many `installed` (GPUs, ASICs) that are used so much (0 to 1).

    Raises:
        ConfigError: a utilization is no share.

    >>> calculate_recommended_capacity(0.5, 0.9, (100, 1000))
    {'gpu_count': 60, 'asic_count': 1080, 'buffer_percent': 20.0}
    """
    counts = []
    for use, devices in zip((gpu_utilization, asic_utilization), installed, strict=True):
        if not 0.0 <= use <= 1.0:
            raise ConfigError(f"a utilization of {use:g}: a share of the devices, 0 to 1, and no percentage")
        counts.append(math.ceil(round(use * (1.0 + buffer_percent / 100.0) * devices, 6)))
    return Recommended(gpu_count=counts[0], asic_count=counts[1], buffer_percent=buffer_percent)


def get_historical_utilization(hours: pl.DataFrame) -> pl.DataFrame:
    """Mean daily utilization by facility and type from the fleet's hours: `entity`, `date`, `utilization`, known days."""
    days = by_type(hours)
    row, column = np.nonzero(np.isfinite(days.in_use))
    day_us = days.first_us + column * 24 * 3_600_000_000
    dates = pl.Series(day_us).cast(pl.Datetime("us", "UTC")).dt.date()
    names = pl.Series(days.entities, dtype=pl.String).gather(row)
    return pl.DataFrame({"entity": names, "date": dates, "utilization": days.in_use[row, column]})


def forecast_capacity_needs(fitted: Fitted, asked: Examples, buffer_percent: float = BUFFER_PERCENT) -> pl.DataFrame:
    """Rows of `NEEDS` from questions of the target `utilization`; what nothing can be said of is left out."""
    quantiles = fitted.predict(asked)
    levels = list(fitted.levels)
    low, middle, high = (np.clip(quantiles[:, levels.index(level)], 0.0, 1.0) for level in (0.1, 0.5, 0.9))
    devices = np.round(np.exp(asked.feature("devices")))
    told = np.flatnonzero(np.isfinite(middle) & np.isfinite(devices))
    names = pl.Series([asked.entities[n] for n in asked.entity[told]], dtype=pl.String).str.split("/")
    wanted, at = (pl.Series(each[told]).cast(pl.Datetime("us", "UTC")) for each in (asked.wanted_us, asked.asked_us))
    frame = pl.DataFrame(
        {
            "facility_id": names.list.first(), "type": names.list.last(), "date": wanted.dt.date(),
            "predicted_utilization": middle[told], "low": low[told], "high": high[told],
            "installed": devices[told], "asked_at": at,
        }
    )  # fmt: skip
    wanted_share = pl.col("predicted_utilization") * (1.0 + buffer_percent / 100.0)
    frame = frame.with_columns(recommended_capacity=(wanted_share * pl.col("installed")).round(6).ceil())
    return frame.select(pl.col(name).cast(kind) for name, kind in NEEDS.items())
