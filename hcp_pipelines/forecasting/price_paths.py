"""Paths that a price may take over the next four hours: the day-ahead curve, and how far the market strayed from it before.

Nothing is fitted here, and no path is the forecast: what a path is worth to whom is asked of all of them, and averaged
(`optimizer.waiting`). Every path uses what is known when its interval's decision is made, and day-ahead prices of `PATH_H` hours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.power_features import DAY_AHEAD_H, DAYS_IN_PROFILE, MINUTES_PER_DAY, mean_of, shifted

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PATH_H = DAY_AHEAD_H
PAST_DAYS = 28
HIGHEST_USUAL_USD_PER_MWH = 300.0  # one price of $5,000 is not what a week was like


@dataclass(frozen=True)
class PricePaths:
    """By interval, in $/MWh: what is expected of it, and by how much it came out otherwise (0 where that is not known).

    `delay`: intervals between the newest known price's own interval and the one that is decided on (0 or 1).
    """

    expected: Floats
    error: Floats
    step_minutes: int
    delay: int

    @property
    def steps(self) -> int:
        """Intervals of a path."""
        return max(1, PATH_H * 60 // self.step_minutes)

    def fading(self, rows: Ints, per_quarter: float) -> Floats:
        """`[steps, rows]` prices from the first unknown one on: the present error fades, to `per_quarter` of it in 15 minutes."""
        newest = rows - self.delay
        return self.expected[self._ahead(newest)] + self._fade(per_quarter) * self.error[np.maximum(newest, 0)]

    def as_on_past_days(self, rows: Ints, per_quarter: float) -> Iterator[tuple[Floats, npt.NDArray[np.bool_]]]:
        """A path for each of the last 28 days, and which rows have one: `fading`, with what was new at this time of that day."""
        newest, fading, fade = rows - self.delay, self.fading(rows, per_quarter), self._fade(per_quarter)
        ahead = self._ahead(newest)
        for day in range(1, PAST_DAYS + 1):
            back = day * MINUTES_PER_DAY // self.step_minutes
            new = self.error[np.maximum(ahead - back, 0)] - fade * self.error[np.maximum(newest - back, 0)]
            yield fading + new, newest >= back

    def _ahead(self, newest: Ints) -> Ints:
        """`[steps, rows]` the intervals of each path; at the end of the series its last one, again and again."""
        ahead = newest + np.arange(1, self.steps + 1)[:, None]
        inside: Ints = np.clip(ahead, 0, len(self.expected) - 1)
        return inside

    def _fade(self, per_quarter: float) -> Floats:
        ahead = np.arange(1, self.steps + 1)[:, None]
        faded: Floats = per_quarter ** (ahead * self.step_minutes / 15)
        return faded


def price_paths(known: Floats, day_ahead: Floats, step_minutes: int, delay: int) -> PricePaths:
    """Paths of a series; arguments as in `power_features`.

    Where there is no day-ahead price, the last week's mean at that time of the day stands for it.
    """
    own = np.r_[known[delay:], np.full(delay, np.nan)]
    expected = np.where(np.isfinite(day_ahead), day_ahead, _usual(own, MINUTES_PER_DAY // step_minutes))
    return PricePaths(expected, np.nan_to_num(own - expected), step_minutes, delay)


def _usual(own: Floats, day: int) -> Floats:
    """The mean of the last seven days at each interval's time of day, of as many as there are; NaN on the first day."""
    capped = np.minimum(own, HIGHEST_USUAL_USD_PER_MWH)
    return mean_of([shifted(capped, day * back) for back in range(1, DAYS_IN_PROFILE + 1)])
