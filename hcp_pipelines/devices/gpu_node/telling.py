"""Telling nodes the states of their GPUs: busy GPUs again until they are told, and never what is no longer wanted.

A GPU is busy while an operation is at work on it, for minutes sometimes: the reply waits for it, since the settling deadline
begins with the reply. Nodes that could not be reached are told again behind it. What operations come to is seen in `watching`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from uuid import UUID, uuid5

import numpy as np
import structlog

from hcp_pipelines.devices.again import Tasks, passing, tell_again
from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions, Node, NodeFleet, UnderWay
from hcp_pipelines.devices.gpu_node.switches import Asked, Switches
from hcp_pipelines.devices.gpu_node.switching import Order
from hcp_pipelines.devices.gpu_node.values import GpuStatus, StateOutcome, WorkloadSpec
from hcp_pipelines.devices.switches import Phase, SwitchBook
from hcp_pipelines.devices.work import kind_of, one_devices, spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceReplyError,
    DeviceUnreachableError,
    HcpError,
    NotNowError,
    WorkUnfitError,
)
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import Slots

BUSY_AGAIN_S = (0.25, 0.5, 1.0, 2.0, 4.0)  # real; the last one again and again
BUSY_WITHIN_S = 300.0  # simulated: the longest operation that answers takes 180; after that the reply says refused
EXAMPLES_SHOWN = 5

_Task = asyncio.Task[tuple[Slots, Slots]]
_Left = Mapping[Node, tuple[int, ...]]


@dataclass
class _Told:
    """A command, and what came of it by slot at the last try."""

    ref: UUID
    assignment: int
    state: DeviceState
    ticket: int
    work: WorkloadSpec | None = None
    orders: list[Order] = field(default_factory=list)
    refused: dict[int, HcpError] = field(default_factory=dict)
    busy: dict[int, HcpError] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As in log lines."""
        return f"{self.ref}/{self.assignment}"

    def may_pass(self) -> dict[int, HcpError]:
        """Slots that are asked again, and why they were not told."""
        return passing(self.refused | self.busy)

    def request_id(self, node: Node) -> str:
        """The same for the same command at the same node, however often it is told."""
        return uuid5(self.ref, f"{self.assignment}/{node.address}").hex


