"""One connection to a miner, whatever it speaks: where it arrived, whose it is, its bounds and its deadline.

What comes in is handed to a subclass as it arrives (`cgminer`, `framed`, `web`). Whoever misbehaves is answered in the dialect's
way and closed; it is said at most once a second, and nobody else notices.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from simulators.addresses import is_loopback
from simulators.listeners import reset
from simulators.miners.hall import Hall
from simulators.miners.miner import Miner

MAX_CONNECTIONS: Final = 4096
MAX_REQUEST_BYTES: Final = 64 * 1024
DEADLINE_S: Final = 10.0  # real: to send a request, and to take the reply
HUNG_S: Final = 300.0  # real: the longest that a hung miner keeps a connection

log = logging.getLogger("world.miners")


class Complaints:
    """Says what clients did wrong, at most once a second."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._kept_back = 0

    def say(self, where: str, problem: str) -> None:
        """Log a problem, or count it for the next line."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s:
            self._kept_back += 1
            return
        more = f" (and {self._kept_back} more)" if self._kept_back else ""
        log.warning("%s: %s%s", where, problem, more)
        self._next_s, self._kept_back = now_s + 1.0, 0


class Desk:
    """What all connections of the miners share."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.complaints = Complaints()
        self.open: set[Conversation] = set()
        self.answered = 0
        self.turned_away = 0


class Conversation(asyncio.Protocol):
    """The common part; a subclass says what is complete, and how to refuse."""

    takes_many = False  # requests on one connection, which may come together

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._miner: Miner | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_mute = False
        self._is_done = False
        self._is_full = False

    # For subclasses.

    def serves(self, miner: Miner) -> bool:
        """Whether this kind of miner listens on this port."""
        raise NotImplementedError

    def received(self) -> None:
        """More bytes are in `buffer`: answer if they are a whole request."""
        raise NotImplementedError

    def refusal(self, problem: str) -> bytes:
        """The dialect's reply to a request that is none."""
        raise NotImplementedError

    def late(self) -> None:
        """Nothing whole arrived within the deadline."""
        self.refuse(f"no whole request within {DEADLINE_S:.0f} s")

    @property
    def takes_more(self) -> bool:
        """Whether another request may be answered now."""
        return not self._is_done and not self._is_full

    @property
    def miner(self) -> Miner:
        """Whose connection this is."""
        if self._miner is None:
            message = "a connection that has no miner has no requests"
            raise RuntimeError(message)
        return self._miner

    def send(self, body: bytes) -> None:
        """Write a reply and stay; what it has changed is on the disk by then."""
        self.desk.hall.write()
        if self._transport is not None:
            self.desk.answered += 1
            self._transport.write(body)

    def wait(self, seconds: float) -> None:
        """Start the deadline anew."""
        self._start(seconds, self.late)

    def finish(self, body: bytes, after_s: float = 0.0) -> None:
        """Answer, if need be later, and close. No more requests are taken; without a body the connection just ends."""
        self._is_done = True
        self.desk.hall.write()
        self.buffer.clear()
        if after_s > 0:
            self._start(after_s, self._close, body)
        else:
            self._close(body)

    def refuse(self, problem: str) -> None:
        """Answer what is wrong in the dialect's way, say so, and close."""
        self.desk.complaints.say(self._miner.address if self._miner else "?", problem)
        self.finish(self.refusal(problem))

    # Of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find the miner; turn away whoever did not arrive on a loopback address, or at no miner's."""
        self._transport = cast(asyncio.Transport, transport)
        address = str(transport.get_extra_info("sockname")[0])
        if not is_loopback(address):
            self._turn_away(address, "a connection that did not arrive on a loopback address")
            return
        if len(self.desk.open) >= MAX_CONNECTIONS:
            self._turn_away(address, f"more than {MAX_CONNECTIONS} connections")
            return
        miner = self.desk.hall.at(address)
        if miner is None or not self.serves(miner) or not miner.is_listening:
            self._reset()
            return
        self._miner = miner
        self.desk.open.add(self)
        self._is_mute = miner.is_hung
        if self._is_mute:
            self._start(HUNG_S, self.abort)
        else:
            self.wait(DEADLINE_S)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes within bounds and look whether they are a request."""
        if self._is_mute or self._is_done or self._miner is None:
            return
        self.buffer += data
        if self.takes_many or len(self.buffer) <= MAX_REQUEST_BYTES:
            self.received()
        if self.takes_more and len(self.buffer) > MAX_REQUEST_BYTES:
            self.refuse(f"a request of more than {MAX_REQUEST_BYTES} bytes")

    def eof_received(self) -> bool:
        """The client sends no more; what it asked for is still answered."""
        if self._miner is None or self._is_mute:
            return False
        if not self._is_done and self.buffer:
            self.refuse("half a request")
        elif not self._is_done:
            self.finish(b"")
        return True

    def pause_writing(self) -> None:
        """The client doesn't take its replies: take no more of its requests."""
        self._is_full = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again: go on with what had come already."""
        self._is_full = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            if self.buffer and not self._is_done:
                self.received()

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the connection."""
        self.desk.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _turn_away(self, address: str, problem: str) -> None:
        self.desk.turned_away += 1
        self.desk.complaints.say(address, f"dropped {problem}")
        self._reset()

    def _reset(self) -> None:
        """End the connection as one that was never wanted: with a reset, which is the nearest to refusing it."""
        if self._transport is not None:
            reset(self._transport)

    def _start(self, seconds: float, then: Callable[..., None], *arguments: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then, *arguments)

    def _close(self, body: bytes) -> None:
        if self._transport is None:
            return
        if body:
            self.send(body)
        self._transport.close()
        self._start(DEADLINE_S, self.abort)
