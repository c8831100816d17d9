"""A candle of an exchange, and the reading of one out of a reply; what exchange and what shape is in its own module."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.values import number


class Candle(NamedTuple):
    """A span of trading from `start_at` on: USD per bitcoin, and the bitcoin traded."""

    start_at: datetime
    open_usd: float
    high_usd: float
    low_usd: float
    close_usd: float
    volume_btc: float


Row = tuple[Any, Any, Any, Any, Any, Any]


def candles_of(where: str, rows: Any, pick: Callable[[Any], Row]) -> list[Candle]:
    """The candles of a reply's rows; `pick` takes Unix seconds, open, high, low, close and volume out of one.

    Raises:
        MarketError: a row is not a candle.
    """
    try:
        if not isinstance(rows, list):
            raise TypeError(f"{type(rows).__name__} {rows!r:.80}")
        picked = [pick(row) for row in rows]
        return [Candle(datetime.fromtimestamp(int(at_s), UTC), *map(number, values)) for at_s, *values in picked]
    except (IndexError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
        raise MarketError(f"{where}: not candles: {error!r}.") from error


def within(candles: Iterable[Candle], start: datetime, end: datetime) -> list[Candle]:
    """Those that start in [start, end), oldest first, one a start."""
    found = {candle.start_at: candle for candle in candles if start <= candle.start_at < end}
    return [found[at] for at in sorted(found)]
