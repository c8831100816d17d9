"""The web pages of a stock Antminer: GET and POST behind HTTP digest, with errors split by what the caller will do.

pyasic answers every failure with a dictionary and without its status, and a failed read then looks like an empty configuration.
"""

import json
from typing import Any

import httpx

from hcp_pipelines.devices.miner.transport import REPLY_MAX_BYTES, excerpt
from hcp_pipelines.devices.work import no_cookies
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

USER = "root"
_HEADERS = {"Connection": "close", "Accept-Encoding": "identity"}  # bytes are counted as they come
Json = dict[str, Any]


def new_client(connections: int) -> httpx.AsyncClient:
    """A client for all miners of a site: nothing is verified, redirected or taken from the environment."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
    return httpx.AsyncClient(
        verify=False,  # noqa: S501 - see fetch
        trust_env=False,
        timeout=None,  # noqa: S113 - see fetch
        limits=limits,
        cookies=no_cookies(),
    )


class AntminerPages:
    """One miner's pages; the digest's nonce is kept between requests."""

    def __init__(self, client: httpx.AsyncClient, address: str, port: int, password: str) -> None:
        self._client = client
        self._base = f"http://{address}:{port}/cgi-bin"
        self._auth = httpx.DigestAuth(USER, password)

    async def fetch(self, page: str, body: Json | None = None) -> Json:
        """The JSON of a page; with a body it is posted. The caller has the deadline.

        Raises:
            DeviceUnreachableError: no response.
            DeviceRefusedError: the password is not the device's.
            DeviceReplyError: another status than 200, or no JSON object.
        """
        url = f"{self._base}/{page}.cgi"
        method = "GET" if body is None else "POST"
        try:
            async with self._client.stream(method, url, auth=self._auth, json=body, headers=_HEADERS) as response:
                status, content = response.status_code, await _content(url, response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeviceUnreachableError(f"{url}: {error!r}") from None
        if status in {401, 403}:
            raise DeviceRefusedError(f"{url}: status {status}: the password is another one")
        if status != 200:
            raise DeviceReplyError(f"{url}: status {status}: {excerpt(content)}")
        return _object(url, content)


async def _content(url: str, response: httpx.Response) -> bytes:
    """The body, up to a limit: a page may have no end."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > REPLY_MAX_BYTES:
            raise DeviceReplyError(f"{url}: a page of more than {REPLY_MAX_BYTES} bytes")
    return bytes(content)


def _object(url: str, content: bytes) -> Json:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise DeviceReplyError(f"{url}: no JSON: {excerpt(content)}") from None
    if not isinstance(value, dict):
        raise DeviceReplyError(f"{url}: JSON that is no object: {excerpt(content)}")
    return value
