"""How good a place is, 0–100: latency, cost, availability, profitability and their weighted sum (WL-26…WL-30). Columns of groups.

Source of the formulas: REQUIREMENTS WL-26…WL-29 with ER-07, ER-09, ER-19. What estimates them (WL-32): latency is the light's way
through fibre, longer than the straight line, there and back, and a base; cost is the energy that the work draws at the meter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hcp_pipelines.workloads.routing.room import Floats

COST_OF_NOTHING_USD_PER_HOUR = 100.0  # WL-27: what costs so much, or more, scores 0
EARTH_KM = 6371.0
FIBRE_KM_PER_MS = 200.0  # two thirds of the speed of light
NEUTRAL = 50.0  # WL-26: without a limit


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the parts of a score; they need not add up to one."""

    latency: float = 0.3
    cost: float = 0.3
    availability: float = 0.2
    profitability: float = 0.2


@dataclass(frozen=True, slots=True)
class Estimates:
    """Settings of the estimators: milliseconds that any answer takes, and how much longer cables are than the straight line."""

    base_latency_ms: float = 5.0
    cable_factor: float = 1.5


class Located(Protocol):
    """What has a place on Earth, in degrees."""

    @property
    def latitude(self) -> float:
        """North of the equator."""

    @property
    def longitude(self) -> float:
        """East of Greenwich."""


def latency_ms(groups: Sequence[Located], client: tuple[float, float] | None, estimates: Estimates) -> Floats:
    """[g] round trip to a client; the base alone where nobody says where the client is."""
    if client is None:
        return np.full(len(groups), estimates.base_latency_ms)
    lat, lon = (np.radians([getattr(g, name) for g in groups]) for name in ("latitude", "longitude"))
    own_lat, own_lon = np.radians(client)
    half = np.sin((lat - own_lat) / 2) ** 2 + np.cos(lat) * np.cos(own_lat) * np.sin((lon - own_lon) / 2) ** 2
    km = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    found: Floats = estimates.base_latency_ms + 2 * km * estimates.cable_factor / FIBRE_KM_PER_MS
    return found


def latency_score(latency: Floats, max_latency_ms: float | None) -> Floats:
    """100 at no latency, 0 at its limit and beyond; 50 where there is none.

    >>> latency_score(np.array([0.0, 25.0, 100.0, 250.0]), 100.0).tolist()
    [100.0, 75.0, 0.0, 0.0]
    """
    if max_latency_ms is None:
        return np.full(len(latency), NEUTRAL)
    score: Floats = 100 * np.clip(1 - latency / max_latency_ms, 0.0, 1.0)
    return score


def cost_score(cost_usd_per_hour: Floats) -> Floats:
    """100 where it costs nothing or is paid for, 0 from $100 an hour.

    >>> cost_score(np.array([-3.0, 25.0, 400.0])).tolist()
    [100.0, 75.0, 0.0]
    """
    score: Floats = 100 * (1 - np.clip(cost_usd_per_hour / COST_OF_NOTHING_USD_PER_HOUR, 0.0, 1.0))
    return score


def profitability_score(revenue_usd_per_hour: Floats, cost_usd_per_hour: Floats) -> Floats:
    """The margin in hundredths, as the economic engine scores it (`economics.profitability`): 0 where nothing is earned or known.

    >>> profitability_score(np.array([2.0, 2.0, 0.0, np.nan]), np.array([0.5, 5.0, 0.1, 0.1])).tolist()
    [75.0, 0.0, 0.0, 0.0]
    """
    earns = revenue_usd_per_hour > 0
    margin = np.divide(
        revenue_usd_per_hour - cost_usd_per_hour,
        revenue_usd_per_hour,
        out=np.zeros_like(cost_usd_per_hour),
        where=earns,
    )
    score: Floats = 100 * np.clip(margin, 0.0, 1.0)
    return score
