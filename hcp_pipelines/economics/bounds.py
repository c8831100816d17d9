"""What an economic quantity can be. A wrong unit, a wrong sign or NaN is named and refused instead of being computed with.

The limits are far outside of anything real. Whether a market's value may be acted on is judged more strictly, in
`feed.quality`: what passed there passes here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.errors import ConfigError


class ImplausibleValueError(ConfigError, ValueError):
    """An input can't be what it is said to be: a wrong unit or sign, or not a number. The message names it and its limit."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Inclusive bounds of a quantity; with `is_above_low` the lower one itself is not allowed."""

    low: float
    high: float
    unit: str
    is_above_low: bool = False

    def has(self, value: float) -> bool:
        """Whether a value is inside; NaN never is."""
        return self.low <= value <= self.high and not (self.is_above_low and value == self.low)

    def __str__(self) -> str:
        """The limit in words."""
        floor = f"above {self.low:g}" if self.is_above_low else f"at least {self.low:g}"
        return f"{floor} and at most {self.high:g} {self.unit}".rstrip()


LIMITS = {
    "btc_usd": Limit(0.0, 1e8, "$/BTC"),
    "difficulty": Limit(0.0, 1e20, "", is_above_low=True),
    "fees_btc_per_block": Limit(0.0, 10_000.0, "BTC"),
    "height": Limit(0, 1e8, "blocks"),
    "hash_rate_th_per_s": Limit(0.0, 1e10, "TH/s"),
    "efficiency_j_per_th": Limit(0.0, 10_000.0, "J/TH", is_above_low=True),
    "hashprice_usd_per_ph_day": Limit(0.0, 1e10, "$/PH/day"),
    "pool_fee_fraction": Limit(0.0, 1.0, "(a fraction)"),
    "price_usd_per_mwh": Limit(-100_000.0, 100_000.0, "$/MWh"),
    "lmp_usd_per_mwh": Limit(-100_000.0, 100_000.0, "$/MWh"),
    "adders_usd_per_mwh": Limit(-100_000.0, 100_000.0, "$/MWh"),
    "capacity_usd_per_mw_h": Limit(0.0, 100_000.0, "$/MW for an hour"),
    "pue": Limit(1.0, 3.0, ""),
    "pue_slope_per_celsius": Limit(0.0, 0.1, "1/°C"),
    "temperature_celsius": Limit(-60.0, 65.0, "°C"),
    "power_kw": Limit(0.0, 1e7, "kW"),
    "mw": Limit(0.0, 10_000.0, "MW"),
    "hours": Limit(0.0, 100_000.0, "h"),
    "usd_per_kw_year": Limit(0.0, 10_000.0, "$/kW-year"),
    "probability": Limit(0.0, 1.0, ""),
    "rate_usd_per_gpu_hour": Limit(0.0, 500.0, "$/GPU-hour"),
    "rate_fraction": Limit(0.0, 10.0, "(a fraction)"),
    "utilization": Limit(0.0, 1.0, "(a fraction)"),
    "revenue_usd_per_hour": Limit(0.0, 1e8, "$/h"),
    "switch_usd": Limit(0.0, 1e8, "$"),
    "lost_progress_gpu_s": Limit(0.0, 1e12, "GPU-seconds"),
    "usd_per_gpu_hour": Limit(0.0, 10_000.0, "$/GPU-hour"),
    "reload_s": Limit(0.0, 1e6, "s"),
    "sla_penalty_usd": Limit(0.0, 1e9, "$"),
    "gpu_count": Limit(0.0, 1e6, "GPUs"),
    "dwell_h": Limit(0.0, 10_000.0, "h", is_above_low=True),
    "confidence_factor": Limit(0.0, 1.0, ""),
}


def check(**values: float) -> None:
    """Refuse what is outside its limit; the names are those of `LIMITS`.

    >>> check(pue=1.1, price_usd_per_mwh=-250.0)
    >>> check(pue=110.0)
    Traceback (most recent call last):
    hcp_pipelines.economics.bounds.ImplausibleValueError: pue=110: must be at least 1 and at most 3

    Raises:
        ImplausibleValueError: names the quantity, the value and the limit.
    """
    for name, value in values.items():
        limit = LIMITS[name]
        if not limit.has(value):
            raise ImplausibleValueError(f"{name}={value:g}: must be {limit}")


def checked_columns(frame: pl.DataFrame, *names: str) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of a frame as floats, by name; the names are those of `LIMITS`.

    Raises:
        ImplausibleValueError: a value is null, no number or outside its limit; names the first such row of the first such column.
    """
    columns = {name: frame[name].cast(pl.Float64, strict=False).to_numpy() for name in names}
    for name, values in columns.items():
        limit = LIMITS[name]
        if len(values) and not (limit.has(float(values.min())) and limit.has(float(values.max()))):
            row = next(n for n, value in enumerate(values) if not limit.has(value))
            raise ImplausibleValueError(f"row {row}: {name}={frame[name][row]}: must be {limit}")
    return columns
