"""The web pages of a stock Antminer: GET and POST behind HTTP digest, with errors split by what the caller will do.

pyasic answers every failure with a dictionary and without its status, and a failed read then looks like an empty configuration.
"""

import json
from typing import Any

import httpx

from hcp_pipelines.devices.miner.transport import REPLY_MAX_BYTES, excerpt
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

USER = "root"
Json = dict[str, Any]


def new_client(connections: int) -> httpx.AsyncClient:
    """A client for all miners of a site: nothing is verified, redirected or taken from the environment."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
    return httpx.AsyncClient(verify=False, trust_env=False, timeout=None, limits=limits)  # noqa: S113, S501 - see fetch


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
        try:
            response = await self._client.request(
                "GET" if body is None else "POST", url, auth=self._auth, json=body, headers={"Connection": "close"}
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeviceUnreachableError(f"{url}: {error!r}") from None
        if response.status_code in {401, 403}:
            raise DeviceRefusedError(f"{url}: status {response.status_code}: the password is another one")
        if response.status_code != 200 or len(response.content) > REPLY_MAX_BYTES:
            raise DeviceReplyError(f"{url}: status {response.status_code}: {excerpt(response.content)}")
        return _object(url, response.content)


def _object(url: str, content: bytes) -> Json:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise DeviceReplyError(f"{url}: no JSON: {excerpt(content)}") from None
    if not isinstance(value, dict):
        raise DeviceReplyError(f"{url}: JSON that is no object: {excerpt(content)}")
    return value
