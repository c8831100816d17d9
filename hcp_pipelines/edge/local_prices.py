"""A price of the gateway's own, for when no owner tells it one: one JSON object in a file or at a URL.

`{"price_usd_per_mwh": …, "at": "…"}`: the expected settlement price of the present interval, and when it was so.
"""

import asyncio
import json
import math
from datetime import datetime
from pathlib import Path

import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge.config import LocalPrices

REPLY_MAX_BYTES = 64 * 1024
READ_WITHIN_S = 5.0
READ_EACH_S = 2.0


class PriceSource:
    """The gateway's own price; `watch` until cancelled."""

    def __init__(self, source: LocalPrices | None, clock: SystemClock) -> None:
        self._source, self._clock = source, clock
        self._price, self._at_s = math.nan, -math.inf
        self._log = structlog.get_logger("edge")

    def price(self, staleness_s: float) -> float | None:
        """The newest price; None without one, or if it is older than so many simulated seconds."""
        age_s = self._clock.now().timestamp() - self._at_s
        return self._price if 0 <= age_s <= staleness_s and math.isfinite(self._price) else None

    async def watch(self) -> None:
        """Read on and on; what can't be used is logged, and the last price grows old."""
        source = self._source
        while source is not None:
            try:
                self._take(await (_fetch(source.url) if source.url else asyncio.to_thread(_read, source.file)))
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._log.warning("the local price can't be used", error=repr(error)[:500])
            await asyncio.sleep(READ_EACH_S)

    def _take(self, content: bytes) -> None:
        document = json.loads(content)
        price, at = float(document["price_usd_per_mwh"]), datetime.fromisoformat(document["at"])
        if not math.isfinite(price) or at.tzinfo is None:
            raise ValueError(
                f"price {price!r} at {at.isoformat()}: a number and an instant with an offset are expected"
            )
        self._price, self._at_s = price, at.timestamp()


def _read(path: Path | None) -> bytes:
    assert path is not None  # config.py asks for one of the two
    with path.open("rb") as file:
        return file.read(REPLY_MAX_BYTES)


async def _fetch(url: str) -> bytes:
    import httpx  # only a gateway with a price at a URL loads it

    content = b""
    client = httpx.AsyncClient(timeout=READ_WITHIN_S, trust_env=False)
    try:
        async with client, client.stream("GET", url) as reply:
            reply.raise_for_status()
            async for chunk in reply.aiter_raw():
                content += chunk
                if len(content) > REPLY_MAX_BYTES:
                    raise ValueError(f"{url}: more than {REPLY_MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{url}: {error!r}") from error
    return content
