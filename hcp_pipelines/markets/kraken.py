"""Kraken: the last XBT/USD trade as a tick of `btc.usd`, and candles. Errors come with status 200, in a list.

Source: Kraken Spot REST API, Get Recent Trades (`[price, volume, time, side, kind, misc, id]`, newest last), and Get OHLC Data.
"""

from datetime import UTC, datetime
from typing import Any

import httpx

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.candles import Candle, candles_of, within
from hcp_pipelines.markets.http import MarketHttp, RefusedError, Reply, read_json
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.kraken.com"
LIMIT = Limit(60, 60.0)  # one a second of public endpoints, by address and pair
OHLC = "/0/public/OHLC"
CANDLE_S = 14_400  # it keeps the last 720 of each length: hours would reach back 30 days, these 120
TRADES = "/0/public/Trades"
PAIR = "XBTUSD"
SERIES = "kraken"
TOO_OFTEN = ("EGeneral:Too many requests", "EAPI:Rate limit exceeded")


class KrakenClient:
    """The XBT/USD price on Kraken."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USD per bitcoin, holding from the trade's own time.

        Raises:
            MarketError: no reply, one that says an error, or one of another shape.
        """
        reply = await self._http.get(TRADES, {"pair": PAIR, "count": 1}, _read)
        try:
            price, _, at_s, *_ = _of_pair(TRADES, reply)[-1]
            traded_at = datetime.fromtimestamp(float(at_s), UTC)
        except (IndexError, OSError, OverflowError, TypeError, ValueError) as error:
            raise MarketError(f"{TRADES}: not the trades of one pair: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, traded_at, number(price), "USD", SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Candles of four hours that start in [start, end), oldest first; those that it no longer keeps are missing.

        The last one of a reply is still running and is left out.
        """
        since_s = int(start.timestamp()) - 1
        reply = await self._http.get(OHLC, {"pair": PAIR, "interval": CANDLE_S // 60, "since": since_s}, _read)
        # `[time, open, high, low, close, vwap, volume, count]`
        rows = candles_of(OHLC, _of_pair(OHLC, reply)[:-1], lambda row: (*row[:5], row[6]))
        return within(rows, start, end)


def _read(response: httpx.Response) -> Any:
    """The body; too many requests are an error among others here, with status 200.

    Raises:
        RefusedError: it says so.
    """
    body = read_json(response)
    errors = body.get("error") if isinstance(body, dict) else None
    if any(said in str(errors) for said in TOO_OFTEN):
        raise RefusedError
    return body


def _of_pair(path: str, reply: Reply) -> list[Any]:
    """The rows of the one pair that was asked for.

    Raises:
        MarketError: the reply says an error, or is of another shape.
    """
    try:
        if reply.body["error"]:
            raise MarketError(f"{path}: {reply.body['error']!r:.200}.")
        (rows,) = (value for name, value in reply.body["result"].items() if name != "last")
        return list(rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MarketError(f"{path}: not the rows of one pair: {reply.body!r:.200}.") from error
