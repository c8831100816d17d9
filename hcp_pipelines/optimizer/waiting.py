"""The value of being on rather than off, learnt from past prices: whether a spell of high prices is worth a wake.

With D_t that value before interval t in wakes (units of c), an asset that is on stays iff m·Δ/c + E[D_{t+1}] ≥ 0, and asleep it
wakes iff that is above 1 (OPTIMIZER §1). D follows exactly from prices that have passed; the model is a bag of boosted trees from
what was known to what it came to. No mean price is forecast: the expectation is taken over D.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.power_features import AHEAD_MINUTES, PowerFeatures
from hcp_pipelines.forecasting.price_paths import PricePaths

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

BAG = 8
TREES: dict[str, Any] = {
    "max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 16, "min_samples_leaf": 200, "max_features": 0.4,
    "l2_regularization": 5.0, "max_bins": 63,
}  # fmt: skip
NEAR_H = 4  # after a price above break-even: only then can waiting matter, and all of those intervals are learnt from
EVENT_SHARE = 0.6  # of revenue: told late, a price around an interval above it is what matters
QUIET_SHARE = 0.02  # of the other intervals
FADING = (0.7, 0.9, 0.97)  # of a price's distance from its day-ahead price, after 15 minutes
FADING_ON_PAST_DAYS = (0.8, 0.95)
RISING = ("now", *(f"day_ahead_{minutes}" for minutes in AHEAD_MINUTES))  # a higher margin: never worth less to be on
WORTH_LIMITS = (-3.0, 2.0)  # wakes: beyond them no decision changes, and one price of $5,000 would outweigh a year
WARM_UP_H = 7 * 24
SPELL_COLUMNS = 4
LONGEST_SINCE = 200  # intervals after which it no longer matters how long ago a price was high
TAIL_H = 4  # what the last intervals come to is not known yet


class Regressor(Protocol):
    """What predicts; scikit-learn's own."""

    def predict(self, rows: Matrix) -> Floats:
        """A value a row."""
        ...


@dataclass(frozen=True)
class Outlook:
    """What is known of one megawatt at each interval: features of prices, revenue in $/MWh, a wake in $, hours of an interval."""

    features: PowerFeatures
    paths: PricePaths
    revenue_usd_per_mwh: Floats
    wake_usd: Floats
    step_h: float

    def matrix(self, rows: npt.NDArray[np.int64]) -> Matrix:
        """A row per interval: prices as margins in wakes, so that all efficiencies and hashprices learn from one another."""
        revenue, per_usd = self.revenue_usd_per_mwh[rows], self.step_h / self.wake_usd[rows]
        columns = [(revenue - level[rows]) * per_usd for level in self.features.levels.values()]
        columns += [spread[rows] * per_usd for spread in self.features.spreads.values()]
        columns += [column[rows] for column in self.features.plain.values()]
        columns += [column[rows] for column in self._spells()]
        columns += self._over_paths(rows)
        return np.column_stack([*columns, revenue * per_usd, revenue]).astype(np.float32)

    @property
    def matters(self) -> npt.NDArray[np.bool_]:
        """Where staying or waking can be in question: a price above break-even not long ago; told late, soon as well."""
        if self.paths.delay:
            near: npt.NDArray[np.bool_] = self.features.peak_usd_per_mwh > EVENT_SHARE * self.revenue_usd_per_mwh
            return near
        above = np.nan_to_num(self.features.levels["now"]) > self.revenue_usd_per_mwh
        return np.arange(len(above)) - _last(above) < NEAR_H / self.step_h

    @property
    def signs(self) -> list[int]:
        """By column of `matrix`: 1 where a higher value may only raise the prediction, else 0."""
        features = self.features
        free = len(features.spreads) + len(features.plain) + SPELL_COLUMNS
        over_paths = len(FADING) + len(FADING_ON_PAST_DAYS)
        return [int(name in RISING) for name in features.levels] + [0] * free + [1] * over_paths + [0, 0]

    def _over_paths(self, rows: npt.NDArray[np.int64]) -> list[Floats]:
        """What on is worth on paths: where the present error fades, and on average over the errors of past days."""
        fading = [self._worth_on(self.paths.fading(rows, fade), rows) for fade in FADING]
        return fading + [self._mean_worth(rows, fade) for fade in FADING_ON_PAST_DAYS]

    def _mean_worth(self, rows: npt.NDArray[np.int64], fade: float) -> Floats:
        total, days = np.zeros(len(rows)), np.zeros(len(rows))
        for path, was_there in self.paths.as_on_past_days(rows, fade):
            total += np.where(was_there, self._worth_on(path, rows), 0.0)
            days += was_there
        mean: Floats = np.divide(total, days, out=np.full(len(rows), np.nan), where=days > 0)
        return mean

    def _worth_on(self, path: Floats, rows: npt.NDArray[np.int64]) -> Floats:
        """D in wakes before the first interval of `[steps, rows]` prices, with a whole wake after the last."""
        per_usd, worth = self.step_h / self.wake_usd[rows], np.ones(len(rows))
        for prices in path[::-1]:
            worth = np.clip((self.revenue_usd_per_mwh[rows] - prices) * per_usd + worth, 0.0, 1.0)
        return worth

    def _spells(self) -> tuple[Floats, ...]:
        """Of the spell above or below break-even: intervals so far, margin so far in wakes; and how long ago prices were high."""
        price, revenue = np.nan_to_num(self.features.levels["now"]), self.revenue_usd_per_mwh
        margin, row = revenue - price, np.arange(len(price))
        turns = np.r_[True, (margin[1:] > 0) != (margin[:-1] > 0)]
        began = np.maximum.accumulate(np.where(turns, row, 0))
        so_far = np.cumsum(margin)
        in_spell = (so_far - np.r_[0.0, so_far][began]) * self.step_h / self.wake_usd
        since = (np.minimum(row - _last(price > k * revenue), LONGEST_SINCE) for k in (1.0, 2.0))
        return (row - began + 1.0, in_spell, *since)


