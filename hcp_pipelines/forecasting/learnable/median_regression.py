"""Linear regressions of many hours at once that say medians: few regressors count, and no outlier more than another day. Pure.

A ridge regression an hour, its penalty chosen by cross-validation; then penalties that follow what was found, which is a LASSO's
way; then days that count by the inverse of their error, which is the way to least absolute errors. Numpy alone.
Sources: G. H. Golub, M. Heath, G. Wahba, Generalized Cross-Validation, Technometrics 1979; Y. Grandvalet, Least Absolute
Shrinkage is Equivalent to Quadratic Penalization, 1998; E. J. Schlossmacher, An Iterative Technique for Absolute Deviations
Curve Fitting, Journal of the American Statistical Association 1973.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.forecasting.hours import Floats, Ints

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of scaled regressors, a row
MOST_FREEDOM = 0.9  # parameters a row: beyond, cross-validation says nothing
SPARSER = 2  # times that penalties follow what was found
TOWARDS_MEDIAN = 3  # times that days count by their error
LEAST_ERROR = 0.1  # of what is learnt: below, no day counts more
LEAST_SCALE, TINY = 1e-6, 1e-12


@dataclass(frozen=True)
class _Lessons:
    """`regressors[hour, column, day]` scaled, `targets[hour, day]`; both around their mean."""

    regressors: Floats
    targets: Floats

    @property
    def days(self) -> int:
        return len(self.targets.T)

    def left(self, found: Floats) -> Floats:
        """`[hour, day]` errors of coefficients `[hour, column]`."""
        return self.targets - (found[:, None, :] @ self.regressors)[:, 0, :]


def foretold(rows: Floats, hourly: Ints, learnt: Floats) -> Floats:
    """`[hour]` what regressions of each hour say of the last row.

    Args:
        rows: `[day, column]`, a day more than what is learnt.
        hourly: `[hour, column]`: which columns each hour looks at.
        learnt: `[day, hour]`.
    """
    middle, spread, mean = rows[:-1].mean(axis=0), rows[:-1].std(axis=0), learnt.mean(axis=0)
    of_hour = ((rows - middle) / np.where(spread > 0, spread, 1.0)).T[hourly]
    lessons = _Lessons(np.ascontiguousarray(of_hour[:, :, :-1]), (learnt - mean).T)
    found, penalties = _sparse(lessons)
    level, found = _medians(lessons, found, penalties)
    said: Floats = mean + level + (found * of_hour[:, :, -1]).sum(axis=1)
    return said


def _sparse(lessons: _Lessons) -> tuple[Floats, Floats]:
    """Coefficients of least squares, and the penalty of each, both `[hour, column]`."""
    regressors, targets = lessons.regressors, lessons.targets
    products = regressors @ regressors.transpose(0, 2, 1)
    moments, size = (regressors @ targets[:, :, None])[:, :, 0], (targets**2).sum(axis=1)
    scale, found, penalty = np.ones_like(moments), np.zeros_like(moments), np.zeros(len(moments))
    for step in range(SPARSER + 1):
        if step:
            scale = np.sqrt(np.abs(found))
            scale /= np.maximum(np.sqrt((scale**2).mean(axis=1, keepdims=True)), TINY)
        scaled = products * scale[:, :, None] * scale[:, None, :]
        found, penalty = _ridge(scaled, scale * moments, size, lessons.days)
        found = found * scale
    return found, (penalty * lessons.days)[:, None] / np.maximum(scale, LEAST_SCALE) ** 2


def _ridge(products: Floats, moments: Floats, size: Floats, days: int) -> tuple[Floats, Floats]:
    """Coefficients `[hour, column]`, and the penalty of each hour that cross-validation prefers."""
    sizes, turn = np.linalg.eigh(products)
    sizes = np.maximum(sizes, 0.0)
    turned = (turn.transpose(0, 2, 1) @ moments[:, :, None])[:, :, 0]
    best, chosen = np.full(len(size), np.inf), np.full(len(size), PENALTIES[-1])
    for penalty in PENALTIES:
        shrunk = sizes + penalty * days
        freedom = (sizes / shrunk).sum(axis=1) + 1
        errors = np.maximum(size + (turned**2 * (sizes / shrunk - 2) / shrunk).sum(axis=1), 0.0)
        is_free = freedom > MOST_FREEDOM * days
        score = np.where(is_free, np.inf, errors / (1 - np.where(is_free, 0.0, freedom) / days) ** 2)
        chosen, best = np.where(score < best, penalty, chosen), np.minimum(score, best)
    found: Floats = (turn @ (turned / (sizes + (chosen * days)[:, None]))[:, :, None])[:, :, 0]
    return found, chosen


def _medians(lessons: _Lessons, found: Floats, penalties: Floats) -> tuple[Floats, Floats]:
    """Level `[hour]` and coefficients `[hour, column]`, drawn from least squares to least absolute errors."""
    regressors, targets, days = lessons.regressors, lessons.targets, lessons.days
    level, diagonal = np.zeros(len(targets)), np.arange(regressors.shape[1])
    for _ in range(TOWARDS_MEDIAN):
        weight = 1 / np.maximum(np.abs(lessons.left(found) - level[:, None]), LEAST_ERROR)
        weight /= weight.mean(axis=1, keepdims=True)
        weighted = regressors * weight[:, None, :]
        middle, mean = weighted.mean(axis=2), (targets * weight).mean(axis=1)
        products = weighted @ regressors.transpose(0, 2, 1) - days * middle[:, :, None] * middle[:, None, :]
        products[:, diagonal, diagonal] += penalties
        moments = weighted @ targets[:, :, None] - days * middle[:, :, None] * mean[:, None, None]
        found = np.linalg.solve(products, moments)[:, :, 0]
        level = mean - (found * middle).sum(axis=1)
    return level, found
