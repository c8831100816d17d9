"""Bitstamp: the last BTC/USD trade as a tick of `btc.usd`. Its timestamp is in whole Unix seconds, as text.

Source: Bitstamp HTTP API v2, Ticker.
"""

from datetime import UTC, datetime

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://www.bitstamp.net"
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
