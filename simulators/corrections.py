"""Which published prices are corrected later, by how much, and when: a function of (seed, scenario, market, point, instant).

What the world knows is what is told first, recorded prices too; a correction adds to it. The reports that list corrections are
in `ercot_corrections`.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import numpy as np

from simulators.script import Script
from simulators.streams import FloatArray, IntArray, uniforms

Market = Literal["spp", "da", "mcpc"]
_PUBLISHED_BEFORE_S = (
    10.5 * 3600
)  # a day-ahead price stands since the afternoon before its day; on average so much earlier
STEP_S: Final[Mapping[Market, int]] = {"spp": 900, "da": 3600, "mcpc": 3600}


class Corrections(NamedTuple):
    """By interval: what is added (0: nothing), and from when on (Unix seconds; infinite where nothing is)."""

    add_usd: FloatArray
    from_s: FloatArray

    def known(self, now_s: float) -> FloatArray:
        """What is added at an instant."""
        return np.where(self.from_s <= now_s, self.add_usd, 0.0)


def corrections(script: Script, seed: int, market: Market, point: str, starts_s: IntArray) -> Corrections:
    """The corrections of a point's (or product's) settlement, day-ahead or capacity prices."""
    add, from_s = np.zeros(len(starts_s)), np.full(len(starts_s), np.inf)
    instants = starts_s.astype(np.float64)
    numbers = starts_s // STEP_S[market]
    for number, revision, weight in script.revisions(instants):
        key = ("revision", number, market, point)
        hit = uniforms(seed, numbers, *key, "whether") < revision.fraction * weight
        first, second = uniforms(seed, numbers, *key, "size"), uniforms(seed, numbers, *key, "angle")
        normal = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)  # Box and Muller
        size = np.round(normal * revision.spread_usd_per_mwh, 2)
        hit &= size != 0.0
        lead_s = _PUBLISHED_BEFORE_S if market != "spp" else 0.0
        known_s = np.ceil((instants - lead_s + revision.after_h * 3600.0) / 3600.0) * 3600.0
        add, from_s = np.where(hit, size, add), np.where(hit, known_s, from_s)
    return Corrections(add, from_s)


def corrected(market: Market, prices: FloatArray, add_usd: FloatArray) -> FloatArray:
    """Prices with their corrections; capacity is never worth less than nothing."""
    values = np.round(prices + add_usd, 2)
    return np.where(add_usd == 0.0, prices, np.maximum(values, 0.0) if market == "mcpc" else values)


def as_known(
    script: Script, seed: int, market: Market, point: str, starts_s: IntArray, prices: FloatArray, now_s: float
) -> FloatArray:
    """What a report has of prices at an instant: as they were told first, or as they have been corrected since."""
    if not script.scenario.services.revisions:
        return prices
    return corrected(market, prices, corrections(script, seed, market, point, starts_s).known(now_s))
