"""Coinbase's other two public APIs, beside the exchange's: prices by pair of v2, and the market data of Advanced Trade.

Both tell the prices of the same market. Sources: Coinbase App API v2, prices, exchange rates, currencies and time; Advanced Trade
API, public endpoints of products.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from simulators.clock import iso
from simulators.exchanges import Answer, last_trade
from simulators.history import candles_of
from simulators.series import GENERATED, World
from simulators.streams import DAY_S
from simulators.trades import coinbase_trades

PRODUCT: Final = "BTC-USD"
MOST_CANDLES: Final = 350
STEPS_S: Final[Mapping[str, int]] = {
    "ONE_MINUTE": 60, "FIVE_MINUTE": 300, "FIFTEEN_MINUTE": 900, "THIRTY_MINUTE": 1800, "ONE_HOUR": 3600, "TWO_HOUR": 7200,
    "SIX_HOUR": 21_600, "ONE_DAY": 86_400,
}  # fmt: skip
MOST_TICKS: Final = 250
_DIGITS: Final = 11  # of a Unix second


def price(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The price of a pair: spot in the middle, what buyers pay and sellers get a step beside it."""
    if query["pair"].upper() != PRODUCT or query["kind"] not in {"spot", "buy", "sell"}:
        return {"errors": [{"id": "not_found", "message": "Invalid base currency"}]}, GENERATED, 404
    _, (last, source) = last_trade(world, "coinbase", now_s)
    told = last + {"spot": 0.0, "buy": 0.01, "sell": -0.01}[query["kind"]]
    return {"data": {"amount": f"{told:.2f}", "base": "BTC", "currency": "USD"}}, source, 200


