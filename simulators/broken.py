"""Replies on their way to a client, as ASGI sends them: with some headers more, with wrong numbers, or broken in some way."""

from collections.abc import Mapping

import numpy as np
from starlette.types import Message, Send

from simulators.service_plan import Failure
from simulators.wrong import PAGE, padding, spoilt


class Passed:
    """Passes a reply on, with some headers more."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, message: Message) -> None:
        """Take a part of the reply."""
        if message["type"] == "http.response.start" and self._headers:
            message = {**message, "headers": [*message["headers"], *self._headers]}
        await self._send(message)


class Whole(Passed):
    """Waits until a reply is whole, and sends what is made of it."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        super().__init__(send, headers)
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Take a part of the reply; what is whole is sent."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self.finish(bytes(self._body))

    async def finish(self, body: bytes) -> None:
        """Send a body."""
        await self.begin(len(body))
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, told_bytes: int) -> None:
        """Send the head, which promises so many bytes."""
        kept = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
        headers = [*kept, (b"content-length", str(told_bytes).encode())]
        await super().__call__({**self._start, "headers": headers})


class Spoilt(Whole):
    """Numbers gone wrong."""

    def __init__(self, send: Send, headers: Mapping[str, str], fraction: float, draw: np.random.Generator) -> None:
        super().__init__(send, headers)
        self._fraction = fraction
        self._draw = draw

    async def finish(self, body: bytes) -> None:
        """Send the body with its errors."""
        await super().finish(spoilt(body, self._fraction, self._draw))


class Broken(Whole):
    """A body that ends early, is half there, is a page for people, or goes on and on."""

    def __init__(self, send: Send, headers: Mapping[str, str], failure: Failure, oversized_mb: float) -> None:
        super().__init__(send, headers)
        self._failure = failure
        self._oversized_mb = oversized_mb

    async def finish(self, body: bytes) -> None:
        """Send what is left of the body, or more than there was."""
        half = body[: len(body) // 2]
        if self._failure == "torn":
            await self.begin(len(body))
            await self._send({"type": "http.response.body", "body": half})
        elif self._failure == "oversized":
            await self._pad(body)
        else:
            await super().finish(half if self._failure == "truncated" else PAGE)

    async def _pad(self, body: bytes) -> None:
        await self.begin(len(body) + int(self._oversized_mb * 1_000_000))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        for chunk in padding(self._oversized_mb):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
