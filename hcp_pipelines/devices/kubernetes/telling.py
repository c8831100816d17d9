"""Telling slots of a cluster their states: what may pass is asked again behind the reply, and never what is no longer wanted.

How one slot is brought from what runs to what is wanted is in `switching`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from hcp_pipelines.devices.again import Tasks, passing, tell_again
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.kubernetes import metrics
from hcp_pipelines.devices.kubernetes.codec import KubeNode
from hcp_pipelines.devices.kubernetes.mirror import Mirror
from hcp_pipelines.devices.kubernetes.places import Place
from hcp_pipelines.devices.kubernetes.switching import SlotOrder, SlotSwitcher
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.devices.work import kind_of, one_devices
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceUnreachableError,
    HcpError,
    NotNowError,
)
from hcp_pipelines.domain.modes import RESTING, DeviceState
from hcp_pipelines.wire.slots import Slots

EXAMPLES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Told:
    """A command; `ticket`: its number, by which a newer one is told."""

    ref: str
    assignment: int
    state: DeviceState
    work: WorkloadSpec | None
    spec: WorkloadSpec
    ticket: int


class Teller:
    """The commands under way of one site; `close` ends them."""

    def __init__(
        self,
        places: Sequence[Place],
        nodes: Mirror[KubeNode],
        switcher: SlotSwitcher,
        within_s: float,
        clock: Clock,
        book: SwitchBook,
    ) -> None:
        """`within_s`: simulated seconds in which what may pass is asked again."""
        self._place_of = {slot: place for place in places for slot in place.slots}
        self._nodes, self._switcher, self._within_s = nodes, switcher, within_s
        self._clock, self._book = clock, book
        self._locks: dict[int, asyncio.Lock] = {}
        self._tasks = Tasks()
        self._tickets: dict[int, int] = {}
        self._last_ticket = 0
        self._log = structlog.get_logger("devices.kubernetes")

    def tell(
        self,
        ref: str,
        assignment: int,
        state: DeviceState,
        wanted: Slots,
        work: WorkloadSpec | None,
        spec: WorkloadSpec,
    ) -> asyncio.Task[tuple[Slots, Slots]]:
        """Begin; the task gives (accepted, refused) once every slot was told, or could not be."""
        self._last_ticket += 1
        self._tickets.update(dict.fromkeys(wanted.tolist(), self._last_ticket))
        return self._tasks.begin(self._tell_all(_Told(ref, assignment, state, work, spec, self._last_ticket), wanted))

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()

    async def _tell_all(self, told: _Told, wanted: Slots) -> tuple[Slots, Slots]:
        refused = await self._tell_each(told, wanted)
        if later := passing(refused):
            self._book.note_telling(told.ref, told.assignment, later)
            self._tasks.begin(self._tell_later(told, later))
        is_refused = np.isin(wanted, np.array(sorted(refused), dtype=np.uint32))
        return wanted[~is_refused], wanted[is_refused]

    async def _tell_later(self, told: _Told, left: Mapping[int, HcpError]) -> None:
        """Behind the reply: what may pass is asked again as long as a start may take, or until it is judged."""
        until_s = self._clock.now().timestamp() + self._within_s
        refused = left

        async def tell_those_left() -> Mapping[int, HcpError]:
            nonlocal refused
            if self._book.is_ended(told.ref, told.assignment):
                return {}
            refused = await self._tell_each(told, np.array(sorted(passing(refused)), dtype=np.uint32))
            self._book.note_telling(told.ref, told.assignment, passing(refused))
            return refused

        try:
            await tell_again(tell_those_left, lambda: self._clock.now().timestamp() > until_s)
            if not self._book.is_ended(told.ref, told.assignment):
                self._book.give_up(told.ref, told.assignment, refused)
        finally:
            self._book.note_telling(told.ref, told.assignment, {})

    async def _tell_each(self, told: _Told, wanted: Slots) -> dict[int, HcpError]:
        """Tell each slot that nobody wants something else of since; why those were not told that were not."""
        refused = dict[int, HcpError]()

        async def tell(slot: int) -> None:
            def newest() -> bool:
                return self._tickets.get(slot) == told.ticket

            try:
                if not newest():
                    return
                node = self._node_of(slot, told.state)
                order = SlotOrder(told.ref, told.assignment, slot, node, told.state, told.work, told.spec, newest)
                async with self.lock(slot):
                    if newest() and not self._book.is_ended(told.ref, told.assignment):
                        await one_devices(self._tell(order), f"slot {slot}")
                metrics.CALLS.labels("command", "ok").inc()
            except HcpError as error:
                metrics.CALLS.labels("command", kind_of(error)).inc()
                refused[slot] = error

        await asyncio.gather(*(tell(slot) for slot in wanted.tolist()))  # a pod that takes its time holds up no other
        if refused:
            examples = [f"{slot}: {error}" for slot, error in list(refused.items())[:EXAMPLES_SHOWN]]
            self._log.warning("GPUs were not told", command=told.ref, slots=len(refused), examples=examples)
        return refused

    async def _tell(self, order: SlotOrder) -> None:
        switch = await self._switcher.tell(order)
        if switch is not None and switch.outcome is None:
            self._tasks.begin(self._switcher.watch(order, switch))
        elif switch is None and order.state not in RESTING:
            self._tasks.begin(self._switcher.watch_fresh(order))

    def _node_of(self, slot: int, state: DeviceState) -> str:
        """The node's name.

        Raises:
            DeviceRefusedError: no such slot or state, or the node takes no new work.
            DeviceUnreachableError: the cluster has no such node now.
        """
        place = self._place_of.get(slot)
        if place is None or not place.group.has(state):
            raise DeviceRefusedError(f"slot {slot}: no GPU, or not with state {state.label}")
        node = self.by_address().get(place.address)
        if node is None or (not node.is_ready and state not in RESTING):
            raise DeviceUnreachableError(f"slot {slot}: no node with the address {place.address} is ready")
        if node.is_cordoned and state not in RESTING:
            raise NotNowError(f"slot {slot}: node {node.name} is cordoned: it takes no new work")
        return node.name

    def by_address(self) -> dict[str, KubeNode]:
        """The cluster's nodes."""
        return {address: node for node in self._nodes.objects.values() for address in node.addresses}

    def lock(self, slot: int) -> asyncio.Lock:
        """Held by who tells a slot something."""
        return self._locks.setdefault(slot, asyncio.Lock())
