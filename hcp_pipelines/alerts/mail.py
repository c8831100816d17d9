"""A conversation with a mail server that ends: one deadline over all of it, and a bound on what the server says.

`smtplib` has a timeout for each read alone, and reads an endless greeting for ever. What is said is in `sinks.py`.
"""

import smtplib
import socket
import ssl
from typing import Any

from hcp_pipelines.domain.clock import SystemClock

SAID_MAX = 65_536  # bytes of all that a server says: a greeting, its extensions, a dozen replies


class _Replies:
    """The lines that a server says, as `smtplib` reads them."""

    def __init__(self, client: "_Bounded") -> None:
        self._client, self._buffer = client, b""

    def readline(self, size: int) -> bytes:
        """The next line, or `size` bytes of it; what there is at the end of the stream."""
        while b"\n" not in self._buffer[:size] and len(self._buffer) < size:
            if not (more := self._client.receive()):
                break
            self._buffer += more
        end = self._buffer.find(b"\n", 0, size) + 1 or size
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line

    def close(self) -> None:
        """Nothing is held."""


class _Bounded(smtplib.SMTP):
    """Ends in time; errors are OSError and TimeoutError."""

    def __init__(self, host: str, port: int, *, within_s: float, **options: Any) -> None:
        self._clock, self._room = SystemClock(), SAID_MAX
        self._ends_at_s = self._clock.monotonic_s() + within_s
        super().__init__(host, port, timeout=within_s, **options)

    def receive(self) -> bytes:
        """What comes next, while there is time and room."""
        assert isinstance(self.sock, socket.socket)
        self._hurry()
        said = self.sock.recv(4096)
        self._room -= len(said)
        if self._room < 0:
            raise OSError(f"it said more than {SAID_MAX} bytes")
        return said

    def getreply(self) -> tuple[int, bytes]:
        """As `smtplib`'s, from bounded lines; TLS begins with new ones."""
        if self.file is None:
            self.file = _Replies(self)
        return super().getreply()

    def send(self, s: Any) -> None:
        """As `smtplib`'s, in the time that is left."""
        self._hurry()
        super().send(s)

    def _hurry(self) -> None:
        left_s = self._ends_at_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError("it takes too long")
        if self.sock is not None:
            self.sock.settimeout(left_s)


class _BoundedTls(_Bounded, smtplib.SMTP_SSL):
    """The same over TLS from the beginning."""


def connect(scheme: str, host: str, port: int, within_s: float, context: ssl.SSLContext) -> smtplib.SMTP:
    """A mail server that has greeted; all that is said to it has to be over within the time.

    Raises:
        OSError, smtplib.SMTPException: it can't be reached in time, or is none.
    """
    if scheme == "smtps":
        return _BoundedTls(host, port, within_s=within_s, context=context)
    return _Bounded(host, port, within_s=within_s)
