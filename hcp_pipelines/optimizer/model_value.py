"""What a forecast is worth in dollars: the same decisions, made with one forecast or another. Nothing is learnt or forecast here.

Of prices: a megawatt of miners under the back-test's own strikes, simulation and account, where a forecast says what being on is
worth when the hour ends. Of a capacity: what is promised of it is paid for, and what is promised and is not there costs; no
back-test asks a forecast of capacity yet, so these dollars are of stated prices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, instant
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.optimizer.backtest.case import Case, Known, build_case
from hcp_pipelines.optimizer.backtest.learning import PLAIN_HASHPRICE
from hcp_pipelines.optimizer.backtest.request import GOLDEN_EFFICIENCIES_J_PER_TH
from hcp_pipelines.optimizer.backtest.run import Result, result_of
from hcp_pipelines.optimizer.backtest.series import Prices
from hcp_pipelines.optimizer.backtest.simulate import Strikes
from hcp_pipelines.optimizer.backtest.strategies import BreakEven, Hysteresis, Oracle
from hcp_pipelines.optimizer.band import Band

HOURS_A_YEAR = 8766
LATEST_H = 6  # a forecast asked so many hours ago is still decided by: not every hour is asked
LEAST_H = 7 * 24  # of prices, of some point: less says nothing
BAND = Hysteresis().name  # what is done where no forecast is asked
ORACLE = "oracle"
WITHOUT = ""  # no model is called so


@dataclass(frozen=True)
class Value:
    """What a forecast's decisions earn a year and unit over what is done without it, and as a share of what hindsight gains."""

    name: str
    usd_per_unit_year: float
    gap_closed: float | None


@dataclass(frozen=True)
class CommitmentPrices:
    """Dollars an hour and unit: what is paid for what is promised and there, and what is owed for what is not."""

    rate_usd: float = 2.0  # of a GPU-hour; stated, not measured
    penalty_usd: float = 6.0

    def __post_init__(self) -> None:
        """Refuse prices at which anything or nothing would be promised."""
        if not (self.rate_usd > 0 and self.penalty_usd > 0):
            raise ConfigError(f"rate {self.rate_usd} and penalty {self.penalty_usd}: both must be above 0 $")

    @property
    def level(self) -> float:
        """The quantile that pays best to promise: F(x) = rate / (rate + penalty)."""
        return self.rate_usd / (self.rate_usd + self.penalty_usd)


@dataclass(frozen=True)
class Foreseen:
    """A `Strategy`: strikes from what a forecast says of the hours to come; where it says nothing, the plain band's."""

    name: str
    starts_us: Ints
    quantiles: Floats  # [hour asked, hour after it, level], NaN where nothing is said
    levels: tuple[float, ...]
    trained_until: datetime | None = None  # who forecast saw to it
    is_guarded: bool = False

    def strikes(self, case: Case) -> Strikes:
        """As `Mpc`, with E[D] of the forecast's quantiles in place of a learnt one."""
        wake_per_hour = case.known.wake_usd / case.step_h
        revenue = case.known.revenue_usd_per_mwh
        worth = self._worth(case)
        found = Band.of_worth(np.nan_to_num(worth)).around(revenue, wake_per_hour)
        plain = Hysteresis().strikes(case)
        on, off = (
            np.where(np.isfinite(worth), own, other) for own, other in zip(found, (plain.on, plain.off), strict=True)
        )
        return Strikes(on, off)

    def _worth(self, case: Case) -> Floats:
        """E[D] in wakes when each hour ends: D = E[clip(m + D', 0, c)] from the last hour foreseen back, hours told apart."""
        rows = np.maximum(np.searchsorted(self.starts_us, case.starts_us, side="right") - 1, 0)
        age = (case.starts_us - self.starts_us[rows]) // HOUR_US
        wake, revenue = case.known.wake_usd[:, None], case.known.revenue_usd_per_mwh[:, None]
        weights, ahead, said = weights_of(self.levels), np.zeros(len(case)), np.zeros(len(case), dtype=bool)
        for hour in range(self.quantiles.shape[1] - 1, -1, -1):
            foreseen = self.quantiles[rows, np.minimum(hour + age, self.quantiles.shape[1] - 1)]
            foreseen = np.where((hour + age < self.quantiles.shape[1])[:, None], foreseen, np.nan)
            value = np.clip((revenue - foreseen) * case.step_h + ahead[:, None], 0.0, wake) @ weights
            said = np.isfinite(value)
            ahead = np.where(said, value, ahead)
        is_fresh = (age >= 0) & (age < LATEST_H) & said
        worth: Floats = np.where(is_fresh, ahead / case.known.wake_usd, np.nan)
        return worth


def weights_of(levels: Sequence[float]) -> Floats:
    """How likely each quantile's surroundings are; together 1.

    >>> weights_of((0.1, 0.5, 0.9)).round(2).tolist()
    [0.3, 0.4, 0.3]
    """
    bounds = [0.0, *((low + high) / 2 for low, high in pairwise(levels)), 1.0]
    return np.diff(bounds)


