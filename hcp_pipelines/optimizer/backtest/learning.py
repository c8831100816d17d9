"""A model for the live policies: learnt from what a platform knows of prices, scored on its last weeks against the plain band.

The cases, the simulation and the yardstick are the back-test's. What is scored is what serves: nothing is learnt after it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.economics.power import INTERVAL_MINUTES
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.model_file import Artefact
from hcp_pipelines.forecasting.trees import Trees
from hcp_pipelines.optimizer.backtest.case import Case, Known, build_case
from hcp_pipelines.optimizer.backtest.covering import stretches
from hcp_pipelines.optimizer.backtest.mpc import Mpc, trained
from hcp_pipelines.optimizer.backtest.request import (
    GOLDEN_EFFICIENCIES_J_PER_TH,
    LEAST_TRAINING_DAYS,
    TRAINING_EFFICIENCIES_J_PER_TH,
)
from hcp_pipelines.optimizer.backtest.run import Result, result_of
from hcp_pipelines.optimizer.backtest.series import REAL_TIME, START, Floats, Prices
from hcp_pipelines.optimizer.backtest.strategies import BreakEven, Hysteresis, Oracle, Strategy
from hcp_pipelines.optimizer.learnt import WAITING

HELD_OUT = timedelta(days=28)  # at least: luck may rule a month. Of more history a quarter is, at most …
MOST_HELD_OUT = timedelta(days=91)  # … so much: learnt anew each quarter loses nothing (docs/decisions.md)
LEAST_LEARNT_DAYS = 28.0  # before those, of some point
PLAIN_HASHPRICE = 50.0  # $/PH/day, where none is recorded
BAND = Hysteresis().name


@dataclass(frozen=True)
class Market:
    """Prices by point without long gaps, the day-ahead price of each interval, and hashprice as it became known."""

    stretches: tuple[tuple[Prices, Floats], ...]
    hashprice: pl.DataFrame  # `start`, `hashprice`: may be empty

    @property
    def points(self) -> list[str]:
        """By name."""
        return sorted({prices.point for prices, _ in self.stretches})

    @property
    def days(self) -> float:
        """Of prices, all points together."""
        return sum(len(prices.starts_us) * prices.step_h for prices, _ in self.stretches) / 24

    def before(self, end: datetime) -> "Market":
        """What of it began before an instant."""
        rows = [(prices.row_at(end), prices, day_ahead) for prices, day_ahead in self.stretches]
        return Market(tuple((p.cut(0, n), d[:n]) for n, p, d in rows if n), self.hashprice)

    def cases(self, efficiencies: Sequence[float], least_days: float = LEAST_TRAINING_DAYS) -> Iterator[Case]:
        """A case for each stretch that is long enough and each efficiency."""
        for prices, day_ahead in self.stretches:
            if len(prices.starts_us) * prices.step_h >= least_days * 24:
                hashprice = _hashprice(self.hashprice, prices)
                for each in efficiencies:
                    yield build_case(prices, day_ahead, (hashprice, hashprice), each, Known.AT_START)


@dataclass(frozen=True)
class Score:
    """Of the weeks held out: gap closed by the model and by the plain band, and dollars per MW and year between the two."""

    start: datetime
    end: datetime
    gap_closed: float | None
    band_gap_closed: float | None
    usd_per_mw_year_over_band: float
    cases: int

    @property
    def is_no_worse(self) -> bool:
        """Whether the model earned what the band did."""
        return self.usd_per_mw_year_over_band >= 0

    def as_dict(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "from": self.start.isoformat(), "to": self.end.isoformat(), "gap_closed": self.gap_closed,
            "band_gap_closed": self.band_gap_closed, "usd_per_mw_year_over_band": self.usd_per_mw_year_over_band,
            "cases": self.cases,
        }  # fmt: skip


@dataclass(frozen=True)
class Learnt:
    """A model as it is kept, and its score."""

    artefact: Artefact
    score: Score


def market_of(prices: pl.DataFrame, hashprice: pl.DataFrame) -> Market:
    """The market from rows of `forecasting.known_prices.PRICES`, one an interval, and from hashprice as it became known."""
    real_time = prices.filter(pl.col("stream") == Stream.POWER_RT_SPP.value).sort("start_at")
    day_ahead = prices.filter(pl.col("stream") == Stream.POWER_DA_SPP.value).sort("start_at")
    found = []
    for (point,), rows in real_time.group_by(["settlement_point"], maintain_order=True):
        named = rows.select(pl.col("start_at").alias(START), pl.col("price_usd_per_mwh").alias(REAL_TIME))
        hours = day_ahead.filter(pl.col("settlement_point") == point)
        for stretch in stretches(named, str(point), "the platform's record", INTERVAL_MINUTES):
            found.append((stretch, _by_hour(stretch, hours)))
    return Market(tuple(found), hashprice)


def learn_and_score(market: Market, now: datetime, progress: Callable[[int, int], None] = lambda *_: None) -> Learnt:
    """A model learnt from all but the last weeks, and its score on those.

    Raises:
        ConfigError: too little is known; the message says how much is missing.
    """
    start, end = now - held_out(market), now
    past = market.before(start)
    refuse_little(past, market, start, now)
    strategy = trained(list(past.cases(TRAINING_EFFICIENCIES_J_PER_TH)), start, progress)
    score = score_of(strategy, market, start, end)
    trees = strategy.model.regressor
    assert isinstance(trees, Trees)
    told = {
        "points": market.points, "days": round(past.days, 1), "score": score.as_dict(),
        "has_hashprice": not market.hashprice.is_empty(),
    }  # fmt: skip
    return Learnt(Artefact(WAITING, trees, strategy.model.columns, start, INTERVAL_MINUTES, 0, told), score)


def held_out(market: Market) -> timedelta:
    """How much of the end is for scoring: a quarter of the longest stretch, four to thirteen weeks, in whole days.

    >>> held_out(Market((), pl.DataFrame())).days
    28
    """
    longest = max((len(prices.starts_us) * prices.step_h / 24 for prices, _ in market.stretches), default=0.0)
    return min(MOST_HELD_OUT, max(HELD_OUT, timedelta(days=longest // 4)))


def refuse_little(past: Market, market: Market, start: datetime, now: datetime) -> None:
    """Raise ConfigError where less is known than can be learnt from and scored."""
    longest = max((len(prices.starts_us) * prices.step_h / 24 for prices, _ in past.stretches), default=0.0)
    if longest < LEAST_LEARNT_DAYS or not _spanning(market, start):
        raise ConfigError(
            f"{longest:.0f} days of real-time prices without a long gap before {start:%Y-%m-%d %H:%M}Z are known: at least "
            f"{LEAST_LEARNT_DAYS:.0f} are needed, and the {(now - start).days} days after them, to score a model on. Let the "
            "platform run on, or materialize raw_ercot__rt_spp and raw_ercot__da_spp for the last months."
        )


def score_of(strategy: Mpc, market: Market, start: datetime, end: datetime) -> Score:
    """What the strategy earned in a window at all points and efficiencies, against the plain band and perfect foresight."""
    spanning = Market(tuple(_spanning(market, start)), market.hashprice)
    rivals: list[Strategy] = [BreakEven(), Hysteresis(), strategy, Oracle()]
    results = [result_of(case, start, rivals) for case in spanning.before(end).cases(GOLDEN_EFFICIENCIES_J_PER_TH, 0.0)]
    gain, band, gap = (
        sum(_over_break_even(each, name) for each in results) for name in (strategy.name, BAND, "oracle")
    )
    years = sum(len(each.case) * each.case.step_h for each in results) / 8766
    closed, band_closed = (round(each / gap, 4) if gap > 0 else None for each in (gain, band))
    return Score(start, end, closed, band_closed, round((gain - band) / max(years, 1e-9), 2), len(results))


def _over_break_even(result: Result, name: str) -> float:
    return result.accounts[name].total_usd - result.accounts["break_even"].total_usd


def _spanning(market: Market, start: datetime) -> list[tuple[Prices, Floats]]:
    """Stretches that go on from before an instant until after it."""
    at = microseconds(start)
    return [(p, d) for p, d in market.stretches if p.starts_us[0] < at < p.starts_us[-1]]


def _by_hour(prices: Prices, hours: pl.DataFrame) -> Floats:
    """The day-ahead price of each interval, NaN where none is known."""
    newest = hours.unique("start_at", keep="last")
    return prices.of_their_hours(newest.select(pl.col("start_at").alias(START), "price_usd_per_mwh"))


def _hashprice(known: pl.DataFrame, prices: Prices) -> Floats:
    """The newest hashprice as each interval began, the first one before that; a plain one where none is recorded."""
    if known.is_empty():
        return np.full(len(prices.starts_us), PLAIN_HASHPRICE)
    starts = pl.DataFrame({"start": pl.Series(prices.starts_us).cast(pl.Datetime("us", "UTC"))})
    joined = starts.join_asof(known.sort("start").rename({"hashprice": "value"}), on="start", strategy="backward")
    return joined["value"].fill_null(known.sort("start")["hashprice"][0]).to_numpy().astype(np.float64)
