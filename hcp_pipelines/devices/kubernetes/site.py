"""A facility's GPU nodes in a Kubernetes cluster as one `devices.site.DeviceSite`: Jobs and Nodes are mirrored, exporters polled.

The cluster gives a pod any of its node's GPUs, so that slots of a node are alike: what its exporter measures is dealt out to them
by what their pods should draw by now, most to most. Telling slots is in `telling`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.gpu_node.boards import BoardPower, slot_watts
from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup
from hcp_pipelines.devices.gpu_node.transport import NodeTransport, new_client
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.kubernetes import metrics
from hcp_pipelines.devices.kubernetes.codec import FACILITY, decode_job, decode_node
from hcp_pipelines.devices.kubernetes.keeping import Keeping
from hcp_pipelines.devices.kubernetes.mirror import Mirror
from hcp_pipelines.devices.kubernetes.places import Place, dealt, places
from hcp_pipelines.devices.kubernetes.slots import Cluster, SlotJobs
from hcp_pipelines.devices.kubernetes.sweeping import Sweeper
from hcp_pipelines.devices.kubernetes.switching import SlotSwitcher
from hcp_pipelines.devices.kubernetes.telling import Teller
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.site import Evidence, OnReading, Reading, Sent, all_told
from hcp_pipelines.devices.switches import PHASE_WITHIN_S, Phase, SwitchBook
from hcp_pipelines.devices.work import kind_of, one_turn, spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceReplyError,
    DeviceUnreachableError,
    HcpError,
)
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import Slots, decode_slots

UNKNOWN_STATE = 255
NODES_PATH = "/api/v1/nodes"


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """How a site's cluster is spoken to."""

    cluster: Cluster
    exporter_port: int = 9400
    deadline_s: float = 5.0
    concurrency: int = 64
    exporter_interval_s: float = 30.0  # simulated
    workloads: Mapping[DeviceState, WorkloadSpec] = field(default_factory=dict)
    boards: BoardPower = field(default_factory=BoardPower)
    phase_within_s: Mapping[Phase, float] = field(default_factory=lambda: PHASE_WITHIN_S)
    jobs_kept_s: float = 21_600.0  # real: Jobs at rest are deleted after so long


