"""The last trades on five bitcoin exchanges, a list in each one's own shape: one every few seconds.

Each function answers body, source and HTTP status. What an exchange tells beside trades is in `exchanges` and `listings`.
Sources: Coinbase Exchange, Get product trades; Kraken Spot REST API, Get Recent Trades; Bitstamp HTTP API v2, Transactions;
Binance Spot REST API, Compressed/Aggregate trades list; Gemini REST API, v1 Trade History.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from simulators.clock import iso
from simulators.exchanges import (
    PAIRS,
    TRADE_EVERY_S,
    Answer,
    Venue,
    binance_refusal,
    binance_symbol,
    gemini_symbol,
    last_trade,
)
from simulators.series import GENERATED, RECORDED, World

MAX_TRADES: Final = 1000
COINBASE_TRADES: Final = 100  # where no limit is asked for
GEMINI_TRADES: Final = 50
GEMINI_MOST: Final = 500
BITSTAMP_SPANS_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_AMOUNT: Final = "0.01500000"
_EARLIER_MS: Final = 250  # than the instant that its price is of: no trade is from after it


class Trade(NamedTuple):
    """A trade: its number, the instant of its price, Unix seconds, the price in USD and where that is from."""

    number: int
    at_s: int
    price: float
    source: str

    @property
    def at_ms(self) -> int:
        """When it was, Unix milliseconds."""
        return self.at_s * 1000 - _EARLIER_MS


def newest(world: World, venue: Venue, now_s: float) -> Iterator[Trade]:
    """A venue's trades up to an instant, newest first; one that stands still has none since it does."""
    at_s, (price, source) = last_trade(world, venue, now_s)
    while at_s > 0:
        yield Trade(at_s // TRADE_EVERY_S, at_s, price, source)
        earlier_s = at_s - TRADE_EVERY_S
        at_s, (price, source) = last_trade(world, venue, earlier_s)


def coinbase_trades(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Newest first; `after` a number: those before it, as the pages of the real one go."""
    limit, after = _whole(query.get("limit", str(COINBASE_TRADES)), MAX_TRADES), _whole(query.get("after", "0"))
    if not limit or after is None:
        return {"message": f"limit must lie between 1 and {MAX_TRADES}, after be a trade's number"}, GENERATED, 400
    from_s = min(now_s, after * TRADE_EVERY_S - 1) if after else now_s
    made = list(islice(newest(world, "coinbase", from_s), limit))
    rows = [
        {
            "trade_id": one.number, "side": "sell", "size": _AMOUNT, "price": f"{one.price:.2f}",
            "time": iso(one.at_s).replace("+00:00", "Z"),
        }
        for one in made
    ]  # fmt: skip
    return rows, _source(made), 200


def kraken_trades(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """`[price, volume, time, side, kind, misc, id]`, oldest first: the newest `count`, or the first ones since an instant."""
    if query.get("pair", "") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    count, since_ns = (
        _whole(query.get("count", str(MAX_TRADES)), MAX_TRADES),
        _whole(query.get("since", "0"), digits=20),
    )
    if not count or since_ns is None:
        return {"error": ["EGeneral:Invalid arguments"]}, GENERATED, 200
    since_s = since_ns / 1e9
    from_s = min(now_s, since_s + (count + 1) * TRADE_EVERY_S) if since_ns else now_s
    within = [one for one in islice(newest(world, "kraken", from_s), count + 1) if one.at_ms / 1000 > since_s][::-1]
    made = within[:count] if since_ns else within[-count:]
    rows = [[f"{one.price:.5f}", _AMOUNT, one.at_ms / 1000, "b", "l", "", one.number] for one in made]
    last = str(made[-1].at_ms * 10**6) if made else str(since_ns)
    return {"error": [], "result": {"XXBTZUSD": rows, "last": last}}, _source(made), 200


def bitstamp_transactions(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Of the last minute, hour or day, newest first; everything is a string."""
    span_s = BITSTAMP_SPANS_S.get(query.get("time", "hour"))
    if span_s is None:
        message = "time must be minute, hour or day"
        return {"status": "error", "reason": message, "code": "400.001"}, GENERATED, 400
    made = []
    for one in newest(world, "bitstamp", now_s):
        if one.at_s <= now_s - span_s:
            break
        made.append(one)
    rows = [
        {"date": str(one.at_s), "tid": str(one.number), "price": f"{one.price:.2f}", "type": "0", "amount": _AMOUNT}
        for one in made
    ]
    return rows, _source(made), 200


def binance_trades(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Aggregate trades, oldest first: the newest `limit`."""
    if (refusal := binance_symbol(query)) is not None:
        return refusal
    limit = _whole(query.get("limit", "500"), MAX_TRADES)
    if not limit:
        return binance_refusal(-1130, "Data sent for parameter 'limit' is not valid.")
    made = list(islice(newest(world, "binance", now_s), limit))[::-1]
    rows = [
        {
            "a": one.number, "p": f"{one.price:.8f}", "q": _AMOUNT, "f": one.number, "l": one.number, "T": one.at_ms,
            "m": True, "M": True,
        }
        for one in made
    ]  # fmt: skip
    return rows, _source(made), 200


def gemini_trades(world: World, symbol: str, query: Mapping[str, str], now_s: float) -> Answer:
    """Newest first, as many as are asked for; `timestamp`, seconds or milliseconds: none before it."""
    if (refusal := gemini_symbol(symbol)) is not None:
        return refusal
    limit, since = (
        _whole(query.get("limit_trades", str(GEMINI_TRADES)), GEMINI_MOST),
        _whole(query.get("timestamp", "0"), digits=14),
    )
    if not limit or since is None:
        message = f"limit_trades must lie between 1 and {GEMINI_MOST}, timestamp be a Unix time"
        return {"result": "error", "reason": "Bad Request", "message": message}, GENERATED, 400
    since_ms = since if since > 10**11 else since * 1000
    made = [one for one in islice(newest(world, "gemini", now_s), limit) if one.at_ms >= since_ms]
    rows = [
        {
            "timestamp": one.at_ms // 1000, "timestampms": one.at_ms, "tid": one.number, "price": f"{one.price:.2f}",
            "amount": _AMOUNT, "exchange": "gemini", "type": "buy",
        }
        for one in made
    ]  # fmt: skip
    return rows, _source(made), 200


def _source(made: list[Trade]) -> str:
    return RECORDED if made and all(one.source == RECORDED for one in made) else GENERATED


def _whole(text: str, most: int | None = None, digits: int = 12) -> int | None:
    """A whole number of at most so many digits, within 1 and a bound where there is one; None: it is none."""
    if not text.isdecimal() or len(text) > digits:
        return None
    value = int(text)
    return value if most is None or 1 <= value <= most else None
