"""Whether one model is better than another on the same questions: a Diebold–Mariano test and weeks drawn anew. Pure.

Sources: F. X. Diebold, R. S. Mariano, Comparing Predictive Accuracy, 1995; E. Lazarus, D. J. Lewis, J. H. Stock, M. W. Watson,
HAR Inference: Recommendations for Practice, 2018 (its variance by cosines, and the freedom that goes with it).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.scoring import Forecasts, pinball

LEAST_DAYS = 10
WEEK_DAYS = 7
DRAWS = 2000


@dataclass(frozen=True)
class Comparison:
    """Losses of two models on the same questions; `p_value` is of the one being no better: below 0.05 it is better.

    Attributes:
        one, other: their names.
        questions, days: how much was compared; `weeks` were drawn anew.
        loss_of_one, loss_of_other: means over all questions.
        ratio, low, high: of the losses, with its 90 % interval from weeks drawn anew.
        statistic: of the test on daily means, below 0 where the one is better.
        ahead_days: as far as was looked ahead; the test holds its size over four times as many days.
    """

    one: str
    other: str
    questions: int
    days: int
    loss_of_one: float
    loss_of_other: float
    ratio: float
    low: float
    high: float
    statistic: float
    p_value: float
    ahead_days: int

    @property
    def is_better(self) -> bool:
        """Whether the one beats the other with p < 0.05."""
        return self.p_value < 0.05


def compare(one: Forecasts, other: Forecasts, levels: Sequence[float] = (), *, seed: int = 0) -> Comparison:
    """The one beside the other on the questions that both answered, by pinball loss over the scale.

    Args:
        one: forecasts of some questions.
        other: forecasts of the same questions, in any order; what only one was asked, or did not answer, is left out.
        levels: whose loss; all that both have, where none are named. 0.5 alone is half the absolute error of the medians.
        seed: of the weeks drawn.

    Raises:
        ConfigError: they share no level, or fewer than 10 days.
    """
    left, right = _paired(one.settled(), other.settled())
    shared = tuple(levels) or tuple(level for level in one.levels if level in other.levels)
    losses = [_loss(each, shared) for each in (left, right)]
    day = left.examples.wanted_us // DAY_US
    days = len(np.unique(day))
    if days < LEAST_DAYS:
        raise ConfigError(
            f"{one.model} and {other.model} both answered {days} days: at least {LEAST_DAYS} are compared"
        )
    ahead_days = math.ceil(float(left.examples.ahead_h.max()) / 24)
    statistic, p_value = diebold_mariano(_by(day, losses[0] - losses[1]), ahead_days)
    low, high = _drawn_anew(day, losses[0], losses[1], seed)
    means = [float(each.mean()) for each in losses]
    ratio = means[0] / means[1] if means[1] else math.nan
    return Comparison(
        one.model, other.model, len(day), days, means[0], means[1], ratio, low, high, statistic, p_value,
        ahead_days,
    )  # fmt: skip


def diebold_mariano(differences: Floats, ahead: int) -> tuple[float, float]:
    """The statistic of losses' differences, one a day, and the probability that they are so far below 0 by chance.

    `ahead`: days that a forecast looks ahead; so many of them hang together, if not more. Their variance is the mean of the first
    few cosine sums squared, all of them slower than what hangs together, and Student's freedom is their number: so it errs as
    often as it says with few days too (3.9 to 5.9 % for 5 %, over 10 to 153 days, 1 to 7 ahead, half of it left a day later).
    """
    n, mean = len(differences), float(differences.mean())
    waves = max(1, min(int(0.41 * n ** (2 / 3)), n // (3 * max(ahead, 1))))
    variance = _long_run_variance(differences - mean, waves)
    if variance <= 1e-24 * mean**2:
        return (0.0, 1.0) if mean >= 0 else (-math.inf, 0.0)
    statistic = mean / math.sqrt(variance / n)
    return statistic, student_below(statistic, waves)


def student_below(t: float, freedom: int) -> float:
    """The probability that Student's t is below a value.

    >>> round(student_below(-1.812, 10), 4), round(student_below(0.0, 5), 4)
    (0.05, 0.5)
    """
    end = min(abs(t), 60.0)
    at = np.linspace(0.0, end, 20_001)
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    density = np.exp(log - (freedom + 1) / 2 * np.log1p(at**2 / freedom))
    half = float(np.trapezoid(density, at))
    return max(0.0, 0.5 - half) if t < 0 else min(1.0, 0.5 + half)


def _long_run_variance(centred: Floats, waves: int) -> float:
    """Of equally weighted cosines: never negative."""
    n = len(centred)
    angles = np.pi * np.outer(np.arange(1, waves + 1), (np.arange(n) + 0.5) / n)
    sums = np.cos(angles) @ centred
    return float((2 / n * sums**2).mean())


def _paired(one: Forecasts, other: Forecasts) -> tuple[Forecasts, Forecasts]:
    """The same questions of both, in one order."""
    keys = ["entity", "asked_us", "wanted_us"]
    rows = _keys(one).join(_keys(other), on=keys, how="inner", suffix="_of_other").sort(*keys)
    return _only(one, rows["row"].to_numpy()), _only(other, rows["row_of_other"].to_numpy())


def _keys(forecasts: Forecasts) -> pl.DataFrame:
    """Which question each row is: the entity's name, when it was asked, and of which interval."""
    examples = forecasts.examples
    names = pl.Series(examples.entities, dtype=pl.String).gather(examples.entity)
    columns = {"entity": names, "asked_us": examples.asked_us, "wanted_us": examples.wanted_us}
    return pl.DataFrame(columns).with_row_index("row")


def _only(forecasts: Forecasts, rows: Ints) -> Forecasts:
    return replace(forecasts, examples=forecasts.examples.only(rows), quantiles=forecasts.quantiles[rows])


def _loss(forecasts: Forecasts, levels: tuple[float, ...]) -> Floats:
    """By question, over the scale."""
    if not levels or (missing := [level for level in levels if level not in forecasts.levels]):
        raise ConfigError(
            f"{forecasts.model} has levels {forecasts.levels}, not {missing if levels else 'any of the other'}"
        )
    own = pinball(forecasts)[:, [forecasts.levels.index(level) for level in levels]]
    loss: Floats = own.mean(axis=1) / forecasts.examples.scale
    return loss


def _by(key: Ints, values: Floats) -> Floats:
    """The mean of each key's values, in the keys' order."""
    _, number = np.unique(key, return_inverse=True)
    means: Floats = np.bincount(number, weights=values) / np.bincount(number)
    return means


def _drawn_anew(day: Ints, one: Floats, other: Floats, seed: int) -> tuple[float, float]:
    """The 90 % interval of the ratio of losses, weeks drawn anew."""
    _, week = np.unique(day // WEEK_DAYS, return_inverse=True)
    own, base = np.bincount(week, weights=one), np.bincount(week, weights=other)
    chosen = np.random.default_rng(seed).integers(0, len(own), (DRAWS, len(own)))
    below = base[chosen].sum(axis=1)
    if not (below > 0).all():
        return math.nan, math.nan
    low, high = np.quantile(own[chosen].sum(axis=1) / below, (0.05, 0.95))
    return float(low), float(high)
