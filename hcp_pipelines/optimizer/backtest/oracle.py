"""Perfect foresight for one asset that is on or off: the exact optimum, and the value of being on rather than off.

A dynamic programme over two states; the LP of the same problem is tight, so no duality gap is left to report.
Source: OPTIMIZER §1.
"""

import numpy as np

from hcp_pipelines.optimizer.backtest.case import Course
from hcp_pipelines.optimizer.backtest.series import Floats


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
