"""Stratum V2 on its port: the handshake, then encrypted frames in and out, and the jobs that go to all who work."""

from collections.abc import Iterable
from typing import Any, Final

from simulators.pool.ellswift import make_key
from simulators.pool.jobs import Job
from simulators.pool.noise import ACT1_BYTES, TAG_BYTES, Authority, Cipher, ForeignError, Handshake
from simulators.pool.office import Office
from simulators.pool.port import Patience, Peer, PeerError, Port
from simulators.pool.v2 import HangUpError, Session
from simulators.pool.v2_messages import (
    HEADER_BYTES,
    MOST_PAYLOAD_BYTES,
    MalformedError,
    decode,
    decode_header,
    encode,
)

MOST_MALFORMED: Final = 8  # messages of one connection


class _Line:
    """One connection's encryption, outward, and its session."""

    def __init__(self, peer: Peer, session: Session, outward: Cipher) -> None:
        self.peer = peer
        self.session = session
        self._outward = outward

    def sealed(self, messages: Iterable[Any]) -> bytes:
        """Frames for messages; those of a pool fit into one block each."""
        frames = [encode(message) for message in messages]
        return b"".join(self._outward.encrypt(head) + self._outward.encrypt(payload) for head, payload in frames)


class V2Server:
    """All V2 connections of one pool."""

    def __init__(self, office: Office, authority: Authority, patience: Patience) -> None:
        self._office = office
        self._authority = authority
        self._static = make_key()
        self._lines: set[_Line] = set()
        config = office.config
        self.port = Port("Stratum V2", config.v2_port, self._talk, config.max_connections, patience)

    @property
    def url(self) -> str:
        """Where miners find it, with the key that they know it by."""
        return f"stratum2+tcp://127.0.0.1:{self.port.port}/{self._authority.shown_key}"

    def announce(self, job: Job) -> None:
        """A new job for all."""
        for line in list(self._lines):
            self._push(line, line.session.announce(job))

    def look(self) -> None:
        """Move difficulties where that is due."""
        for line in list(self._lines):
            self._push(line, line.session.look())

    def _push(self, line: _Line, messages: list[Any]) -> None:
        if messages:
            self.port.push(line.peer, line.sealed(messages))

    async def _talk(self, peer: Peer) -> None:
        act1 = await peer.exactly(ACT1_BYTES, is_stranger=True)
        if act1 is None:
            return
        act2, inward, outward = Handshake(self._authority, self._static).answer(act1, self._office.clock.real_s())
        peer.send(act2)
        line = _Line(peer, Session(self._office, self._office.extranonce()), outward)
        self._lines.add(line)
        try:
            await self._listen(peer, line, inward)
        except ForeignError as error:
            raise PeerError("foreign", str(error)) from error
        finally:
            self._lines.discard(line)

    async def _listen(self, peer: Peer, line: _Line, inward: Cipher) -> None:
        malformed = 0
        while (message := await self._next(peer, line.session, inward)) is not None:
            try:
                said = line.session.answer(decode(*message))
            except MalformedError as error:
                malformed += 1
                self.port.counts["malformed"] += 1
                if malformed >= MOST_MALFORMED:
                    raise PeerError("expelled", str(error)) from error
                continue
            except HangUpError as error:
                raise PeerError("refused_setup", str(error), line.sealed(error.last)) from error
            if said:
                peer.send(line.sealed(said))

    async def _next(self, peer: Peer, session: Session, inward: Cipher) -> tuple[Any, bytes] | None:
        is_stranger = session.is_stranger
        sealed = await peer.exactly(HEADER_BYTES + TAG_BYTES, is_stranger=is_stranger)
        if sealed is None:
            return None
        header = decode_header(inward.decrypt(sealed))
        if header.length > MOST_PAYLOAD_BYTES:
            raise PeerError("oversized", f"a message of {header.length} bytes, {MOST_PAYLOAD_BYTES} are the most")
        if not header.length:
            return header, b""
        rest = await peer.exactly(header.length + TAG_BYTES, is_stranger=is_stranger, is_begun=True)
        return None if rest is None else (header, inward.decrypt(rest))
