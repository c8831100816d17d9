"""Kraken: the last XBT/USD trade as a tick of `btc.usd`. Errors come with status 200, in a list.

Source: Kraken Spot REST API, Get Recent Trades (`[price, volume, time, side, kind, misc, id]`, newest last).
"""

from datetime import UTC, datetime

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.kraken.com"
TRADES = "/0/public/Trades"
PAIR = "XBTUSD"
SERIES = "kraken"


class KrakenClient:
    """The XBT/USD price on Kraken."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USD per bitcoin, holding from the trade's own time.

        Raises:
            MarketError: no reply, one that says an error, or one of another shape.
        """
        reply = await self._http.get_json(TRADES, {"pair": PAIR, "count": 1})
        try:
            if reply.body["error"]:
                raise MarketError(f"{TRADES}: {reply.body['error']!r:.200}.")
            (trades,) = (value for name, value in reply.body["result"].items() if name != "last")
            price, _, at_s, *_ = trades[-1]
            traded_at = datetime.fromtimestamp(float(at_s), UTC)
        except (AttributeError, IndexError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TRADES}: not the trades of one pair: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, traded_at, number(price), "USD", SERIES, metadata=reply.provenance())
