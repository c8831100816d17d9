"""/metrics and /healthz: a few lines of asyncio, since a web framework costs more memory than they do."""

import asyncio
import contextlib
import json
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from hcp_pipelines.domain.errors import ConfigError

EVERYWHERE = ("0.0.0.0", "*")  # noqa: S104 - listened on only where a setting says so
REQUEST_MAX_BYTES = 8192
REQUEST_WITHIN_S = 5.0

Health = Callable[[], dict[str, str]]


class StatusServer:
    """Answers GET /metrics and GET /healthz; `health` gives the reasons why the process is unwell."""

    def __init__(self, health: Health, listen: str = "127.0.0.1:0") -> None:
        self._health = health
        self._host, _, self._port = listen.rpartition(":")
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the base URL for this machine.

        Raises:
            ConfigError: the address is taken, or not this machine's.
        """
        try:
            self._server = await asyncio.start_server(
                self._answer, self._host, int(self._port), limit=REQUEST_MAX_BYTES
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(f"HCP_STATUS_LISTEN={self._host}:{self._port}: {error}") from error
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{'127.0.0.1' if self._host in EVERYWHERE else self._host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._reply(head.split(b"\r\n", 1)[0].decode("latin-1")))
                await writer.drain()
        writer.close()

    def _reply(self, request_line: str) -> bytes:
        method, _, rest = request_line.partition(" ")
        path = rest.split(" ")[0].split("?")[0]
        if method != "GET":
            return _http("405 Method Not Allowed", "text/plain", b"only GET\n")
        if path == "/metrics":
            return _http("200 OK", CONTENT_TYPE_LATEST, generate_latest(REGISTRY))
        if path == "/healthz":
            problems = {k: v for k, v in self._health().items() if v}
            status = "503 Service Unavailable" if problems else "200 OK"
            return _http(
                status, "application/json", json.dumps({"healthy": not problems, "problems": problems}).encode()
            )
        return _http("404 Not Found", "text/plain", b"there are /metrics and /healthz\n")


def _http(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
