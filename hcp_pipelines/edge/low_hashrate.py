"""Miners that have hashed for a while as one with a dead board does: against the others of their group in the same state.

Most protocols tell a miner's hashrate and not its boards'; a model's own figure would call a whole group bad on a warm day.
"""

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import DeviceState

MINING = (DeviceState.MINING_ECO, DeviceState.MINING_FULL)
LOW_SHARE = 0.85  # of the median: a board less of three or four leaves 0.67 or 0.75 (setting)
LOW_FOR_S = 900.0  # simulated: longer than any wake takes (setting)
LOOK_EACH_S = 60.0  # simulated
FEWEST = 5  # in a state: of fewer nobody knows what is usual


class LowHashrate:
    """Looks at the miners of one facility."""

    def __init__(self, slots: int) -> None:
        self._since_s = np.full(slots, np.inf)
        self._next_look_s = -np.inf

    def is_due(self, at_s: float) -> bool:
        """Whether it is time to look again; each group is looked at then."""
        if at_s < self._next_look_s:
            return False
        self._next_look_s = at_s + LOOK_EACH_S
        return True

    def look(self, run: slice, states: npt.NDArray[np.uint8], hashrate: npt.NDArray[np.float32], at_s: float) -> int:
        """How many of the slots of a group (`run`) have been low for long enough, given their states and hashrates."""
        since_s = self._since_s[run]
        since_s[:] = np.where(low(states, hashrate), np.minimum(since_s, at_s), np.inf)
        return int((at_s - since_s >= LOW_FOR_S).sum())


def low(states: npt.NDArray[np.uint8], hashrate: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """[n] miners that hash less than others in the same state; those that don't hash at all are another matter.

    >>> full = int(DeviceState.MINING_FULL)
    >>> low(np.full(6, full, np.uint8), np.array([200, 199, 201, 134, 0, 200], np.float32)).tolist()
    [False, False, False, True, False, False]
    """
    found = np.zeros(len(states), dtype=np.bool_)
    hashes = hashrate > 0  # so a number
    for state in MINING:
        mine = np.flatnonzero(hashes & (states == state))
        if len(mine) >= FEWEST:
            found[mine] = hashrate[mine] < LOW_SHARE * np.median(hashrate[mine])
    return found
