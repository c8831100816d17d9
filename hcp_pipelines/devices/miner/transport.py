"""One request and its reply over TCP, under a deadline and a size limit. Knows framing, not content.

A refused connection, a silent device and one that closes without a word are all *unreachable*: none of them may be read as idle.
"""

import asyncio
import contextlib
from enum import Enum

from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError

REPLY_MAX_BYTES = 256 * 1024  # a full house of boards, chips and errors is a tenth of it
EXCERPT_BYTES = 120
_WORD = 4


class Framing(Enum):
    """How a reply ends."""

    CLOSE = "close"  # a zero byte, or the end of the connection
    LENGTH = "length"  # four bytes, little-endian, before it; the same before the request


async def exchange(
    address: str, port: int, request: bytes, deadline_s: float, framing: Framing = Framing.CLOSE
) -> bytes:
    """The whole reply to a request, without its framing.

    Raises:
        DeviceUnreachableError: nothing came, or not in time.
        DeviceReplyError: more than a device can have to say.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(request)
            data = await (_until_closed(reader) if framing is Framing.CLOSE else _by_length(reader))
    except (TimeoutError, OSError, EOFError) as error:
        why = f"no whole reply within {deadline_s:g} s" if isinstance(error, TimeoutError) else repr(error)
        raise DeviceUnreachableError(f"{address}:{port}: {why}") from None
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()
    if data is None:
        raise DeviceReplyError(f"{address}:{port}: a reply of more than {REPLY_MAX_BYTES} bytes")
    if not data:
        raise DeviceUnreachableError(f"{address}:{port}: closed the connection without a reply")
    return data


def excerpt(data: bytes) -> str:
    """The beginning of a reply, fit for a log line.

    >>> excerpt(b"{}")
    "'{}'"
    """
    head = repr(data[:EXCERPT_BYTES])[1:]
    return f"{head}… ({len(data)} bytes)" if len(data) > EXCERPT_BYTES else head


async def _until_closed(reader: asyncio.StreamReader) -> bytes | None:
    data = bytearray()
    while chunk := await reader.read(65_536):
        data += chunk
        if len(data) > REPLY_MAX_BYTES:
            return None
        if chunk.endswith(b"\0"):
            break
    return bytes(data).rstrip(b"\0")


async def _by_length(reader: asyncio.StreamReader) -> bytes | None:
    length = int.from_bytes(await reader.readexactly(_WORD), "little")
    return await reader.readexactly(length) if length <= REPLY_MAX_BYTES else None
