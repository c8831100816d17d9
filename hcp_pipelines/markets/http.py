"""HTTP to an outside market: one keep-alive client a source, deadlines, few retries with jitter, limits obeyed, a circuit.

Answers a parsed reply or raises MarketError, never an empty value for a failure. Nothing here knows a market's shapes; those are
in the sibling modules, as are `pace` (how fast), `breaker` (when to stay away), `kept` (what has not changed) and `tokens`.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import httpx

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.breaker import Circuit
from hcp_pipelines.markets.kept import KeptReplies, Key
from hcp_pipelines.markets.pace import REFUSED_STATUS, Pace

USER_AGENT = "hcp-feed/1"
CONNECT_TIMEOUT_S = 1.0
WRITE_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.0
POOL_TIMEOUT_S = 4.0
REPLY_WITHIN_S = 15.0  # all of it: each read has its own, shorter deadline
PATIENCE_S = 2.0  # real: a longer pause that a service asks for is its caller's to wait out
MAX_REPLY_BYTES = 16 * 1024 * 1024
RETRIED_STATUS = frozenset({500, 502, 503, 504})

Params = Mapping[str, str | int]
Parse = Callable[[httpx.Response], Any]


class LeftAloneError(MarketError):
    """The service must not, or need not, be asked for so many real seconds: it has said so, or has failed too often."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class RefusedError(Exception):
    """Too many requests: for a reader of bodies (`Parse`) where a service says so with another status than 418 or 429."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed body and what the reply's headers say of its origin.

    `world_at` and `world_source` are only sent by a simulated world: the simulated instant, `recorded` or `generated`.
    `is_unchanged`: the service says that it is what it answered before.
    """

    body: Any
    world_at: datetime | None = None
    world_source: str | None = None
    is_unchanged: bool = False

    def provenance(self) -> dict[str, Any]:
        """Metadata for ticks made of this reply: `{"world": "recorded"}`, or nothing in the real world."""
        return {"world": self.world_source} if self.world_source else {}


