"""Quantiles made to cover: each level is moved by what it missed on hours that nothing was learnt from. Pure.

Source: Y. Romano, E. Patterson, E. Candès, Conformalized Quantile Regression, NeurIPS 2019; here a level at a time, so that every
quantile is calibrated and not only a band, by how far ahead, and without its correction for few hours, which is below 0.1 % here.
Hours of a month are alike, not independent: coverage is what the hours held back had, not a guarantee.
"""

import numpy as np

from hcp_pipelines.forecasting.baselines import HORIZONS_H, LEVELS
from hcp_pipelines.forecasting.hours import Floats, Ints

LEAST_PAIRS = 100  # of a horizon, five of them beyond an outermost level: below that all horizons together


def no_shifts() -> Floats:
    """Zeros, [horizon, level]: quantiles stay as they are."""
    return np.zeros((len(HORIZONS_H), len(LEVELS)))


def conformal_shifts(found: Floats, came_to: Floats, horizon: Ints) -> Floats:
    """What to add to each level so that as many of these hours lie below it as it says, [horizon, level]; of too few, 0.

    Args:
        found: quantiles, [pair, level of `LEVELS`], rising, of hours that whatever found them did not learn from.
        came_to: what each hour came to, on the same scale.
        horizon: of each pair, an index into `HORIZONS_H`; one with too few pairs is moved as all are together.
    """
    if len(came_to) < LEAST_PAIRS:
        return no_shifts()
    errors, shifts = came_to[:, None] - found, no_shifts()
    for n in range(len(HORIZONS_H)):
        of_it = errors[horizon == n]
        shifts[n] = _missed(of_it if len(of_it) >= LEAST_PAIRS else errors)
    return shifts


def _missed(errors: Floats) -> Floats:
    """The quantile of each level's errors that is the level itself."""
    return np.array([np.quantile(errors[:, n], level) for n, level in enumerate(LEVELS)])
