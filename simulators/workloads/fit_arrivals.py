"""Fits an arrival process to the instants of a trace. The steps are in docs/workloads.md; files are read in `fit_traces`."""

from typing import Final

import numpy as np

from simulators.streams import DAY_S, FloatArray
from simulators.workloads.arrivals import HOUR_S, Calendar, Process
from simulators.workloads.distributions import Gaps
from simulators.workloads.fitted import Arrivals

LEAST_DAYS: Final = 5  # of a trace, to tell its daily course
LEAST_SHARE: Final = 0.05  # of the mean: the quietest hour of a course
MOST_WANDER: Final = 2.0
_LEAST_TAU: Final = 0.5  # windows


def fit_arrivals(times: FloatArray, window_s: int) -> Arrivals:
    """From rising instants in seconds; windows are short against how the rate changes, long against a gap."""
    is_long = times[-1] - times[0] >= LEAST_DAYS * DAY_S
    profile = _profile(times) if is_long else None
    counts = _counts(times, window_s)
    expected = counts.mean() * (_expected(times, window_s, profile) if profile else 1.0)
    gaps = Gaps.fit(_in_time_of_the_rate(times, window_s))
    wander, tau_s = _wander(counts, expected, window_s, gaps.variance)
    return Arrivals(gaps=gaps, window_s=window_s, wander=wander, wander_tau_s=tau_s, profile=profile)


def made_like(arrivals: Arrivals, times: FloatArray, seed: int) -> FloatArray:
    """As many instants as a trace has, more or less, by the process that was fitted to it, over the same span."""
    rate = (len(times) - 1) / float(times[-1] - times[0])
    calendar = Calendar(arrivals.profile) if arrivals.profile else Calendar()
    process = Process(seed, "like", arrivals, rate, calendar)
    return process.within(float(times[0]), float(times[-1]))


def dispersion(times: FloatArray, window_s: int) -> float:
    """Variance over mean of counts by window; 1 is Poisson's."""
    counts = _counts(times, window_s)
    return float(counts.var() / counts.mean())


def over_mean(times: FloatArray) -> FloatArray:
    """Gaps over their mean."""
    gaps = np.diff(times)
    return np.asarray(gaps / gaps.mean())


def _counts(times: FloatArray, window_s: int) -> FloatArray:
    whole = int((times[-1] - times[0]) // window_s)
    edges = times[0] + window_s * np.arange(whole + 1)
    return np.histogram(times, edges)[0].astype(float)


def _profile(times: FloatArray) -> tuple[float, ...]:
    """Multiples by hour of the trace's own day, mean 1; smoothed by its neighbours, since days are few."""
    hours = np.bincount((times // HOUR_S % 24).astype(np.int64), minlength=24).astype(float)
    smooth = (np.roll(hours, 1) + 2 * hours + np.roll(hours, -1)) / 4
    level = np.maximum(smooth / smooth.mean(), LEAST_SHARE)
    return tuple(round(float(each), 4) for each in level / level.mean())


def _expected(times: FloatArray, window_s: int, profile: tuple[float, ...]) -> FloatArray:
    middle = times[0] + window_s * (np.arange(len(_counts(times, window_s))) + 0.5)
    return np.array([profile[hour] for hour in (middle // HOUR_S % 24).astype(np.int64).tolist()])


def _in_time_of_the_rate(times: FloatArray, window_s: int) -> FloatArray:
    """Gaps over what the rate of the windows around lets expect, mean 1."""
    counts = _counts(times, window_s)
    around = np.convolve(np.pad(counts, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    inside = times[times < times[0] + window_s * len(counts)]
    place = ((inside - times[0]) // window_s).astype(np.int64)
    mass = np.concatenate([[0.0], np.cumsum(around)])
    rescaled = mass[place] + around[place] * ((inside - times[0]) / window_s - place)
    gaps = np.diff(rescaled)
    return np.asarray(gaps / gaps.mean())


def _wander(counts: FloatArray, expected: FloatArray, window_s: int, gap_variance: float) -> tuple[float, float]:
    """(standard deviation of the rate's logarithm, seconds in which its correlation falls by e)."""
    ratio = counts / expected
    own = gap_variance * float((1.0 / np.asarray(expected)).mean())  # what gaps alone make counts vary
    excess = max(float(ratio.var()) - own, 0.0)
    wander = min(float(np.sqrt(np.log1p(excess))), MOST_WANDER)
    between = float(np.mean((ratio[1:] - ratio.mean()) * (ratio[:-1] - ratio.mean())))
    correlation = np.log1p(max(between, 0.0)) / np.log1p(excess) if excess else 0.0
    tau = -1.0 / np.log(min(correlation, 0.98)) if correlation > 0 else 0.0
    return round(wander, 4), round(window_s * max(float(tau), _LEAST_TAU), 1)
