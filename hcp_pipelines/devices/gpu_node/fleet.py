"""All GPU nodes of a facility: which slots are whose, when to ask a node again, what each GPU is wanted to do. No loops here."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import SecretStr

from hcp_pipelines.devices.gpu_node.boards import BoardPower, Level, slot_watts
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.limits import issues_of
from hcp_pipelines.devices.gpu_node.steps import warm_state
from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE, GpuStatus, NodeTelemetry, WorkloadSpec
from hcp_pipelines.devices.issues import DeviceIssue, is_too_hot
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.devices.switches import PHASE_WITHIN_S, Phase
from hcp_pipelines.devices.work import rounds_to_wait
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import Slots

SILENT_ROUNDS_MAX = (
    4  # a node that does not answer is asked again after 1, 2, 4, 4 … rounds: a restart takes 5 to 10 minutes
)
UNKNOWN_STATE = 255


@dataclass(frozen=True, slots=True)
class GpuGroup:
    """A run of slots: 8 a node in the order of the addresses, the last node may have fewer; and their ladder."""

    first_slot: int
    devices: int
    addresses: tuple[str, ...]
    levels: tuple[Level, ...]

    def has(self, state: int) -> bool:
        """Whether the ladder has a state."""
        return any(one.state == state for one in self.levels)


@dataclass(frozen=True, slots=True)
class GpuNodeOptions:
    """How a site's GPU nodes are spoken to, what is loaded for which state, and what is done about XIDs."""

    exporter_port: int = 9400
    agent_port: int = 9401
    deadline_s: float = 5.0
    concurrency: int = 64  # nodes at once, for polls and for commands apart
    exporter_interval_s: float = 30.0  # simulated: what the exporter says may be so old
    token: SecretStr | None = None
    tokens: Mapping[str, SecretStr] = field(default_factory=dict)  # by address, in place of one for all
    token_over_http: bool = False  # also beyond this machine: the nodes' network is closed
    xid_actions: Literal["observe", "act"] = "observe"
    workloads: Mapping[DeviceState, WorkloadSpec] = field(default_factory=dict)
    boards: BoardPower = field(default_factory=BoardPower)
    phase_within_s: Mapping[Phase, float] = field(default_factory=lambda: PHASE_WITHIN_S)  # simulated

    def token_of(self, address: str) -> SecretStr | None:
        """The token of a node's agent; None: it can be read, and not commanded."""
        return self.tokens.get(address, self.token)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An operation that the agent accepted for a command."""

    command: str
    ticket: int
    state: DeviceState
    gpus: tuple[int, ...]
    let_go: Mapping[int, str] = field(default_factory=dict)  # whose work it puts to sleep, by GPU


@dataclass(slots=True, eq=False)
class Node:
    """One node; lists are by GPU."""

    address: str
    group: GpuGroup
    first_slot: int
    gpus: int
    device: GpuNode | None = None
    telemetry: NodeTelemetry | None = None  # None: the last poll failed
    status: dict[int, GpuStatus] = field(default_factory=dict)  # of the last time that the agent was asked
    is_status_old: bool = True  # it was away, or was never asked
    is_caught_up: bool = False  # with what an earlier process had asked of it
    failures: int = 0
    next_round: int = 0
    looking: asyncio.Task[None] | None = None  # at its operations and XIDs
    agent_failures: int = 0
    next_look: int = 0
    tickets: list[int] = field(default_factory=list)  # of the newest command; an older one is not carried out
    wanted: list[int] = field(default_factory=list)  # state codes
    wanted_at_s: list[float] = field(default_factory=list)  # simulated
    operations: dict[str, UnderWay] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        """No command yet."""
        self.tickets, self.wanted = [0] * self.gpus, [UNKNOWN_STATE] * self.gpus
        self.wanted_at_s = [float("-inf")] * self.gpus

    def failed(self, round_number: int) -> None:
        """A poll went wrong: the last reading is worth nothing now."""
        self.telemetry, self.failures, self.is_status_old = None, self.failures + 1, True
        self.next_round = round_number + rounds_to_wait(self.failures, SILENT_ROUNDS_MAX)

    def agent_failed(self, round_number: int) -> None:
        """Its page can be read, and its agent can't."""
        self.agent_failures += 1
        self.next_look = round_number + rounds_to_wait(self.agent_failures, SILENT_ROUNDS_MAX)


