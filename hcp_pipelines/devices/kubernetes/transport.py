"""HTTPS to an API server: every exchange under a deadline, every body bounded, the token read again for each.

Tells apart *unreachable* (nobody answers, not in time, 401, 429, 5xx: may pass), *refused* (the server says no) and *reply* (no
answer that makes sense). 404, 409 and 410 are answers: what they mean is the caller's. Shapes of bodies are in `codec`.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from hcp_pipelines.devices.kubernetes.token import TokenFile
from hcp_pipelines.devices.work import no_cookies
from hcp_pipelines.domain.errors import ConfigError, DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

MAX_REPLY_BYTES = 32 * 1024 * 1024  # a page of 500 Jobs is about 2 MB
MAX_LINE_BYTES = 1024 * 1024
WATCHES = 4  # connections beside those for calls
CONNECT_FRACTION = 1 / 3  # of a call's time, for TCP and for TLS each
_ANSWERS = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that came whole: its status and its object."""

    status: int
    body: Json


class ApiTransport:
    """One API server, between `open` and `close`."""

    def __init__(self, api: str, ca_file: Path | None, token: TokenFile, within_s: float, concurrency: int) -> None:
        """`ca_file`: who signed the server's certificate; None: the machine's authorities. `concurrency`: calls at once.

        Raises:
            ConfigError: the file holds no certificates.
        """
        self._api, self._token, self._within_s = api.rstrip("/"), token, within_s
        self._connections, self._at_once = concurrency + WATCHES, asyncio.Semaphore(concurrency)
        try:
            self._trust = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError as error:
            raise ConfigError(f"ca_file {ca_file}: {error}") from None
        self._opened: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Calls may be made from now on."""
        self._opened = httpx.AsyncClient(
            headers={"user-agent": "hcp-edge/1", "accept": "application/json", "accept-encoding": "identity"},
            limits=httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections),
            verify=self._trust,
            trust_env=False,
            cookies=no_cookies(),
        )

    async def close(self) -> None:
        """Close the connections; idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        if self._opened is None:
            raise DeviceUnreachableError(f"{self._api}: not connected")
        return self._opened

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One exchange.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: see the module.
        """
        headers = self._headers() | ({"content-type": content_type} if body is not None else {})
        content = None if body is None else json.dumps(body).encode()
        name, timeout = f"{method} {path}", self._timeout(self._within_s)
        try:
            async with self._at_once, asyncio.timeout(self._within_s):
                request = self._client.stream(
                    method, self._api + path, params=params, headers=headers, content=content, timeout=timeout
                )
                async with request as response:
                    whole = await _read(response, name)
        except TimeoutError as error:
            raise DeviceUnreachableError(f"{name}: no whole answer within {self._within_s:g} s") from error
        except httpx.HTTPError as error:
            raise DeviceUnreachableError(f"{name}: {type(error).__name__}: {error}") from error
        return _judged(response.status_code, whole, name)

    async def watch(self, path: str, params: Mapping[str, str], silent_s: float) -> AsyncIterator[Json]:
        """Events of a watch, until it ends; one that says nothing for so long has ended.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: as `call`.
        """
        name = f"watch {path}"
        timeout = self._timeout(silent_s)
        try:
            async with self._client.stream(
                "GET", self._api + path, params=dict(params) | {"watch": "1"}, headers=self._headers(), timeout=timeout
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    answer = _judged(response.status_code, await _read(response, name), name)
                    if answer.status == HTTPStatus.GONE:  # said at once instead of by an event
                        yield {"type": "ERROR", "object": answer.body | {"code": answer.status}}
                        return
                    raise DeviceRefusedError(f"{name}: status {response.status_code}")
                async for line in _lines(response, name):
                    yield _object(line, name)
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError as error:
            raise DeviceUnreachableError(f"{name}: {type(error).__name__}: {error}") from error

    def _timeout(self, read_s: float) -> httpx.Timeout:
        """Of one call. A handshake ends by its own time, never by the whole's: httpx leaves it open where it is cancelled."""
        return httpx.Timeout(self._within_s, connect=CONNECT_FRACTION * self._within_s, read=read_s)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token.read().get_secret_value()}"}


async def _read(response: httpx.Response, name: str) -> bytes:
    whole = bytearray()
    async for chunk in response.aiter_raw():
        whole += chunk
        if len(whole) > MAX_REPLY_BYTES:
            raise DeviceReplyError(f"{name}: more than {MAX_REPLY_BYTES} bytes, the limit")
    return bytes(whole)


async def _lines(response: httpx.Response, name: str) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_raw():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise DeviceReplyError(f"{name}: an event of more than {MAX_LINE_BYTES} bytes")


def _judged(status: int, whole: bytes, name: str) -> Answer:
    """The answer of a status; also one that says that there is no such thing, or another version of it."""
    if 200 <= status < 300 or status in _ANSWERS:
        return Answer(status, _object(whole, name))
    said = f"{name}: status {status}: {_reason(whole)}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT) or status >= 500:
        raise DeviceUnreachableError(said)
    if 400 <= status < 500:
        raise DeviceRefusedError(said)
    raise DeviceReplyError(said)


def _reason(whole: bytes) -> str:
    """What a Status object says, or the first bytes of something else."""
    try:
        said = json.loads(whole)
    except (ValueError, RecursionError):
        return repr(whole[:80])
    return f"{said.get('reason', '')}: {said.get('message', '')}"[:300] if isinstance(said, dict) else repr(whole[:80])


def _object(text: bytes, name: str) -> Json:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeviceReplyError(f"{name}: not JSON: {text[:80]!r}") from error
    if not isinstance(said, dict):
        raise DeviceReplyError(f"{name}: not an object: {text[:80]!r}")
    return said
