"""How good the chances of coincident peaks were: by month what the peak's own hour was given, and what all hours were.

A model is learnt anew at the beginning of each month (`peaks.chances`). Nothing is forecast here that is not scored.
"""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import peaks
from hcp_pipelines.forecasting.hours import Floats, Hours, Ints, instant

LEAST_HOURS = 27 * 24  # of a month in the window
WORTH_A_LOOK = 0.01  # an hour with less is not acted on at $16,250 a MW: it would forgo more


def peak_scores(
    hours: Hours, window: tuple[datetime, datetime], months: tuple[int, ...], progress: Callable[[str, int, int], None]
) -> pl.DataFrame:
    """A row a local month of the window that is charged for (`months`, 1 to 12) and recorded to its end.

    Returns:
        `month`, `hours` of it in the window, `peak_at`; for `begun` (as hours begin) and `ahead` (the day before): `chance_…`
        of the peak's hour, `rank_…` (1: no hour was given more), `sum_…` over the month, which is 1 if calibrated,
        `hours_…` with a chance of 1 % or more, and `skill_…`: 1 less the Brier score over that of equal chances.

    Raises:
        ConfigError: no such month, or no season ended before one.
    """
    rows = np.arange(hours.row_at(window[0]), min(hours.row_at(window[1]), len(hours)))
    is_peak = peaks.peak_hours(hours, months)
    parts = [rows[hours.month[rows] == month] for month in np.unique(hours.month[rows])]
    whole = [part for part in parts if len(part) >= LEAST_HOURS and is_peak[part].any()]
    if not whole:
        raise ConfigError(
            f"no month of {', '.join(map(str, months))} with demand to its end from {window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}"
        )
    found = []
    for n, part in enumerate(whole):
        progress("months", n, len(whole))
        until = instant(int(hours.starts_us[part[0]]))
        found.append(_scored(hours, part, is_peak[part], peaks.chances(hours, part, months, until)))
    progress("months", len(whole), len(whole))
    return pl.DataFrame(found)


def _scored(hours: Hours, rows: Ints, is_peak: np.ndarray, chances: tuple[Floats, Floats]) -> dict[str, object]:
    at = instant(int(hours.starts_us[rows[is_peak.argmax()]]))
    scored: dict[str, object] = {"month": f"{at:%Y-%m}", "hours": len(rows), "peak_at": at}
    same = np.mean((is_peak - is_peak.mean()) ** 2)
    for name, chance in zip(("begun", "ahead"), chances, strict=True):
        own = float(chance[is_peak][0])
        scored |= {
            f"chance_{name}": own, f"rank_{name}": int((chance > own).sum()) + 1, f"sum_{name}": float(chance.sum()),
            f"hours_{name}": int((chance >= WORTH_A_LOOK).sum()),
            f"skill_{name}": 1.0 - float(np.mean((is_peak - chance) ** 2)) / float(same),
        }  # fmt: skip
    return scored