class NodeFleet:
    """The nodes; slots of other groups are empty."""

    def __init__(self, groups: Sequence[GpuGroup], slots: int, boards: BoardPower) -> None:
        self.slots, self._boards = slots, boards
        self._last_ticket = 0
        self.nodes = [node for group in groups for node in _nodes(group)]
        self.place_of = {node.first_slot + gpu: (node, gpu) for node in self.nodes for gpu in range(node.gpus)}

    def give_ticket(self, state: int, slots: Sequence[int], now_s: float) -> int:
        """The number of a new command; for these slots none before it is carried out any more."""
        self._last_ticket += 1
        for slot in slots:
            if slot in self.place_of:
                node, gpu = self.place_of[slot]
                node.tickets[gpu], node.wanted[gpu], node.wanted_at_s[gpu] = self._last_ticket, state, now_s
        return self._last_ticket

    def of(self, slots: Slots) -> dict[Node, tuple[int, ...]]:
        """GPUs of some slots by node; slots without a node are left out."""
        found: dict[Node, list[int]] = {}
        for node, gpu in (self.place_of[slot] for slot in slots.tolist() if slot in self.place_of):
            found.setdefault(node, []).append(gpu)
        return {node: tuple(gpus) for node, gpus in found.items()}

    def power(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """[n] watts and evidence by slot; NaN where a GPU is lost or its node silent, 0 where there is none."""
        power = np.zeros(self.slots, dtype=np.float32)
        evidence = np.zeros(self.slots, dtype=np.uint8)
        for node in self.nodes:
            own = slice(node.first_slot, node.first_slot + node.gpus)
            power[own] = np.nan
            for gpu in node.telemetry.gpus if node.telemetry else ():
                if gpu.index < node.gpus and gpu.power_w is not None:
                    slot = node.first_slot + gpu.index
                    power[slot] = slot_watts(gpu.power_w, gpu.model, node.group.levels, self._boards)
                    evidence[slot] = Evidence.MEASURED
        return power, evidence

    def temperature(self) -> npt.NDArray[np.float32]:
        """[n] °C of each GPU, core or memory, whichever is hotter; NaN where nobody says."""
        temperature = np.full(self.slots, np.nan, dtype=np.float32)
        for node in self.nodes:
            for gpu in node.telemetry.gpus if node.telemetry else ():
                told = [one for one in (gpu.temperature_celsius, gpu.memory_temperature_celsius) if one is not None]
                if gpu.index < node.gpus and told:
                    temperature[node.first_slot + gpu.index] = max(told)
        return temperature

    def issues(self) -> Iterator[tuple[int, DeviceIssue]]:
        """What is wrong with the GPUs that the last round read, by slot; of GPUs that a node should not have nothing."""
        for node in self.nodes:
            for gpu in node.telemetry.gpus if node.telemetry else ():
                if gpu.index < node.gpus:
                    cap_w = node.status[gpu.index].power_cap_w if gpu.index in node.status else None
                    yield from ((node.first_slot + gpu.index, issue) for issue in issues_of(gpu, cap_w))

    def hot(self) -> Slots:
        """Slots of the GPUs that the last round read above their model's temperature, rising."""
        hot = [
            node.first_slot + gpu.index
            for node in self.nodes
            for gpu in (node.telemetry.gpus if node.telemetry else ())
            if gpu.index < node.gpus and is_too_hot(issues_of(gpu, None))
        ]
        return np.array(sorted(hot), dtype=np.uint32)

    def warm(self) -> npt.NDArray[np.uint8]:
        """[n] the state for which something sleeps there, by the agents' last word; 255 where nothing does."""
        warm = np.full(self.slots, UNKNOWN_STATE, dtype=np.uint8)
        for node in self.nodes:
            for gpu, status in node.status.items():
                if gpu < node.gpus and (state := warm_state(status)) is not None:
                    warm[node.first_slot + gpu] = state
        return warm

    def states(self) -> npt.NDArray[np.uint8]:
        """[n] the state that the agents say; 255 where a GPU is lost or its node silent."""
        states = np.full(self.slots, UNKNOWN_STATE, dtype=np.uint8)
        for node in self.nodes:
            for gpu, status in node.status.items():
                if gpu < node.gpus and status.state is not None and node.telemetry is not None:
                    states[node.first_slot + gpu] = status.state
        return states


def _nodes(group: GpuGroup) -> list[Node]:
    return [
        Node(address, group, group.first_slot + first, min(GPUS_PER_NODE, group.devices - first))
        for address, first in zip(group.addresses, range(0, group.devices, GPUS_PER_NODE), strict=True)
    ]
