"""What a coincident peak may cost, as adders of a policy: the chance of each hour of its life times the charge of a peak.

Only where the contract has such a charge. The chances are forecasts' (`forecasting/peaks.py`), read as they stand.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from hcp_pipelines.economics.contract import expected_peak_usd_per_mwh
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.policy.schema import Adder
from hcp_pipelines.storage import peak_chances


def with_peaks(
    connection: "psycopg.Connection[Any]", inputs: Sequence[FacilityInputs], now: datetime
) -> list[FacilityInputs]:
    """The inputs, with an adder an hour that may be a peak where peaks are charged for.

    Hours of which no chance is known have none: they are decided by the price alone.
    """
    charged = [each for each in inputs if each.site.peak_usd_per_kw_year > 0]
    if not charged:
        return list(inputs)
    end = now + timedelta(seconds=max(each.expires_after_s for each in charged))
    hours = peak_chances.chances(connection, now, end)
    return [replace(each, adders=adders(hours, each.site.peak_usd_per_kw_year)) for each in inputs]


def adders(hours: Sequence[tuple[datetime, float]], usd_per_kw_year: float) -> tuple[Adder, ...]:
    """One an hour, $/MWh at the meter; none without a charge."""
    if not usd_per_kw_year:
        return ()
    return tuple(
        Adder(start=at, end=at + peak_chances.HOUR, usd_per_mwh=_charge_usd_per_mwh(chance, usd_per_kw_year))
        for at, chance in hours
    )


def _charge_usd_per_mwh(chance: float, usd_per_kw_year: float) -> float:
    return expected_peak_usd_per_mwh(chance, usd_per_kw_year, interval_h=1.0)
