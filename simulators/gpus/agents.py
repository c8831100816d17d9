"""All agents of the world: found by address, made when somebody first asks or when an earlier process has left one.

An operation ends at its instant of simulated time, on the site's way through it; what an agent remembers is on the disk before it
answers.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

from pyroaring import BitMap

from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Site
from simulators.gpus.node_agent import NodeAgent
from simulators.gpus.nodes import Node, Nodes
from simulators.gpus.requests import Request
from simulators.gpus.workloads import Operation

_AGENT, _OPERATION = "gpu-agent", "gpu-operation"


class Agents:
    """The agents, and what becomes of their operations."""

    def __init__(
        self, nodes: Nodes, seed: int, transitions: TransitionLog, clock: Clock, unreadable: Collection[str] = ()
    ) -> None:
        """`unreadable`: models and checkpoints that no engine can load."""
        self._nodes, self._unreadable = nodes, frozenset(unreadable)
        self._seed = seed
        self._transitions = transitions
        self._clock = clock
        self._agents: dict[str, NodeAgent] = {}
        self._written: dict[str, dict[str, str]] = {}  # operations on the disk and their states, by node
        self._restore()
        for site in nodes.sites:
            site.on_work_lost.append(partial(self._work_lost, site))
            site.on_boot.append(partial(self._lose_power, site))

    def answers(self, address: str) -> bool:
        """Whether a node that is up has this address."""
        node = self._nodes.at(address)
        return node is not None and self._of(node).is_up(self._now_s(node))

    def at(self, address: str) -> NodeAgent:
        """The agent at an address that `answers`.

        Raises:
            KeyError: no node has it.
        """
        node = self._nodes.at(address)
        if node is None:
            raise KeyError(address)
        self._now_s(node)
        return self._of(node)

    def submit(self, agent: NodeAgent, kind: str, request: Request) -> tuple[Operation, bool]:
        """Hand a write to an agent and have it end in time: the operation, and whether it is new.

        Raises:
            ProblemError: it is refused.
        """
        operation, is_new = agent.submit(kind, request, self._clock.now_s())
        if is_new:
            self._end_later(agent, operation)
            self._write(agent)
        return operation, is_new

    def _end_later(self, agent: NodeAgent, operation: Operation) -> None:
        if operation.state == "running":
            agent.node.site.calls.add(operation.due_s, partial(self._end, agent, operation))

    def _end(self, agent: NodeAgent, operation: Operation, at_s: float) -> None:
        agent.finish(operation, at_s)
        self._write(agent)

    def _work_lost(self, site: Site, whom: BitMap, xid: int, at_s: float) -> None:
        """An XID has ended what ran on some GPUs of a site."""
        for node, gpus in self._nodes.of_slots(site, whom).items():
            agent = self._agents.get(node)
            if agent is not None:
                agent.work_lost(gpus, xid, at_s)
                self._write(agent)

    def _lose_power(self, site: Site, whom: BitMap, at_s: float) -> None:
        """Nodes of a site begin to boot."""
        for node in self._nodes.of_slots(site, whom):
            agent = self._agents.get(node)
            if agent is not None:
                agent.lose_power(at_s)
                self._write(agent)

    def _now_s(self, node: Node) -> float:
        """The present instant, up to which the node's site has come."""
        now_s = self._clock.now_s()
        node.site.advance(now_s)
        return now_s

    def _of(self, node: Node) -> NodeAgent:
        agent = self._agents.get(node.hostname)
        if agent is None:
            agent = self._agents[node.hostname] = NodeAgent(node, self._seed, self._transitions, self._unreadable)
        return agent

    def _write(self, agent: NodeAgent) -> None:
        """Put what has changed of an agent onto the disk; one that was never told anything leaves nothing."""
        memories, own = self._transitions.memories, agent.node.key
        known = self._written.setdefault(own, {})
        if not agent.operations and not known:
            return
        memories.put(f"{_AGENT}/{own}", agent.record())
        for identity in known.keys() - agent.operations.keys():
            memories.put(f"{_OPERATION}/{own}/{identity}", None)
        for identity, operation in agent.operations.items():
            if known.get(identity) != operation.state:
                memories.put(f"{_OPERATION}/{own}/{identity}", operation.record())
        self._written[own] = {identity: one.state for identity, one in agent.operations.items()}

    def _restore(self) -> None:
        """Make the agents that an earlier process has left, of nodes that are still the same; forget all others."""
        memories = self._transitions.memories
        operations: dict[str, list[dict[str, Any]]] = {}
        for key, record in memories.items(f"{_OPERATION}/"):
            own = key.removeprefix(f"{_OPERATION}/").rpartition("/")[0]
            operations.setdefault(own, []).append(record)
        for key, record in memories.items(f"{_AGENT}/"):
            own = key.removeprefix(f"{_AGENT}/")
            node = self._nodes.of_key(own)
            if node is None:
                memories.put(key, None)
            else:
                self._take_over(node, record, operations.pop(own, []))
        for own, gone in operations.items():
            for record in gone:
                memories.put(f"{_OPERATION}/{own}/{record['operation_id']}", None)

    def _take_over(self, node: Node, record: dict[str, Any], operations: list[dict[str, Any]]) -> None:
        agent = self._of(node)
        agent.restore(record, operations)
        self._written[node.key] = {identity: one.state for identity, one in agent.operations.items()}
        for operation in agent.operations.values():
            self._end_later(agent, operation)
