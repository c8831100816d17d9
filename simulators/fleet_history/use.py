"""What a fleet's devices did by the hour: miners mined where power was cheap enough, GPUs did what customers asked for.

Prices are the world's (or recorded ones), the course of the day and the week and the wandering of demand those that were fitted
to traces (`workloads`). How full a facility is and how fast that grows is drawn.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.models import miner_model
from simulators.settings import GroupConfig
from simulators.streams import DAY_S, FloatArray, IntArray, smooth_noise, stream
from simulators.workloads import assumed, fitted
from simulators.workloads.arrivals import Calendar

HOUR_S: Final = 3600
MONTH_S: Final = 30 * DAY_S
_FAMILY: Final = "recommender"  # the longest-running work of the fitted families that has a course of its own
_FULLNESS: Final = (0.45, 0.75)  # at the beginning, of a facility's GPUs (setting)
_GROWTH_A_MONTH: Final = (0.0, 0.03)  # (setting)
_LASTS_H: Final = 24  # how long work stays: demand is what came in so many hours


@dataclass(frozen=True)
class Use:
    """How one facility was used. `prices`: $/MWh at its point by hour."""

    site: str
    seed: int
    starts_s: IntArray
    prices: FloatArray

    def hours(self, group: GroupConfig, available_h: FloatArray) -> FloatArray:
        """Device-hours of a group at work, by hour: never more than there were."""
        wanted = self._mining(group) if group.kind == "ASIC" else self._demand(group)
        return np.minimum(wanted * group.devices, available_h)

    def _mining(self, group: GroupConfig) -> FloatArray:
        """All or none: power is cheaper than what the machine makes of it."""
        usd_per_th_hour = fitted.load().prices.hashprice_usd_per_ph_day / 1000.0 / 24.0
        worth_usd_per_mwh = 1e6 * usd_per_th_hour / miner_model(group.model).efficiency_j_per_th
        return (self.prices < worth_usd_per_mwh).astype(np.float64)

    def _demand(self, group: GroupConfig) -> FloatArray:
        """Share of the GPUs that customers want: a level that grows, times the course of day and week, times what wanders."""
        random = stream(self.seed, "use", self.site, group.group)
        level, growth = random.uniform(*_FULLNESS), random.uniform(*_GROWTH_A_MONTH)
        arrivals, kind = fitted.load().families[_FAMILY].arrivals, assumed.load().families[_FAMILY]
        calendar = Calendar(arrivals.profile or (1.0,) * 24, kind.weekend)
        lead = np.arange(-_LASTS_H + 1, len(self.starts_s)) * HOUR_S + int(self.starts_s[0])
        noise = np.concatenate([self._noise(day, arrivals.wander_tau_s) for day in range(*_days(lead))])
        noise = noise[(int(lead[0]) % DAY_S) // HOUR_S :][: len(lead)]
        came = calendar.at(lead.astype(np.float64)) * np.exp(arrivals.wander * noise - arrivals.wander**2 / 2)
        stays = np.convolve(came, np.full(_LASTS_H, 1.0 / _LASTS_H), mode="valid")
        months = (self.starts_s - self.starts_s[0]) / MONTH_S
        return np.asarray(level * (1.0 + growth) ** months * stays)

    def _noise(self, day: int, tau_s: float) -> FloatArray:
        return smooth_noise(self.seed, f"use.{self.site}", day, DAY_S // HOUR_S, tau_s / HOUR_S)


def _days(instants_s: IntArray) -> tuple[int, int]:
    return int(instants_s[0] // DAY_S), int(instants_s[-1] // DAY_S) + 1
