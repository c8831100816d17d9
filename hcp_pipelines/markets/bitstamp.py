"""Bitstamp: the last BTC/USD trade as a tick of `btc.usd`, and hourly candles. Timestamps are whole Unix seconds, as text.

Source: Bitstamp HTTP API v2, Ticker and OHLC data.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.candles import Candle, Row, candles_of, within
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://www.bitstamp.net"
LIMIT = Limit(400, 1.0)  # by address
OHLC = "/api/v2/ohlc/btcusd/"
CANDLE_S = 3600
MAX_CANDLES = 1000  # of one reply
TICKER = "/api/v2/ticker/btcusd/"
SERIES = "bitstamp"


class BitstampClient:
    """The BTC/USD price on Bitstamp."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USD per bitcoin, holding from the ticker's own time.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        reply = await self._http.get_json(TICKER)
        try:
            price, traded_at = reply.body["last"], datetime.fromtimestamp(int(reply.body["timestamp"]), UTC)
        except (KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TICKER}: not a ticker: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, traded_at, number(price), "USD", SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Hourly candles that start in [start, end), oldest first."""
        found: list[Candle] = []
        cursor = start
        while cursor < end:
            until = min(end, cursor + timedelta(seconds=CANDLE_S * (MAX_CANDLES - 1)))
            span = {"start": int(cursor.timestamp()), "end": int(until.timestamp())}
            reply = await self._http.get_json(OHLC, {"step": CANDLE_S, "limit": MAX_CANDLES, **span})
            try:
                rows = reply.body["data"]["ohlc"]
            except (KeyError, TypeError) as error:
                raise MarketError(f"{OHLC}: not candles: {reply.body!r:.200}.") from error
            found += candles_of(OHLC, rows, _row)
            cursor = until + timedelta(seconds=CANDLE_S)
        return within(found, start, end)


def _row(row: dict[str, Any]) -> Row:
    return row["timestamp"], row["open"], row["high"], row["low"], row["close"], row["volume"]
