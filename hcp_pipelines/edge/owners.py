"""Whose word a facility's gateway obeys: announcements, sessions, and what a new owner has missed.

The owner of the facility is whoever announced the highest epoch. It is obeyed once it has been told all that the log has above
what it knows.
"""

import asyncio
from dataclasses import dataclass

import structlog

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.checks import check_announce
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.messages import message_of
from hcp_pipelines.edge.outbox import Outbox
from hcp_pipelines.edge.recovery import Known
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.runtime.spans import name_platform
from hcp_pipelines.wire import edge_v1_pb2 as pb

ENTRIES_AT_ONCE = 64


@dataclass(eq=False)
class Session:
    """An owner's open stream."""

    owner: str
    epoch: int
    outbox: Outbox
    number: int = 0  # as the owner announced it


class Owners:
    """The highest epoch, whose it is, and its session."""

    def __init__(self, shape: SiteShape, log: FacilityLog, known: Known, expired: frozenset[str]) -> None:
        self.epoch, self.owner = known.epoch, known.owner
        self.journalled_seq = known.journalled_seq
        self.expired = set(expired)  # their first acks are not told again
        self._shape, self._log = shape, log
        self.announcing = asyncio.Lock()
        self._session: Session | None = None  # who is obeyed
        self._claim: Session | None = None  # who announced last; it is not obeyed before it knows what it missed
        self._log_line = structlog.get_logger("edge").bind(facility_id=shape.facility_id)

    @property
    def is_owned(self) -> bool:
        """Whether an owner's stream is open and obeyed."""
        return self._session is not None

    def obeys(self, session: Session) -> bool:
        """Whether a session is the one that is obeyed."""
        return self._session is session

    def refusal_of(self, session: Session, facility_id: str, epoch: int) -> str:
        """Why what a session asks for is not done; empty where the facility's owner says it of this facility."""
        if not self.obeys(session) or epoch < self.epoch:
            return RefusalCode.OLD_EPOCH.value
        if epoch > self.epoch:
            return RefusalCode.EPOCH_TOO_HIGH.value
        return "" if facility_id == self._shape.facility_id else RefusalCode.UNKNOWN_FACILITY.value

    def is_of(self, session: Session, command: pb.Command) -> bool:
        """Whether a command was made for a session; what was made for one before is over, whoever sends it again."""
        return command.session == session.number

    def tell(self, message: pb.GatewayMessage) -> None:
        """Send the owner something, if there is one; who comes later reads it from the log."""
        if self._session is not None:
            self._session.outbox.send(message)

    def leave(self, session: Session) -> None:
        """The stream has ended."""
        if self._session is session:
            self._session = None

    async def claim(self, message: pb.Announce, outbox: Outbox) -> Session | None:
        """Store an announcement, or send its refusal. From here on nobody else is obeyed."""
        async with self.announcing:
            refusal = check_announce(message, self._shape, self.epoch, self.owner) or await self._store(message)
        if refusal:
            metrics.REFUSED.labels(refusal).inc()
            self._log_line.warning("an announcement was refused", refusal=refusal, owner=message.owner[:100])
            reply = pb.AnnounceReply(accepted=False, refusal=refusal, highest_epoch=self.epoch)
            outbox.send(pb.GatewayMessage(announce_reply=reply))
            return None
        if message.platform:
            name_platform(message.platform)
        session = self._claim = Session(message.owner, message.epoch, outbox, message.session)
        self.note_journalled(message.resume_after_seq)
        return session

    async def install(self, session: Session, after_seq: int) -> bool:
        """Tell what was missed, and then "resumed"; whether the session is obeyed from here on."""
        told = await self._tell_missed(after_seq, session)
        if self._claim is not session:
            return False
        self._session = session
        session.outbox.send(pb.GatewayMessage(local_event=pb.LocalEvent(kind="resumed", seq=told)))
        return True

    def note_journalled(self, seq: int) -> None:
        """The journal has the log up to there."""
        if seq <= self._log.last_seq:
            self.journalled_seq = max(self.journalled_seq, seq)

    async def _store(self, message: pb.Announce) -> str:
        """The refusal when it can't be stored."""
        before = self.epoch, self.owner
        self.epoch, self.owner = message.epoch, message.owner
        if self._session is not None:
            self._session.outbox.close()
            self._session = None
        try:
            await self._log.append([(self._log.reserve(), "epoch", message.SerializeToString())])
        except StorageError as error:
            self._log_line.error("an announcement could not be stored", error=str(error))
            self.epoch, self.owner = before
            return RefusalCode.STORE_FAILED.value
        return ""

    async def _tell_missed(self, after_seq: int, session: Session) -> int:
        """Send what the log has above a number; the number up to which it was told."""
        if after_seq > self._log.last_seq:
            self._log_line.warning("the owner knows of entries that this log never had: telling all", seq=after_seq)
            after_seq = 0
        while after_seq < self._log.last_seq and self._claim is session and not session.outbox.is_closed:
            told = after_seq
            for n, entry in enumerate(self._log.entries(after_seq)):
                message = message_of(entry)
                if message is not None and not self._is_expired(entry, message):
                    await session.outbox.put(message)
                after_seq = entry.seq
                if n % ENTRIES_AT_ONCE == ENTRIES_AT_ONCE - 1:
                    await asyncio.sleep(0)  # other facilities' commands are not to wait for a long replay
            if after_seq == told:
                self._log_line.error("the log's end can't be read; the owner is told what can", seq=after_seq)
                break
        return after_seq

    def _is_expired(self, entry: pb.LogEntry, message: pb.GatewayMessage) -> bool:
        return entry.kind == "ack" and message.ack.command_id in self.expired
