"""Gemini: the last BTC/USD trade as a tick of `btc.usd`, and the hourly candles that it still keeps.

Its ticker is not read: that has no time of its last trade, only one of the volume of a day, minutes old.
Source: Gemini REST API, v1 Trade History and v2 Candles.
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
TRADES = "/v1/trades/btcusd"
SERIES = "gemini"


class GeminiClient:
    """The BTC/USD price on Gemini."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USD per bitcoin, holding from the trade's own time.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        reply = await self._http.get_json(TRADES, {"limit_trades": 1})
        try:
            newest = reply.body[0]
            price, traded_at = newest["price"], datetime.fromtimestamp(int(newest["timestampms"]) / 1000, UTC)
        except (IndexError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TRADES}: not trades: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, traded_at, number(price), "USD", SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Hourly candles that start in [start, end), oldest first; it takes no range, and what it no longer keeps is missing.

        The newest one may still be running.
        """
        reply = await self._http.get_json(CANDLES)
        # `[time, open, high, low, close, volume]`, newest first
        found = candles_of(CANDLES, reply.body, lambda row: (row[0] / 1000, *row[1:6]))
        return within(found, start, end)
