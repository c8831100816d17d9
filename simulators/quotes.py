"""What exchanges tell of their one market at a glance: whether it trades, its best quotes, its day. Some clients ask that first.

Tickers are in `exchanges`, markets and times in `listings`. A book has one level on each side, a step from the last trade.
Sources: Coinbase Exchange, Kraken Spot REST API, Bitstamp HTTP API v2, Binance Spot REST API, Gemini REST API.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from simulators.clock import iso
from simulators.exchanges import (
    PAIRS,
    SYMBOL,
    TRADE_EVERY_S,
    Answer,
    Venue,
    binance_symbol,
    bitstamp,
    gemini_symbol,
    last_trade,
)
from simulators.listings import coinbase_products
from simulators.series import GENERATED, World
from simulators.streams import DAY_S

_HALF_STEP: Final[Mapping[Venue, float]] = {
    "coinbase": 0.01,
    "kraken": 0.1,
    "bitstamp": 1.0,
    "binance": 0.01,
    "gemini": 0.5,
}
_AMOUNT: Final = "1.00000000"
_SPREADS: Final = 20


class _Glance(NamedTuple):
    """The last trade, the one a day before, the best quotes, USD; when the last was, Unix seconds; and its source."""

    last: float
    before: float
    bid: float
    ask: float
    at_s: int
    source: str


def _glance(world: World, venue: Venue, now_s: float) -> _Glance:
    at_s, (last, source) = last_trade(world, venue, now_s)
    _, (before, _) = last_trade(world, venue, now_s - DAY_S)
    return _Glance(last, before, last - _HALF_STEP[venue], last + _HALF_STEP[venue], at_s, source)


def coinbase_product(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The one product by its name."""
    products, source, status = coinbase_products(world, query, now_s)
    assert isinstance(products, list)
    return products[0], source, status