def price_value(forecasts: Sequence[Forecasts]) -> list[Value]:
    """Dollars a MW and year over the plain band, of miners of the golden efficiencies at all points; the oracle's beside them.

    Args:
        forecasts: of a power price in $/MWh by several models, of the same questions: hours that follow the one asked in.

    Raises:
        ConfigError: too few hours of any point are known, or the questions are not the same.
    """
    examples = same_questions(forecasts)
    results = [result for entity in range(len(examples.entities)) for result in _results(examples, forecasts, entity)]
    if not results:
        raise ConfigError(f"no point has {LEAST_H} hours of known prices on end: nothing to count dollars of")
    years = sum(len(each.case) * each.case.step_h for each in results) / HOURS_A_YEAR
    gained = {name: sum(_over_band(each, name) for each in results) for name in (*(f.model for f in forecasts), ORACLE)}
    most = gained[ORACLE]
    return [Value(name, round(usd / years, 2), share_of(usd, most)) for name, usd in gained.items()]


def commitment_value(forecasts: Sequence[Forecasts], prices: CommitmentPrices | None = None) -> list[Value]:
    """Dollars a year and unit of scale over promising what the seasonal naive forecast says, at stated prices.

    Each model promises its quantile of `CommitmentPrices.level`, between its levels linearly.

    Raises:
        ConfigError: no outcome is known together with the naive forecast and all that the models say, or the questions differ.
    """
    prices, examples = prices or CommitmentPrices(), same_questions(forecasts)
    promised = {each.model: at_level(each, prices.level) for each in forecasts}
    promised |= {WITHOUT: examples.naive, ORACLE: examples.target}
    known = np.all([np.isfinite(each) for each in (*promised.values(), examples.scale)], axis=0) & (examples.scale > 0)
    if not known.any():
        raise ConfigError("no outcome is known together with the naive forecast and what the models say")
    there, scale = examples.target[known], examples.scale[known]
    earned = {name: float(_earned(each[known], there, prices).sum() / scale.sum()) for name, each in promised.items()}
    without = earned.pop(WITHOUT)
    most = earned[ORACLE] - without
    return [
        Value(name, round((each - without) * HOURS_A_YEAR, 2), share_of(each - without, most))
        for name, each in earned.items()
    ]


def same_questions(forecasts: Sequence[Forecasts]) -> Examples:
    """The questions that all of them were asked.

    Raises:
        ConfigError: there is no forecast, or they were asked other ones.
    """
    if not forecasts:
        raise ConfigError("no forecast: nothing to count dollars of")
    first = forecasts[0].examples
    for other in (each.examples for each in forecasts[1:]):
        if not all(
            np.array_equal(getattr(first, name), getattr(other, name)) for name in ("entity", "asked_us", "wanted_us")
        ):
            raise ConfigError("the models were not asked the same questions")
    return first


def share_of(usd: float, most: float) -> float | None:
    """Of what hindsight gains; None where it gains nothing."""
    return round(usd / most, 4) if most > 0 else None


def _earned(promised: Floats, there: Floats, prices: CommitmentPrices) -> Floats:
    return prices.rate_usd * np.minimum(promised, there) - prices.penalty_usd * np.maximum(promised - there, 0.0)


def at_level(forecasts: Forecasts, level: float) -> Floats:
    """Their quantile at a level, between theirs linearly."""
    return np.array([np.interp(level, forecasts.levels, row) for row in forecasts.quantiles])


def _results(examples: Examples, forecasts: Sequence[Forecasts], entity: int) -> list[Result]:
    """A back-test's result for each efficiency at one point; none where too little is known of it."""
    own = np.flatnonzero((examples.entity == entity) & np.isfinite(examples.target))
    if not len(own):
        return []
    prices = _prices(examples, own, examples.entities[entity])
    if len(prices.starts_us) < LEAST_H:
        return []
    asked_h = np.unique(examples.asked_us[own] // HOUR_US)
    rivals = [
        Foreseen(each.model, asked_h * HOUR_US, _cube(examples, own, asked_h, each.quantiles), each.levels)
        for each in forecasts
    ]
    start = instant(int(prices.starts_us[0]))
    hashprice = np.full(len(prices.starts_us), PLAIN_HASHPRICE)
    cases = (
        build_case(prices, np.full(len(hashprice), np.nan), (hashprice, hashprice), each, Known.AT_START)
        for each in GOLDEN_EFFICIENCIES_J_PER_TH
    )
    return [result_of(case, start, [BreakEven(), Hysteresis(), *rivals, Oracle()]) for case in cases]


def _prices(examples: Examples, own: Ints, point: str) -> Prices:
    """The longest run of hours whose price is known."""
    wanted, first = np.unique(examples.wanted_us[own], return_index=True)
    breaks = np.flatnonzero(np.diff(wanted) != HOUR_US) + 1
    longest = max(np.split(np.arange(len(wanted)), breaks), key=len)
    return Prices(point, 60, wanted[longest], examples.target[own][first[longest]])


def _cube(examples: Examples, own: Ints, asked_h: Ints, quantiles: Floats) -> Floats:
    """[hour asked, hour after it, level] of what is said of the hours that follow the one that is decided on."""
    after = examples.wanted_us[own] // HOUR_US - examples.asked_us[own] // HOUR_US - 1
    kept = after >= 0
    cube = np.full((len(asked_h), int(after.max(initial=-1)) + 1, quantiles.shape[1]), np.nan)
    cube[np.searchsorted(asked_h, examples.asked_us[own][kept] // HOUR_US), after[kept]] = quantiles[own][kept]
    return cube


def _over_band(result: Result, name: str) -> float:
    return result.accounts[name].total_usd - result.accounts[BAND].total_usd
