"""All agents of the world: found by address, made when somebody first asks, and woken when an operation's time has come."""

import asyncio
import contextlib
import heapq
from itertools import count

from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.gpus.node_agent import NodeAgent
from simulators.gpus.nodes import Node, Nodes
from simulators.gpus.requests import Request
from simulators.gpus.workloads import Operation

_LONGEST_SLEEP_S = 0.5  # real; a clock moved by hand tells nobody


class Agents:
    """The agents, and the times at which their operations end."""

    def __init__(self, nodes: Nodes, seed: int, transitions: TransitionLog, clock: Clock) -> None:
        self._nodes = nodes
        self._seed = seed
        self._transitions = transitions
        self._clock = clock
        self._agents: dict[str, NodeAgent] = {}
        self._due: list[tuple[float, int, NodeAgent, Operation]] = []
        self._numbers = count()
        self._changed = asyncio.Event()

    def answers(self, address: str) -> bool:
        """Whether a node that is up has this address."""
        node = self._nodes.at(address)
        if node is None:
            return False
        self.finish_due()
        return self._of(node).is_up(self._clock.now_s())

    def at(self, address: str) -> NodeAgent:
        """The agent at an address that `answers`.

        Raises:
            KeyError: no node has it.
        """
        node = self._nodes.at(address)
        if node is None:
            raise KeyError(address)
        self.finish_due()
        return self._of(node)

    def submit(self, agent: NodeAgent, kind: str, request: Request) -> tuple[Operation, bool]:
        """Hand a write to an agent and remember when it ends: the operation, and whether it is new.

        Raises:
            ProblemError: it is refused.
        """
        operation, is_new = agent.submit(kind, request, self._clock.now_s())
        if operation.state == "running" and is_new:
            heapq.heappush(self._due, (operation.due_s, next(self._numbers), agent, operation))
            self._changed.set()
        return operation, is_new

    def finish_due(self) -> None:
        """End every operation whose time has come, in the order of their times."""
        now_s = self._clock.now_s()
        while self._due and self._due[0][0] <= now_s:
            _, _, agent, operation = heapq.heappop(self._due)
            agent.finish(operation, now_s)

    async def run(self) -> None:
        """End operations when their time comes, until cancelled."""
        while True:
            self.finish_due()
            self._changed.clear()
            wait_s = _LONGEST_SLEEP_S
            if self._due:
                wait_s = min(wait_s, max(0.0, self._due[0][0] - self._clock.now_s()) / self._clock.speed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, 0.005)):
                    await self._changed.wait()

    def _of(self, node: Node) -> NodeAgent:
        agent = self._agents.get(node.hostname)
        if agent is None:
            agent = self._agents[node.hostname] = NodeAgent(node, self._seed, self._transitions, self._clock.now_s())
        return agent
