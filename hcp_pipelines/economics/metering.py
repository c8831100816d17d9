"""Energy by market interval from a revenue meter's readings: differences of its register, which may be reset or fall silent.

A column's arithmetic alone. Between two readings energy is spread evenly, so that intervals add up to what the register rose.
"""

from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.bounds import check

STEP = timedelta(minutes=5)
SILENT_S = 300.0  # what lies between readings further apart is known in sum alone
HOUR_S = 3600.0
READING: dict[str, Any] = {"read_at": INSTANT, "power_kw": pl.Float64, "energy_mwh": pl.Float64}
ENERGY: dict[str, Any] = {"start_at": INSTANT, "energy_mwh": pl.Float64, "is_estimated": pl.Boolean}
Floats = npt.NDArray[np.float64]


def energy_by_interval(readings: pl.DataFrame, most_mw: float) -> pl.DataFrame:
    """Energy in MWh of each 5-minute interval that lies wholly between the first reading and the last (columns ENERGY).

    `is_estimated`: some of it is power times time, because the register fell (a reset, another meter), rose by more than the site
    can draw, or was not told; or the meter was silent for more than five minutes, so that only the sum is sure.

    Args:
        readings: a row a reading (columns READING) by the meter's clock; `energy_mwh` is its register, null where none is told.
        most_mw: what the site draws at most.

    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 4, 8, 10)]
    >>> rows = pl.DataFrame({"read_at": at, "power_kw": [600.0] * 4, "energy_mwh": [7.0, 7.04, 7.08, 7.1]}, schema=READING)
    >>> [round(mwh, 6) for mwh in energy_by_interval(rows, 2.0)["energy_mwh"]]
    [0.05, 0.05]
    """
    check(mw=most_mw)
    told = readings.select(*READING).drop_nulls(["read_at", "power_kw"]).unique("read_at", keep="last").sort("read_at")
    if len(told) < 2:
        return pl.DataFrame(schema=ENERGY)
    at_s = told["read_at"].dt.timestamp("us").to_numpy() / 1e6
    energy, is_estimated = _between(told, np.diff(at_s), most_mw)
    step_s = STEP.total_seconds()
    bounds = np.arange(np.ceil(at_s[0] / step_s), np.floor(at_s[-1] / step_s) + 1) * step_s
    spent, doubtful_s = (
        np.interp(bounds, at_s, np.concatenate([[0.0], column.cumsum()]))
        for column in (energy, is_estimated * np.diff(at_s))
    )
    starts = pl.Series("start_at", (bounds[:-1] * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC"))
    found = {"start_at": starts, "energy_mwh": np.diff(spent), "is_estimated": np.diff(doubtful_s) > 1e-6}
    return pl.DataFrame(found, schema=ENERGY)


def _between(told: pl.DataFrame, seconds: Floats, most_mw: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """MWh between each reading and the next, and whether they are an estimate."""
    register = told["energy_mwh"].fill_null(np.nan).to_numpy()
    mw = told["power_kw"].to_numpy() / 1000
    rose, hours = np.diff(register), seconds / HOUR_S
    is_good = (rose >= 0) & (rose <= most_mw * hours + 1e-3)  # a kWh: registers count in whole steps
    power = (mw[1:] + mw[:-1]) / 2 * hours
    return np.where(is_good, rose, power), ~is_good | (seconds > SILENT_S)
