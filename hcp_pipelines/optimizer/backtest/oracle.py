"""Perfect foresight for one asset that is on or off: the exact optimum, and the value of being on rather than off.

A dynamic programme over two states; the LP of the same problem is tight, so no duality gap is left to report.
Source: OPTIMIZER §1. With least times on and asleep the values are those of instants at which it may be switched.
"""

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.backtest.case import Case, Course, LeastTimes
from hcp_pipelines.optimizer.backtest.series import Floats

Bools = npt.NDArray[np.bool_]


def value_of_on(course: Course, step_h: float, after_last: float = 0.0) -> Floats:
    """D_t = V_t(on) − V_t(off) in $/MW before interval t, for t = 0 … n: D_t = clip(m_t·Δ + D_{t+1}, 0, c_t).

    On, the asset stays iff m·Δ + D_{t+1} ≥ 0; off, it wakes iff that is above the wake cost c. `after_last` is D_n:
    0 leaves the end state free.

    >>> from hcp_pipelines.optimizer.backtest.case import Course
    >>> margins = np.array([8.0, -4.0, 40.0])
    >>> value_of_on(Course(-margins, np.zeros(3), np.full(3, 5.0)), 0.25).tolist()
    [5.0, 4.0, 5.0, 0.0]
    """
    gains, wakes = (course.margin_usd_per_mwh * step_h).tolist(), course.wake_usd.tolist()
    ahead, values = after_last, [after_last] * (len(gains) + 1)
    for t in range(len(gains) - 1, -1, -1):
        ahead = min(max(gains[t] + ahead, 0.0), wakes[t])
        values[t] = ahead
    return np.array(values)


def optimum_usd(course: Course, step_h: float, *, starts_on: bool = True) -> float:
    """Dollars of the best schedule of one MW, end state free: the sum that any schedule can be measured by.

    V_0(off) = Σ max(m_t·Δ − c_t + D_{t+1}, 0), since V_t(off) = V_{t+1}(off) + max(0, m_t·Δ − c_t + D_{t+1}).
    """
    values = value_of_on(course, step_h)
    wakes = np.maximum(course.margin_usd_per_mwh * step_h - course.wake_usd + values[1:], 0.0)
    return float(wakes.sum() + (values[0] if starts_on else 0.0))


def best_turns(case: Case) -> tuple[Bools, Bools]:
    """([t] whether it is best to stay on, [t] whether to wake), wherever a switch is allowed; as settled."""
    if case.least:
        return _best_held(case.settled, case.step_h, case.least)
    ahead = value_of_on(case.settled, case.step_h)[1:]
    worth = case.settled.margin_usd_per_mwh * case.step_h + ahead
    return worth >= 0, worth > case.settled.wake_usd


def _best_held(course: Course, step_h: float, least: LeastTimes) -> tuple[Bools, Bools]:
    """With least times: a switch decides over all the intervals for which it holds, so two values an interval are enough.

    V_t(on) = max(g_t + V_{t+1}(on), V_{t+off}(off)); V_t(off) = max(V_{t+1}(off), −c_t + g_t + … + g_{t+on−1} + V_{t+on}(on)),
    where a switch is free at t, g = m·Δ, and what comes after the last interval is worth nothing.
    """
    gains = course.margin_usd_per_mwh * step_h
    n, until, wakes_usd = len(gains), np.r_[0.0, np.cumsum(gains)].tolist(), course.wake_usd.tolist()
    on, off = [0.0] * (n + 1), [0.0] * (n + 1)
    stays, wakes = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for t in range(n - 1, -1, -1):
        woken = min(t + least.on, n)
        kept, slept = until[t + 1] - until[t] + on[t + 1], off[min(t + least.off, n)]
        asleep, awake = off[t + 1], until[woken] - until[t] + on[woken] - wakes_usd[t]
        on[t], off[t] = max(kept, slept), max(asleep, awake)
        stays[t], wakes[t] = kept >= slept, awake > asleep
    return stays, wakes
