"""TCP sockets of the world's servers: how each is bound, and how a connection that is not wanted ends.

Who listens, on what, and whose connections are dropped is each server's own business.
"""

import asyncio
import socket
import struct
from typing import Final

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # each connection is checked: only 127/8 is answered
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to a port of a host; port 0 takes a free one.

    asyncio switches Nagle's algorithm off only where the listening socket names its protocol; with it a reply in two writes is
    40 ms late.

    Raises:
        OSError: the port can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def reset(line: asyncio.Transport) -> None:
    """End a connection with a reset, which is the nearest to a port that was never open."""
    kept: socket.socket | None = line.get_extra_info("socket")
    if kept is not None:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    line.abort()
