"""HTTP to an outside market: one keep-alive client a source, deadlines, few retries with jitter, a small circuit breaker.

Answers parsed JSON or raises MarketError, never an empty value for a failure. Nothing here knows a market's shapes;
those are in the sibling modules.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from hcp_pipelines.domain.errors import MarketError

USER_AGENT = "hcp-feed/1"
CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 4.0
REPLY_WITHIN_S = 15.0  # all of it: each read has its own, shorter deadline
MAX_REPLY_BYTES = 16 * 1024 * 1024
RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed JSON body and what the reply's headers say of its origin.

    `world_at` and `world_source` are only sent by a simulated world: the simulated instant, `recorded` or `generated`.
    """

    body: Any
    world_at: datetime | None = None
    world_source: str | None = None

    def provenance(self) -> dict[str, Any]:
        """Metadata for ticks made of this reply: `{"world": "recorded"}`, or nothing in the real world."""
        return {"world": self.world_source} if self.world_source else {}


class MarketHttp:
    """GETs JSON from one source; `base_url` is asked anew for each request, since a restarted world has another port."""

    def __init__(
        self,
        base_url: str | Callable[[], str],
        *,
        headers: Mapping[str, str] | None = None,
        attempts: int = 3,
        retry_wait_s: float = 0.05,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url if callable(base_url) else lambda: base_url
        self._attempts = attempts
        self._retry_wait_s = retry_wait_s
        self._client = httpx.AsyncClient(
            headers={"user-agent": USER_AGENT, "accept": "application/json", **(headers or {})},
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=60.0),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the kept connections; idempotent."""
        await self._client.aclose()

    async def get_json(self, path: str, params: Mapping[str, str | int] | None = None) -> Reply:
        """The JSON reply of `GET base_url + path`, after at most `attempts` tries.

        Raises:
            MarketError: no usable reply; the message names the address, the last failure and the number of tries.
        """
        failure = "no attempt was made"
        url = self._base_url().rstrip("/") + path
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._retry_wait_s * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                async with asyncio.timeout(REPLY_WITHIN_S):
                    response = await self._get(url, params)
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            except TimeoutError:
                failure = f"not all there after {REPLY_WITHIN_S:.0f} s"
                continue
            if response.status_code in RETRIED_STATUS:
                failure = f"status {response.status_code}"
                continue
            return _parsed(url, response)
        raise MarketError(f"{url}: {failure} after {self._attempts} tries; the next poll tries again.")

    async def _get(self, url: str, params: Mapping[str, str | int] | None) -> httpx.Response:
        """The reply, read no further than its limit: few compressed bytes may unpack to many.

        Raises:
            MarketError: it is larger.
        """
        async with self._client.stream("GET", url, params=dict(params or {})) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise MarketError(f"{url}: more than {MAX_REPLY_BYTES} bytes, the limit: ask for less.")
        plain = {k: v for k, v in response.headers.items() if k not in ("content-encoding", "content-length")}
        return httpx.Response(response.status_code, headers=plain, content=bytes(body))


def _parsed(url: str, response: httpx.Response) -> Reply:
    """The reply's JSON; a status other than 2xx or a non-JSON body is a MarketError."""
    if not response.is_success:
        raise MarketError(f"{url}: status {response.status_code}: {response.text[:200]!r}.")
    try:
        body = response.json()
    except (ValueError, RecursionError) as error:
        raise MarketError(f"{url}: not JSON ({error}): {response.text[:200]!r}.") from error
    return Reply(
        body=body,
        world_at=_instant(response.headers.get("x-world-time")),
        world_source=response.headers.get("x-world-source"),
    )


def _instant(text: str | None) -> datetime | None:
    """An aware instant from a header, or None where it is absent or without an offset."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None


@dataclass(slots=True)
class Breaker:
    """How long to leave a failing source alone: nothing for its first failures, then doubling pauses, real seconds."""

    threshold: int = 3
    first_pause_s: float = 0.25
    longest_pause_s: float = 10.0
    failures: int = field(default=0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether the source has failed often enough in a row to be left alone for a while."""
        return self.failures >= self.threshold

    def succeeded(self) -> None:
        """Close it: the source answered."""
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; the real seconds to wait before the next try, with jitter."""
        self.failures += 1
        doublings = min(max(0, self.failures - self.threshold), 10)
        pause_s = min(self.longest_pause_s, self.first_pause_s * float(2**doublings))
        return pause_s * random.uniform(0.75, 1.25)  # noqa: S311
