"""HTTP to one node's two ports: every call under a deadline, every body bounded, compressed replies not asked for.

Tells apart *unreachable* (nobody answers, or not in time), *reply* (an answer that is none) and answers with a status, which the
codec judges. Nothing here knows the shapes of bodies.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address

import httpx
from pydantic import SecretStr

from hcp_pipelines.devices.work import no_cookies
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

CONNECT_WITHIN_S = 2.0
CALL_WITHIN_S = 5.0
MAX_REPLY_BYTES = 512 * 1024  # eight GPUs with every counter there is are about 200 KiB
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # plain HTTP only; loading the CAs costs 50 ms a node
_PEER_LEFT = ("Server disconnected", "peer closed connection")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that came whole."""

    status: int
    body: bytes
    content_type: str


def new_client(connections: int = 4) -> httpx.AsyncClient:
    """A client for one node or many; so many connections at once, of which idle ones give way to others."""
    return httpx.AsyncClient(
        headers={"user-agent": "hcp-edge/1", "accept-encoding": "identity"},
        timeout=None,  # noqa: S113 - each call has its deadline
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30.0),
        verify=_TRUSTS_NOBODY,
        trust_env=False,
        cookies=no_cookies(),
    )


class NodeTransport:
    """One node. `close` it when done; a client that was given is left open."""

    def __init__(
        self,
        host: str,
        *,
        exporter_port: int = 9400,
        agent_port: int = 9401,
        token: SecretStr | None = None,
        token_over_http: bool = False,
        within_s: float = CALL_WITHIN_S,
        client: httpx.AsyncClient | None = None,
        connections: int = 4,
    ) -> None:
        """`client`: shared with others; None: one of its own, with so many connections."""
        self._exporter = f"http://{host}:{exporter_port}"
        self._agent = f"http://{host}:{agent_port}"
        self._host, self._token = host, token
        self._may_send_token = token_over_http or _is_loopback(host)
        self._within_s = within_s
        self._timeout = httpx.Timeout(within_s, connect=min(CONNECT_WITHIN_S, within_s))
        self._is_own = client is None
        self._client = client or new_client(connections)

    async def close(self) -> None:
        """Close the kept connections; idempotent."""
        if self._is_own:
            await self._client.aclose()

    async def metrics(self) -> Answer:
        """The exporter's page.

        Raises:
            DeviceUnreachableError, DeviceReplyError: see the module.
        """
        return await self._call("GET", f"{self._exporter}/metrics")

    async def get(self, path: str) -> Answer:
        """A read of the agent."""
        return await self._call("GET", self._agent + path)

    async def post(self, path: str, body: bytes) -> Answer:
        """A write to the agent, with the token where there is one.

        Raises:
            DeviceRefusedError: the token would cross a network that nobody has said to be closed; nothing was sent.
        """
        headers = {"content-type": "application/json"}
        if self._token is not None:
            if not self._may_send_token:
                raise DeviceRefusedError(
                    f"{self._host}: the agent's token is not sent in clear text beyond this machine; "
                    "`token_over_http: true` says that the nodes' network is closed (docs/edge-site-file.md)"
                )
            headers["authorization"] = f"Bearer {self._token.get_secret_value()}"
        return await self._call("POST", self._agent + path, headers, body)

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        try:
            async with asyncio.timeout(self._within_s):
                answer = await self._read(method, url, headers or {}, body)
        except TimeoutError as error:
            raise DeviceUnreachableError(f"{url}: no whole answer within {self._within_s} s") from error
        except httpx.RemoteProtocolError as error:
            if str(error).startswith(_PEER_LEFT):
                raise DeviceUnreachableError(f"{url}: the node hung up ({error})") from error
            raise DeviceReplyError(f"{url}: not HTTP: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DeviceUnreachableError(f"{url}: {type(error).__name__}: {error}") from error
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise DeviceUnreachableError(f"{url}: status 503: too busy; try again")
        return answer

    async def _read(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        request = self._client.stream(method, url, headers=dict(headers), content=body, timeout=self._timeout)
        async with request as response:
            packed = response.headers.get("content-encoding", "identity")
            if packed != "identity":  # not asked for; 600 bytes can unpack to as many megabytes
                raise DeviceReplyError(f"{url}: a reply packed as {packed[:40]!r}, which was not asked for")
            whole = bytearray()
            async for chunk in response.aiter_raw():
                whole += chunk
                if len(whole) > MAX_REPLY_BYTES:
                    raise DeviceReplyError(
                        f"{url}: more than {MAX_REPLY_BYTES} bytes, the limit: {bytes(whole[:80])!r}"
                    )
            return Answer(response.status_code, bytes(whole), response.headers.get("content-type", ""))
