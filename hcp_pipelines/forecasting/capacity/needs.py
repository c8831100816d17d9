"""Capacity planning: how many of a facility's devices are recommended for the use that is forecast. Reads and keeps nothing.

A recommendation is of the *installed* devices: use times a buffer times what is there, so more than that means that the site is
too small. A model is fitted elsewhere, once, and given here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.learnable.protocol import Examples, Fitted
from hcp_pipelines.storage.capacity_forecasts import BUFFER_PERCENT

NEEDS: Mapping[str, Any] = {
    "facility_id": pl.String, "type": pl.String, "date": pl.Date, "predicted_utilization": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "installed": pl.Int64, "recommended_capacity": pl.Int64, "asked_at": INSTANT,
}  # fmt: skip


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