class Teller:
    """The commands under way of one site; `close` ends them."""

    def __init__(self, fleet: NodeFleet, options: GpuNodeOptions, clock: Clock, book: SwitchBook) -> None:
        self._fleet, self._options, self._clock = fleet, options, clock
        self._switches, self._book = Switches(options, clock, book), book
        self._tasks = Tasks()
        self._at_once = asyncio.Semaphore(options.concurrency)
        self._log = structlog.get_logger("devices.gpu_node")

    def tell(self, ref: UUID, assignment: int, state: int, wanted: Slots, work: WorkloadSpec | None = None) -> _Task:
        """Begin; the task gives (accepted, refused) once every node was told, or could not be."""
        ticket = self._fleet.give_ticket(state, wanted.tolist(), self._clock.now().timestamp())
        told = _Told(ref, assignment, DeviceState(state), ticket, work)
        return self._tasks.begin(self._tell_all(told, wanted))

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()
        await self._switches.close()

    async def _tell_all(self, told: _Told, wanted: Slots) -> tuple[Slots, Slots]:
        strangers = self._strangers(told.state, wanted)
        await self._tell(told, self._fleet.of(wanted[~np.isin(wanted, list(strangers))]))
        await self._wait_for_busy(told)
        await _started(told)
        told.refused |= strangers | told.busy
        self._report(told)
        refused = np.isin(wanted, np.array(sorted(told.refused), dtype=np.uint32))
        if may_pass := told.may_pass():
            self._book.note_telling(str(told.ref), told.assignment, may_pass)
            self._tasks.begin(self._tell_later(told))
        return wanted[~refused], wanted[refused]

    def _strangers(self, state: DeviceState, wanted: Slots) -> dict[int, HcpError]:
        places = ((slot, self._fleet.place_of.get(slot)) for slot in wanted.tolist())
        return {
            slot: DeviceRefusedError(f"slot {slot}: no GPU, or not with state {state.label}")
            for slot, place in places
            if place is None or not place[0].group.has(state)
        }

    async def _wait_for_busy(self, told: _Told) -> None:
        until_s = self._clock.now().timestamp() + BUSY_WITHIN_S
        for wait_s in chain(BUSY_AGAIN_S, repeat(BUSY_AGAIN_S[-1])):
            if not told.busy or self._clock.now().timestamp() > until_s:
                return
            await asyncio.sleep(wait_s)
            await self._tell_again(told, told.busy)

    async def _tell_later(self, told: _Told) -> None:
        """Behind the reply: what may pass is asked again as long as a start may take, or until it is judged.

        What the last try said is reported.
        """
        until_s = self._clock.now().timestamp() + self._options.phase_within_s[Phase.START]

        async def tell_those_left() -> Mapping[int, HcpError]:
            if self._is_ended(told):
                return {}
            await self._tell_again(told, told.may_pass())
            left = told.may_pass()
            self._book.note_telling(str(told.ref), told.assignment, left)
            return left

        try:
            await tell_again(tell_those_left, lambda: not told.busy and self._clock.now().timestamp() > until_s)
            if not self._is_ended(told):
                await _started(told)
                told.refused |= told.busy
                self._report(told)
                self._book.give_up(str(told.ref), told.assignment, told.refused)
        finally:
            self._book.note_telling(str(told.ref), told.assignment, {})

    def _is_ended(self, told: _Told) -> bool:
        return self._book.is_ended(str(told.ref), told.assignment)

    async def _tell_again(self, told: _Told, slots: Mapping[int, HcpError]) -> None:
        again = np.array(sorted(slots), dtype=np.uint32)
        for slot in again.tolist():
            told.refused.pop(slot, None)
        told.busy.clear()
        await self._tell(told, self._fleet.of(again))

    async def _tell(self, told: _Told, left: _Left) -> None:
        async def tell(item: tuple[Node, tuple[int, ...]]) -> None:
            async with self._at_once, item[0].lock:
                await self._tell_node(told, *item)

        await spread(left.items(), self._options.concurrency, tell)

    async def _tell_node(self, told: _Told, node: Node, gpus: tuple[int, ...]) -> None:
        """Ask one node. Nothing for GPUs that a newer command is there for, nor once it was judged."""
        gpus = tuple(gpu for gpu in gpus if node.tickets[gpu] == told.ticket)
        if not gpus or self._is_ended(told):
            return
        spec = told.work or self._options.workloads.get(told.state)
        try:
            if node.device is None:
                raise DeviceUnreachableError(f"{node.address}: not connected")
            asked = self._asked(told, node)
            gpus = self._go_on(told, node, node.device, gpus, asked)
            if not gpus:
                return
            telling = node.device.set_state(told.state, gpus, told.request_id(node), spec)
            outcome = await one_devices(telling, node.address)
            if outcome.at_work and await _is_drained(node.device, outcome.at_work):
                why = f"{node.address}: drained: it takes no new work, and what runs was left alone"
                outcome.refused.update(dict.fromkeys(outcome.at_work, NotNowError(why)))
                outcome.at_work.clear()
            told.orders += self._switches.begin(asked, node, node.device, outcome.at_work)
        except (DeviceUnreachableError, DeviceReplyError, DeviceRefusedError) as error:
            metrics.CALLS.labels("command", kind_of(error)).inc(len(gpus))
            told.refused |= {node.first_slot + gpu: error for gpu in gpus}
        else:
            self._note(told, node, outcome)

    def _asked(self, told: _Told, node: Node) -> Asked:
        request_id, now_s = told.request_id(node), self._clock.monotonic_s()
        return Asked(str(told.ref), told.assignment, told.state, told.ticket, request_id, told.work, now_s)

    def _go_on(self, told: _Told, node: Node, device: GpuNode, gpus: tuple[int, ...], asked: Asked) -> tuple[int, ...]:
        """Go on with this command's switches at a node that are in the book; the GPUs that have none. What failed is refused."""
        orders, failed = self._switches.go_on(asked, node, device, gpus)
        told.orders += orders
        told.refused |= {node.first_slot + gpu: error for gpu, error in failed.items()}
        taken = set(failed) | {gpu for order in orders for gpu in order.gpus}
        return tuple(gpu for gpu in gpus if gpu not in taken)

    def _note(self, told: _Told, node: Node, outcome: StateOutcome) -> None:
        for name, answers in (("ok", outcome.accepted), ("busy", outcome.busy), ("refused", outcome.refused)):
            metrics.CALLS.labels("command", name).inc(len(answers))
        for operation_id in set(outcome.accepted.values()) - {""}:
            gpus = tuple(gpu for gpu, own in outcome.accepted.items() if own == operation_id)
            let_go = {gpu: work for gpu, work in outcome.let_go.items() if gpu in gpus}
            node.operations[operation_id] = UnderWay(told.name, told.ticket, told.state, gpus, let_go)
        told.busy |= {node.first_slot + gpu: NotNowError(why) for gpu, why in outcome.busy.items()}
        told.refused |= {node.first_slot + gpu: error for gpu, error in outcome.refused.items()}

    def _report(self, told: _Told) -> None:
        """One line a command, not one a GPU; and whose refusal is the work's own failure."""
        if told.refused:
            self._note_unfit(told)
            examples = [f"{slot}: {error}" for slot, error in list(told.refused.items())[:EXAMPLES_SHOWN]]
            kinds = Counter(kind_of(error) for error in told.refused.values())
            self._log.warning("GPUs were not told", command=told.name, **kinds, examples=examples)

    def _note_unfit(self, told: _Told) -> None:
        unfit = {slot: error for slot, error in told.refused.items() if isinstance(error, WorkUnfitError)}
        if unfit:
            self._book.note_unfit(str(told.ref), told.assignment, unfit, str(next(iter(unfit.values()))))


async def _is_drained(device: GpuNode, at_work: Mapping[int, GpuStatus]) -> bool:
    """Whether a node takes no new work: told with what its GPUs do, by newer agents, else asked."""
    told = next(iter(at_work.values())).is_drained
    return await device.is_drained() if told is None else told


async def _started(told: _Told) -> None:
    """Wait until every switch has had its last phase accepted, or is over; what was not is refused."""
    orders, told.orders = told.orders, []
    for order in orders:
        await order.started.wait()
        if order.error is not None:
            told.refused |= dict.fromkeys(order.switch.slots, order.error)
