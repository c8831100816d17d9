"""What a mixed facility is: groups of miners, AI work, and what its load is charged for.

MW are all-in, PUE 1. Limits of the site and of its feeders are infinite where nothing takes power from another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hcp_pipelines.optimizer.ai_work import NO_WORK, AiWork, DailyJob, InferenceClass, SyntheticWork

ECO_POWER = 0.8  # of a miner's full power and hashrate in its eco profile (OPTIMIZER §2)
ECO_HASH = 0.86
PRODUCTS = ("rrs", "ecrs", "nspin")


@dataclass(frozen=True)
class MinerGroup:
    """Miners of one model."""

    name: str
    mw: float
    efficiency_j_per_th: float
    feeder: str = ""
    is_enrolled: bool = False  # in the facility's demand response programme


@dataclass(frozen=True)
class FourPeaks:
    """A charge on load in the hour of a month's highest demand, in four months of the year: ERCOT's transmission charge."""

    usd_per_mw_year: float = 65_000.0
    months: tuple[int, ...] = (6, 7, 8, 9)

    @property
    def usd_per_mw(self) -> float:
        """Dollars of a MW of load in one peak hour."""
        return self.usd_per_mw_year / len(self.months)


@dataclass(frozen=True)
class MixedSite:
    """A facility as it is back-tested."""

    groups: tuple[MinerGroup, ...]
    ai: AiWork = NO_WORK
    peaks: FourPeaks = FourPeaks()
    limit_mw: float = math.inf  # of all load
    feeder_limits_mw: Mapping[str, float] = field(default_factory=dict)  # of the miners behind a feeder
    ramp_up_mw_per_h: float = math.inf  # of all load, from one interval to the next
    ramp_down_mw_per_h: float = math.inf

    @property
    def most_ai_mw(self) -> float:
        """Of inference and training together."""
        return self.ai.most_inference_mw + self.ai.most_training_mw


MIXED_AI = SyntheticWork(
    (InferenceClass(2000.0, 4.0), InferenceClass(1200.0, 3.0), InferenceClass(770.0, 2.0)),
    (DailyJob("long", 0, 36.0, 3.0, 900.0), DailyJob("short", 8, 30.0, 3.0, 900.0)),
)
MIXED_100MW = MixedSite(
    (MinerGroup("hydro", 30.0, 15.0), MinerGroup("air", 40.0, 17.5), MinerGroup("old", 20.0, 29.5)), MIXED_AI
)
