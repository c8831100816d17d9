"""Replies with a name (ETag), which need not be sent again to who has them: 304 in their place.

Source: RFC 9110; mempool.space and Azure's price list name their replies so.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from starlette.types import Message, Send

from simulators.service_plan import ServiceName

NAMED: Final[frozenset[ServiceName]] = frozenset({"mempool", "azure"})
_OF_BODY = (b"content-length", b"content-type")


class NamedAnswer:
    """Passes a reply on under the name of its body, or says that it is what the client has."""

    def __init__(self, send: Send, headers: Mapping[bytes, bytes]) -> None:
        """`headers`: of the request."""
        self._send = send
        self._known = headers.get(b"if-none-match", b"")
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Take a part of the reply; what is whole is sent."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        if self._start["status"] != 200:
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": bytes(self._body)})
            return
        name = b'W/"' + hashlib.blake2b(self._body, digest_size=12).hexdigest().encode() + b'"'
        headers = [*self._start["headers"], (b"etag", name)]
        if name in (part.strip() for part in self._known.split(b",")):
            kept = [(key, value) for key, value in headers if key.lower() not in _OF_BODY]
            await self._send({**self._start, "status": 304, "headers": kept})
            await self._send({"type": "http.response.body", "body": b""})
            return
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": bytes(self._body)})
