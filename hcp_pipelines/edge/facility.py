"""One facility behind this gateway: commands in, durable store, driver, settling. Transport is in `service.py`.

The order is the promise: check, store durably, hand to the driver, acknowledge. The owner of the facility is whoever
announced the highest epoch.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import structlog

from hcp_pipelines.devices.bulk.codec import Reading
from hcp_pipelines.devices.bulk.device import BulkSite
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError, StorageError
from hcp_pipelines.domain.modes import STATE_COUNT, ReasonCode, RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.durable_log import DurableLog
from hcp_pipelines.edge.settling import Pending, joined
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, decode_slots, encode_slots

ACKS_KEPT = 20_000
RECONNECT_FIRST_S = 0.2
RECONNECT_LAST_S = 5.0
STATE_NAMES_MAX = 1000

Send = Callable[[pb.GatewayMessage], None]


@dataclass
class Session:
    """An owner's open stream; `send` queues a message for it."""

    owner: str
    epoch: int
    send: Send
    close: Callable[[], None]


class FacilityGateway:
    """State, log and driver of one facility."""

    def __init__(self, config: FacilityConfig, log: DurableLog, clock: SystemClock, power_period_ms: int) -> None:
        self._config = config
        self._log = log
        self._clock = clock
        self._period_ms = power_period_ms
        self.shape = SiteShape.of(config)
        self.states = np.full(self.shape.slots, UNKNOWN_STATE, dtype=np.uint8)
        self.power_kw = np.zeros(self.shape.slots, dtype=np.float32)
        self._acks: OrderedDict[str, bytes] = OrderedDict()
        self._pending: list[Pending] = []
        self._epoch = 0
        self._owner = ""
        self._session: Session | None = None
        self._site = BulkSite(config.driver.address, config.driver.site, self._take_power)
        self._sets: set[asyncio.Task[None]] = set()
        self._heard_at_s = clock.now().timestamp()
        self._is_on_fallback = False
        self.problem = "no connection to the site yet"
        self._log_line = structlog.get_logger("edge").bind(facility_id=config.facility_id)
        self._replay()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the driver connected and the fallback timer running until told to stop."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch_owner())
            driving = tasks.create_task(self._drive())
            await stop.wait()
            watching.cancel()
            driving.cancel()
        await self._site.close()
        self._log.close()

    # -- owner's side -------------------------------------------------------------------------------------------------

    async def announce(self, message: pb.Announce, send: Send, close: Callable[[], None]) -> Session | None:
        """Take a new owner, or refuse; the reply is sent, with what the owner has missed behind it."""
        refusal = self._check_announce(message)
        if refusal:
            metrics.REFUSED.labels(refusal).inc()
            reply = pb.AnnounceReply(accepted=False, refusal=refusal, highest_epoch=self._epoch)
            send(pb.GatewayMessage(announce_reply=reply))
            return None
        await self._log.append([(self._log.reserve(), "epoch", message.SerializeToString())])
        self._epoch, self._owner = message.epoch, message.owner
        if self._session is not None:
            self._session.close()
        self._session = Session(message.owner, message.epoch, send, close)
        self._hear()
        reply = pb.AnnounceReply(accepted=True, highest_epoch=self._epoch, state=self.state())
        send(pb.GatewayMessage(announce_reply=reply))
        self._resend(message.resume_after_seq, send)
        send(pb.GatewayMessage(local_event=pb.LocalEvent(kind="resumed", seq=self._log.last_seq)))
        return self._session

    def leave(self, session: Session) -> None:
        """The stream has ended."""
        if self._session is session:
            self._session = None

    def hear(self, session: Session, heartbeat: pb.Heartbeat) -> None:
        """Note that the owner is there."""
        if self._session is session and heartbeat.epoch == self._epoch:
            self._hear()

    async def command(self, session: Session, command: pb.Command) -> pb.Ack:
        """Check, store, hand over, acknowledge."""
        refusal, detail = self._check_command(session, command)
        if refusal:
            metrics.COMMANDS.labels("refused").inc()
            metrics.REFUSED.labels(refusal).inc()
            return pb.Ack(command_id=command.command_id, refusal=refusal, detail=detail)
        known = self._acks.get(command.command_id)
        if known is not None:
            metrics.COMMANDS.labels("duplicate").inc()
            ack = pb.Ack.FromString(known)
            ack.duplicate = True
            return ack
        received_s = self._clock.monotonic_s()
        ack, accepted = self._judge(command)
        deadline_s = received_s + command.deadline_ms / 1000 if command.deadline_ms else float("inf")
        try:
            await self._store(command, ack)
        except StorageError as error:
            metrics.COMMANDS.labels("refused").inc()
            return pb.Ack(command_id=command.command_id, refusal=RefusalCode.STORE_FAILED.value, detail=str(error))
        if self._clock.monotonic_s() > deadline_s:
            self._log_line.warning("stored after its deadline, carried out all the same", command_id=command.command_id)
        self._carry_out(command.command_id, accepted)
        metrics.COMMANDS.labels("accepted").inc()
        metrics.ACK_SECONDS.observe(self._clock.monotonic_s() - received_s)
        return ack

    def state(self) -> pb.FacilityState:
        """Present state: commanded, observed, unfinished commands."""
        return pb.FacilityState(
            facility_id=self.shape.facility_id,
            generation=self.shape.generation,
            states=self.states.tobytes(),
            observed=self.shape.observe(self.power_kw).tobytes(),
            power_kw=float(self.power_kw.sum()),
            last_seq=self._log.last_seq,
            highest_epoch=self._epoch,
            unfinished_command_ids=sorted({p.command_id for p in self._pending})[:STATE_NAMES_MAX],
            reachable=encode_slots(np.flatnonzero(self.shape.group_of_slot >= 0).astype(np.uint32)),
            simulated_at=self._clock.now().isoformat(),
        )

    def log_entries(self, after_seq: int, limit: int) -> list[pb.LogEntry]:
        """Entries of the durable log."""
        found = []
        for entry in self._log.entries(after_seq):
            found.append(entry)
            if len(found) >= limit:
                break
        return found

    # -- checks -------------------------------------------------------------------------------------------------------

    def _check_announce(self, message: pb.Announce) -> str:
        if message.epoch > message.lease_epoch:
            return RefusalCode.EPOCH_TOO_HIGH.value
        if message.epoch < self._epoch or (message.epoch == self._epoch and self._owner not in ("", message.owner)):
            return RefusalCode.OLD_EPOCH.value
        if message.generation != self.shape.generation:
            return RefusalCode.WRONG_GENERATION.value
        return ""

    def _check_command(self, session: Session, command: pb.Command) -> tuple[str, str]:
        if session is not self._session or command.epoch < self._epoch:
            return RefusalCode.OLD_EPOCH.value, f"epoch {command.epoch}, in force is {self._epoch}"
        if command.epoch > self._epoch:
            return RefusalCode.EPOCH_TOO_HIGH.value, f"epoch {command.epoch}, announced was {self._epoch}"
        if command.generation != self.shape.generation:
            return (
                RefusalCode.WRONG_GENERATION.value,
                f"generation {command.generation}, here is {self.shape.generation}",
            )
        try:
            UUID(command.command_id)
        except ValueError:
            return RefusalCode.BAD_MESSAGE.value, f"command_id {command.command_id[:40]!r} is no uuid"
        if not command.assignments or any(a.state >= STATE_COUNT for a in command.assignments):
            return RefusalCode.BAD_MESSAGE.value, "no assignment, or a state that does not exist"
        return "", ""

    def _judge(self, command: pb.Command) -> tuple[pb.Ack, list[tuple[int, int, Slots]]]:
        """The ack, and what is to be done: (assignment, state, accepted slots)."""
        ack = pb.Ack(command_id=command.command_id, seq=0)
        accepted: list[tuple[int, int, Slots]] = []
        for assignment in command.assignments:
            out = ack.assignments.add(index=assignment.index)
            try:
                slots = decode_slots(assignment.slots, self.shape.slots)
            except ValueError as error:
                out.refused.add(code=RefusalCode.UNKNOWN_SLOT.value, slots=assignment.slots)
                ack.detail = str(error)
                continue
            groups = self.shape.group_of_slot[slots]
            is_there = groups >= 0
            can = is_there & self.shape.has_state[groups, assignment.state]
            for code, mask in (
                (RefusalCode.UNKNOWN_SLOT, ~is_there),
                (RefusalCode.STATE_NOT_SUPPORTED, is_there & ~can),
            ):
                if mask.any():
                    out.refused.add(code=code.value, slots=encode_slots(slots[mask]))
            good = slots if can.all() else slots[can]
            if not self._site.is_connected:
                out.deferred = encode_slots(good)
                continue
            out.accepted = assignment.slots if can.all() else encode_slots(good)
            accepted.append((assignment.index, assignment.state, good))
        return ack, accepted

    # -- store and carry out ------------------------------------------------------------------------------------------

    async def _store(self, command: pb.Command, ack: pb.Ack) -> None:
        command_seq, ack.seq = self._log.reserve(), self._log.reserve()
        body = ack.SerializeToString()
        await self._log.append([(command_seq, "command", command.SerializeToString()), (ack.seq, "ack", body)])
        self._remember(command.command_id, body)

    def _remember(self, command_id: str, ack: bytes) -> None:
        self._acks[command_id] = ack
        while len(self._acks) > ACKS_KEPT:
            self._acks.popitem(last=False)

    def _carry_out(self, command_id: str, accepted: list[tuple[int, int, Slots]]) -> None:
        now_s = self._clock.now().timestamp()
        for index, state, slots in accepted:
            self.states[slots] = state
            self._pending.append(self._expect(command_id, index, state, slots, now_s))
            self._hand_over(command_id, index, state, slots)

    def _expect(self, command_id: str, index: int, state: int, slots: Slots, now_s: float) -> Pending:
        groups = self.shape.group_of_slot[slots]
        settle_s = float(self.shape.settle_s[groups, state].max(initial=0.0))
        # two real samples may lie between the order and its first effect, whatever the clock's speed
        slack_s = 2 * self._period_ms / 1000 * self._clock.speed
        return Pending(command_id, index, state, slots, self.shape.power_kw[groups, state], now_s + settle_s + slack_s)

    def _hand_over(self, command_id: str, index: int, state: int, slots: Slots) -> None:
        if not self._site.is_connected or len(slots) == 0:
            return  # driven again when the connection is back
        with contextlib.suppress(DeviceUnreachableError):
            sent = self._site.send_state(UUID(command_id), index, state, encode_slots(slots))
            task = asyncio.create_task(self._finish(command_id, index, sent))
            self._sets.add(task)
            task.add_done_callback(self._sets.discard)

    async def _finish(self, command_id: str, index: int, sent: "asyncio.Future[tuple[int, bytes]]") -> None:
        try:
            _, refused = await self._site.finish_state(sent)
        except (DeviceUnreachableError, DeviceReplyError) as error:
            self._log_line.warning("the site did not confirm a SET", command_id=command_id, error=str(error))
            return
        if len(refused):
            self._log_line.warning(
                "the site refused devices", command_id=command_id, assignment=index, devices=len(refused)
            )

    # -- power and settling -------------------------------------------------------------------------------------------

    def _take_power(self, reading: Reading) -> None:
        self.power_kw = (reading.values[: self.shape.slots] / 1000.0).astype(np.float32)
        metrics.POWER_WATTS.labels(self.shape.facility_id).set(float(self.power_kw.sum()) * 1000)
        decided = [p for p in self._pending if p.observe(self.power_kw, self.states, reading.simulated_at_s)]
        if not decided:
            return
        self._pending = [p for p in self._pending if p not in decided]
        task = asyncio.create_task(self._report(decided, reading.simulated_at_s))
        self._sets.add(task)
        task.add_done_callback(self._sets.discard)

    async def _report(self, decided: list[Pending], at_s: float) -> None:
        at = datetime.fromtimestamp(at_s, tz=UTC).isoformat()
        messages = []
        for pending in decided:
            message = pb.Settled(
                command_id=pending.command_id,
                seq=self._log.reserve(),
                index=pending.index,
                settled=encode_slots(joined(pending.settled)),
                failed=encode_slots(pending.failed),
                superseded=encode_slots(joined(pending.superseded)),
                simulated_at=at,
            )
            metrics.SETTLED.labels("failed").inc(len(pending.failed))
            metrics.SETTLED.labels("settled").inc(sum(len(part) for part in pending.settled))
            messages.append(message)
        try:
            await self._log.append([(m.seq, "settled", m.SerializeToString()) for m in messages])
        except StorageError as error:
            self._log_line.error("settling could not be stored", error=str(error))
        if self._session is not None:
            for message in messages:
                self._session.send(pb.GatewayMessage(settled=message))

    # -- driver -------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        backoff_s = RECONNECT_FIRST_S
        while True:
            try:
                await self._connect()
                self.problem, backoff_s = "", RECONNECT_FIRST_S
                await self._site.closed()
                self.problem = "the site closed the connection"
            except (DeviceUnreachableError, DeviceReplyError) as error:
                self.problem = str(error)
            self._log_line.warning("no connection to the site", error=self.problem)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, RECONNECT_LAST_S)

    async def _connect(self) -> None:
        await self._site.connect(self._period_ms)
        if self._site.devices < self.shape.slots:
            raise DeviceReplyError(f"the site has {self._site.devices} slots, the inventory {self.shape.slots}")
        if (self.states[self.shape.group_of_slot >= 0] == UNKNOWN_STATE).any():
            await self._take_baseline()
        for pending in self._pending:
            left = pending.waiting[self.states[pending.waiting] == pending.state]
            self._hand_over(pending.command_id, pending.index, pending.state, left)

    async def _take_baseline(self) -> None:
        """First start: what the devices are doing is read from them, and logged."""
        read = await self._site.read_states()
        unknown = (self.states == UNKNOWN_STATE) & (self.shape.group_of_slot >= 0)
        self.states[unknown] = read[: self.shape.slots][unknown]
        body = pb.FacilityState(generation=self.shape.generation, states=self.states.tobytes()).SerializeToString()
        await self._log.append([(self._log.reserve(), "baseline", body)])

    # -- cut off ------------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        self._heard_at_s, self._is_on_fallback = self._clock.now().timestamp(), False

    async def _watch_owner(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            silent_s = self._clock.now().timestamp() - self._heard_at_s
            if silent_s > self._config.fallback_after_s and not self._is_on_fallback and self._epoch:
                self._is_on_fallback = True
                await self._take_fallback(silent_s)

    async def _take_fallback(self, silent_s: float) -> None:
        """Cut off for too long: the static plan of the facility file, which needs no price."""
        self._log_line.warning("no owner: taking the fallback plan", silent_simulated_s=round(silent_s))
        for group_id, state in self._config.fallback.items():
            group = self.shape.group_ids.index(group_id)
            mine = (self.shape.group_of_slot == group) & (self.states != int(state))
            slots = np.flatnonzero(mine).astype(np.uint32)
            if len(slots) == 0:
                continue
            event = pb.LocalEvent(
                seq=self._log.reserve(),
                kind="fallback",
                state=int(state),
                slots=encode_slots(slots),
                reason=ReasonCode.FALLBACK_PLAN.value,
                simulated_at=self._clock.now().isoformat(),
            )
            await self._log.append([(event.seq, "local", event.SerializeToString())])
            self.states[slots] = int(state)
            local_id = str(UUID(int=event.seq))
            self._hand_over(local_id, 0, int(state), slots)

    # -- restart ------------------------------------------------------------------------------------------------------

    def _resend(self, after_seq: int, send: Send) -> None:
        for entry in self._log.entries(after_seq):
            if entry.kind == "ack":
                send(pb.GatewayMessage(ack=pb.Ack.FromString(entry.payload)))
            elif entry.kind == "settled":
                send(pb.GatewayMessage(settled=pb.Settled.FromString(entry.payload)))
            elif entry.kind == "local":
                send(pb.GatewayMessage(local_event=pb.LocalEvent.FromString(entry.payload)))

    def _replay(self) -> None:
        """Rebuild epoch, states, acks and what is unfinished from the log."""
        commands: dict[str, pb.Command] = {}
        open_ones: OrderedDict[tuple[str, int], tuple[int, Slots]] = OrderedDict()
        for entry in self._log.entries():
            match entry.kind:
                case "epoch":
                    announce = pb.Announce.FromString(entry.payload)
                    self._epoch, self._owner = announce.epoch, announce.owner
                case "baseline":
                    self._replay_baseline(pb.FacilityState.FromString(entry.payload))
                case "command":
                    command = pb.Command.FromString(entry.payload)
                    commands[command.command_id] = command
                case "ack":
                    ack = pb.Ack.FromString(entry.payload)
                    self._remember(ack.command_id, entry.payload)
                    self._replay_ack(commands.pop(ack.command_id), ack, open_ones)
                case "settled":
                    settled = pb.Settled.FromString(entry.payload)
                    open_ones.pop((settled.command_id, settled.index), None)
                case "local":
                    event = pb.LocalEvent.FromString(entry.payload)
                    self.states[decode_slots(event.slots, self.shape.slots)] = event.state
        now_s = self._clock.now().timestamp()
        self._pending = [self._expect(key[0], key[1], *work, now_s) for key, work in open_ones.items()]

    def _replay_baseline(self, baseline: pb.FacilityState) -> None:
        states = np.frombuffer(baseline.states, dtype=np.uint8)
        known = min(len(states), self.shape.slots)
        self.states[:known] = states[:known]

    def _replay_ack(
        self, command: pb.Command, ack: pb.Ack, open_ones: "OrderedDict[tuple[str, int], tuple[int, Slots]]"
    ) -> None:
        if command.generation != self.shape.generation:
            return
        for assignment, answer in zip(command.assignments, ack.assignments, strict=True):
            slots = decode_slots(answer.accepted, self.shape.slots)
            self.states[slots] = assignment.state
            if len(slots):
                open_ones[(command.command_id, assignment.index)] = (assignment.state, slots)