class KubernetesSite:
    """GPUs by slot."""

    def __init__(
        self,
        groups: Sequence[GpuGroup],
        slots: int,
        options: KubernetesOptions,
        transport: ApiTransport,
        clock: Clock,
        on_reading: OnReading,
        book: SwitchBook,
    ) -> None:
        self._slots, self._options, self._transport = slots, options, transport
        self._clock, self._on_reading = clock, on_reading
        self._places = [place for group in groups for place in places(group)]
        own = {FACILITY: options.cluster.facility_id}
        self._jobs = jobs = Mirror(transport, options.cluster.jobs_path, own, decode_job, lambda job: job.slot)
        self._nodes = Mirror(transport, NODES_PATH, {}, decode_node, lambda node: node.name)
        self._slot_jobs = SlotJobs(options.cluster, transport, jobs)
        checkpoint_s = options.phase_within_s[Phase.CHECKPOINT]
        self._keeping = Keeping(options.cluster, transport, jobs, checkpoint_s, clock, book)
        switcher = SlotSwitcher(self._slot_jobs, self._keeping, options.phase_within_s, clock, book)
        self._teller = Teller(self._places, self._nodes, switcher, options.phase_within_s[Phase.START], clock, book)
        self._sweeper = Sweeper(self._slot_jobs, options.jobs_kept_s, clock, book, self._teller.lock)
        self._exporters: httpx.AsyncClient | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("devices.kubernetes")

    @property
    def devices(self) -> int:
        """Number of slots."""
        return self._slots if self._loops else 0

    async def connect(self, power_period_ms: int) -> None:
        """List Jobs, their pods and Nodes and read every exporter once; then follow them.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: of the API server; or no exporter answers.
        """
        await self.close()
        self._transport.open()
        await asyncio.gather(self._jobs.load(), self._keeping.pods.load(), self._nodes.load())
        self._exporters = new_client(2 * self._options.concurrency)
        reading = await self._poll(self._exporters)
        if all(place.boards_w is None for place in self._places):
            await self.close()
            raise DeviceUnreachableError(f"none of {len(self._places)} exporters answers")
        polls = self._poll_on(self._exporters, power_period_ms / 1000)
        watches = (self._jobs.follow(), self._keeping.pods.follow(), self._nodes.follow())
        self._loops = [asyncio.create_task(loop) for loop in (*watches, polls, self._sweeper.follow())]
        self._keeping.follow_left()
        self._on_reading(reading)

    async def closed(self) -> None:
        """Following ends only by a defect, or by `close`."""
        if self._loops:
            done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and task.exception() is not None:
                    self._log.error("a loop has a defect", exc_info=task.exception())

    async def close(self) -> None:
        """Stop following, and commands under way."""
        ending, self._loops = self._loops, []
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._teller.close()
        await self._keeping.close()
        if self._exporters is not None:
            await self._exporters.aclose()
            self._exporters = None
        await self._transport.close()

    def send_state(
        self, ref: UUID, assignment: int, state: int, slots: bytes, work: WorkloadSpec | None = None
    ) -> Sent:
        """Begin to tell the cluster; a command that comes later for the same slot goes before.

        Raises:
            DeviceUnreachableError: not connected.
        """
        if not self._loops:
            raise DeviceUnreachableError("the cluster is not connected")
        spec = work or self._options.workloads.get(DeviceState(state), WorkloadSpec(gpus_each=1))
        return self._teller.tell(str(ref), assignment, DeviceState(state), decode_slots(slots, self._slots), work, spec)

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """(accepted, refused) once every slot was told, or could not be."""
        return await all_told(sent, "the cluster was")

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """The state of each slot by its Job; 255 where the cluster has no such node."""
        states = np.full(self._slots, UNKNOWN_STATE, dtype=np.uint8)
        jobs, known = self._slot_jobs.by_slot(), self._teller.by_address()
        for place in self._places:
            rest = DeviceState.IDLE if place.group.has(DeviceState.IDLE) else DeviceState.CURTAILED
            for slot in place.slots if place.address in known else ():
                states[slot] = jobs[slot].state if slot in jobs else rest
        return states

    # -- polling ------------------------------------------------------------------------------------------------------

    async def _poll_on(self, client: httpx.AsyncClient, period_s: float) -> None:
        while True:
            began_s = self._clock.monotonic_s()
            self._on_reading(await self._poll(client))
            await asyncio.sleep(max(period_s - (self._clock.monotonic_s() - began_s), 0.0))

    async def _poll(self, client: httpx.AsyncClient) -> Reading:
        at_s = self._clock.now().timestamp() - self._options.exporter_interval_s
        found: Counter[str] = Counter()

        async def ask(place: Place) -> None:
            found[await self._ask(place, client)] += 1

        await spread(self._places, self._options.concurrency, ask)
        for result, times in found.items():
            metrics.CALLS.labels("poll", result).inc(times)
        power = np.zeros(self._slots, dtype=np.float32)
        evidence = np.zeros(self._slots, dtype=np.uint8)
        drawing = self._slot_jobs.drawing()
        for place in self._places:
            power[place.slots.start : place.slots.stop] = dealt(place, drawing)
        evidence[np.isfinite(power) & (power > 0)] = Evidence.MEASURED
        return Reading(at_s, power, evidence)

    async def _ask(self, place: Place, client: httpx.AsyncClient) -> str:
        transport = NodeTransport(
            place.address,
            exporter_port=self._options.exporter_port,
            within_s=self._options.deadline_s,
            client=client,
        )
        try:
            answer = await one_turn(transport.metrics(), place.address, self._options.deadline_s)
            if answer.status != httpx.codes.OK:
                raise DeviceReplyError(f"{place.address}: the exporter answers with status {answer.status}")
            gpus = decode_metrics(answer.body, place.address).gpus
        except HcpError as error:
            place.boards_w = None
            return kind_of(error)
        ladder, boards = place.group.levels, self._options.boards
        place.boards_w = [slot_watts(g.power_w, g.model, ladder, boards) for g in gpus if g.power_w is not None]
        return "ok"
