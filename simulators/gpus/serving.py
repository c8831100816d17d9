"""One HTTP listener for all addresses of 127/8: which node is meant is told by the address that the connection arrived on.

Bounds every connection: what is not for a node that is up is dropped at once, a request that does not come to its end in time is
cut off, too many connections are turned away. What is answered is in `exporter` and `agent`.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import h11
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulators.embedded_http import EmbeddedServer
from simulators.listeners import EVERYWHERE, bound, reset
from simulators.settings import WorldConfigError
from simulators.wires import Wires

REQUEST_WITHIN_S = 10.0  # real seconds; the real exporter's ReadTimeout
IDLE_WITHIN_S = 60.0
MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 4096
MAX_AT_ONCE = 1024
_TORN = "ended before it was whole"

log = logging.getLogger("world.gpus")

Answers = Callable[[str], bool]


class _Http(H11Protocol):
    """Uvicorn's protocol with a deadline a request, half-closed peers answered, and strangers dropped."""

    answers: Answers
    within_s: float
    label: str
    troubles: Counter[str]
    _deadline: asyncio.TimerHandle | None = None
    _has_ended = False  # the peer sends no more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Drop what is for nobody here."""
        super().connection_made(transport)
        own = self.server[0] if self.server else ""
        if len(self.connections) > MAX_CONNECTIONS or not self.answers(own):
            reset(transport)
            return
        self._deadline = self.loop.call_later(self.within_s, self._cut_off)

    def data_received(self, data: bytes) -> None:
        """Feed the request, unless the node has gone down meanwhile; its deadline runs from its first byte."""
        if not self.answers(self.server[0] if self.server else ""):
            reset(self.transport)
            return
        try:
            super().data_received(data)
        except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
            self._note("broken", f"closed a connection that broke HTTP: {error}")
            self.transport.abort()
        self._set_deadline()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A peer that has only stopped sending still gets its answers, and hears what was wrong with half a request."""
        self._has_ended = True
        return self._has_more_to_say()

    def on_response_complete(self) -> None:
        """Go on with what has come meanwhile; the last answer to a peer that sends no more is the end."""
        super().on_response_complete()
        if self._has_ended and not self.transport.is_closing() and not self._has_more_to_say():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._clear_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that it was not HTTP, if that can still be said, and let nobody answer after that."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _has_more_to_say(self) -> bool:
        """Whether an answer is still to come to a peer that sends no more."""
        is_rest = bool(self.conn.trailing_data[0])
        if self._is_answering():
            if not is_rest:
                self.cycle.keep_alive = False
            return True
        if (is_rest or self.conn.their_state is h11.SEND_BODY) and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._note("torn", f"a request to {self.server} {_TORN}")
            self.send_400_response(f"The request {_TORN}.")
        return False

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _set_deadline(self) -> None:
        if self._is_answering() or self.transport.is_closing() or self.timeout_keep_alive_task is not None:
            self._clear_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.within_s, self._cut_off)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _note(self, trouble: str, told: str) -> None:
        self.troubles[trouble] += 1
        log.warning("%s: %s", self.label, told)

    def _cut_off(self) -> None:
        self._deadline = None
        self._note("slow", f"cut off a request to {self.server} that took over {self.within_s:g} s")
        self.transport.abort()


class _Bounded:
    """Refuses a head over the limit that came in one piece: h11 bounds only what it has to wait for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        head = sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope["raw_path"])
        if head + len(scope["query_string"]) <= MAX_HEAD_BYTES:
            await self._app(scope, receive, send)
            return
        text = f"the request's head is over {MAX_HEAD_BYTES} bytes"
        status = int(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        await PlainTextResponse(text, status, {"Connection": "close"})(scope, receive, send)


class Listener:
    """An application on one port of every address of 127/8; `troubles` counts connections that were no proper requests."""

    def __init__(
        self,
        app: ASGIApp,
        port: int,
        answers: Answers,
        wires: Wires | None,
        within_s: float = REQUEST_WITHIN_S,
        label: str = "gpu nodes",
    ) -> None:
        """`wires`: the sites' network, if it stands in between."""
        self._socket = _listen(port, label)
        self._wires = wires
        self.troubles: Counter[str] = Counter()
        own = {"answers": staticmethod(answers), "within_s": within_s, "label": label, "troubles": self.troubles}
        protocol: Any = type("_BoundHttp", (_Http,), own)

        def made(**about: Any) -> asyncio.Protocol:
            return protocol(**about) if wires is None else wires.before(lambda: protocol(**about))()

        self._server = EmbeddedServer(
            uvicorn.Config(
                _Bounded(app),
                http=cast(type[asyncio.Protocol], made),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_AT_ONCE,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                timeout_keep_alive=int(IDLE_WITHIN_S),
                timeout_graceful_shutdown=1,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Answer from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        await self._server.is_up.wait()

    async def stop(self) -> None:
        """Close the port and every connection; idempotent."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
            self._task = None
        if self._wires is not None:
            self._wires.stop()
        self._socket.close()


def _listen(port: int, label: str) -> socket.socket:
    """Bound to every address, since each address of 127/8 is a node; strangers are dropped by `_Http`."""
    try:
        return bound(EVERYWHERE, port)
    except OSError as error:
        message = f"{label}: port {port} can't be bound ({error.strerror}); take another or 0 for any"
        raise WorldConfigError(message) from error
