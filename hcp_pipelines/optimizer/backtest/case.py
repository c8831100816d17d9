"""One case of a back-test: what a megawatt of miners earns and costs in each interval, as decided on and as settled.

What is *known* when an interval begins and what it *settles* at are kept apart. Only the oracle sees the latter.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from hcp_pipelines.economics import mining, switching
from hcp_pipelines.optimizer.backtest.series import Floats, Ints, Prices, SeriesError


class Known(StrEnum):
    """Which price is known when an interval's decision is made."""

    AT_START = "at-start"  # the interval's own
    AFTER = "after"  # that of the interval before, the last one that has ended


@dataclass(frozen=True)
class Course:
    """A column each per interval: price and revenue in $/MWh, a wake of one MW in dollars."""

    price_usd_per_mwh: Floats
    revenue_usd_per_mwh: Floats
    wake_usd: Floats

    @property
    def margin_usd_per_mwh(self) -> Floats:
        """What a MWh earns above its price."""
        return self.revenue_usd_per_mwh - self.price_usd_per_mwh

    def cut(self, rows: slice) -> "Course":
        """Some of its intervals."""
        return Course(self.price_usd_per_mwh[rows], self.revenue_usd_per_mwh[rows], self.wake_usd[rows])


@dataclass(frozen=True)
class LeastTimes:
    """Intervals for which an asset stays on once it was woken, and asleep once it was put to sleep."""

    on: int = 1
    off: int = 1

    def __bool__(self) -> bool:
        """Whether they hold anything."""
        return max(self.on, self.off) > 1


@dataclass(frozen=True)
class Case:
    """One megawatt of IT load of miners of one efficiency, PUE 1, on one price series with its history before the window.

    `known` has the price that a decision may use: NaN where none is yet. `day_ahead` is the day-ahead price of each interval, NaN
    where there is none; readers look at most `forecasting.power_features.DAY_AHEAD_H` hours ahead, always published by then.
    """

    efficiency_j_per_th: float
    model: Known
    starts_us: Ints
    step_h: float
    known: Course
    settled: Course
    day_ahead: Floats
    least: LeastTimes = LeastTimes()

    def __len__(self) -> int:
        """Intervals."""
        return len(self.starts_us)

    @property
    def delay(self) -> int:
        """Intervals by which the known price is old."""
        return 0 if self.model is Known.AT_START else 1

    def cut(self, start: int, end: int) -> "Case":
        """The intervals [start, end)."""
        rows = slice(start, end)
        return replace(
            self, starts_us=self.starts_us[rows], known=self.known.cut(rows), settled=self.settled.cut(rows),
            day_ahead=self.day_ahead[rows],
        )  # fmt: skip


def mining_course(price_usd_per_mwh: Floats, hashprice: Floats, efficiency_j_per_th: float) -> Course:
    """Revenue and wake cost of one MW of IT load of miners at PUE 1; hashprice in $/PH/day per interval.

    r = hashprice / 1000 · (10^6 / E) / 24 $/MWh, which is the break-even price; a wake costs `switching.asic_wake_usd_per_mw`.
    """
    per_hashprice = mining.break_even_usd_per_mwh(1.0, efficiency_j_per_th)
    fixed = switching.asic_wake_usd_per_mw(0.0, efficiency_j_per_th)
    per_revenue = switching.asic_wake_usd_per_mw(1.0, efficiency_j_per_th) - fixed
    revenue = hashprice * per_hashprice
    return Course(price_usd_per_mwh, revenue, revenue * per_revenue + fixed)


def build_case(
    prices: Prices, day_ahead: Floats, hashprice: tuple[Floats, Floats], efficiency_j_per_th: float, model: Known
) -> Case:
    """The case of a series; `hashprice` as known at each interval, and as settled.

    Raises:
        SeriesError: columns of different lengths.
    """
    known_hashprice, settled_hashprice = hashprice
    if not len(prices.usd_per_mwh) == len(day_ahead) == len(known_hashprice) == len(settled_hashprice):
        raise SeriesError(f"{prices.point}: {len(prices.usd_per_mwh)} prices, {len(day_ahead)} day-ahead prices")
    settled = mining_course(prices.usd_per_mwh, settled_hashprice, efficiency_j_per_th)
    seen = prices.usd_per_mwh if model is Known.AT_START else np.r_[np.nan, prices.usd_per_mwh[:-1]]
    known = mining_course(seen, known_hashprice, efficiency_j_per_th)
    return Case(efficiency_j_per_th, model, prices.starts_us, prices.step_h, known, settled, day_ahead)
