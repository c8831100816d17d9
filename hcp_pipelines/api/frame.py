"""Around every request: its id, who asks, limits of size and time, headers, access log, metrics, an answer after a defect.

Plain ASGI, outermost: nothing that an endpoint or a library does escapes it.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hcp_pipelines.api import metrics
from hcp_pipelines.api.arriving import Arriving, GoneError, RefusedError, given
from hcp_pipelines.api.connections import EXTENSION
from hcp_pipelines.api.limits import address_of
from hcp_pipelines.api.problems import MEDIA_TYPE, problem_body
from hcp_pipelines.api.proxies import Proxies
from hcp_pipelines.api.under_way import Stay, UnderWay
from hcp_pipelines.domain.clock import SystemClock

ANSWER_WITHIN_S = 15.0
TAKEN_WITHIN_S = 15.0  # a part of an answer by who reads it
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STREAMED = re.compile(r"/api/v1/workloads/events$")
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000"}


@dataclass
class _Course:
    """How far one request has got."""

    scope: Scope
    send: Send
    always: Sequence[tuple[bytes, bytes]]
    address: str
    status: int = 0
    is_answered: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    async def send_on(self, message: Message) -> None:
        """The app's message, with our headers; whoever does not take it in time is left."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {**self.state["headers"], "X-Request-ID": self.state["request_id"]}
            named = {name.lower() for name, _ in message["headers"]}
            added = (*self.always, *_encoded(own))
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in named)]
        async with asyncio.timeout(TAKEN_WITHIN_S):
            await self.send(message)
        self.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)

    @property
    def connection(self) -> Any:
        """The connection, where the server tells it (`connections`)."""
        return self.scope.get("extensions", {}).get(EXTENSION)


class Frame:
    """The app with all of it around. `known` tells whose an `Authorization` is, as far as that takes no asking."""

    def __init__(
        self,
        app: ASGIApp,
        clock: SystemClock,
        log: Any,
        is_tls: bool,
        known: Callable[[str], str | None],
        proxies: Proxies,
    ) -> None:
        self._app, self._clock, self._log, self._known, self._proxies = app, clock, log, known, proxies
        self._always = _encoded(SAFE | (HSTS if is_tls else {}))
        self._arriving = Arriving()
        self._under_way = UnderWay(clock.monotonic_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["client"] = self._proxies.client_of(scope)
        state: dict[str, Any] = {"request_id": _request_id(scope), "headers": {}, "account": ""}
        scope["state"] = state
        course = _Course(scope, send, self._always, address_of(scope["client"] and scope["client"][0]), state=state)
        began_s = self._clock.monotonic_s()
        try:
            await self._serve(course, receive)
        finally:
            self._note(course, self._clock.monotonic_s() - began_s)

    async def _serve(self, course: _Course, receive: Receive) -> None:
        try:
            await self._let_in(course, receive)
        except GoneError:
            return
        except RefusedError as refused:
            await _answer(course, refused.status, str(refused), refused.headers)
        except TimeoutError:
            await _answer(course, 503, f"no answer within {ANSWER_WITHIN_S:.0f} s", {"Retry-After": "5"})
        except Exception as defect:  # noqa: BLE001 - the last line: whoever asks gets an answer
            path = course.scope["path"]
            self._log.error("a defect", request_id=course.state["request_id"], path=path, exc_info=defect)
            await _answer(course, 500, "the log of the API has it under this request_id")
        if not course.is_answered and course.connection is not None:
            course.connection.abort()  # half an answer: the rest would wait for whoever doesn't read it

    async def _let_in(self, course: _Course, receive: Receive) -> None:
        scope = course.scope
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            raise RefusedError(400, "NUL in the address")
        caller = self._known(_header(scope, b"authorization"))
        body = await self._arriving.whole(scope, receive, caller, course.address)
        stay = Stay(self._under_way, course.address)
        course.state["is_known"] = caller is not None
        course.state["recognised"] = lambda account: self._recognised(course, stay, account)
        async with asyncio.timeout(None if STREAMED.search(scope["path"]) else ANSWER_WITHIN_S):
            if not await stay.enter(caller):
                line = self._under_way.line
                raise RefusedError(503, "as many requests as may are under way", line.retry_after_s())
            try:
                await self._app(scope, given(body, receive), course.send_on)
            finally:
                stay.leave()

    async def _recognised(self, course: _Course, stay: Stay, account: str) -> int | None:
        """The app knows who asks: a place among those in its turn; where none is to be had in time, when to come again."""
        if course.connection is not None:
            course.connection.known()
        return None if await stay.recognise(account) else self._under_way.line.retry_after_s()

    def _note(self, course: _Course, took_s: float) -> None:
        scope = course.scope
        route = getattr(scope.get("route"), "path", "none")
        metrics.SECONDS.labels(scope["method"], route, str(course.status)).observe(took_s)
        self._log.info(
            "request",
            request_id=course.state["request_id"],
            method=scope["method"],
            path=scope["path"][:200],
            status=course.status,
            ms=round(took_s * 1000, 2),
            account=course.state["account"],
            address=scope["client"][0] if scope["client"] else "",
        )


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _request_id(scope: Scope) -> str:
    asked = _header(scope, b"x-request-id")
    return asked if REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)


async def _answer(course: _Course, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """A problem, unless something has been answered already."""
    if course.status:
        return
    body = json.dumps(problem_body(status, detail, course.scope["path"], course.state["request_id"])).encode()
    told = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **(headers or {})}
    await course.send_on({"type": "http.response.start", "status": status, "headers": _encoded(told)})
    await course.send_on({"type": "http.response.body", "body": body})
