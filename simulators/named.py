"""Replies with a name (ETag), which need not be sent again to who has them: 304 in their place.

Source: RFC 9110; mempool.space and Azure's price list name their replies so.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from starlette.types import Send

from simulators.broken import Whole
from simulators.service_plan import ServiceName

NAMED: Final[frozenset[ServiceName]] = frozenset({"mempool", "azure"})
_OF_BODY = (b"content-length", b"content-type")


class NamedAnswer(Whole):
    """Passes a reply on under the name of its body, or says that it is what the client has."""

    def __init__(self, send: Send, headers: Mapping[bytes, bytes]) -> None:
        """`headers`: of the request."""
        super().__init__(send, {})
        self._known = headers.get(b"if-none-match", b"")

    async def finish(self, body: bytes) -> None:
        """Send a body, or that nothing has changed."""
        start = self._start
        if start["status"] == 200:
            name = b'W/"' + hashlib.blake2b(body, digest_size=12).hexdigest().encode() + b'"'
            headers = [*start["headers"], (b"etag", name)]
            start = {**start, "headers": headers}
            if name in (part.strip() for part in self._known.split(b",")):
                kept = [(key, value) for key, value in headers if key.lower() not in _OF_BODY]
                start, body = {**start, "status": 304, "headers": kept}, b""
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})
