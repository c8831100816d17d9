"""Coinbase Exchange: the last BTC-USD trade as a tick of `btc.usd`, and hourly candles.

One exchange of the consensus (`markets.consensus`); which value may be acted on is judged in feed.quality.
Source: Coinbase Exchange REST API, product ticker and candles.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.candles import Candle, candles_of, within
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.exchange.coinbase.com"
LIMIT = Limit(10, 1.0)  # of public endpoints, by address
TICKER = "/products/BTC-USD/ticker"
CANDLES = "/products/BTC-USD/candles"
CANDLE_S = 3600
MAX_CANDLES = 300  # of one reply
SERIES = "coinbase"
UNIT = "USD"


class _Ticker(BaseModel):
    time: datetime
    price: float
    trade_id: int | None = None

    @field_validator("price", mode="before")
    @classmethod
    def _price_or_nan(cls, raw: Any) -> float:
        return number(raw)

    @field_validator("time")
    @classmethod
    def _has_offset(cls, at: datetime) -> datetime:
        if at.tzinfo is None:
            raise ValueError("a time without an offset")
        return at.astimezone(UTC)


class CoinbaseClient:
    """The BTC-USD price on one exchange."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def ticker(self) -> Tick:
        """The last trade: USD per bitcoin, holding from the trade's own time."""
        reply = await self._http.get_json(TICKER)
        try:
            last = _Ticker.model_validate(reply.body)
        except ValidationError as error:
            first = error.errors()[0]
            raise MarketError(f"{TICKER}: {first['loc']}: {first['msg']}: {reply.body!r:.200}.") from error
        return Tick(Stream.BTC_USD, SERIES, last.time, last.price, UNIT, SERIES, metadata=reply.provenance())

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Hourly candles that start in [start, end), oldest first."""
        found: list[Candle] = []
        step, cursor = timedelta(seconds=CANDLE_S), start
        while cursor < end:
            until = min(end, cursor + step * (MAX_CANDLES - 1))
            reply = await self._http.get_json(
                CANDLES, {"granularity": CANDLE_S, "start": cursor.isoformat(), "end": until.isoformat()}
            )
            # `[time, low, high, open, close, volume]`
            found += candles_of(CANDLES, reply.body, lambda row: (row[0], row[3], row[2], row[1], row[4], row[5]))
            cursor = until + step
        return within(found, start, end)
