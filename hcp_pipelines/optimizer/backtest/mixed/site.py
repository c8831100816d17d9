"""What a mixed facility is: groups of miners, inference by class of value, daily training, and what its load is charged for.

MW are all-in, PUE 1. Limits of the site and of its feeders are infinite where nothing takes power from another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class InferenceClass:
    """Requests of one value: so many MW at the height of the day, by night a third of that less."""

    usd_per_mwh: float
    peak_mw: float


@dataclass(frozen=True)
class DailyJob:
    """Training that may run from an hour of each local day until midnight; what is not done by then is not paid."""

    name: str
    release_hour: int
    work_mwh: float
    most_mw: float
    usd_per_mwh: float


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
    inference: tuple[InferenceClass, ...] = ()
    training: tuple[DailyJob, ...] = ()
    peaks: FourPeaks = FourPeaks()
    limit_mw: float = math.inf  # of all load
    feeder_limits_mw: Mapping[str, float] = field(default_factory=dict)  # of the miners behind a feeder
    ramp_up_mw_per_h: float = math.inf  # of all load, from one interval to the next
    ramp_down_mw_per_h: float = math.inf

    @property
    def most_ai_mw(self) -> float:
        """Of inference and training together."""
        return sum(each.peak_mw for each in self.inference) + sum(job.most_mw for job in self.training)


MIXED_100MW = MixedSite(
    groups=(MinerGroup("hydro", 30.0, 15.0), MinerGroup("air", 40.0, 17.5), MinerGroup("old", 20.0, 29.5)),
    inference=(InferenceClass(2000.0, 4.0), InferenceClass(1200.0, 3.0), InferenceClass(770.0, 2.0)),
    training=(DailyJob("long", 0, 36.0, 3.0, 900.0), DailyJob("short", 8, 30.0, 3.0, 900.0)),
)
