"""The HTTP side of a miner: HTTP/1.1 as its small web server speaks it. What each dialect serves is in its own module.

Written by hand, so that one listener answers for every address, and that slow, oversized and half-closed requests end as on
the other ports.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from simulators.miners.conversation import DEADLINE_S, MAX_REQUEST_BYTES, Conversation, Desk
from simulators.miners.miner import Miner

MAX_REQUESTS: Final = 100
MAX_HEAD_BYTES: Final = 8 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REQUEST_LINE: Final = re.compile(r"([A-Z]{1,10}) (\S{1,2000}) HTTP/1\.([01])")


class Request(NamedTuple):
    """One request; `path` is the target without its query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query, and without the host that a proxy's client writes before it."""
        path = self.target.partition("?")[0]
        return "/" + path.split("/", 3)[3] if re.match(r"https?://[^/]+/", path) else path


class Response(NamedTuple):
    """One response; `after_s`: real seconds until it is sent; without a status the connection just ends."""

    status: int
    body: bytes = b""
    kind: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()
    after_s: float = 0.0


class _BadRequestError(Exception):
    """The request is answered with `status` and the connection closed."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


Serve = Callable[[Miner, Request], Response]


class WebTalk(Conversation):
    """One connection to the web server; it may carry several requests."""

    takes_many = True

    def __init__(self, desk: Desk, dialects: Mapping[object, Serve]) -> None:
        super().__init__(desk)
        self._dialects = dialects
        self._served = 0
        self._has_bidden = False

    def serves(self, miner: Miner) -> bool:
        """Those whose dialect has a web server."""
        return miner.firmware.dialect in self._dialects

    def received(self) -> None:
        """Answer every request that is whole."""
        while self.buffer and self.takes_more:
            try:
                request = self._take()
            except _BadRequestError as error:
                self.desk.complaints.say(self.miner.address, f"web: {error}")
                self.finish(encode(page(error.status), is_last=True))
                return
            if request is None:
                return
            self._answer(request)

    def refusal(self, problem: str) -> bytes:
        """What a web server says to a request that is none."""
        status = 413 if "more than" in problem else 400
        return encode(page(status), is_last=True)

    def late(self) -> None:
        """An idle connection ends silently, half a request is told off."""
        if self.buffer or not self._served:
            self.desk.complaints.say(self.miner.address, f"web: no whole request within {DEADLINE_S:.0f} s")
            self.finish(encode(page(408), is_last=True))
        else:
            self.finish(b"")

    def _answer(self, request: Request) -> None:
        self._served += 1
        response = self._dialects[self.miner.firmware.dialect](self.miner, request)
        is_last = request.headers.get("connection", "").lower() == "close" or self._served >= MAX_REQUESTS
        if not response.status:
            self.finish(b"")
        elif is_last or response.after_s > 0:
            self.finish(encode(response, is_last=True, with_body=request.method != "HEAD"), response.after_s)
        else:
            self.send(encode(response, is_last=False, with_body=request.method != "HEAD"))
            self.wait(DEADLINE_S)

    def _take(self) -> Request | None:
        end = self.buffer.find(_HEAD_END)
        if end < 0 and len(self.buffer) > MAX_HEAD_BYTES:
            raise _BadRequestError(431, f"headers of more than {MAX_HEAD_BYTES} bytes")
        if end < 0:
            return None
        lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        line = _REQUEST_LINE.fullmatch(lines[0])
        if line is None:
            raise _BadRequestError(400, "no HTTP request line")
        headers = _headers(lines[1:])
        if line[3] == "0":
            headers.setdefault("connection", "close")
        length = _body_length(headers)
        begin = end + len(_HEAD_END)
        if len(self.buffer) < begin + length:
            self._bid_go_on(headers)
            return None
        self._has_bidden = False
        body = bytes(self.buffer[begin : begin + length])
        del self.buffer[: begin + length]
        return Request(line[1], line[2], headers, body)

    def _bid_go_on(self, headers: Mapping[str, str]) -> None:
        """Tell a client that asks first whether it may send its body."""
        if headers.get("expect", "").lower() == "100-continue" and not self._has_bidden:
            self._has_bidden = True
            self.send(_GO_ON)


def page(status: int, *headers: tuple[str, str]) -> Response:
    """A status told as a web page."""
    title = f"{status} {HTTPStatus(status).phrase}"
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Response(status, body.encode(), "text/html", headers)


def encode(response: Response, *, is_last: bool, with_body: bool = True) -> bytes:
    """The response's bytes."""
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.kind}",
        f"Content-Length: {len(response.body)}",
        f"Connection: {'close' if is_last else 'keep-alive'}",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    head = "\r\n".join(lines).encode("latin-1") + _HEAD_END
    return head + response.body if with_body else head


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise _BadRequestError(411, "a body without a length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 9:
        raise _BadRequestError(400, "a content-length that is no number")
    if int(length) > MAX_REQUEST_BYTES:
        raise _BadRequestError(413, f"a body of more than {MAX_REQUEST_BYTES} bytes")
    return int(length)
