"""One facility behind this gateway: commands in, durable store, driver, settling. Transport is in `service.py`.

The order is the promise: check, store durably, hand to the driver, acknowledge. The owner of the facility is whoever
announced the highest epoch.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.site import DeviceSite, Evidence, Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import ReasonCode, RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.checks import COMMAND_ID_MAX, Accepted, check_announce, check_command, judge
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.drivers import period_of
from hcp_pipelines.edge.driving import Callbacks, SiteDriver
from hcp_pipelines.edge.durable_log import DurableLog
from hcp_pipelines.edge.messages import message_of, settled_message
from hcp_pipelines.edge.outbox import Outbox
from hcp_pipelines.edge.recovery import is_local, local_id, recover
from hcp_pipelines.edge.settling import Pending
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, encode_slots

STATE_NAMES_MAX = 1000
ENTRIES_AT_ONCE = 64
WATCH_OWNER_EACH_S = 0.5


@dataclass(eq=False)
class Session:
    """An owner's open stream."""

    owner: str
    epoch: int
    outbox: Outbox


class FacilityGateway:
    """State, log and driver of one facility."""

    def __init__(self, config: FacilityConfig, log: DurableLog, clock: SystemClock, power_period_ms: int) -> None:
        self._config, self._log, self._clock = config, log, clock
        self._period_ms = period_of(config, power_period_ms, clock.speed)
        self.shape = SiteShape.of(config)
        self._log_line = structlog.get_logger("edge").bind(facility_id=config.facility_id)
        self._tasks = Tasks()
        self._driver = SiteDriver(config, self.shape.slots, log.folder, self._period_ms, clock, self._tasks)
        self.power_kw = np.zeros(self.shape.slots, dtype=np.float32)
        self._is_power_known = self._is_adopting = False
        self._issues: set[tuple[str, str]] = set()  # ever seen: those that are gone are told as none
        self._announcing = asyncio.Lock()
        self._session: Session | None = None  # who is obeyed
        self._claim: Session | None = None  # who announced last; it is not obeyed before it knows what it missed
        self._heard_at_s = clock.now().timestamp()
        self._is_on_fallback = False
        known = recover(log.entries(), self.shape)
        self.states, self._epoch, self._owner, self._acks = known.states, known.epoch, known.owner, known.acks
        self._pending = [self._expect(key[0], key[1], *work) for key, work in known.unfinished.items()]

    @property
    def problem(self) -> str:
        """Why the facility is not well; empty when it is."""
        return self._driver.problem or self._tasks.defect

    def is_telling(self) -> bool:
        """Whether devices are being told a state: what may wait goes slowly meanwhile."""
        return self._driver.is_telling

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the driver connected and the fallback timer running until told to stop."""
        callbacks = Callbacks(self._take_baseline, self._drive_again, self._take_power, self._note_told)
        driving = self._tasks.spawn(self._driver.run(callbacks))
        watching = self._tasks.spawn(self._watch_owner())
        await stop.wait()
        for task in (driving, watching):
            task.cancel()

    async def close(self) -> None:
        """Let go of devices and log; nothing comes in any more."""
        await self._tasks.finish()
        await self._log.close()

    # -- owner's side -------------------------------------------------------------------------------------------------

    async def announce(self, message: pb.Announce, outbox: Outbox) -> Session | None:
        """Take a new owner, or refuse; the reply is sent, behind it what the owner has missed, and then "resumed"."""
        async with self._announcing:
            refusal = check_announce(message, self.shape, self._epoch, self._owner) or await self._store_claim(message)
        if refusal:
            metrics.REFUSED.labels(refusal).inc()
            reply = pb.AnnounceReply(accepted=False, refusal=refusal, highest_epoch=self._epoch)
            outbox.send(pb.GatewayMessage(announce_reply=reply))
            return None
        session = self._claim = Session(message.owner, message.epoch, outbox)
        self._hear()
        reply = pb.AnnounceReply(accepted=True, highest_epoch=self._epoch, state=self.state())
        outbox.send(pb.GatewayMessage(announce_reply=reply))
        told = await self._tell_missed(message.resume_after_seq, session)
        if self._claim is not session:
            return None
        self._session = session
        outbox.send(pb.GatewayMessage(local_event=pb.LocalEvent(kind="resumed", seq=told)))
        return session

    def leave(self, session: Session) -> None:
        """The stream has ended."""
        if self._session is session:
            self._session = None

    def hear(self, session: Session, heartbeat: pb.Heartbeat) -> None:
        """Note that the owner is there."""
        if self._session is session and heartbeat.epoch == self._epoch:
            self._hear()

    async def command(self, session: Session, command: pb.Command) -> pb.Ack:
        """Check, store, hand over, acknowledge.

        It goes on when the stream ends meanwhile: what is stored as accepted is carried out.
        """
        return await asyncio.shield(self._tasks.spawn(self._command(session, command)))

    def state(self) -> pb.FacilityState:
        """Present state: commanded, observed, unfinished commands."""
        is_seen = self._driver.is_ready and self._is_power_known
        observed = self.shape.observe(self.power_kw) if is_seen else np.full_like(self.states, UNKNOWN_STATE)
        is_there = (self.shape.group_of_slot >= 0) & np.isfinite(self.power_kw)
        there = np.flatnonzero(is_there).astype(np.uint32)
        return pb.FacilityState(
            facility_id=self.shape.facility_id,
            generation=self.shape.generation,
            states=self.states.tobytes(),
            observed=observed.tobytes(),
            power_kw=self.shape.meter_kw(self.power_kw),
            last_seq=self._log.last_seq,
            highest_epoch=self._epoch,
            unfinished_command_ids=sorted({p.command_id for p in self._pending})[:STATE_NAMES_MAX],
            reachable=encode_slots(there) if self._driver.is_ready else b"",
            simulated_at=self._clock.now().isoformat(),
        )

    def log_entries(self, after_seq: int, limit: int) -> Iterator[pb.LogEntry]:
        """Entries of the durable log."""
        return islice(self._log.entries(after_seq), limit)

    async def _store_claim(self, message: pb.Announce) -> str:
        """From here on nobody else is obeyed; the refusal when that can't be stored."""
        before = self._epoch, self._owner
        self._epoch, self._owner = message.epoch, message.owner
        if self._session is not None:
            self._session.outbox.close()
            self._session = None
        try:
            await self._log.append([(self._log.reserve(), "epoch", message.SerializeToString())])
        except StorageError as error:
            self._log_line.error("an announcement could not be stored", error=str(error))
            self._epoch, self._owner = before
            return RefusalCode.STORE_FAILED.value
        return ""

    async def _tell_missed(self, after_seq: int, session: Session) -> int:
        """Send what the log has above a number; the number up to which it was told."""
        if after_seq > self._log.last_seq:
            self._log_line.warning("the owner knows of entries that this log never had: telling all", seq=after_seq)
            after_seq = 0
        while after_seq < self._log.last_seq and self._claim is session and not session.outbox.is_closed:
            for n, entry in enumerate(self._log.entries(after_seq)):
                message = message_of(entry)
                if message is not None:
                    await session.outbox.put(message)
                after_seq = entry.seq
                if n % ENTRIES_AT_ONCE == ENTRIES_AT_ONCE - 1:
                    await asyncio.sleep(0)  # other facilities' commands are not to wait for a long replay
        return after_seq

    async def _command(self, session: Session, command: pb.Command) -> pb.Ack:
        refusal, detail = check_command(command, self.shape, self._epoch)
        if session is not self._session:
            refusal, detail = RefusalCode.OLD_EPOCH.value, f"another owner has announced epoch {self._epoch}"
        if refusal:
            return self._refuse(command, refusal, detail)
        known = self._acks.get(command.command_id)
        if known is not None:
            metrics.COMMANDS.labels("duplicate").inc()
            ack = pb.Ack.FromString(known)
            ack.duplicate = True
            return ack
        received_s = self._clock.monotonic_s()
        try:
            ack, accepted = judge(command, self.shape, is_ready=self._driver.is_ready)
            await self._store(command, ack)
        except ValueError as error:
            return self._refuse(command, RefusalCode.BAD_MESSAGE.value, str(error))
        except StorageError as error:
            return self._refuse(command, RefusalCode.STORE_FAILED.value, str(error))
        took_s = self._clock.monotonic_s() - received_s
        if command.deadline_ms and took_s * 1000 > command.deadline_ms:
            self._log_line.warning("stored after its deadline, carried out all the same", command_id=command.command_id)
        self._carry_out(command.command_id, accepted)
        metrics.COMMANDS.labels("accepted").inc()
        metrics.ACK_SECONDS.observe(self._clock.monotonic_s() - received_s)
        return ack

    def _refuse(self, command: pb.Command, refusal: str, detail: str) -> pb.Ack:
        metrics.COMMANDS.labels("refused").inc()
        metrics.REFUSED.labels(refusal).inc()
        return pb.Ack(command_id=command.command_id[:COMMAND_ID_MAX], refusal=refusal, detail=detail)

    # -- store and carry out ------------------------------------------------------------------------------------------

    async def _store(self, command: pb.Command, ack: pb.Ack) -> None:
        command_seq, ack.seq = self._log.reserve(), self._log.reserve()
        body = ack.SerializeToString()
        await self._log.append([(command_seq, "command", command.SerializeToString()), (ack.seq, "ack", body)])
        self._acks.remember(command.command_id, body)

    def _carry_out(self, command_id: str, accepted: Accepted) -> None:
        now_s = self._clock.now().timestamp()
        for index, state, slots in accepted:
            self.states[slots] = state
            pending = self._expect(command_id, index, state, slots)
            pending.begin(now_s)
            self._pending.append(pending)
            if self._driver.hand_over(command_id, index, state, slots):
                pending.hold()

    def _expect(self, command_id: str, index: int, state: int, slots: Slots) -> Pending:
        groups = self.shape.group_of_slot[slots]
        settle_s = float(self.shape.settle_s[groups, state].max(initial=0.0))
        # two real samples may lie between the order and its first effect, whatever the clock's speed
        slack_s = 2 * self._period_ms / 1000 * self._clock.speed
        return Pending(command_id, index, state, slots, self.shape.power_kw[groups, state], settle_s + slack_s)

    # -- power and settling -------------------------------------------------------------------------------------------

    def _take_power(self, reading: Reading) -> None:
        self.power_kw = (reading.values[: self.shape.slots] / 1000.0).astype(np.float32)
        self._is_power_known = True
        self._tell_metrics(reading)
        if not self._is_adopting and self._unknown_but_seen().any():
            self._is_adopting = True
            self._tasks.spawn(self._adopt_seen())
        decided = [p for p in self._pending if p.observe(self.power_kw, self.states, reading.simulated_at_s)]
        if decided:
            self._pending = [p for p in self._pending if p not in decided]
            self._tasks.spawn(self._report(decided, reading.simulated_at_s))

    def _tell_metrics(self, reading: Reading) -> None:
        metrics.POWER_WATTS.labels(self.shape.facility_id).set(float(np.nansum(self.power_kw)) * 1000)
        self._issues |= reading.issues.keys()
        for issue, severity in self._issues:
            count = reading.issues.get((issue, severity), 0)
            metrics.ISSUES.labels(self.shape.facility_id, issue, severity).set(count)
        if reading.evidence is not None:
            there = reading.evidence[: self.shape.slots][self.shape.group_of_slot >= 0]
            for evidence in Evidence:
                count = int((there == evidence).sum())
                metrics.EVIDENCE.labels(self.shape.facility_id, evidence.name.lower()).set(count)

    async def _report(self, decided: list[Pending], at_s: float) -> None:
        at = datetime.fromtimestamp(at_s, tz=UTC).isoformat()
        messages = [settled_message(p, self._log.reserve(), at) for p in decided]
        try:
            await self._log.append([(m.seq, "settled", m.SerializeToString()) for m in messages])
        except StorageError as error:
            self._log_line.error("settling could not be stored; tried again with the next sample", error=str(error))
            self._pending.extend(decided)
            return
        for pending, message in zip(decided, messages, strict=True):
            metrics.SETTLED.labels("failed").inc(len(pending.failed))
            metrics.SETTLED.labels("settled").inc(sum(len(part) for part in pending.settled))
            if self._session is not None and not is_local(message.command_id):
                self._session.outbox.send(pb.GatewayMessage(settled=message))

    # -- driver -------------------------------------------------------------------------------------------------------

    async def _take_baseline(self, site: DeviceSite) -> None:
        """First start: what the devices are doing is read from them, and logged."""
        self._is_power_known = False
        unknown = (self.states == UNKNOWN_STATE) & (self.shape.group_of_slot >= 0)
        if not unknown.any():
            return
        read = await site.read_states()
        states = np.where(unknown, read[: self.shape.slots], self.states)
        await self._adopt(states)

    async def _adopt(self, states: npt.NDArray[np.uint8]) -> None:
        """Log what the devices are doing, and believe it of those of which nothing is known."""
        baseline = pb.FacilityState(generation=self.shape.generation, layout=self.shape.layout, states=states.tobytes())
        await self._log.append([(self._log.reserve(), "baseline", baseline.SerializeToString())])
        still = self.states == UNKNOWN_STATE
        self.states[still] = states[still]

    def _unknown_but_seen(self) -> npt.NDArray[np.bool_]:
        is_unknown: npt.NDArray[np.bool_] = (self.states == UNKNOWN_STATE) & (self.shape.group_of_slot >= 0)
        return is_unknown & np.isfinite(self.power_kw)

    async def _adopt_seen(self) -> None:
        """Devices that could not be asked at first: what their power says is their state, and logged."""
        try:
            await self._adopt(np.where(self._unknown_but_seen(), self.shape.observe(self.power_kw), self.states))
        except StorageError as error:
            self._log_line.error("a baseline could not be stored; tried again", error=str(error))
        finally:
            self._is_adopting = False

    def _note_told(self, command_id: str, index: int) -> None:
        """Every device of an assignment has been told, or given up: now the last of them has its full time."""
        for pending in self._pending:
            if (pending.command_id, pending.index) == (command_id, index):
                pending.begin(self._clock.now().timestamp())

    def _drive_again(self) -> None:
        """The devices can be reached again: what had not settled is told once more, and has its full time once more."""
        now_s = self._clock.now().timestamp()
        for pending in self._pending:
            pending.begin(now_s)
            left = pending.waiting[self.states[pending.waiting] == pending.state]
            if self._driver.hand_over(pending.command_id, pending.index, pending.state, left):
                pending.hold()

    # -- cut off ------------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        self._heard_at_s, self._is_on_fallback = self._clock.now().timestamp(), False

    async def _watch_owner(self) -> None:
        while True:
            await asyncio.sleep(WATCH_OWNER_EACH_S)
            silent_s = self._clock.now().timestamp() - self._heard_at_s
            if silent_s <= self._config.fallback_after_s or self._is_on_fallback or not self._epoch:
                continue
            try:
                await self._take_fallback(silent_s)
                self._is_on_fallback = True
            except StorageError as error:
                self._log_line.error("the fallback plan could not be stored; tried again", error=str(error))

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
            self._carry_out(local_id(event.seq), [(0, int(state), slots)])
