"""The difficulty of one connection, so that its shares come about as often as the pool wants them. Real seconds."""

from typing import Final

from simulators.pool.config import HIGHEST_DIFFICULTY

LOOK_AFTER_SHARES: Final = 8
LOOK_AFTER_INTERVALS: Final = 8.0  # without as many shares
_TOLERATED: Final = 2.0  # times too fast or too slow
_MOST_AT_ONCE: Final = 8.0


class Vardiff:
    """Counts shares since it last looked, and moves the difficulty towards the wanted interval."""

    def __init__(self, difficulty: float, least: float, share_every_s: float, now_s: float) -> None:
        self.least = least
        self.difficulty = self._bounded(difficulty)
        self._every_s = share_every_s
        self._since_s = now_s
        self._shares = 0

    def suggest(self, difficulty: float, now_s: float) -> None:
        """Start anew from a difficulty that the miner asks for."""
        self.difficulty = self._bounded(difficulty)
        self._since_s, self._shares = now_s, 0

    def raise_least(self, least: float) -> None:
        """Never go below a difficulty that the miner has set."""
        self.least = min(max(self.least, least), HIGHEST_DIFFICULTY)
        self.difficulty = self._bounded(self.difficulty)

    def count(self) -> None:
        """A valid share has come."""
        self._shares += 1

    def moved(self, now_s: float) -> bool:
        """Look whether it is time to move, and move; True: the difficulty is another one now."""
        elapsed_s = now_s - self._since_s
        is_time = elapsed_s >= LOOK_AFTER_INTERVALS * self._every_s
        if self._shares < LOOK_AFTER_SHARES and not is_time:
            return False
        factor = self._every_s * max(self._shares, 0.5) / max(elapsed_s, 1e-3)
        self._since_s, self._shares = now_s, 0
        if 1.0 / _TOLERATED <= factor <= _TOLERATED:
            return False
        before = self.difficulty
        self.difficulty = self._bounded(before * min(max(factor, 1.0 / _MOST_AT_ONCE), _MOST_AT_ONCE))
        return self.difficulty != before

    def _bounded(self, difficulty: float) -> float:
        return min(max(difficulty, self.least), HIGHEST_DIFFICULTY)
