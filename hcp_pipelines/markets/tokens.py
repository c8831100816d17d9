"""Bearer tokens that a service hands out and that end: asked for when needed, anew before they end, and once upon a 401.

An httpx `Auth`, so that a token is fetched by the client that needs it. Secrets stand in no message: of a refused log-in only the
service's own error code is told. Source: RFC 6749 (token endpoint), RFC 6750 (Bearer).
"""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Generator, Mapping

import httpx
from pydantic import SecretStr

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import MarketError

EARLY_S = 60.0  # before its end a token is no longer used
MAX_TOKEN_BYTES = 64 * 1024
UNSAID_LIFE_S = 300.0


class TokenAuth(httpx.Auth):
    """Logs in at `url` with a form, and puts the token (and what else each call needs) into the headers."""

    def __init__(
        self,
        url: str | Callable[[], str],
        form: Mapping[str, str | SecretStr],
        clock: Clock,
        *,
        token_field: str = "access_token",  # noqa: S107 - a name
        headers: Mapping[str, SecretStr] | None = None,
    ) -> None:
        """`token_field`: what the reply calls the token that is sent."""
        self._url = url if callable(url) else lambda: url
        self._form = form
        self._clock = clock
        self._field = token_field
        self._headers = headers or {}
        self._lock = asyncio.Lock()
        self._token = ""
        self._ends_s = -math.inf

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Log in where there is no token that lasts, send, and once more with a new token where this one is refused."""
        for name, value in self._headers.items():
            request.headers[name] = value.get_secret_value()
        async with self._lock:
            if self._clock.monotonic_s() >= self._ends_s:
                await self._take((yield self._login()))
            token = self._token
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        await _body(str(request.url.copy_with(query=None)), response)
        async with self._lock:
            if self._token == token:  # nobody else has been there yet
                await self._take((yield self._login()))
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request

    def _login(self) -> httpx.Request:
        form = {name: v.get_secret_value() if isinstance(v, SecretStr) else v for name, v in self._form.items()}
        return httpx.Request("POST", self._url(), data=form, headers={"accept": "application/json"})

    async def _take(self, response: httpx.Response) -> None:
        """Keep the token of a reply and when it ends.

        Raises:
            MarketError: it was refused, or there is none in it.
        """
        where = f"{response.request.url.copy_with(query=None)}"
        reply = await _document(where, response)
        if not response.is_success:
            said = str(reply.get("error", ""))[:80]
            raise MarketError(
                f"{where}: no token: status {response.status_code} {said}: are user, password and client right?"
            )
        token = reply.get(self._field)
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise MarketError(f"{where}: no {self._field} in the reply, which has {sorted(map(str, reply))!s:.120}.")
        self._token = token
        life_s = _seconds(reply.get("expires_in")) / max(1.0, self._clock.speed)
        self._ends_s = self._clock.monotonic_s() + max(life_s - EARLY_S, life_s / 2)


class KeyAuth(httpx.Auth):
    """A key that a service has handed out for good, as a bearer token."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the key into the headers."""
        request.headers["authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


async def _body(where: str, response: httpx.Response) -> bytes:
    """The body of a reply that is not handed on, read no further than a token or a refusal is long.

    Raises:
        MarketError: it is longer.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_TOKEN_BYTES:
            raise MarketError(f"{where}: more than {MAX_TOKEN_BYTES} bytes, which is no token.")
    response._content = bytes(
        body
    )  # httpx reads every reply of an auth flow itself, and would find the stream consumed
    return response._content


async def _document(where: str, response: httpx.Response) -> dict[str, object]:
    """The JSON object of a reply, read no further than a token is long.

    Raises:
        MarketError: it is none.
    """
    try:
        found = json.loads(await _body(where, response))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise MarketError(f"{where}: status {response.status_code}, and not the JSON object that has a token.")
    return found


def _seconds(told: object) -> float:
    """How long a token lasts; services write it as text, too."""
    try:
        life_s = float(str(told))
    except ValueError:
        return UNSAID_LIFE_S
    return life_s if 0 < life_s < math.inf else UNSAID_LIFE_S
