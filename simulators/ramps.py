"""Power that moves in straight lines: where each device comes from, where it goes, and the energy of the way. Exact, not sampled.

One segment a device: from `from_w` at `start_s` to `to_w` within `ramp_s`, then level. A settled device costs nothing. What the
power is spent on is in `work`, what becomes of its heat in `thermal`; what makes a device move is in `fleet`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulators.streams import FloatArray, IntArray

PowerArray = npt.NDArray[np.float32]
_SHORTEST_S = 1e-3


class Segment(NamedTuple):
    """The present segments of some devices, in float64, and the seconds since they began."""

    from_w: FloatArray
    to_w: FloatArray
    ramp_s: FloatArray
    since_s: FloatArray

    @property
    def progress(self) -> FloatArray:
        """Ramps covered, not clipped."""
        return self.since_s / self.ramp_s

    def risen_s(self) -> FloatArray:
        """Integral of clip(progress, 0, 1) over the time since the start, seconds."""
        inside = np.clip(self.progress, 0.0, 1.0)
        return self.ramp_s * (0.5 * inside * inside + np.maximum(self.progress - 1.0, 0.0))

    def joules(self) -> FloatArray:
        """Energy since the start."""
        return self.from_w * self.since_s + (self.to_w - self.from_w) * self.risen_s()


class Ramps:
    """The segments of one site's devices, and what all of them draw."""

    def __init__(self, power_w: PowerArray, at_s: float) -> None:
        size = len(power_w)
        self.from_w, self.to_w = power_w.copy(), power_w.copy()
        self.start_s = np.full(size, at_s)
        self.ramp_s = np.zeros(size, dtype=np.float32)
        self.energy_j = np.zeros(size)  # of each device until its `start_s`
        self._moving: IntArray = np.zeros(0, dtype=np.int64)
        self._settled_w = 0.0
        self._recount()

    def take_over(self, at_s: float) -> None:
        """After the arrays were replaced: which devices move at an instant."""
        self._moving = np.flatnonzero(self.start_s + self.ramp_s > at_s)
        self._recount()

    def segment(self, index: IntArray, at_s: float) -> Segment:
        """The segments of some devices."""
        return Segment(
            self.from_w[index].astype(np.float64),
            self.to_w[index].astype(np.float64),
            np.maximum(self.ramp_s[index].astype(np.float64), _SHORTEST_S),
            at_s - self.start_s[index],
        )

    def power_of(self, index: IntArray, at_s: float) -> PowerArray:
        """Power of some devices, watts."""
        ramp_s = np.maximum(self.ramp_s[index], _SHORTEST_S)
        share = np.clip((at_s - self.start_s[index]) / ramp_s, 0.0, 1.0).astype(np.float32)
        return self.from_w[index] + (self.to_w[index] - self.from_w[index]) * share

    def power_w(self, at_s: float) -> PowerArray:
        """Power of every device, watts."""
        power = self.to_w.copy()
        if len(self._moving):
            power[self._moving] = self.power_of(self._moving, at_s)
        return power

    def total_w(self, at_s: float) -> float:
        """Power of all devices together, watts."""
        moving = float(self.power_of(self._moving, at_s).sum(dtype=np.float64)) if len(self._moving) else 0.0
        return self._settled_w + moving

    def energy_of(self, index: IntArray, at_s: float) -> FloatArray:
        """Energy of some devices since the world began, joules."""
        return self.energy_j[index] + self.segment(index, at_s).joules()

    def joules(self, first_s: float, last_s: float) -> float:
        """Energy of all devices between two instants within which none was retargeted."""
        joules = self._settled_w * (last_s - first_s)
        if len(self._moving):
            begin, end = self.segment(self._moving, first_s), self.segment(self._moving, last_s)
            joules += float((end.joules() - begin.joules()).sum())
        return joules

    def retarget(
        self, index: IntArray, to_w: PowerArray, ramp_s: PowerArray, at_s: float, delay_s: FloatArray | float = 0.0
    ) -> None:
        """Send devices to another power from where they are; `delay_s`: they first stay there."""
        energy_j = self.energy_of(index, at_s)
        self.from_w[index] = np.where((ramp_s > 0) | (np.asarray(delay_s) > 0), self.power_of(index, at_s), to_w)
        self.energy_j[index] = energy_j + self.from_w[index] * delay_s
        self.to_w[index] = to_w
        self.start_s[index] = at_s + delay_s
        self.ramp_s[index] = ramp_s
        is_moving = np.zeros(len(self.to_w), dtype=np.bool_)
        is_moving[self._moving] = is_moving[index] = True
        self._moving = np.flatnonzero(is_moving)
        self._recount()
        self.settle(at_s)

    def settle(self, at_s: float) -> None:
        """Drop devices whose ramp has ended from the moving ones."""
        if not len(self._moving):
            return
        ended = self.start_s[self._moving] + self.ramp_s[self._moving] <= at_s
        if ended.any():
            self._moving = self._moving[~ended]
            self._recount()

    def _recount(self) -> None:
        total = float(self.to_w.sum(dtype=np.float64))
        self._settled_w = total - float(self.to_w[self._moving].sum(dtype=np.float64))
