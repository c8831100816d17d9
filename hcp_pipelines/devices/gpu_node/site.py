"""A facility's GPU nodes at their addresses as one `devices.site.DeviceSite`: read in rounds; telling them is in `telling`.

A round is complete when every node due has answered or failed; then its reading is pushed. What the exporters say may be as old
as their interval, and a reading's instant says so: no sample in it is older. Silent nodes are asked again ever more rarely.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, GpuNodeOptions, Node, NodeFleet
from hcp_pipelines.devices.gpu_node.repairs import Repairs
from hcp_pipelines.devices.gpu_node.telling import Teller
from hcp_pipelines.devices.gpu_node.transport import NodeTransport
from hcp_pipelines.devices.gpu_node.values import NodeTelemetry, WorkloadSpec
from hcp_pipelines.devices.gpu_node.watching import catch_up, watch
from hcp_pipelines.devices.gpu_node.xid_record import XidRecord
from hcp_pipelines.devices.issues import IssueLog
from hcp_pipelines.devices.site import OnReading, Reading, Sent, all_told
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.devices.work import kind_of, one_devices, one_turn, spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError, HcpError
from hcp_pipelines.wire.slots import Slots, decode_slots

APART_S, PACE = 0.02, 0.5  # real: between two nodes of a round, and of its period at most: all at once hold up switches
LOOK_WITHIN_S = 1.0  # real: so long a round waits for an agent
EXCHANGES_AT_ONCE = 4  # connections to a node beside those on which the end of each GPU's operation is waited for


class GpuNodeSite:
    """GPUs by slot."""

    def __init__(
        self,
        groups: Sequence[GpuGroup],
        slots: int,
        options: GpuNodeOptions,
        folder: Path,
        clock: Clock,
        on_reading: OnReading,
        switches: SwitchBook | None = None,
    ) -> None:
        """`switches`: the book of switches, if it is to outlive the process."""
        self.fleet = NodeFleet(groups, slots, options.boards)
        self._options, self._clock, self._on_reading = options, clock, on_reading
        self._switches = switches or SwitchBook()
        self._repairs = Repairs(options, XidRecord(folder), clock)
        self._is_open = False
        self._teller: Teller | None = None
        self._polling: asyncio.Task[None] | None = None
        self._round = 0
        self._log = structlog.get_logger("devices.gpu_node")
        self._issues = IssueLog(self._log)

    @property
    def devices(self) -> int:
        """Number of slots."""
        return self.fleet.slots if self._is_open else 0

    async def connect(self, power_period_ms: int) -> None:
        """Read every node once, then go on reading them.

        Raises:
            DeviceUnreachableError: none of them answers.
        """
        await self.close()
        self._is_open = True
        self._teller = Teller(self.fleet, self._options, self._clock, self._switches)
        for node in self.fleet.nodes:
            node.device, node.failures, node.next_round = self._device(node), 0, 0
            node.agent_failures, node.next_look, node.is_status_old = 0, 0, True
            node.status = {}
        reading = await self._poll()
        if not any(node.telemetry for node in self.fleet.nodes):
            await self.close()
            raise DeviceUnreachableError(f"none of {len(self.fleet.nodes)} GPU nodes answers")
        self._polling = asyncio.create_task(self._poll_on(power_period_ms / 1000))
        self._on_reading(reading)

    async def closed(self) -> None:
        """Polling ends only by a defect, or by `close`."""
        if self._polling is not None:
            await asyncio.wait({self._polling})
            if not self._polling.cancelled() and self._polling.exception() is not None:
                self._log.error("polling has a defect", exc_info=self._polling.exception())

    async def close(self) -> None:
        """Stop reading and commands under way."""
        polling, teller = self._polling, self._teller
        self._polling, self._teller, self._is_open = None, None, False
        looking = [node.looking for node in self.fleet.nodes if node.looking is not None]
        ending = looking if polling is None else [polling, *looking]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if teller is not None:
            await teller.close()
        for node in self.fleet.nodes:
            device, node.looking, node.device = node.device, None, None
            if device is not None:
                await device.close()

    def send_state(
        self, ref: UUID, assignment: int, state: int, slots: bytes, work: WorkloadSpec | None = None
    ) -> Sent:
        """Begin to tell the nodes; a command that comes later for the same GPU goes before.

        Raises:
            DeviceUnreachableError: not connected.
        """
        if self._teller is None or self._polling is None:
            raise DeviceUnreachableError("the GPU nodes are not connected")
        return self._teller.tell(ref, assignment, state, decode_slots(slots, self.fleet.slots), work)

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """(accepted, refused) once every node was told, or could not be."""
        return await all_told(sent, "the GPU nodes were")

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """The state each GPU is in by its agent's word, as last read."""
        return self.fleet.states()

    def _device(self, node: Node) -> GpuNode:
        """A node's own connections: of a pool that all share each request looks at every one."""
        options, address = self._options, node.address
        transport = NodeTransport(
            address,
            exporter_port=options.exporter_port,
            agent_port=options.agent_port,
            token=options.token_of(address),
            token_over_http=options.token_over_http,
            within_s=options.deadline_s,
            connections=EXCHANGES_AT_ONCE + node.gpus,
        )
        return GpuNode(transport, address)

    # -- polling ------------------------------------------------------------------------------------------------------

    async def _poll_on(self, period_s: float) -> None:
        while True:
            began_s = self._clock.monotonic_s()
            reading = await self._poll(min(APART_S * len(self.fleet.nodes), PACE * period_s))
            self._on_reading(reading)
            took_s = self._clock.monotonic_s() - began_s
            metrics.ROUND_SECONDS.observe(took_s)
            await asyncio.sleep(max(period_s - took_s, 0.0))

    async def _poll(self, over_s: float = 0.0) -> Reading:
        """One round, whose nodes are asked one after the other within so many real seconds.

        A page that is read at its beginning may be as old as the exporters' interval.
        """
        self._round += 1
        began_s = self._clock.monotonic_s()
        at_s = self._clock.now().timestamp() - self._options.exporter_interval_s
        due = [node for node in self.fleet.nodes if node.next_round <= self._round]
        found: Counter[str] = Counter()

        async def ask(turn: tuple[int, Node]) -> None:
            number, node = turn
            await asyncio.sleep(max(began_s + over_s * number / len(due) - self._clock.monotonic_s(), 0.0))
            if node.device is not None:
                found[await self._ask(node, node.device)] += 1

        await spread(enumerate(due), self._options.concurrency, ask)
        for result, times in found.items():
            metrics.CALLS.labels("poll", result).inc(times)
        power_w, evidence = self.fleet.power()
        issues, hot = self._issues.take(self.fleet.issues()), self.fleet.hot()
        hottest, warm = self.fleet.temperature(), self.fleet.warm()
        return Reading(at_s, power_w, evidence, issues, hot, temperature_celsius=hottest, warm=warm)

    async def _ask(self, node: Node, device: GpuNode) -> str:
        try:
            node.telemetry = await one_turn(_read(device), node.address, self._options.deadline_s)
        except HcpError as error:
            if not node.failures:
                self._log.info("a GPU node can't be read", node=node.address, error=str(error))
            node.failed(self._round)
            return kind_of(error)
        node.failures = 0
        return await self._look(node, device)

    async def _look(self, node: Node, device: GpuNode) -> str:
        """Look after a node, and wait a moment for it: an agent that is slow goes on beside the rounds, and holds up none."""
        if node.looking is None:
            if node.next_look > self._round:
                return "ok"
            node.looking = asyncio.create_task(self._look_after(node, device))
        await asyncio.wait({node.looking}, timeout=LOOK_WITHIN_S)
        if not node.looking.done():
            return "agent_slow"
        looking, node.looking = node.looking, None
        try:
            await looking
        except HcpError as error:
            if not node.agent_failures:
                self._log.info("a GPU node's agent can't be read", node=node.address, error=str(error))
            node.agent_failed(self._round)
            return f"agent_{kind_of(error)}"
        node.agent_failures = 0
        return "ok"

    async def _look_after(self, node: Node, device: GpuNode) -> None:
        """Called inside its task, so that one that is let go of before it has begun leaves nothing behind."""
        await one_devices(self._read_agent(node, device), node.address)

    async def _read_agent(self, node: Node, device: GpuNode) -> None:
        if node.is_status_old or not node.status:
            node.status = {one.index: one for one in await device.read_status()}
            node.is_status_old = False
        if not node.is_caught_up:
            await catch_up(node, device, self._switches)
            node.is_caught_up = True
        await watch(node, device, self._switches)
        await self._repairs.look_after(node, device)


async def _read(device: GpuNode) -> NodeTelemetry:
    """A node's page. One without any GPU is believed if the agent says that all are lost."""
    try:
        return await device.read_telemetry()
    except DeviceReplyError:
        status = await device.read_status()
        if any(gpu.state is not None for gpu in status):
            raise
        return NodeTelemetry(())