class MarketHttp:
    """Asks one source; `base_url` is asked anew for each request, since a restarted world has another port."""

    def __init__(
        self,
        base_url: str | Callable[[], str],
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        pace: Pace | None = None,
        patience_s: float = PATIENCE_S,
        attempts: int = 3,
        retry_wait_s: float = 0.05,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`pace` has the clock, and is shared by all clients of one account; no longer pause is waited out than `patience_s`."""
        self._base_url = base_url if callable(base_url) else lambda: base_url
        self._pace = pace or Pace(SystemClock())
        self._clock = self._pace.clock
        self._circuit, self._circuit_of = Circuit(self._clock), ""
        self._kept = KeptReplies()
        self._patience_s = patience_s
        self._attempts = attempts
        self._retry_wait_s = retry_wait_s
        timeout = httpx.Timeout(
            connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S, write=WRITE_TIMEOUT_S, pool=POOL_TIMEOUT_S
        )
        self._client = httpx.AsyncClient(
            headers={"user-agent": USER_AGENT, "accept": "application/json", **(headers or {})},
            auth=auth,
            timeout=timeout,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=60.0),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the kept connections; idempotent."""
        await self._client.aclose()

    async def get_json(self, path: str, params: Params | None = None) -> Reply:
        """The JSON reply of `GET base_url + path`, after at most `attempts` tries.

        Raises:
            MarketError: no usable reply; the message names the address, the last failure and the number of tries.
        """
        return await self.get(path, params, read_json)

    async def get(self, path: str, params: Params | None, parse: Parse) -> Reply:
        """As `get_json`, with another reader of the body; what it refuses with ValueError is asked for again.

        Raises:
            MarketError: as there. LeftAloneError: the service is not to be asked now.
        """
        return await self._answer(_Question("GET", self._url(path), params), parse)

    async def post_json(self, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """As `get_json`, of a query that is a POST: it changes nothing, so that it may be asked again.

        Raises:
            MarketError: as there.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        return await self._answer(_Question("POST", self._url(path), None, content, headers), read_json)

    def _url(self, path: str) -> str:
        base = self._base_url().rstrip("/")
        if base != self._circuit_of:  # what failed at another address says nothing of this one
            self._circuit, self._circuit_of = Circuit(self._clock), base
        return base + path

    async def _answer(self, question: "_Question", parse: Parse) -> Reply:
        """The reply to a question, unless the service is to be left alone."""
        url = question.url
        if away_s := self._circuit.stay_away_s():
            raise LeftAloneError(
                f"{url}: it has failed {self._circuit.failures} times: left alone for a while.", away_s
            )
        try:
            reply = await self._try(question, parse)
        except _FailedError as error:
            self._circuit.failed()
            raise MarketError(f"{url}: {error} after {self._attempts} tries; the next poll tries again.") from error
        except MarketError:
            self._circuit.succeeded()  # it answers, if badly, or is not to be asked
            raise
        except BaseException:
            self._circuit.failed()  # given up by whoever waits for it
            raise
        self._circuit.succeeded()
        return reply

    async def _try(self, question: "_Question", parse: Parse) -> Reply:
        """The reply, after at most `attempts` failures; "too many" is none of them, and is waited out within the patience.

        Raises:
            _FailedError: the last of them.
        """
        failures, waited_s = 0, 0.0
        while True:
            waited_s += await self._keep_pace(question.url, self._patience_s - waited_s)
            try:
                return await self._ask(question, parse)
            except RefusedError:
                continue  # the pace knows how long to rest
            except (httpx.HTTPError, TimeoutError, _FailedError) as error:
                failures += 1
                if failures >= self._attempts:
                    raise _FailedError(_told(error)) from error
                await self._sleep(self._retry_wait_s * 2**failures * random.uniform(0.5, 1.5))  # noqa: S311

    async def _keep_pace(self, url: str, patience_s: float) -> float:
        """Wait until the service may be asked, and count the request; the real seconds that this took.

        Raises:
            LeftAloneError: that is longer than this caller waits.
        """
        waited_s = 0.0
        while wait_s := self._pace.wait_s():
            waited_s += wait_s
            if waited_s > patience_s:
                raise LeftAloneError(
                    f"{url}: its limit is reached, or it asked for a pause: {wait_s:.1f} s more; the next poll tries again.",
                    wait_s,
                )
            await self._sleep(wait_s)
        self._pace.sent()
        return waited_s

    async def _sleep(self, real_s: float) -> None:
        if real_s > 0:
            await self._clock.sleep(real_s * self._clock.speed)

    async def _ask(self, question: "_Question", parse: Parse) -> Reply:
        """One request and its reply."""
        kept = self._kept.get(question.key) if question.method == "GET" else None
        async with asyncio.timeout(REPLY_WITHIN_S):
            response = await self._read(question, kept.conditions if kept else {})
        self._pace.heed(response.status_code, response.headers)
        if response.status_code == httpx.codes.NOT_MODIFIED and kept is not None:
            return _reply(kept.body, {**kept.headers, **response.headers}, is_unchanged=True)
        _refuse_failures(question.url, response)
        try:
            body = parse(response)
        except RefusedError:
            self._pace.heed(httpx.codes.TOO_MANY_REQUESTS, response.headers)
            raise
        except (ValueError, RecursionError) as error:
            raise _FailedError(f"not JSON ({error}): {response.text[:200]!r}") from error
        if question.method == "GET":
            self._kept.keep(question.key, body, len(response.content), response.headers)
        return _reply(body, response.headers)

    async def _read(self, question: "_Question", conditions: Mapping[str, str]) -> httpx.Response:
        """The reply, read no further than its limit: few compressed bytes may unpack to many.

        Raises:
            MarketError: it is larger.
        """
        headers = {**question.headers, **conditions}
        query = dict(question.params or {})
        async with self._client.stream(
            question.method, question.url, params=query, content=question.content, headers=headers
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise MarketError(f"{question.url}: more than {MAX_REPLY_BYTES} bytes, the limit: ask for less.")
        plain = {k: v for k, v in response.headers.items() if k not in ("content-encoding", "content-length")}
        return httpx.Response(response.status_code, headers=plain, content=bytes(body))


class _Question(NamedTuple):
    """What is asked of a service."""

    method: str
    url: str
    params: Params | None
    content: bytes | None = None
    headers: Mapping[str, str] = {}

    @property
    def key(self) -> Key:
        """What its reply is kept under."""
        return self.url, tuple(sorted((key, str(value)) for key, value in (self.params or {}).items()))


class _FailedError(Exception):
    """What is worth another try: a status, or a body that can't be read, cut off on its way, perhaps."""


def _told(error: Exception) -> str:
    """What has failed, in words."""
    if isinstance(error, TimeoutError):
        return f"not all there after {REPLY_WITHIN_S:.0f} s"
    return str(error) if isinstance(error, _FailedError) else f"{type(error).__name__}: {error}"


def _refuse_failures(url: str, response: httpx.Response) -> None:
    """Raise for a status other than 2xx."""
    if response.status_code in REFUSED_STATUS:
        raise RefusedError
    if response.status_code in RETRIED_STATUS:
        raise _FailedError(f"status {response.status_code}")
    if not response.is_success:
        raise MarketError(f"{url}: status {response.status_code}: {response.text[:200]!r}.")


def read_json(response: httpx.Response) -> Any:
    """The body of a reply in JSON.

    Raises:
        ValueError: it is none.
    """
    return response.json()


def _reply(body: Any, headers: Mapping[str, str], *, is_unchanged: bool = False) -> Reply:
    return Reply(body, _instant(headers.get("x-world-time")), headers.get("x-world-source"), is_unchanged)


def _instant(text: str | None) -> datetime | None:
    """An aware instant from a header, or None where it is absent or without an offset."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None
