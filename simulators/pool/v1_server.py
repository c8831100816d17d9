"""Stratum V1 on its port: lines in, lines out, and the jobs that go to all who work."""

from typing import Final

from simulators.pool.jobs import Job
from simulators.pool.office import Office
from simulators.pool.port import Patience, Peer, PeerError, Port
from simulators.pool.v1 import Session
from simulators.pool.v1_messages import MOST_LINE_BYTES, Code, MalformedError, parse, refusal

MOST_MALFORMED: Final = 8  # lines of one connection


class V1Server:
    """All V1 connections of one pool."""

    def __init__(self, office: Office, patience: Patience) -> None:
        self._office = office
        self._sessions: dict[Session, Peer] = {}
        config = office.config
        self.port = Port("Stratum V1", config.v1_port, self._talk, config.max_connections, patience)

    def announce(self, job: Job) -> None:
        """A new job for all."""
        for session, peer in list(self._sessions.items()):
            if session.is_working:
                self.port.push(peer, b"".join(session.work(job)))

    def look(self) -> None:
        """Move difficulties where that is due."""
        for session, peer in list(self._sessions.items()):
            if said := session.look():
                self.port.push(peer, b"".join(said))

    async def _talk(self, peer: Peer) -> None:
        session = Session(self._office, self._office.extranonce())
        self._sessions[session] = peer
        try:
            await self._listen(peer, session)
        finally:
            del self._sessions[session]

    async def _listen(self, peer: Peer, session: Session) -> None:
        malformed = 0
        while (line := await self._next(peer, session)) is not None:
            if not line.strip():
                continue
            try:
                said = session.answer(parse(line))
            except MalformedError as error:
                malformed += 1
                self.port.counts["malformed"] += 1
                said = [refusal(None, Code.OTHER, str(error))]
                if malformed >= MOST_MALFORMED:
                    raise PeerError("expelled", f"{malformed} lines were no requests", said[0]) from error
            peer.send(b"".join([*said, *session.look()]))

    async def _next(self, peer: Peer, session: Session) -> bytes | None:
        try:
            return await peer.line(MOST_LINE_BYTES, is_stranger=session.is_stranger)
        except PeerError as error:
            error.last = refusal(None, Code.OTHER, str(error))
            raise
