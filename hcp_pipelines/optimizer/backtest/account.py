"""What a schedule earned, as settled: dollars by kind, switches, energy, and its share of the gap to the oracle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.series import MICROSECONDS_PER_DAY, Floats, Ints
from hcp_pipelines.optimizer.backtest.simulate import Schedule

DAYS_PER_BLOCK = 7.0
DRAWS = 2000
LEAST_BLOCKS = 4
SEED = 0  # of the blocks that are drawn
HOURS_PER_YEAR = 8766.0
LEAST_GAP_USD_PER_MW_DAY = 1.0  # below it a share of the gap says nothing

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Account:
    """Dollars of one MW under one strategy. `net_usd` has a value an interval, the rest is of the whole window."""

    net_usd: Floats
    revenue_usd: float
    energy_usd: float
    switching_usd: float
    wakes: int
    switches_per_device_day: float
    curtailed_mwh: float
    worst_intervals_usd: float
    worst_day: str
    worst_day_usd: float
    guarded: int

    @property
    def total_usd(self) -> float:
        """Net dollars of the window."""
        return self.revenue_usd + self.energy_usd + self.switching_usd

    def as_dict(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "net_usd": round(self.total_usd, 2),
            "parts_usd": {
                "revenue": round(self.revenue_usd, 2),
                "energy": round(self.energy_usd, 2),
                "switching": round(self.switching_usd, 2),
            },
            "wakes": self.wakes,
            "switches_per_device_day": round(self.switches_per_device_day, 4),
            "curtailed_mwh": round(self.curtailed_mwh, 2),
            "worst_1_percent_usd": round(self.worst_intervals_usd, 2),
            "worst_day": {"date": self.worst_day, "usd": round(self.worst_day_usd, 2)},
            "guarded_intervals": self.guarded,
        }


def account_of(case: Case, schedule: Schedule) -> Account:
    """The account of a schedule at what the case settles at. Energy and switching are costs: below zero."""
    hours, on = case.step_h, schedule.is_on
    revenue = case.settled.revenue_usd_per_mwh * hours * on
    energy = -case.settled.price_usd_per_mwh * hours * on
    switching = -case.settled.wake_usd * schedule.wakes
    net = revenue + energy + switching
    day, day_usd = worst_day(case.starts_us, net)
    days = len(case) * hours / 24
    return Account(
        net_usd=net,
        revenue_usd=float(revenue.sum()),
        energy_usd=float(energy.sum()),
        switching_usd=float(switching.sum()) + 0.0,  # not -0.0
        wakes=int(schedule.wakes.sum()),
        switches_per_device_day=float(schedule.wakes.sum() + schedule.sleeps.sum()) / days,
        curtailed_mwh=float((~on).sum()) * hours,
        worst_intervals_usd=worst_intervals_usd(net),
        worst_day=day,
        worst_day_usd=day_usd,
        guarded=schedule.guarded,
    )


def worst_intervals_usd(net: Floats) -> float:
    """Dollars in the worst 1 % of intervals, at least one."""
    return float(np.sort(net)[: max(1, len(net) // 100)].sum())


def worst_day(starts_us: Ints, net: Floats) -> tuple[str, float]:
    """The UTC day that earned least, and its dollars."""
    days = starts_us // MICROSECONDS_PER_DAY
    by_day = pl.DataFrame({"day": days, "usd": net}).group_by("day").agg(pl.col("usd").sum()).sort("usd", "day")
    return f"{instant(int(by_day['day'][0]) * MICROSECONDS_PER_DAY):%Y-%m-%d}", float(by_day["usd"][0])


@dataclass(frozen=True)
class GapClosed:
    """(strategy − break_even) / (oracle − break_even), its 90 % interval, and the dollars behind it per MW and year."""

    share: float | None
    low: float | None
    high: float | None
    gain_usd_per_mw_year: float
    worst_month: str
    worst_month_usd: float  # strategy − break_even of that month

    def as_dict(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "share": _rounded(self.share),
            "interval_90": [_rounded(self.low), _rounded(self.high)],
            "gain_usd_per_mw_year": round(self.gain_usd_per_mw_year, 2),
            "worst_month": {"month": self.worst_month, "usd": round(self.worst_month_usd, 2)},
        }


def unknown_shares(oracles: Mapping[str, GapClosed]) -> list[str]:
    """Why a share of the gap, or its interval, is not told; the oracle's by what it is of (` at 20 J/TH`)."""
    flat = [of for of, gap in oracles.items() if gap.share is None]
    notes = [
        f"no share of the gap{of}: break_even is within ${LEAST_GAP_USD_PER_MW_DAY:g} per MW and day of perfect foresight"
        for of in flat
    ]
    if any(gap.share is not None and gap.low is None for gap in oracles.values()):
        notes.append(f"no 90 % intervals: they are drawn from weeks, and there are fewer than {LEAST_BLOCKS}")
    return notes


