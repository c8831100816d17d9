"""One facility behind this gateway: what owners and operators say, checked, stored, carried out. Transport is in `service.py`.

The order is the promise: check, store durably, hand to the driver, acknowledge. Whose word counts is in `owners.py`, what devices
do in `devices.py`, what is done without anybody's word in `cutoff.py` and `safety.py`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.checks import COMMAND_ID_MAX, check_command, judge
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.cutoff import CutOff
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.drivers import MakeDevices, make_site, period_of
from hcp_pipelines.edge.driving import SiteDriver
from hcp_pipelines.edge.floors import Floors
from hcp_pipelines.edge.local import STORE_AGAIN_S, LocalActions
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.outbox import Outbox
from hcp_pipelines.edge.owners import Owners, Session
from hcp_pipelines.edge.plant import Plant
from hcp_pipelines.edge.policies import Policies
from hcp_pipelines.edge.ramp_book import RampBook, book_of
from hcp_pipelines.edge.recovery import expired_in, recover
from hcp_pipelines.edge.safety import Safety
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.standing import Standing
from hcp_pipelines.edge.switches import LoggedSwitches, switch_message
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.runtime.endless import endless
from hcp_pipelines.runtime.spans import tell_span
from hcp_pipelines.wire import edge_v1_pb2 as pb

ACKS_IN_SNAPSHOT = 2_000


class FacilityGateway:
    """State, log and driver of one facility."""

    def __init__(
        self,
        config: FacilityConfig,
        log: FacilityLog,
        clock: SystemClock,
        power_period_ms: int,
        make: MakeDevices | None = None,
    ) -> None:
        """`make`: makes the devices; None: as the configuration says."""
        self._config, self._log, self._clock = config, log, clock
        self.shape = SiteShape.of(config)
        self._log_line = structlog.get_logger("edge").bind(facility_id=config.facility_id)
        self._tasks = Tasks()
        after_seq = max(log.base_seq - 1, 0)
        expired, book = expired_in(log.entries(after_seq)), RampBook(config, self.shape)
        known = recover(log.entries(after_seq), self.shape, expired, book_of(book, clock))
        period_ms = period_of(config, power_period_ms, clock.speed)
        self.switches = known.switches = LoggedSwitches(log, clock, known.switches)
        make = make or partial(make_site, switches=self.switches)
        driver = SiteDriver(config, self.shape.slots, log.folder, period_ms, clock, self._tasks, make)
        self.devices = Devices(driver, self.shape, book, log, clock, period_ms, self._tasks, known)
        self.owners = Owners(self.shape, log, known, expired)
        self.devices.tell = self.switches.tell = self.owners.tell
        self._local = LocalActions(self.devices, log, clock)
        self._acks = known.acks
        self.plant = Plant(config.plant, lambda: self.devices.site, clock)
        self._standing = Standing(self.devices, self._local, log, known, self.plant)
        self._policies = Policies(config, log, clock, known)
        self._floors = Floors(self.devices, log, known.floors)
        self._cutoff = CutOff(config, self.devices, self._local, self.owners, self._policies, self._floors, clock)
        Safety(config, self.devices, self._local, self.plant, self._cutoff, clock, self._tasks)

    @property
    def states(self) -> npt.NDArray[np.uint8]:
        """[n] the state each device was last told."""
        return self.devices.states

    @property
    def problem(self) -> str:
        """Why the facility is not well; empty when it is."""
        return self.devices.problem or self._tasks.defect or self._log.damage

    def is_telling(self) -> bool:
        """Whether devices are being told a state: what may wait goes slowly meanwhile."""
        return self.devices.is_telling

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the driver connected and the watches going until told to stop."""
        jobs = (self.devices.run, self._cutoff.watch, self.plant.watch)
        running = [self._tasks.spawn(endless(job())) for job in jobs]
        running.append(self._tasks.spawn(self._cutoff.prices.watch()))
        await stop.wait()
        for task in running:
            task.cancel()

    async def close(self) -> None:
        """Let go of devices and log; nothing comes in any more."""
        await self._tasks.finish()
        await self._log.close()

    # -- owner's side -------------------------------------------------------------------------------------------------

    async def announce(self, message: pb.Announce, outbox: Outbox) -> Session | None:
        """Take a new owner, or refuse; the reply is sent, behind it what the owner has missed, and then "resumed"."""
        session = await self.owners.claim(message, outbox)
        if session is None:
            return None
        self._cutoff.hear()
        reply = pb.AnnounceReply(accepted=True, highest_epoch=self.owners.epoch, state=self.state())
        outbox.send(pb.GatewayMessage(announce_reply=reply))
        return session if await self.owners.install(session, message.resume_after_seq) else None

    def leave(self, session: Session) -> None:
        """The stream has ended."""
        self.owners.leave(session)

    def hear(self, session: Session, heartbeat: pb.Heartbeat) -> None:
        """Note that the owner is there, and what it says of price and journal."""
        if self.owners.obeys(session) and heartbeat.epoch == self.owners.epoch:
            self.owners.note_journalled(heartbeat.journalled_seq)
            self._cutoff.hear(heartbeat)
            if heartbeat.HasField("floors") and self._floors.hear(heartbeat.floors):
                self._tasks.spawn(self._floors.store())

    async def command(self, session: Session, command: pb.Command) -> pb.Ack:
        """Check, store, hand over, acknowledge: the ack is sent, and returned.

        It goes on when the stream ends meanwhile: what is stored as accepted is carried out.
        """
        return await asyncio.shield(self._tasks.spawn(self._command(session, command, self._clock.monotonic_s())))

    async def set_locks(self, session: Session, locks: pb.SetLocks) -> None:
        """Lock out devices, all that are to be; the reply is sent."""
        refusal = self.owners.refusal_of(session, locks.facility_id, locks.epoch)
        held = await asyncio.shield(self._tasks.spawn(self._standing.lock(locks, refusal)))
        session.outbox.send(pb.GatewayMessage(locks_held=held))

    async def set_policy(self, session: Session, policy: pb.SetPolicy) -> None:
        """Take the policy in force, for when the gateway is cut off, or refuse; the reply is sent."""
        refusal = self.owners.refusal_of(session, policy.facility_id, policy.epoch)
        judged = await asyncio.shield(self._tasks.spawn(self._policies.judge(policy, refusal)))
        session.outbox.send(pb.GatewayMessage(policy_judged=judged))

    async def direct(self, order: pb.DirectOrder) -> pb.DirectReply:
        """Carry out the order of an operator whom the caller has checked."""
        return await asyncio.shield(self._tasks.spawn(self._standing.direct(order)))

    def state(self) -> pb.FacilityState:
        """Present state: commanded, observed, unfinished commands, locks and holds."""
        state = pb.FacilityState(
            facility_id=self.shape.facility_id,
            generation=self.shape.generation,
            last_seq=self._log.last_seq,
            highest_epoch=self.owners.epoch,
            simulated_at=self._clock.now().isoformat(),
            layout=self.shape.layout,
        )
        self.devices.fill(state)
        state.tells_saved = self.shape.tells_saved
        if self.plant.newest is not None:
            state.power_kw, state.is_metered = self.plant.newest.meter_kw, True
            state.metered_at_s = self.plant.asked_at_s
        self._standing.fill(state)
        state.policy_id = self._policies.policy_id
        return state

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[bool]:
        """Nobody announces and nothing changes meanwhile; whether nothing is under way to the log either."""
        async with self.owners.announcing, self.devices.turn:
            yield not (self.devices.is_storing or self.switches.is_storing)

    def snapshot(self) -> pb.Snapshot:
        """All that a restart has to know; nothing may be under way to the log."""
        snapshot = pb.Snapshot(
            state=self.state(),
            owner=self.owners.owner,
            acks=[pb.Ack.FromString(ack) for ack in self._acks.newest(ACKS_IN_SNAPSHOT)],
            unfinished=self.devices.unfinished(),
            orders=self._standing.orders,
            policy=self._policies.stored,
            floors=self._floors.told,
            switches=[switch_message(switch) for switch in self.switches],
        )
        for field in ("observed", "reachable", "unfinished_command_ids", "warm", "issues", "metered_at_s"):
            snapshot.state.ClearField(field)
        return snapshot

    def log_entries(self, after_seq: int, limit: int) -> Iterator[pb.LogEntry]:
        """Entries of the durable log."""
        return islice(self._log.entries(after_seq), limit)

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _command(self, session: Session, command: pb.Command, received_s: float) -> pb.Ack:
        async with self.devices.turn:
            ack = await self._judged(session, command, received_s)
            # in the order of the log: an owner resumes after the last it saw
            session.outbox.send(pb.GatewayMessage(ack=ack))
        return ack

    async def _judged(self, session: Session, command: pb.Command, received_s: float) -> pb.Ack:
        refusal, detail = check_command(command, self.shape, self.owners.epoch)
        if not self.owners.obeys(session):
            refusal, detail = RefusalCode.OLD_EPOCH.value, f"another owner has announced epoch {self.owners.epoch}"
        if refusal:
            return self._refuse(command, refusal, detail)
        known = self._acks.get(command.command_id)
        if known is not None:
            metrics.COMMANDS.labels("duplicate").inc()
            ack = pb.Ack.FromString(known)
            ack.duplicate = True
            return ack
        if not self.owners.is_of(session, command):
            detail = f"it was made for session {command.session}, this is {session.number}"
            return self._refuse(command, RefusalCode.REPLAYED.value, detail)
        return await self._stored(command, received_s)

    async def _stored(self, command: pb.Command, received_s: float) -> pb.Ack:
        devices = self.devices
        is_ready = devices.is_ready and devices.has_room
        try:
            ack, accepted = judge(command, self.shape, is_ready=is_ready, bars=devices.bars, states=devices.states)
            await self._store(command, ack)
        except ValueError as error:
            return self._refuse(command, RefusalCode.BAD_MESSAGE.value, str(error))
        except StorageError as error:
            refused = self._refuse(command, RefusalCode.STORE_FAILED.value, str(error))
            self._acks.remember(command.command_id, refused.SerializeToString())  # for its owner it is over
            return refused
        if self._is_late(command, received_s):
            return await self._expire(ack)
        self._count_refused(ack)
        devices.carry_out(command.command_id, accepted)
        metrics.COMMANDS.labels("accepted" if is_ready else "deferred").inc()
        took_s = self._clock.monotonic_s() - received_s
        metrics.ACK_SECONDS.observe(took_s)
        tell_span(
            "gateway", command.tick_id, took_s, key=f"gateway/{command.command_id}", under=command.command_id,
            facility_id=command.facility_id,
        )  # fmt: skip
        return ack

    async def _store(self, command: pb.Command, ack: pb.Ack) -> None:
        command_seq, ack.seq = self._log.reserve(), self._log.reserve()
        body = ack.SerializeToString()
        await self._log.append([(command_seq, "command", command.SerializeToString()), (ack.seq, "ack", body)])
        self._acks.remember(command.command_id, body)

    def _is_late(self, command: pb.Command, received_s: float) -> bool:
        took_ms = (self._clock.monotonic_s() - received_s) * 1000
        return bool(command.deadline_ms) and took_ms > command.deadline_ms

    async def _expire(self, ack: pb.Ack) -> pb.Ack:
        """Stored too late: it is not carried out, and the log says so as soon as the disk takes it."""
        late = pb.Ack(command_id=ack.command_id, detail=RefusalCode.DEADLINE_PASSED.value)
        for answer in ack.assignments:
            late.assignments.add(
                index=answer.index, deferred=answer.accepted or answer.deferred, refused=answer.refused
            )
        self.owners.expired.add(ack.command_id)
        self._log_line.warning("a command was stored after its deadline", command_id=ack.command_id)
        metrics.EXPIRED.inc()
        if not await self._say_void(late):
            self._tasks.spawn(self._say_void_again(late))
        return late

    async def _say_void(self, late: pb.Ack) -> bool:
        """Store that a command is void; whether the disk took it."""
        late.seq = self._log.reserve()
        try:
            await self._log.append([(late.seq, "expired", late.SerializeToString())])
        except StorageError as error:
            self._log_line.error("that a command is void could not be stored; tried again", error=str(error))
            late.seq = 0
        self._acks.remember(late.command_id, late.SerializeToString())
        return bool(late.seq)

    async def _say_void_again(self, late: pb.Ack) -> None:
        """Again and again: else a restart would carry it out."""
        with self.devices.storing():
            while True:
                await asyncio.sleep(STORE_AGAIN_S)
                if await self._say_void(late):
                    return

    def _count_refused(self, ack: pb.Ack) -> None:
        for answer in ack.assignments:
            for refused in answer.refused:
                metrics.REFUSED.labels(refused.code).inc()

    def _refuse(self, command: pb.Command, refusal: str, detail: str) -> pb.Ack:
        metrics.COMMANDS.labels("refused").inc()
        metrics.REFUSED.labels(refusal).inc()
        return pb.Ack(command_id=command.command_id[:COMMAND_ID_MAX], refusal=refusal, detail=detail)
