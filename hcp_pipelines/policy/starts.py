"""How often devices were started: the limit per rolling hour that spares hardware from prices which flap. Pure, vectorised.

A start is a device leaving its group's lowest state upwards, whoever wanted it; only starts for the price alone are held by it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hcp_pipelines.policy.arrays import Bools, Floats

HOUR_S = 3600.0
REMEMBERED = 4  # at least; more once a limit is higher


class Starts:
    """When each of `n` slots was started, the newest first; as far back as a limit ever looked."""

    def __init__(self, slots: int, most: int = REMEMBERED) -> None:
        self._at_s: Floats = np.full((most, slots), -np.inf)

    def note(self, slots: npt.NDArray[np.uint32], at_s: float) -> None:
        """These were started at a simulated Unix instant."""
        self._at_s[1:, slots] = self._at_s[:-1, slots]
        self._at_s[0, slots] = at_s

    def forget(self, slots: npt.NDArray[np.uint32]) -> None:
        """The last start of these did not happen."""
        self._at_s[:-1, slots] = self._at_s[1:, slots]
        self._at_s[-1, slots] = -np.inf

    def used_up(self, most: int, now_s: float) -> Bools:
        """[n] which were started `most` times within the hour before a simulated instant.

        >>> starts = Starts(2, most=2)
        >>> starts.note(np.array([1], dtype=np.uint32), 0.0)
        >>> starts.note(np.array([1], dtype=np.uint32), 600.0)
        >>> starts.used_up(2, 700.0).tolist(), starts.used_up(2, 3600.0).tolist()
        ([False, True], [False, False])
        """
        self.remember(most)
        worn: Bools = self._at_s[most - 1] > now_s - HOUR_S
        return worn

    def remember(self, most: int) -> None:
        """From now on look back so many starts; earlier ones than were remembered so far are not known."""
        missing = most - len(self._at_s)
        if missing > 0:
            unknown = np.full((missing, self._at_s.shape[1]), -np.inf)
            self._at_s = np.concatenate([self._at_s, unknown])


def lowest_of_slot(group_of_slot: npt.NDArray[np.int64], ladders: Sequence[Sequence[int]]) -> npt.NDArray[np.uint8]:
    """[n] each slot's lowest state; of an empty slot the first group's, which nobody asks for."""
    lowest: npt.NDArray[np.uint8] = np.array([ladder[0] for ladder in ladders], dtype=np.uint8)[group_of_slot]
    return lowest