class Earned(Protocol):
    """What can be compared."""

    @property
    def net_usd(self) -> Floats:
        """Dollars by interval."""
        ...


def gap_closed(
    case: Case, accounts: Mapping[str, Earned], name: str, *, base: str = "break_even", mw: float = 1.0
) -> GapClosed:
    """Of the gap between a base and the oracle, the share that a strategy closes, by weekly block bootstrap. `mw` earned it.

    The share is None where the gap is under $1 per MW and day. The same weeks are drawn for all strategies.
    """
    gain, gap = _gain(accounts, name, base) / mw, _gain(accounts, "oracle", base) / mw
    per_year = float(gain.sum()) / (len(case) * case.step_h) * HOURS_PER_YEAR
    month, month_usd = worst_month(case, gain)
    if float(gap.sum()) < LEAST_GAP_USD_PER_MW_DAY * len(case) * case.step_h / 24:
        return GapClosed(None, None, None, per_year, month, month_usd)
    low, high = block_interval(_by_week(case, gain), _by_week(case, gap))
    return GapClosed(float(gain.sum() / gap.sum()), low, high, per_year, month, month_usd)


def block_interval(gain: Floats, gap: Floats, seed: int = SEED) -> Interval:
    """5 % and 95 % quantiles of Σ gain / Σ gap over blocks drawn with replacement; None with fewer than four blocks."""
    return _interval_90([(gain, gap)], seed)


def mean_interval(
    parts: Sequence[tuple[Case, Mapping[str, Account]]], name: str, other: str, seed: int = SEED
) -> Interval:
    """The 90 % interval of a strategy's mean share over several efficiencies of one window, less another strategy's.

    None where there is no gap to draw.
    The same weeks are drawn for all of them: their prices are the same, and one efficiency more is no more evidence.
    """
    leads = [_gain(accounts, name) - _gain(accounts, other) for _, accounts in parts]
    return _interval_90(
        [
            (_by_week(case, lead), _by_week(case, _gain(accounts, "oracle")))
            for lead, (case, accounts) in zip(leads, parts, strict=True)
        ],
        seed,
    )


def worst_month(case: Case, gain: Floats) -> tuple[str, float]:
    """The month, in UTC, in which a gain by interval was least, and its dollars."""
    months = pl.Series(case.starts_us).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m")
    by_month = (
        pl.DataFrame({"month": months, "usd": gain}).group_by("month").agg(pl.col("usd").sum()).sort("usd", "month")
    )
    return str(by_month["month"][0]), float(by_month["usd"][0])


def _interval_90(pairs: Sequence[tuple[Floats, Floats]], seed: int) -> Interval:
    """Of the mean of Σ gain / Σ gap over the pairs, the same blocks drawn for all."""
    blocks = len(pairs[0][1])
    if blocks < LEAST_BLOCKS:
        return None, None
    drawn = np.random.default_rng(seed).integers(blocks, size=(DRAWS, blocks))
    sums = [(gain[drawn].sum(axis=1), gap[drawn].sum(axis=1)) for gain, gap in pairs]
    usable = np.all([gap > 0 for _, gap in sums], axis=0)
    if not usable.any():
        return None, None
    shares = np.mean([gain[usable] / gap[usable] for gain, gap in sums], axis=0)
    low, high = np.quantile(shares, (0.05, 0.95))
    return float(low), float(high)


def _gain(accounts: Mapping[str, Earned], name: str, base: str = "break_even") -> Floats:
    return accounts[name].net_usd - accounts[base].net_usd


def _by_week(case: Case, values: Floats) -> Floats:
    block = ((case.starts_us - case.starts_us[0]) // int(DAYS_PER_BLOCK * MICROSECONDS_PER_DAY)).astype(np.int64)
    return np.bincount(block, weights=values).astype(np.float64)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
