"""Binance: the last BTC/USDT trade as a tick of `btc.usd`, and hourly candles. Times are Unix milliseconds, prices text.

The dollar here is tether, within a tenth of a percent of it as a rule; a venue that strays is left out of the consensus.
Source: Binance Spot REST API, Compressed/Aggregate trades list (`p` price, `T` time) and Kline/Candlestick data.
"""

from datetime import UTC, datetime, timedelta

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.candles import Candle, candles_of, within
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.binance.com"
LIMIT = Limit(1200, 60.0, weight_a_minute=6000)  # by address; a request weighs 2 to 4
CANDLE_S = 3600
KLINES = "/api/v3/klines"
MAX_CANDLES = 1000  # of one reply
TRADES = "/api/v3/aggTrades"
SYMBOL = "BTCUSDT"
SERIES = "binance"


class BinanceClient:
    """The BTC/USDT price on Binance."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USDT per bitcoin, holding from the trade's own time.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        reply = await self._http.get_json(TRADES, {"symbol": SYMBOL, "limit": 1})
        try:
            trade = reply.body[-1]
            price, traded_at = trade["p"], datetime.fromtimestamp(int(trade["T"]) / 1000, UTC)
        except (IndexError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TRADES}: not trades: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, traded_at, number(price), "USD", SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Hourly candles that start in [start, end), oldest first."""
        found: list[Candle] = []
        step, cursor = timedelta(seconds=CANDLE_S), start
        while cursor < end:
            until = min(end, cursor + step * (MAX_CANDLES - 1))
            span = {"startTime": int(cursor.timestamp() * 1000), "endTime": int(until.timestamp() * 1000)}
            reply = await self._http.get_json(
                KLINES, {"symbol": SYMBOL, "interval": "1h", "limit": MAX_CANDLES, **span}
            )
            # `[open time, open, high, low, close, volume, close time, …]`
            found += candles_of(KLINES, reply.body, lambda row: (row[0] / 1000, *row[1:6]))
            cursor = until + step
        return within(found, start, end)
