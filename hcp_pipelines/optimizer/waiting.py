"""The value of being on rather than off, learnt from past prices: whether a spell of high prices is worth a wake.

With D_t that value before interval t in wakes (units of c), an asset that is on stays iff m·Δ/c + E[D_{t+1}] ≥ 0, and asleep it
wakes iff that is above 1 (OPTIMIZER §1). D follows exactly from prices that have passed; the model is a bag of boosted trees from
what was known to what it came to. No mean price is forecast: the expectation is taken over D.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.power_features import AHEAD_MINUTES, PowerFeatures
from hcp_pipelines.forecasting.price_paths import Ints, PricePaths
from hcp_pipelines.forecasting.trees import Floats, Matrix, Regressor, Trees

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
SPELLS = ("spell_intervals", "spell_margin", "since_above", "since_twice_above")
LONGEST_SINCE = 200  # intervals after which it no longer matters how long ago a price was high
TAIL_H = 4  # what the last intervals come to is not known yet


@dataclass(frozen=True)
class Outlook:
    """What is known of one megawatt at each interval: features of prices, revenue in $/MWh, a wake in $, hours of an interval."""

    features: PowerFeatures
    paths: PricePaths
    revenue_usd_per_mwh: Floats
    wake_usd: Floats
    step_h: float

    def matrix(self, rows: Ints) -> Matrix:
        """A row per interval: prices as margins in wakes, so that all efficiencies and hashprices learn from one another."""
        revenue, per_usd = self.revenue_usd_per_mwh[rows], self.step_h / self.wake_usd[rows]
        return self._columns(rows, revenue, per_usd, [column[rows] for column in self._spells()])

    def assets_at(self, row: int, revenue_usd_per_mwh: Floats, wake_usd: Floats) -> Matrix:
        """A row per asset at one interval, for assets of other revenues and wakes than the outlook's own."""
        n, rows = len(self.wake_usd), np.full(len(wake_usd), row)
        each = zip(revenue_usd_per_mwh.tolist(), wake_usd.tolist(), strict=True)
        same = [replace(self, revenue_usd_per_mwh=np.full(n, r), wake_usd=np.full(n, c)) for r, c in each]
        spells = np.array([[column[row] for column in outlook._spells()] for outlook in same])
        return self._columns(rows, revenue_usd_per_mwh, self.step_h / wake_usd, list(spells.T))

    def _columns(self, rows: Ints, revenue: Floats, per_usd: Floats, spells: list[Floats]) -> Matrix:
        columns = [(revenue - level[rows]) * per_usd for level in self.features.levels.values()]
        columns += [spread[rows] * per_usd for spread in self.features.spreads.values()]
        columns += [column[rows] for column in self.features.plain.values()]
        columns += spells
        columns += _over_paths(self.paths, rows, revenue, per_usd)
        return np.column_stack([*columns, revenue * per_usd, revenue]).astype(np.float32)

    @property
    def names(self) -> tuple[str, ...]:
        """By column of `matrix`."""
        features = self.features
        on_paths = (*(f"on_path_{f}" for f in FADING), *(f"on_past_days_{f}" for f in FADING_ON_PAST_DAYS))
        return (*features.levels, *features.spreads, *features.plain, *SPELLS, *on_paths, "revenue_in_wakes", "revenue")

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
        free = len(features.spreads) + len(features.plain) + len(SPELLS)
        over_paths = len(FADING) + len(FADING_ON_PAST_DAYS)
        return [int(name in RISING) for name in features.levels] + [0] * free + [1] * over_paths + [0, 0]

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


def _over_paths(paths: PricePaths, rows: Ints, revenue: Floats, per_usd: Floats) -> list[Floats]:
    """What on is worth on paths: where the present error fades, and on average over the errors of past days."""
    fading = [_worth_on(paths.fading(rows, fade), revenue, per_usd) for fade in FADING]
    return fading + [_mean_worth(paths, rows, fade, revenue, per_usd) for fade in FADING_ON_PAST_DAYS]


def _mean_worth(paths: PricePaths, rows: Ints, fade: float, revenue: Floats, per_usd: Floats) -> Floats:
    total, days = np.zeros(len(rows)), np.zeros(len(rows))
    for path, was_there in paths.as_on_past_days(rows, fade):
        total += np.where(was_there, _worth_on(path, revenue, per_usd), 0.0)
        days += was_there
    mean: Floats = np.divide(total, days, out=np.full(len(rows), np.nan), where=days > 0)
    return mean


def _worth_on(path: Floats, revenue: Floats, per_usd: Floats) -> Floats:
    """D in wakes before the first interval of `[steps, rows]` prices, with a whole wake after the last."""
    worth = np.ones(len(revenue))
    for prices in path[::-1]:
        worth = np.clip((revenue - prices) * per_usd + worth, 0.0, 1.0)
    return worth


def _last(happened: npt.NDArray[np.bool_]) -> Ints:
    """By row the last row, itself included, in which something happened; far back where it never did."""
    rows: Ints = np.maximum.accumulate(np.where(happened, np.arange(len(happened)), -LONGEST_SINCE))
    return rows


@dataclass(frozen=True)
class Lesson:
    """An outlook over months that have passed, and what each interval came to, in wakes."""

    outlook: Outlook
    came_to: Floats


@dataclass(frozen=True)
class WaitingModel:
    """Predicts what an interval comes to, in wakes. `trained_until`: nothing that was known later is in it."""

    regressor: Regressor
    trained_until: datetime
    columns: tuple[str, ...] = ()  # that it was learnt from

    def predict(self, outlook: Outlook) -> Floats:
        """For every interval of an outlook."""
        return self.regressor.predict(outlook.matrix(np.arange(len(outlook.wake_usd))))


def learn(
    lessons: Iterable[Lesson], trained_until: datetime, progress: Callable[[int, int], None] = lambda *_: None
) -> WaitingModel:
    """A model from lessons that all ended by `trained_until`; the same lessons give the same model. They are taken one by one.

    The bag's mean, as arrays: what is evaluated live is what is evaluated in the back-test.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import
    from threadpoolctl import threadpool_limits

    random, parts, outlook = np.random.default_rng(0), [], None
    for lesson in lessons:
        outlook = lesson.outlook
        parts.append(_sample(lesson, random))
    if outlook is None:
        raise ConfigError("no lessons: a model is learnt from prices of two weeks or more")
    rows, came_to = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows[:, np.isnan(rows).all(axis=0)] = 0.0  # no day-ahead price anywhere: scikit-learn can't bin a column of nothing
    bag = []
    with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
        for seed in range(BAG):
            progress(seed, BAG)
            trees = HistGradientBoostingRegressor(random_state=seed, monotonic_cst=outlook.signs, **TREES)
            bag.append(trees.fit(rows, came_to))
    progress(BAG, BAG)
    return WaitingModel(Trees.of(*bag), trained_until, outlook.names)


def _sample(lesson: Lesson, random: np.random.Generator) -> tuple[Matrix, Floats]:
    """Rows and what they came to: all intervals in which it can matter, few of the others."""
    outlook, n = lesson.outlook, len(lesson.came_to)
    row = np.arange(n)
    inside = (row >= WARM_UP_H / outlook.step_h) & (row < n - TAIL_H / outlook.step_h)
    taken = np.flatnonzero(inside & (outlook.matters | (random.random(n) < QUIET_SHARE)))
    return outlook.matrix(taken), np.clip(lesson.came_to[taken], *WORTH_LIMITS)
