"""The world's HTTP as uvicorn speaks it, with an end to patience: who doesn't finish a request in time is told so and let go.

Without it a few hundred connections that send a byte now and then take all there are. Source: RFC 9110, 408 Request Timeout.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_WITHIN_S: Final = 10.0  # real
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: 33\r\nconnection: close\r\n\r\n"
    b"The request was not all there yet"
)


class PatientHttp(HttpToolsProtocol):
    """One connection: a request has so many seconds from its first byte (a new connection: from its beginning) to its last."""

    _deadline: asyncio.TimerHandle | None = None
    _is_begun = False  # a request has, and has not come to its end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; time runs while they don't make up whole requests."""
        super().data_received(data)
        if self._is_begun and self._deadline is None:
            self._await_request()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_begun = True

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._is_begun = False
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._let_go)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _let_go(self) -> None:
        """End the connection, once what was asked before is answered."""
        self._deadline = None
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and not self.cycle.more_body:
            self._await_request()
        elif not self.transport.is_closing():
            if not is_answering:
                self.transport.write(_TOO_SLOW)
            self.transport.close()
