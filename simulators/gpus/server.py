"""The GPU nodes of a world: both ports. Started and stopped by `__main__`."""

import asyncio

from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.gpus.agent import AgentApi
from simulators.gpus.agents import Agents
from simulators.gpus.exporter import Exporter
from simulators.gpus.nodes import Nodes
from simulators.gpus.serving import REQUEST_WITHIN_S, Listener
from simulators.settings import WorldConfig
from simulators.token_file import read_token
from simulators.wires import Wires


class GpuNodesServer:
    """Answers for every GPU node at its address."""

    def __init__(
        self,
        config: WorldConfig,
        fleet: Fleet,
        transitions: TransitionLog,
        clock: Clock,
        within_s: float = REQUEST_WITHIN_S,
    ) -> None:
        own = config.protocols.gpu_nodes
        self._agents = Agents(Nodes(fleet, config.seed), config.seed, transitions, clock, own.unreadable)
        exporter = Exporter(own, self._agents, clock).app()
        agent = AgentApi(self._agents, clock, read_token("GPU nodes", own.token_file)).app()
        wires = Wires(fleet.network, clock)
        self._exporter = Listener(exporter, own.exporter_port, self._agents.answers, wires, within_s)
        self._agent = Listener(agent, own.agent_port, self._agents.answers, wires, within_s)

    @property
    def ports(self) -> tuple[int, int]:
        """Where the exporters and the agents listen."""
        return self._exporter.port, self._agent.port

    @property
    def urls(self) -> dict[str, str]:
        """Where the nodes answer, by name."""
        exporter, agent = self.ports
        return {"gpu-exporters": f"http://127.0.0.0/8:{exporter}", "gpu-agents": f"http://127.0.0.0/8:{agent}"}

    async def start(self) -> None:
        """Answer from now on."""
        await asyncio.gather(self._exporter.start(), self._agent.start())

    async def stop(self) -> None:
        """Close both ports; idempotent."""
        await asyncio.gather(self._exporter.stop(), self._agent.stop())
