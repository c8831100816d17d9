"""The pool of a world: its ports, started and stopped together, and the new jobs that go out on them."""

import asyncio
import hashlib
import logging
from typing import Any, Final

from simulators.addresses import is_loopback
from simulators.bitcoin import BitcoinNetwork, Blocks
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.gpus.serving import Listener
from simulators.pool.api import PoolApi
from simulators.pool.ledger import SiteLedger
from simulators.pool.names import MinerNames
from simulators.pool.noise import Authority
from simulators.pool.office import Office
from simulators.pool.payouts import Payouts
from simulators.pool.port import Patience
from simulators.pool.statistics import Statistics
from simulators.pool.v1_server import V1Server
from simulators.pool.v2_server import V2Server
from simulators.settings import WorldConfig, WorldConfigError
from simulators.token_file import read_token

LOOK_S: Final = 0.2  # real: how late a new job may be
LABEL: Final = "pool statistics"

log = logging.getLogger("world.pool")


class PoolServer:
    """Stratum V1 and V2, and the accounts behind them."""

    def __init__(
        self,
        config: WorldConfig,
        fleet: Fleet,
        _transitions: TransitionLog,
        clock: Clock,
        patience: Patience | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        """`blocks`: of the world's network; else those that the seed makes."""
        names = MinerNames(config)
        blocks = blocks or _generated(config.seed)
        self.office = Office(
            config.protocols.pool, config.seed, clock, lambda name: names.find(name) is not None, blocks
        )
        self.v1 = V1Server(self.office, patience or Patience())
        self.v2 = V2Server(self.office, _authority(config), patience or Patience())
        own = config.protocols.pool
        folder, payouts = config.transition_log.with_name("pool"), Payouts(own, config.seed, blocks)
        self.ledgers = {
            name: SiteLedger(site, config.seed, folder, own.keep_days, payouts.satoshi_per_difficulty)
            for name, site in fleet.sites.items()
        }
        for ledger in self.ledgers.values():
            ledger.start()
        statistics = Statistics(own, self.ledgers, self.office.outside, payouts, clock)
        self.api = PoolApi(own, statistics, clock, read_token("pool", own.token_file), self._seen)
        self._listener = Listener(self.api.app(), own.api_port, is_loopback, None, label=LABEL)
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def urls(self) -> dict[str, str]:
        """Where the pool answers."""
        return {
            "pool-v1": f"stratum+tcp://127.0.0.1:{self.v1.port.port}",
            "pool-v2": self.v2.url,
            "pool-api": f"http://127.0.0.1:{self._listener.port}",
        }

    def _seen(self) -> dict[str, Any]:
        ports = {"v1": self.v1.port, "v2": self.v2.port}
        told: dict[str, Any] = {name: {"connected": port.connections, **port.counts} for name, port in ports.items()}
        return told | {"statistics": dict(self._listener.troubles), "jobs": self.office.jobs.newest.number}

    async def start(self) -> None:
        """Answer from now on.

        Raises:
            WorldConfigError: a port can't be bound.
        """
        await self.v1.port.start()
        await self.v2.port.start()
        await self._listener.start()
        self._upkeep = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Close the ports and every connection; idempotent."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await asyncio.gather(self.v1.port.stop(), self.v2.port.stop(), self._listener.stop())

    def renew(self) -> None:
        """A new job for all where one is due, and other difficulties where shares come too often or too seldom."""
        job = self.office.jobs.renew()
        for server in (self.v1, self.v2):
            if job is not None:
                server.announce(job)
            server.look()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.renew()


def _generated(seed: int) -> Blocks:
    network = BitcoinNetwork(seed)
    return lambda at_s, count: network.blocks_before(at_s, count)[::-1]


def _authority(config: WorldConfig) -> Authority:
    """Who signs for the pool.

    Raises:
        WorldConfigError: the key's file can't be read, or holds no key.
    """
    path = config.protocols.pool.authority_key_file
    if path is None:
        return Authority(hashlib.sha256(f"pool authority/{config.seed}".encode()).digest())
    try:
        return Authority(bytes.fromhex(path.read_text().strip()))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        message = f"pool: authority_key_file {path} holds no secp256k1 secret ({error}); write 64 hex digits into it"
        raise WorldConfigError(message) from error
