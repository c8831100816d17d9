"""Hashing: it follows power, at once down and with it up, and its integral is what shares and errors are counted from.

Hashrate = full · clip((power − asleep) / (target − asleep), 0, 1), where `full` belongs to the power the device is going to: one
that is going to sleep hashes no more, one that warms up hashes in step with its power.
"""

from typing import Final

import numpy as np

from simulators.ramps import Segment
from simulators.streams import FloatArray

SHARE_DIFFICULTY: Final = 131_072.0  # a share every 2.8 s at 200 TH/s
TH_PER_SHARE: Final = SHARE_DIFFICULTY * 2.0**32 / 1e12  # a share of difficulty d takes d · 2^32 hashes on average


def share_of_full(segment: Segment, asleep_w: FloatArray) -> FloatArray:
    """Share of the target's full hashrate at the present power, 0 to 1."""
    begin, rest = _line(segment, asleep_w)
    return np.clip(begin + rest * np.clip(segment.progress, 0.0, 1.0), 0.0, 1.0)


def full_seconds(segment: Segment, asleep_w: FloatArray) -> FloatArray:
    """Integral of `share_of_full` since the segment's start, seconds."""
    begin, rest = _line(segment, asleep_w)
    crossing = np.where(rest > 0, -begin / np.where(rest > 0, rest, 1.0), 0.0)
    inside = np.clip(segment.progress, 0.0, 1.0)
    area = 0.5 * rest * (np.maximum(inside - crossing, 0.0) ** 2 - np.maximum(-crossing, 0.0) ** 2)
    rising = segment.ramp_s * (area + np.maximum(segment.progress - 1.0, 0.0))
    return np.where(rest > 0, rising, np.maximum(segment.since_s, 0.0))


def joules_above(segment: Segment, level_w: FloatArray) -> FloatArray:
    """Energy spent above a power since the segment's start."""
    inside_s = np.clip(segment.since_s, 0.0, segment.ramp_s)
    slope = (segment.to_w - segment.from_w) / segment.ramp_s
    begin = np.maximum(segment.from_w - level_w, 0.0)
    end = np.maximum(segment.from_w + slope * inside_s - level_w, 0.0)
    is_level = np.abs(slope) < 1e-9
    ramped = (end * end - begin * begin) / np.where(is_level, 1.0, 2.0 * slope)
    after_s = np.maximum(segment.since_s - segment.ramp_s, 0.0)
    level = np.maximum(segment.to_w - level_w, 0.0) * after_s
    return np.asarray(np.where(is_level, begin * inside_s, ramped) + level)


def _line(segment: Segment, asleep_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share at the segment's start (below 0 where power begins under sleep), and what is added over its ramp."""
    span_w = np.maximum(segment.to_w - asleep_w, 1e-6)
    begin = np.minimum((segment.from_w - asleep_w) / span_w, 1.0)
    return begin, 1.0 - begin
