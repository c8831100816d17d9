"""What all conversations with the pool share: its settings, its jobs, who works for it. No sockets here."""

from collections.abc import Callable

from simulators.bitcoin import Blocks
from simulators.clock import Clock
from simulators.pool.config import PoolConfig
from simulators.pool.jobs import JobBook
from simulators.pool.outside import OutsideWorkers
from simulators.pool.vardiff import Vardiff

CONNECTION_BYTES = 4  # of the extranonce


class Office:
    """One pool's. `is_ours` tells whether a worker's name is that of a simulated miner, whose work nobody else may add to."""

    def __init__(
        self, config: PoolConfig, seed: int, clock: Clock, is_ours: Callable[[str], bool], blocks: Blocks
    ) -> None:
        self.config = config
        self.clock = clock
        self.jobs = JobBook(seed, clock, config.job_every_s, blocks)
        self.outside = OutsideWorkers(None if config.is_open else config.account, clock)
        self._is_ours = is_ours
        self._connections = 0

    def refusal(self, name: str) -> str:
        """Why a worker may not work here; empty: it may."""
        if self._is_ours(name):
            return "a simulated miner has this name; take another"
        return self.outside.refusal(name)

    def vardiff(self) -> Vardiff:
        """The difficulty that a new connection begins with."""
        config = self.config
        return Vardiff(config.start_difficulty, config.least_difficulty, config.share_every_s, self.clock.real_s())

    def extranonce(self) -> bytes:
        """How the extranonces of a new connection begin, and those of no other."""
        self._connections += 1
        number = self._connections % (1 << 8 * CONNECTION_BYTES)
        return number.to_bytes(CONNECTION_BYTES, "big")
