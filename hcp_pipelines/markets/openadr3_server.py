"""A server of OpenADR 3.1 as a client sees it: log-in, lists page by page, one object, one that is sent. Not what they mean.

Every failure is a MarketError; one that says that an object is not there is told from all others.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import SecretStr

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import ConfigError, MarketError
from hcp_pipelines.markets.http import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, MarketHttp
from hcp_pipelines.markets.openadr_events import is_confidential
from hcp_pipelines.markets.tokens import TokenAuth

PAGE: Final = 50
MAX_PAGES: Final = 20


@dataclass(frozen=True)
class Client:
    """Who we are there: id and secret, and who signed the server's certificate (else the system's authorities)."""

    client_id: str
    secret: SecretStr
    ca: Path | None = None


class RestServer:
    """One server, logged in at as one client."""

    def __init__(self, base_url: str, client: Client, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._clock = clock
        self._http: MarketHttp | None = None
        self._plain: httpx.AsyncClient | None = None  # where a status is the answer

    async def log_in(self) -> None:
        """Find out where a token is to be had; it is fetched when it is needed.

        Raises:
            MarketError: the server does not answer, or says no such place.
            ConfigError: the authorities' file can't be used, or the server's address is a plain one.
        """
        if not is_confidential(self._base_url):
            raise ConfigError(f"{self._base_url}: a secret would go in clear: https://, or http://127.0.0.1")
        auth = TokenAuth(await self._token_url(), self._form(), self._clock)
        self._http = MarketHttp(self._base_url, auth=auth, transport=self._transport())
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._plain = httpx.AsyncClient(auth=auth, timeout=timeout, transport=self._transport(), trust_env=False)

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        if self._http is not None:
            await self._http.close()
        if self._plain is not None:
            await self._plain.aclose()

    async def listed(self, path: str, query: Mapping[str, str]) -> list[Any]:
        """All objects of a list, page by page.

        Raises:
            MarketError: a page is no list, or there is no end to them.
        """
        assert self._http is not None
        found: list[Any] = []
        for page in range(MAX_PAGES):
            body = (await self._http.get_json(path, {**query, "skip": page * PAGE, "limit": PAGE})).body
            if not isinstance(body, list):
                raise MarketError(f"{self._base_url}{path}: not a list")
            found += body
            if len(body) < PAGE:
                return found
        raise MarketError(f"{self._base_url}{path}: more than {MAX_PAGES * PAGE} objects")

    async def is_there(self, path: str) -> bool:
        """Whether there is such an object: False only where the server says that there is none.

        Raises:
            MarketError: it says neither.
        """
        status = await self._status("GET", path)
        if status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            raise MarketError(f"{self._base_url}{path}: status {status}, whether it is there is not said")
        return status == httpx.codes.OK

    async def post(self, path: str, body: dict[str, Any]) -> None:
        """Send an object.

        Raises:
            MarketError: it was not taken.
        """
        status = await self._status("POST", path, body)
        if status not in (httpx.codes.CREATED, httpx.codes.OK):
            raise MarketError(f"{self._base_url}{path}: status {status}, what was sent was not taken")

    async def _status(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        assert self._plain is not None
        url = self._base_url + path
        try:
            async with self._plain.stream(method, url, json=body) as response:
                return response.status_code
        except httpx.HTTPError as error:
            raise MarketError(f"{url}: {type(error).__name__}: {error}") from error

    async def _token_url(self) -> str:
        """Where a token is handed out: over TLS, or, by a server on this machine, there.

        Raises:
            MarketError: the server says none, or one that a secret may not be sent to.
        """
        http = MarketHttp(self._base_url, transport=self._transport())
        try:
            body = (await http.get_json("/auth/server")).body
        finally:
            await http.close()
        url = body.get("tokenURL") if isinstance(body, dict) else None
        is_local = self._base_url.startswith("http://")
        if not isinstance(url, str) or not is_confidential(url) or (url.startswith("http://") and not is_local):
            raise MarketError(f"{self._base_url}/auth/server: no tokenURL that a secret may be sent to: {url!s:.200}")
        return url

    def _form(self) -> dict[str, str | SecretStr]:
        who = self._client
        return {"grant_type": "client_credentials", "client_id": who.client_id, "client_secret": who.secret}

    def _transport(self) -> httpx.AsyncHTTPTransport:
        ca = None if self._client.ca is None else str(self._client.ca)
        try:
            return httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=ca))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"OpenADR: authorities {ca} can't be used: {error}") from error
