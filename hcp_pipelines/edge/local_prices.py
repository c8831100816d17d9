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
from hcp_pipelines.runtime.endless import endless

REPLY_MAX_BYTES = 64 * 1024
READ_WITHIN_S = 5.0  # real, from the first byte sent to the last one received
READ_EACH_S = 2.0
PLAUSIBLE_USD_PER_MWH = (-1_000.0, 10_000.0)  # twice the highest offer cap, as the feed has it
UNUSABLE = (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError)


class PriceSource:
    """The gateway's own price; `watch` until cancelled."""

    def __init__(self, source: LocalPrices | None, clock: SystemClock) -> None:
        self._source, self._clock = source, clock
        self._price, self._at_s = math.nan, -math.inf
        self._problem = ""
        self._log = structlog.get_logger("edge")

    def price(self, staleness_s: float) -> float | None:
        """The newest price; None without one, or if it is older than so many simulated seconds."""
        age_s = self._clock.now().timestamp() - self._at_s
        return self._price if 0 <= age_s <= staleness_s and math.isfinite(self._price) else None

    async def watch(self) -> None:
        """Read on and on; what can't be used is logged when it begins, and the last price grows old."""
        if self._source is not None:
            await endless(self._read_on(self._source))

    async def _read_on(self, source: LocalPrices) -> None:
        while True:
            try:
                self._take(await (_fetch(source.url) if source.url else asyncio.to_thread(_read, source.file)))
            except UNUSABLE as error:
                self._note(f"{type(error).__name__}: {error}"[:500])
            else:
                self._note("")
            await asyncio.sleep(READ_EACH_S)

    def _note(self, problem: str) -> None:
        """A line per change."""
        if problem and problem != self._problem:
            self._log.warning("the local price can't be used", error=problem)
        elif not problem and self._problem:
            self._log.info("the local price can be used again")
        self._problem = problem

    def _take(self, content: bytes) -> None:
        document = json.loads(content)
        price, at = document["price_usd_per_mwh"], datetime.fromisoformat(document["at"])
        low, high = PLAUSIBLE_USD_PER_MWH
        is_number = isinstance(price, int | float) and not isinstance(price, bool)
        if not is_number or not low <= price <= high or at.tzinfo is None:
            said = f"price {str(price)[:50]} at {at.isoformat()}"
            raise ValueError(
                f"{said}: a number from {low:g} to {high:g} $/MWh and an instant with an offset are expected"
            )
        self._price, self._at_s = float(price), at.timestamp()


def _read(path: Path | None) -> bytes:
    assert path is not None  # config.py asks for one of the two
    with path.open("rb") as file:
        return file.read(REPLY_MAX_BYTES)


async def _fetch(url: str) -> bytes:
    """The body as it comes: nothing is unpacked, no redirect followed."""
    import httpx  # only a gateway with a price at a URL loads it

    content = b""
    client = httpx.AsyncClient(timeout=READ_WITHIN_S, trust_env=False, headers={"Accept-Encoding": "identity"})
    try:
        async with asyncio.timeout(READ_WITHIN_S), client, client.stream("GET", url) as reply:
            reply.raise_for_status()
            async for chunk in reply.aiter_raw():
                content += chunk
                if len(content) > REPLY_MAX_BYTES:
                    raise ValueError(f"{url}: more than {REPLY_MAX_BYTES} bytes")
    except TimeoutError:
        raise TimeoutError(f"{url}: no whole answer within {READ_WITHIN_S:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{url}: {error!r}") from error
    return content
