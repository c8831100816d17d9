"""GPU revenue: what an hour of a GPU brings, and per megawatt-hour of site power. Rates are $ per GPU-hour.

The utilization is the share of GPU hours that is sold: a setting of the facility file until a queue with a value curve
exists; nothing here forecasts it.
"""

DEFAULT_UTILIZATION = 0.6  # setting, no public source


def revenue_usd_per_hour(rate_usd_per_gpu_hour: float, utilization: float = DEFAULT_UTILIZATION) -> float:
    """Expected revenue in $/h of one GPU held ready.

    >>> revenue_usd_per_hour(2.5, 0.6)
    1.5
    """
    return rate_usd_per_gpu_hour * utilization


def revenue_usd_per_mwh(
    rate_usd_per_gpu_hour: float, power_kw: float, utilization: float = DEFAULT_UTILIZATION
) -> float:
    """The same per MWh of the power it takes, $/MWh; `power_kw` all-in, what serving adds over the state below.

    >>> round(revenue_usd_per_mwh(2.0, 1.3, 0.6))
    923
    """
    if power_kw <= 0:
        raise ValueError(f"power_kw={power_kw}: must be above 0")
    return revenue_usd_per_hour(rate_usd_per_gpu_hour, utilization) * 1000 / power_kw
