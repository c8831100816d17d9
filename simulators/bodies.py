"""What was sent with a request, read no further than it may be long."""

from starlette.requests import Request


async def body_within(request: Request, most_bytes: int) -> bytes:
    """The body; nothing where it is longer."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > most_bytes:
            return b""
    return bytes(found)