def rates(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """What one unit of a currency is worth in the two that are known."""
    currency = query.get("currency", "USD").upper()
    if currency not in {"BTC", "USD"}:
        return {"errors": [{"id": "invalid_request", "message": f"Invalid currency ({currency[:10]})"}]}, GENERATED, 400
    _, (last, source) = last_trade(world, "coinbase", now_s)
    told = {"BTC": "1.0", "USD": f"{last:.2f}"} if currency == "BTC" else {"BTC": f"{1 / last:.16f}", "USD": "1.0"}
    return {"data": {"currency": currency, "rates": told}}, source, 200


def time(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The instant, as v2 has it."""
    return {"data": {"iso": _iso(now_s), "epoch": int(now_s)}}, GENERATED, 200


def currencies(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one that is not a coin."""
    return {"data": [{"id": "USD", "name": "United States Dollar", "min_size": "0.01"}]}, GENERATED, 200


def coins(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one that is."""
    row = {
        "code": "BTC", "name": "Bitcoin", "color": "#F7931A", "sort_index": 100, "exponent": 8, "type": "crypto",
        "address_regex": "", "asset_id": "5b71fc48-3dd3-540c-809b-f8c94d0e68b5",
    }  # fmt: skip
    return {"data": [row]}, GENERATED, 200


def advanced_time(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The instant, as Advanced Trade has it."""
    told = {"iso": _iso(now_s), "epochSeconds": str(int(now_s)), "epochMillis": str(int(now_s * 1000))}
    return told, GENERATED, 200


def product(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The one product by its name."""
    return _unknown() if query["product"] != PRODUCT else _product(world, now_s)


def products(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """All one of them, which is a spot market."""
    body, source, _ = _product(world, now_s)
    found = [body] if query.get("product_type", "SPOT") in {"SPOT", "UNKNOWN_PRODUCT_TYPE"} else []
    return {"products": found, "num_products": len(found)}, source, 200


def candles(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Newest first, texts: from `start` to `end`, Unix seconds, at most so many."""
    if query["product"] != PRODUCT:
        return _unknown()
    step_s = STEPS_S.get(query.get("granularity", ""))
    start, end, limit = query.get("start", ""), query.get("end", ""), query.get("limit", str(MOST_CANDLES))
    numbers = [int(text) for text in (start, end, limit) if text.isdecimal() and len(text) <= _DIGITS]
    if step_s is None or len(numbers) < 3:
        return _invalid("granularity, start and end are needed: ONE_HOUR and Unix seconds")
    first, last = -(-numbers[0] // step_s), min(numbers[1], int(now_s)) // step_s
    if last - first >= MOST_CANDLES:
        return _invalid(f"number of candles requested should be less than {MOST_CANDLES}")
    made, source = candles_of(world, range(first, last + 1), step_s, now_s)
    rows = [
        {
            "start": str(one.start_s), "low": f"{one.low:.2f}", "high": f"{one.high:.2f}", "open": f"{one.open:.2f}",
            "close": f"{one.close:.2f}", "volume": f"{one.volume:.8f}",
        }
        for one in islice(reversed(made), numbers[2])
    ]  # fmt: skip
    return {"candles": rows}, source, 200


def ticks(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The newest trades and the best quotes."""
    limit = query.get("limit", "100")
    if query["product"] != PRODUCT:
        return _unknown()
    if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= MOST_TICKS:
        return _invalid(f"limit must lie between 1 and {MOST_TICKS}")
    made, source, _ = coinbase_trades(world, {"limit": limit}, now_s)
    assert isinstance(made, list)
    trades = [
        one | {"trade_id": str(one["trade_id"]), "product_id": PRODUCT, "side": "SELL", "bid": "", "ask": ""}
        for one in made
    ]
    last = float(made[0]["price"])
    return {"trades": trades, "best_bid": f"{last - 0.01:.2f}", "best_ask": f"{last + 0.01:.2f}"}, source, 200


def _product(world: World, now_s: float) -> Answer:
    _, (last, source) = last_trade(world, "coinbase", now_s)
    _, (before, _) = last_trade(world, "coinbase", now_s - DAY_S)
    body = {
        "product_id": PRODUCT, "price": f"{last:.2f}", "price_percentage_change_24h": f"{(last / before - 1) * 100:.8f}",
        "volume_24h": "9500", "volume_percentage_change_24h": "0", "base_increment": "0.00000001", "quote_increment": "0.01",
        "quote_min_size": "1", "quote_max_size": "150000000", "base_min_size": "0.00000001", "base_max_size": "3400",
        "base_name": "Bitcoin", "quote_name": "US Dollar", "watched": False, "is_disabled": False, "new": False,
        "status": "online", "cancel_only": False, "limit_only": False, "post_only": False, "trading_disabled": False,
        "auction_mode": False, "product_type": "SPOT", "quote_currency_id": "USD", "base_currency_id": "BTC",
        "fcm_trading_session_details": None, "mid_market_price": "", "alias": "", "alias_to": [], "base_display_symbol": "BTC",
        "quote_display_symbol": "USD", "view_only": False, "price_increment": "0.01", "display_name": PRODUCT,
        "product_venue": "CBE", "approximate_quote_24h_volume": f"{9500 * last:.2f}",
    }  # fmt: skip
    return body, source, 200


def _unknown() -> Answer:
    told = "valid product_id is required"
    return {"error": "NOT_FOUND", "error_details": told, "message": told}, GENERATED, 404


def _invalid(told: str) -> Answer:
    return {"error": "INVALID_ARGUMENT", "error_details": told, "message": told}, GENERATED, 400


def _iso(at_s: float) -> str:
    return iso(int(at_s)).replace("+00:00", "Z")


_MARKET: Final = "/api/v3/brokerage/market/products"
PATHS: Final[Mapping[str, Callable[[World, Mapping[str, str], float], Answer]]] = {
    "/v2/prices/{pair}/{kind}": price,
    "/v2/exchange-rates": rates,
    "/v2/time": time,
    "/v2/currencies": currencies,
    "/v2/currencies/crypto": coins,
    "/api/v3/brokerage/time": advanced_time,
    _MARKET: products,
    f"{_MARKET}/{{product}}": product,
    f"{_MARKET}/{{product}}/candles": candles,
    f"{_MARKET}/{{product}}/ticker": ticks,
}