def _last(happened: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """By row the last row, itself included, in which something happened; far back where it never did."""
    rows: npt.NDArray[np.int64] = np.maximum.accumulate(np.where(happened, np.arange(len(happened)), -LONGEST_SINCE))
    return rows


@dataclass(frozen=True)
class Lesson:
    """An outlook over months that have passed, and what each interval came to, in wakes."""

    outlook: Outlook
    came_to: Floats


@dataclass(frozen=True)
class WaitingModel:
    """Predicts what an interval comes to, in wakes. `trained_until`: nothing that was known later is in it."""

    bag: tuple[Regressor, ...]
    trained_until: datetime

    def predict(self, outlook: Outlook) -> Floats:
        """The mean of the bag, for every interval of an outlook."""
        rows = outlook.matrix(np.arange(len(outlook.wake_usd)))
        with threadpool_limits(1):
            predicted = sum((each.predict(rows) for each in self.bag), np.zeros(len(rows)))
        return predicted / len(self.bag)


def learn(
    lessons: Sequence[Lesson], trained_until: datetime, progress: Callable[[int, int], None] = lambda *_: None
) -> WaitingModel:
    """A model from lessons that all ended by `trained_until`; the same lessons give the same model."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import

    random = np.random.default_rng(0)
    parts = [_sample(lesson, random) for lesson in lessons]
    rows, came_to = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows[:, np.isnan(rows).all(axis=0)] = 0.0  # no day-ahead price anywhere: scikit-learn can't bin a column of nothing
    bag = []
    with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
        for seed in range(BAG):
            progress(seed, BAG)
            trees = HistGradientBoostingRegressor(random_state=seed, monotonic_cst=lessons[0].outlook.signs, **TREES)
            bag.append(trees.fit(rows, came_to))
    progress(BAG, BAG)
    return WaitingModel(tuple(bag), trained_until)


def _sample(lesson: Lesson, random: np.random.Generator) -> tuple[Matrix, Floats]:
    """Rows and what they came to: all intervals in which it can matter, few of the others."""
    outlook, n = lesson.outlook, len(lesson.came_to)
    row = np.arange(n)
    inside = (row >= WARM_UP_H / outlook.step_h) & (row < n - TAIL_H / outlook.step_h)
    taken = np.flatnonzero(inside & (outlook.matters | (random.random(n) < QUIET_SHARE)))
    return outlook.matrix(taken), np.clip(lesson.came_to[taken], *WORTH_LIMITS)
