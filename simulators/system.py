"""The whole system's series by hour: capacity prices of the day-ahead market, and load by weather zone. Generated ones.

Straight lines fitted to the recorded hours of 2022–2025: capacity over the day-ahead price, load over temperature and the local
hour. What is recorded goes before them (`series`).
"""

from collections.abc import Callable

import numpy as np

from simulators.central import local_seconds
from simulators.streams import FloatArray, IntArray

RESERVES = ("regup", "regdn", "rrs", "ecrs", "nspin")
ZONES = ("coast", "east", "fwest", "north", "ncent", "south", "scent", "west")
# $/MW for an hour: what capacity costs in a cheap hour, and how much of a day-ahead price above 21 $/MWh it follows.
_CHEAP = dict(zip(RESERVES, (1.6, 1.5, 1.0, 1.0, 1.0), strict=True))
_FOLLOWS = dict(zip(RESERVES, (0.48, 0.22, 0.55, 0.80, 0.68), strict=True))
_USUAL_USD_PER_MWH = 21.0
_SHARES = dict(zip(ZONES, (0.270, 0.034, 0.115, 0.0255, 0.2867, 0.0798, 0.1628, 0.0262), strict=True))
_BASE_MW, _PER_HOT_DEGREE_MW, _PER_COLD_DEGREE_MW = 43_071.0, 2_106.0, 1_240.0
_HOT_C, _COLD_C = 20.0, 14.0
_BY_LOCAL_HOUR_MW = np.array([
    -2296, -3497, -4235, -4544, -4188, -2857, -835, 272, 974, 1612, 1812, 1550,
    1101, 760, 517, 516, 933, 1595, 2061, 2204, 2694, 2776, 1482, -426,
], dtype=np.float64)  # fmt: skip

Hourly = Callable[[IntArray], FloatArray]


def capacity_price(product: str, starts_s: IntArray, day_ahead: Hourly) -> FloatArray:
    """Day-ahead clearing price of capacity for the hours that begin at these instants, $/MW for one hour."""
    above = np.maximum(day_ahead(starts_s) - _USUAL_USD_PER_MWH, 0.0)
    return np.asarray(np.round(_CHEAP[product] + _FOLLOWS[product] * above, 2))


def zone_load(zone: str, starts_s: IntArray, temperature: Hourly) -> FloatArray:
    """Mean load of a weather zone in the hours that begin at these instants, MW."""
    celsius = temperature(starts_s)
    heat = _PER_HOT_DEGREE_MW * np.maximum(celsius - _HOT_C, 0.0)
    cold = _PER_COLD_DEGREE_MW * np.maximum(_COLD_C - celsius, 0.0)
    hours = local_seconds(starts_s) % 86_400 // 3600
    return np.asarray(np.round(_SHARES[zone] * (_BASE_MW + heat + cold + _BY_LOCAL_HOUR_MW[hours]), 2))
