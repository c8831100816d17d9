"""A request's body, within bounds."""

from typing import Final

from starlette.requests import Request

MAX_BODY_BYTES: Final = 256 * 1024


class TooLargeError(Exception):
    """A request's body is over the limit."""


async def read_body(request: Request) -> bytes:
    """A request's body, no further than its limit.

    Raises:
        TooLargeError: it is larger.
        ClientDisconnect: it ends before it is whole.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            message = f"a body of more than {MAX_BODY_BYTES} bytes"
            raise TooLargeError(message)
    return bytes(body)
