"""What a gateway does by itself: stored as a local event, carried out, and told to the owner, who books and journals it."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.checks import Taken
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.recovery import local_id
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import EMPTY, Slots, encode_slots

STORE_AGAIN_S = 1.0

Move = tuple[int, Slots]  # a state, and the slots that go there
Entry = tuple[str, bytes]  # kind and payload


class LocalActions:
    """Local events of one facility. Who calls holds the facility's turn."""

    def __init__(self, devices: Devices, log: FacilityLog, clock: SystemClock) -> None:
        self._devices, self._log, self._clock = devices, log, clock
        self.tell: Callable[[pb.GatewayMessage], None] = devices.tell

    async def act(
        self,
        kind: str,
        reason: ReasonCode,
        moves: Sequence[Move],
        word: pb.LocalEvent | None = None,
        entry: Entry | None = None,
    ) -> list[pb.LocalEvent]:
        """Store, carry out, tell. `word` has whose word it is (actor, order_id, detail); `entry` is stored in the same write.

        Raises:
            StorageError: nothing was stored, and nothing is done.
        """
        stored: list[tuple[int, str, bytes]] = []
        if entry is not None:
            stored.append((self._log.reserve(), *entry))
        events = [self._event(kind, reason, state, slots, word) for state, slots in moves]
        stored += [(event.seq, "local", event.SerializeToString()) for event in events]
        await self._log.append(stored)
        self._carry_out(kind, events, moves)
        done_at = self._clock.now().isoformat()  # a slow disk may have taken its time
        for event in events:
            event.simulated_at = done_at
            self.tell(pb.GatewayMessage(local_event=event))
        return events

    async def act_at_once(self, kind: str, reason: ReasonCode, moves: Sequence[Move], word: pb.LocalEvent) -> None:
        """Carry out, then store and tell: for safety, which waits neither for a turn nor for the disk."""
        events = [self._event(kind, reason, state, slots, word) for state, slots in moves]
        self._carry_out(kind, events, moves)
        with self._devices.storing():
            await self._store(events)
        for event in events:
            self.tell(pb.GatewayMessage(local_event=event))

    async def _store(self, events: Sequence[pb.LocalEvent]) -> None:
        """Again and again, until the disk takes it: what was done has to be known.

        Each time behind what was stored meanwhile. The first number stays in what is stored: under it the devices were told.
        """
        payloads = [event.SerializeToString() for event in events]
        while True:
            try:
                await self._log.append([(e.seq, "local", p) for e, p in zip(events, payloads, strict=True)])
                return
            except StorageError as error:
                structlog.get_logger("edge").error("a local event could not be stored; tried again", error=str(error))
                await asyncio.sleep(STORE_AGAIN_S)
            for event in events:
                event.seq = self._log.reserve()

    def _carry_out(self, kind: str, events: Sequence[pb.LocalEvent], moves: Sequence[Move]) -> None:
        for event, (state, slots) in zip(events, moves, strict=True):
            if len(slots):
                self._devices.carry_out(local_id(event.seq), [Taken(0, state, slots, event.slots)])
            metrics.LOCAL.labels(kind).inc()

    def to_lowest(self, slots: Slots) -> list[Move]:
        """Moves of all of some slots to the lowest state of their groups, whether they are there or not."""
        lowest = self._devices.shape.lowest[self._devices.shape.group_of_slot[slots]]
        return [(int(state), slots[lowest == state]) for state in np.unique(lowest).tolist()]

    def down(self, slots: Slots) -> list[Move]:
        """Moves of slots to the lowest state of their groups; of those that are there already, none."""
        lowest = self._devices.shape.lowest[self._devices.shape.group_of_slot[slots]]
        return self.to_lowest(slots[self._devices.states[slots] != lowest])

    def nothing(self) -> list[Move]:
        """A move of no device: an event that is said all the same."""
        return [(int(self._devices.shape.lowest[0]), EMPTY)]

    def _event(
        self, kind: str, reason: ReasonCode, state: int, slots: Slots, word: pb.LocalEvent | None
    ) -> pb.LocalEvent:
        shape = self._devices.shape
        event = pb.LocalEvent()
        if word is not None:
            event.CopyFrom(word)
        event.seq, event.kind, event.state, event.reason = self._log.reserve(), kind, state, reason.value
        event.slots, event.simulated_at = encode_slots(slots), self._clock.now().isoformat()
        before = shape.expected_kw(slots, self._devices.states[slots])
        event.mw_delta = (shape.expected_kw(slots, state) - before) / 1000
        return event
