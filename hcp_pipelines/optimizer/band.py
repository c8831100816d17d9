"""Strikes of what costs something to wake: one rule for the live policies and for the back-test. Pure.

What is on stays up to `off`, what is asleep wakes below `on`; how far both are from the revenue is said in wakes.
"""

from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
T = TypeVar("T", float, Floats)


@dataclass(frozen=True)
class Band(Generic[T]):
    """Shares of a wake's cost over an interval, c/Δ: wake when the margin is above one, sleep when below minus the other."""

    wake_share: T
    sleep_share: T

    @classmethod
    def of_worth(cls, worth: T) -> Self:
        """The band of what being on when the interval ends is worth, E[D] in wakes: off = r + E[D]/Δ, on = off − c/Δ.

        On, it pays to stay iff m·Δ + E[D] ≥ 0; asleep, to wake iff that is above c (OPTIMIZER §1).
        """
        return cls(1.0 - worth, worth)

    def around(self, revenue: T, wake_per_hour: T) -> tuple[T, T]:
        """(on, off) for a revenue r in $/MWh and a wake's cost over an interval, c/Δ in $/MWh.

        >>> Band(0.1, 0.4).around(50.0, 100.0)
        (40.0, 90.0)
        """
        return revenue - self.wake_share * wake_per_hour, revenue + self.sleep_share * wake_per_hour


PLAIN: Band[float] = Band(0.1, 0.4)  # where nothing is learnt; chosen on 2024, all models alike (OPTIMIZER §1)
