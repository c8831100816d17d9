"""Connections that say nothing, or not all of it, end; and where there are too many, first those of whom nobody knows.

uvicorn closes what rests between two requests. It waits without end for a first request and for the rest of one.
"""

import asyncio
from collections import OrderedDict
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_WITHIN_S = 10.0
BODY_WITHIN_S = 12.0  # the frame has answered by then (`arriving.ARRIVE_WITHIN_S`)
EXTENSION = "hcp.connection"


class Door:
    """All connections; those of strangers by age."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Watched] = set()
        self._strangers: OrderedDict[Watched, None] = OrderedDict()

    def entered(self, one: "Watched") -> None:
        """One more; the oldest stranger's goes where it is one too many."""
        self._open.add(one)
        self._strangers[one] = None
        while len(self._open) > self._most and self._strangers:
            oldest, _ = self._strangers.popitem(last=False)
            self._open.discard(oldest)
            oldest.transport.abort()

    def known(self, one: "Watched") -> None:
        """Somebody known speaks on it."""
        self._strangers.pop(one, None)

    def left(self, one: "Watched") -> None:
        """It has ended."""
        self._open.discard(one)
        self._strangers.pop(one, None)


class Watched(HttpToolsProtocol):
    """A connection with a deadline for each request's head and body, whatever trickles in."""

    door: ClassVar[Door]
    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The head of a first request has to come."""
        super().connection_made(transport)
        self._has_to(HEAD_WITHIN_S)
        self.door.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._is_at_ease()
        self.door.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes while nothing is asked begins a request."""
        if self._ends is None and (self.cycle is None or self.cycle.response_complete):
            self._has_to(HEAD_WITHIN_S)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The frame is told which connection it is."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: cast("dict[object, object]", self)}

    def on_headers_complete(self) -> None:
        """The head is there: the body has to come."""
        super().on_headers_complete()
        self._has_to(BODY_WITHIN_S)

    def on_message_complete(self) -> None:
        """All is there; where it was answered before, nothing else would end the connection."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._has_to(HEAD_WITHIN_S)
        else:
            self._is_at_ease()

    def known(self) -> None:
        """Somebody known speaks here."""
        self.door.known(self)

    def abort(self) -> None:
        """End it, whatever is still to be sent."""
        self.transport.abort()

    def _has_to(self, within_s: float) -> None:
        self._is_at_ease()
        self._ends = self.loop.call_later(within_s, self.transport.abort)

    def _is_at_ease(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None


def guarded(most: int) -> type[Watched]:
    """The protocol for a server that has so many connections at most."""
    return type("Guarded", (Watched,), {"door": Door(most)})
