"""What keeps a device's power from rising, whoever asks: a lock, a direct order, lost power, local safety. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.wire.slots import Slots

Bools = npt.NDArray[np.bool_]
States = npt.NDArray[np.uint8]


@dataclass
class Bars:
    """Over slots `[n]`: whether power may not rise, by why."""

    locked: Bools
    held: Bools  # by a direct order
    dark: Bools  # without power: a breaker opened
    hot: Bools
    overloaded: Bools  # behind a feeder over its limit

    @classmethod
    def none(cls, slots: int) -> "Bars":
        """Nothing is barred."""
        return cls(*(np.zeros(slots, dtype=np.bool_) for _ in range(5)))

    @property
    def may_not_rise(self) -> Bools:
        """[n] whether anything bars a slot."""
        return self.locked | self.held | self.not_now

    @property
    def not_now(self) -> Bools:
        """[n] whether safety or a lack of power bars a slot, also what was accepted just before."""
        return self.dark | self.hot | self.overloaded

    def refusals(self, slots: Slots, state: int, states: States, shape: SiteShape) -> list[tuple[RefusalCode, Bools]]:
        """Which of some slots, all of which have `state`, may not go there, by the first reason.

        A locked device may be put into its lowest state alone; others may not draw more than in the state they are in.
        """
        if not (may_not_rise := self.may_not_rise).any() or not may_not_rise[slots].any():
            return []
        groups, present = shape.group_of_slot[slots], states[slots]
        is_up = state != shape.lowest[groups]
        before = np.where(present == UNKNOWN_STATE, shape.lowest[groups], present)
        is_rising = is_up & (shape.state_kw(slots, state) > shape.state_kw(slots, before))
        found, left = [], np.ones(len(slots), dtype=np.bool_)
        for code, mask in (
            (RefusalCode.LOCKED, self.locked[slots] & is_up),
            (RefusalCode.HELD, self.held[slots] & is_rising),
            (RefusalCode.DEVICE_UNREACHABLE, self.dark[slots] & is_rising),
            (RefusalCode.UNSAFE, (self.hot | self.overloaded)[slots] & is_rising),
        ):
            found.append((code, mask & left))
            left &= ~mask
        return [(code, mask) for code, mask in found if mask.any()]
