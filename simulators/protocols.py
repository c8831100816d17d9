"""The world's protocols beside markets and the bulk channel: which there are and are enabled; all start and stop together.

What is not enabled is not imported, so that a world without them stays as small as it was.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final, NamedTuple, Protocol

from simulators.bitcoin import Blocks
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.settings import ProtocolsConfig, WorldConfig


class ProtocolServer(Protocol):
    """One part: made of (config, fleet, transitions, clock)."""

    async def start(self) -> None:
        """Answer from now on."""
        ...

    async def stop(self) -> None:
        """Close the listeners and every connection; idempotent."""
        ...


class Part(NamedTuple):
    """A part: its class as MODULE:NAME, whether a configuration asks for it, and whether it works on the bitcoin network."""

    server: str
    is_enabled: Callable[[ProtocolsConfig], bool]
    takes_blocks: bool = False


PARTS: Final = (
    Part("simulators.miners.server:MinersServer", lambda config: config.miners.enabled),
    Part("simulators.gpus.server:GpuNodesServer", lambda config: config.gpu_nodes.enabled),
    Part("simulators.power_plant.server:PowerPlantServer", lambda config: config.modbus.enabled),
    Part("simulators.pool.server:PoolServer", lambda config: config.pool.enabled, takes_blocks=True),
    Part("simulators.openadr.server:OpenAdrServer", lambda config: config.openadr.enabled),
)


class Protocols:
    """Every enabled part of one world."""

    def __init__(
        self,
        config: WorldConfig,
        fleet: Fleet,
        transitions: TransitionLog,
        clock: Clock,
        blocks: Blocks | None = None,
    ) -> None:
        """`blocks`: of the world's bitcoin network, recorded ones in a replay."""
        self._servers: list[ProtocolServer] = []
        for part in PARTS:
            if part.is_enabled(config.protocols):
                more = {"blocks": blocks} if part.takes_blocks else {}
                self._servers.append(_class_of(part.server)(config, fleet, transitions, clock, **more))

    @property
    def urls(self) -> dict[str, str]:
        """Where the parts answer, for the ready file."""
        parts: list[dict[str, str]] = [getattr(server, "urls", {}) for server in self._servers]
        return {name: url for part in parts for name, url in part.items()}

    async def start(self) -> None:
        """Start every part, or none.

        Raises:
            WorldConfigError: a port can't be bound.
        """
        try:
            for server in self._servers:
                await server.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every part."""
        for server in self._servers:
            await server.stop()


def _class_of(name: str) -> Callable[..., ProtocolServer]:
    module, _, attribute = name.partition(":")
    made: Callable[..., ProtocolServer] = getattr(import_module(module), attribute)
    return made
