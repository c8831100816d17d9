"""Quantiles made to cover: each level is moved by what it missed on hours that nothing was learnt from. Pure.

Source: Y. Romano, E. Patterson, E. Candès, Conformalized Quantile Regression, NeurIPS 2019; here a level at a time, so that every
quantile is calibrated and not only a band, by how far ahead, and without its correction for few hours, which is below 0.1 % here.
Hours of a month are alike, not independent: coverage is what the hours held back had, not a guarantee.
"""

from collections.abc import Sequence

import numpy as np

from hcp_pipelines.forecasting.hours import Floats, Ints

LEAST_PAIRS = 100  # of a horizon, five of them beyond an outermost level: below that all horizons together


def conformal_shifts(found: Floats, came_to: Floats, horizon: Ints, levels: Sequence[float], horizons: int) -> Floats:
    """What to add to each level so that as many of these rows lie below it as it says, [horizon, level]; of too few, 0.

    Args:
        found: quantiles, [row, level], rising, of rows that whatever found them did not learn from.
        came_to: what each came to, on the same scale.
        horizon: of each row, below `horizons`; one with too few rows is moved as all are together.
        levels: of the quantiles.
        horizons: how many there are.
    """
    shifts = np.zeros((horizons, len(levels)))
    if len(came_to) < LEAST_PAIRS:
        return shifts
    errors = came_to[:, None] - found
    of_all = _missed(errors, levels)
    for n in range(horizons):
        of_it = errors[horizon == n]
        shifts[n] = _missed(of_it, levels) if len(of_it) >= LEAST_PAIRS else of_all
    return shifts


def _missed(errors: Floats, levels: Sequence[float]) -> Floats:
    """The quantile of each level's errors that is the level itself."""
    return np.array([np.quantile(errors[:, n], level) for n, level in enumerate(levels)])
