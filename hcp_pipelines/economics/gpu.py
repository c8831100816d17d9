"""GPU revenue by class of work: what an hour of a GPU brings, and per megawatt-hour of site power. Rates are $ per GPU-hour.

The market's rate is that of a GPU on demand. A class of work (inference that must answer at once, batches, training) sells at a
fraction of it, and sells a share of the hours: settings of the facility file until a queue with a value curve exists.
"""

import polars as pl

from hcp_pipelines.economics.bounds import ImplausibleValueError, check

DEFAULT_UTILIZATION = 0.6  # setting, no public source


def revenue_usd_per_hour(
    rate_usd_per_gpu_hour: float, utilization: float = DEFAULT_UTILIZATION, rate_fraction: float = 1.0
) -> float:
    """Expected revenue in $/h of one GPU held ready for a class of work: rate · fraction · share of hours sold.

    >>> revenue_usd_per_hour(2.5, 0.6), revenue_usd_per_hour(2.5, 0.6, 0.5)
    (1.5, 0.75)
    """
    check(rate_usd_per_gpu_hour=rate_usd_per_gpu_hour, utilization=utilization, rate_fraction=rate_fraction)
    return rate_usd_per_gpu_hour * utilization * rate_fraction


def revenue_usd_per_mwh(
    rate_usd_per_gpu_hour: float,
    power_kw: float,
    utilization: float = DEFAULT_UTILIZATION,
    rate_fraction: float = 1.0,
) -> float:
    """The same per MWh of the power it takes, $/MWh; `power_kw` all-in, what serving adds over the state below.

    >>> round(revenue_usd_per_mwh(2.0, 1.3, 0.6))
    923
    """
    check(power_kw=power_kw)
    if not power_kw > 0:
        raise ImplausibleValueError(f"power_kw={power_kw:g}: must be above 0")
    return revenue_usd_per_hour(rate_usd_per_gpu_hour, utilization, rate_fraction) * 1000 / power_kw


def revenue_columns(rate_usd_per_gpu_hour: pl.Expr, utilization: pl.Expr, rate_fraction: pl.Expr) -> pl.Expr:
    """`revenue_usd_per_hour` of columns."""
    return (rate_usd_per_gpu_hour * utilization * rate_fraction).alias("revenue_usd_per_hour")
