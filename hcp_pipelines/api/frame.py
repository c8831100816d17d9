"""Around every request: its id, size and time limits, headers, access log, metrics, and the answer where a defect gave none.

Plain ASGI, outermost: nothing that an endpoint or a library does escapes it.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hcp_pipelines.api import metrics
from hcp_pipelines.api.problems import MEDIA_TYPE, problem_body
from hcp_pipelines.domain.clock import SystemClock

BODY_MAX_BYTES = 64 * 1024
MOST_UNDER_WAY = 2000  # requests; more would only wait for the same few connections to Postgres, and fill the memory
ANSWER_WITHIN_S = 15.0
ARRIVE_WITHIN_S = 10.0
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
    always: Mapping[str, str]
    status: int = 0
    received_bytes: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    async def send_on(self, message: Message) -> None:
        """The app's message, with our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {**self.always, **self.state["headers"], "X-Request-ID": self.state["request_id"]}
            named = {name.lower() for name, _ in message["headers"]}
            added = [(k.lower().encode(), v.encode()) for k, v in own.items()]
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in named)]
        await self.send(message)


# FastAPI makes a 400 of whatever a body's arrival raises, but of an HTTPException.
def _too_large() -> HTTPException:
    return HTTPException(413, f"a body has at most {BODY_MAX_BYTES} bytes")


def _too_slow() -> HTTPException:
    return HTTPException(408, f"a body has to arrive within {ARRIVE_WITHIN_S:.0f} s")


class Frame:
    """The app with all of it around."""

    def __init__(self, app: ASGIApp, clock: SystemClock, log: Any, is_tls: bool) -> None:
        self._app, self._clock, self._log = app, clock, log
        self._under_way = 0
        self._always = SAFE | (HSTS if is_tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = {"request_id": _request_id(scope), "headers": {}, "account": ""}
        scope["state"] = state
        course = _Course(scope, send, self._always, state=state)
        began_s = self._clock.monotonic_s()
        self._under_way += 1
        metrics.UNDER_WAY.set(self._under_way)
        try:
            await self._serve(course, receive)
        finally:
            self._under_way -= 1
            metrics.UNDER_WAY.set(self._under_way)
            self._note(course, self._clock.monotonic_s() - began_s)

    async def _serve(self, course: _Course, receive: Receive) -> None:
        scope = course.scope
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            await _answer(course, 400, "NUL in the address")
            return
        if self._under_way > MOST_UNDER_WAY:
            await _answer(course, 503, f"{MOST_UNDER_WAY} requests are under way", {"Retry-After": "1"})
            return
        within_s = None if STREAMED.search(scope["path"]) else ANSWER_WITHIN_S
        try:
            _refuse_large(scope)
            async with asyncio.timeout(within_s):
                await self._app(scope, _bounded(course, receive), course.send_on)
        except HTTPException as refused:
            await _answer(course, refused.status_code, refused.detail)
        except TimeoutError:
            await _answer(course, 503, f"no answer within {ANSWER_WITHIN_S:.0f} s", {"Retry-After": "5"})
        except Exception as defect:  # noqa: BLE001 - the last line: whoever asks gets an answer
            self._log.error("a defect", request_id=course.state["request_id"], path=scope["path"], exc_info=defect)
            await _answer(course, 500, "the log of the API has it under this request_id")

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
            address=scope["client"][0] if scope.get("client") else "",
        )


def _request_id(scope: Scope) -> str:
    given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _refuse_large(scope: Scope) -> None:
    length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    if length.isdigit() and int(length) > BODY_MAX_BYTES:
        raise _too_large()


def _bounded(course: _Course, receive: Receive) -> Receive:
    """The body as it comes, up to the limits; after the response has begun only the client's end comes."""

    async def receive_bounded() -> Message:
        if course.status:
            return await receive()
        try:
            async with asyncio.timeout(ARRIVE_WITHIN_S):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        course.received_bytes += len(message.get("body", b""))
        if course.received_bytes > BODY_MAX_BYTES:
            raise _too_large()
        return message

    return receive_bounded


async def _answer(course: _Course, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """A problem, unless something has been answered already."""
    if course.status:
        return
    body = json.dumps(problem_body(status, detail, course.scope["path"], course.state["request_id"])).encode()
    told = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **(headers or {})}
    encoded = [(k.lower().encode(), v.encode()) for k, v in told.items()]
    await course.send_on({"type": "http.response.start", "status": status, "headers": encoded})
    await course.send({"type": "http.response.body", "body": body})