def coinbase_stats(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The last day."""
    seen = _glance(world, "coinbase", now_s)
    low, high = sorted((seen.last, seen.before))
    body = {"open": f"{seen.before:.2f}", "high": f"{high:.2f}", "low": f"{low:.2f}", "last": f"{seen.last:.2f}"}
    return body | {"volume": "9500.00000000", "volume_30day": "285000.00000000"}, seen.source, 200


def coinbase_book(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask, whatever level is asked for."""
    seen = _glance(world, "coinbase", now_s)
    sides = {"bids": [[f"{seen.bid:.2f}", _AMOUNT, 1]], "asks": [[f"{seen.ask:.2f}", _AMOUNT, 1]]}
    told = {
        "sequence": seen.at_s,
        "auction_mode": False,
        "auction": None,
        "time": iso(seen.at_s).replace("+00:00", "Z"),
    }
    return sides | told, seen.source, 200


def kraken_status(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """It trades."""
    return {"error": [], "result": {"status": "online", "timestamp": iso(now_s).replace("+00:00", "Z")}}, GENERATED, 200


def kraken_depth(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask of the pair."""
    if query.get("pair", "") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    seen = _glance(world, "kraken", now_s)
    sides = {name: [[f"{price:.5f}", "1.000", seen.at_s]] for name, price in (("asks", seen.ask), ("bids", seen.bid))}
    return {"error": [], "result": {"XXBTZUSD": sides}}, seen.source, 200


def kraken_spread(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """`[time, bid, ask]` of the last trades, oldest first."""
    if query.get("pair", "") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    seen = [_glance(world, "kraken", now_s - n * TRADE_EVERY_S) for n in reversed(range(_SPREADS))]
    rows = [[one.at_s, f"{one.bid:.5f}", f"{one.ask:.5f}"] for one in seen]
    return {"error": [], "result": {"XXBTZUSD": rows, "last": seen[-1].at_s}}, seen[-1].source, 200


def bitstamp_hour(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The ticker, whose figures are those of the last trade."""
    return (*bitstamp(world, now_s), 200)


def bitstamp_all(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The ticker of every market, of which there is one."""
    body, source = bitstamp(world, now_s)
    return [body | {"pair": "BTC/USD"}], source, 200


def bitstamp_book(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask."""
    seen = _glance(world, "bitstamp", now_s)
    sides = {"bids": [[f"{seen.bid:.2f}", _AMOUNT]], "asks": [[f"{seen.ask:.2f}", _AMOUNT]]}
    return {"timestamp": str(seen.at_s), "microtimestamp": str(seen.at_s * 10**6)} | sides, seen.source, 200


def binance_quotes(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask of the symbol; of all symbols a list."""
    if query and (refusal := binance_symbol(query)) is not None:
        return refusal
    seen = _glance(world, "binance", now_s)
    prices = {"bidPrice": f"{seen.bid:.8f}", "bidQty": _AMOUNT, "askPrice": f"{seen.ask:.8f}", "askQty": _AMOUNT}
    body = {"symbol": SYMBOL, **prices}
    return body if query else [body], seen.source, 200


def binance_depth(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask as a book."""
    if (refusal := binance_symbol(query)) is not None:
        return refusal
    seen = _glance(world, "binance", now_s)
    sides = {"bids": [[f"{seen.bid:.8f}", _AMOUNT]], "asks": [[f"{seen.ask:.8f}", _AMOUNT]]}
    return {"lastUpdateId": seen.at_s, **sides}, seen.source, 200


def binance_mean(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The mean of the last minutes: here the last price."""
    if (refusal := binance_symbol(query)) is not None:
        return refusal
    seen = _glance(world, "binance", now_s)
    return {"mins": 5, "price": f"{seen.last:.8f}", "closeTime": seen.at_s * 1000}, seen.source, 200


def gemini_details(_world: World, query: Mapping[str, str], _now_s: float) -> Answer:
    """The symbol in figures."""
    if (refusal := gemini_symbol(query["symbol"])) is not None:
        return refusal
    body = {
        "symbol": "BTCUSD", "base_currency": "BTC", "quote_currency": "USD", "tick_size": 1e-8, "quote_increment": 0.01,
        "min_order_size": "0.00001", "status": "open", "wrap_enabled": False, "product_type": "spot", "contract_type": "vanilla",
        "contract_price_currency": "USD",
    }  # fmt: skip
    return body, GENERATED, 200


def gemini_ticker_2(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The newer ticker: the day and its hours, newest first."""
    if (refusal := gemini_symbol(query["symbol"])) is not None:
        return refusal
    seen = _glance(world, "gemini", now_s)
    low, high = sorted((seen.last, seen.before))
    hours = [f"{last_trade(world, 'gemini', now_s - hour * 3600)[1].value:.2f}" for hour in range(24)]
    told = {"open": f"{seen.before:.2f}", "high": f"{high:.2f}", "low": f"{low:.2f}", "close": f"{seen.last:.2f}"}
    return (
        {"symbol": "BTCUSD", **told, "changes": hours, "bid": f"{seen.bid:.2f}", "ask": f"{seen.ask:.2f}"},
        seen.source,
        200,
    )


def gemini_feed(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The price of each pair, and how it changed within a day."""
    seen = _glance(world, "gemini", now_s)
    row = {"pair": "BTCUSD", "price": f"{seen.last:.2f}", "percentChange24h": f"{seen.last / seen.before - 1:.4f}"}
    return [row], seen.source, 200


def gemini_book(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The best bid and ask."""
    if (refusal := gemini_symbol(query["symbol"])) is not None:
        return refusal
    seen = _glance(world, "gemini", now_s)
    sides = (("bids", seen.bid), ("asks", seen.ask))
    body = {name: [{"price": f"{price:.2f}", "amount": _AMOUNT, "timestamp": str(seen.at_s)}] for name, price in sides}
    return body, seen.source, 200


PATHS: Final[Mapping[str, Callable[[World, Mapping[str, str], float], Answer]]] = {
    "/products/BTC-USD": coinbase_product,
    "/products/BTC-USD/stats": coinbase_stats,
    "/products/BTC-USD/book": coinbase_book,
    "/0/public/SystemStatus": kraken_status,
    "/0/public/Depth": kraken_depth,
    "/0/public/Spread": kraken_spread,
    "/api/v2/ticker/": bitstamp_all,
    "/api/v2/ticker_hour/btcusd/": bitstamp_hour,
    "/api/v2/order_book/btcusd/": bitstamp_book,
    "/api/v3/ticker/bookTicker": binance_quotes,
    "/api/v3/depth": binance_depth,
    "/api/v3/avgPrice": binance_mean,
    "/v1/symbols/details/{symbol}": gemini_details,
    "/v2/ticker/{symbol}": gemini_ticker_2,
    "/v1/pricefeed": gemini_feed,
    "/v1/book/{symbol}": gemini_book,
}
