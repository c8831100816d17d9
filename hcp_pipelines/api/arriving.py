"""Bodies of requests: whole before anything looks at them, within a size and a time, and not too many on their way at once.

A request whose body is there at once counts nowhere, so that thousands who ask at the same moment pass. Those that have to be
waited for have places by caller: half-sent bodies of strangers take nobody's place but those of their own address.
"""

import asyncio

from starlette.types import Message, Receive, Scope

from hcp_pipelines.api.places import Places

BODY_MAX_BYTES = 64 * 1024
ARRIVE_WITHIN_S = 10.0
KNOWN_PLACES, KNOWN_PLACES_OF_ONE = 1000, 100
STRANGERS_PLACES, STRANGERS_PLACES_OF_ONE = 500, 50


class RefusedError(Exception):
    """The frame answers so, before the app has seen the request."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


class GoneError(Exception):
    """Whoever asked has gone before all was said."""


class Arriving:
    """Those that are waited for."""

    def __init__(self) -> None:
        self._known = Places(KNOWN_PLACES, KNOWN_PLACES_OF_ONE)
        self._strangers = Places(STRANGERS_PLACES, STRANGERS_PLACES_OF_ONE)

    async def whole(self, scope: Scope, receive: Receive, caller: str | None, address: str) -> bytes:
        """The body; of a caller who is known, or of an address.

        Raises:
            RefusedError: 413 too large, 408 too slow, 429 too many of this caller's are on their way already.
            GoneError: the connection ended first.
        """
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if length.isdigit() and int(length) > BODY_MAX_BYTES:
            raise _too_large()
        places, name = (self._strangers, address) if caller is None else (self._known, caller)
        has_room = places.has_room(name)
        with places.counted(name):
            try:
                async with asyncio.timeout(ARRIVE_WITHIN_S if has_room else 0):
                    return await _read(receive)
            except TimeoutError:
                raise _too_slow() if has_room else _too_many() from None


async def _read(receive: Receive) -> bytes:
    parts, size, is_whole = [], 0, False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_MAX_BYTES:
            raise _too_large()
        is_whole = not message.get("more_body", False)
    return b"".join(parts)


def given(body: bytes, receive: Receive) -> Receive:
    """The body as the app receives it; afterwards only the client's end comes."""
    is_given = False

    async def receive_whole() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_whole


def _too_large() -> RefusedError:
    return RefusedError(413, f"a body has at most {BODY_MAX_BYTES} bytes")


def _too_slow() -> RefusedError:
    return RefusedError(408, f"a body has to arrive within {ARRIVE_WITHIN_S:.0f} s")


def _too_many() -> RefusedError:
    return RefusedError(429, "as many bodies as may are on their way from you already: send them whole", 1)
