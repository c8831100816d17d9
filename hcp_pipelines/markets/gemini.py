"""Gemini: the last BTC/USD price as a tick of `btc.usd`, and the hourly candles that it still keeps.

The ticker has no time of its last trade, only the end of the day that its volume is of: whether it stands still is judged by
its price (`markets.consensus`). Source: Gemini REST API, v1 Ticker and v2 Candles.
"""

from datetime import UTC, datetime

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.candles import Candle, candles_of, within
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.gemini.com"
LIMIT = Limit(120, 60.0)  # of public endpoints, by address
CANDLES = "/v2/candles/btcusd/1hr"
CANDLE_S = 3600
TICKER = "/v1/pubticker/btcusd"
SERIES = "gemini"


class GeminiClient:
    """The BTC/USD price on Gemini."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last price: USD per bitcoin, holding from the ticker's own time.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        reply = await self._http.get_json(TICKER)
        try:
            price, told_ms = reply.body["last"], int(reply.body["volume"]["timestamp"])
            told_at = datetime.fromtimestamp(told_ms / 1000, UTC)
        except (KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TICKER}: not a ticker: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, told_at, number(price), "USD", SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Hourly candles that start in [start, end), oldest first; it takes no range, and what it no longer keeps is missing.

        The newest one may still be running.
        """
        reply = await self._http.get_json(CANDLES)
        # `[time, open, high, low, close, volume]`, newest first
        found = candles_of(CANDLES, reply.body, lambda row: (row[0] / 1000, *row[1:6]))
        return within(found, start, end)
