"""Prices and tickers of five bitcoin exchanges, each in its own shape: Coinbase, Kraken, Bitstamp, Binance and Gemini.

Their last trades lie a few hundredths of a percent off the world's price, as exchanges do; recorded ones are as they were.
Lists of trades are in `trades`. Sources: Coinbase Exchange, product ticker; Bitstamp HTTP API v2, Ticker; Binance Spot REST API,
market data endpoints; Gemini REST API, v1 Ticker.
"""

import math
from collections.abc import Mapping
from typing import Literal

from simulators.clock import iso
from simulators.series import GENERATED, RECORDED, Quote, World

Answer = tuple[object, str, int]
Venue = Literal["coinbase", "kraken", "bitstamp", "binance", "gemini"]

PAIRS = frozenset({"XBTUSD", "XXBTZUSD", "XBT/USD", "BTCUSD", "BTC/USD"})
SYMBOL = "BTCUSDT"
GEMINI_SYMBOL = "btcusd"
TRADE_EVERY_S = 5
VOLUME_EVERY_S = 300  # Gemini's volume of a day
_OFF = 2e-4  # at most; recorded spot and perpetual prices are 0.045 % apart (standard deviation)
_PERIOD_S: Mapping[Venue, float] = {
    "coinbase": math.inf,
    "kraken": 1700.0,
    "bitstamp": 2300.0,
    "binance": 1300.0,
    "gemini": 3100.0,
}
_PHASE: Mapping[Venue, float] = {"coinbase": 0.0, "kraken": 1.0, "bitstamp": 4.0, "binance": 2.0, "gemini": 5.0}


def coinbase(world: World, now_s: float) -> tuple[dict[str, object], str]:
    """Coinbase Exchange: last trade and best quotes; prices are strings."""
    at_s, (price, source) = last_trade(world, "coinbase", now_s)
    body: dict[str, object] = {
        "trade_id": at_s // TRADE_EVERY_S, "price": f"{price:.2f}", "size": "0.01500000",
        "time": iso(at_s).replace("+00:00", "Z"), "bid": f"{price - 0.01:.2f}", "ask": f"{price + 0.01:.2f}",
        "volume": "9500.00000000",
    }  # fmt: skip
    return body, source


def bitstamp(world: World, now_s: float) -> tuple[dict[str, str], str]:
    """Bitstamp's ticker and where it comes from: everything is a string, the timestamp Unix seconds."""
    at_s, (price, source) = last_trade(world, "bitstamp", now_s)
    told = f"{price:.2f}"
    body = {
        "timestamp": str(at_s), "last": told, "open": told, "high": told, "low": told, "vwap": told, "volume": "1200.00000000",
        "bid": f"{price - 1:.2f}", "ask": f"{price + 1:.2f}", "side": "0", "open_24": told, "percent_change_24": "0.00",
        "market_type": "SPOT",
    }  # fmt: skip
    return body, source


def binance_refusal(code: int, message: str, status: int = 400) -> Answer:
    """An error of Binance's."""
    return {"code": code, "msg": message}, GENERATED, status


def binance_symbol(query: Mapping[str, str]) -> Answer | None:
    """What is wrong with the symbol that was asked for; None: nothing."""
    if "symbol" not in query:
        return binance_refusal(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    return None if query["symbol"] == SYMBOL else binance_refusal(-1121, "Invalid symbol.")


def binance_ticker(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Binance's 24-hour ticker of the symbol; of all symbols a list."""
    if query and (refusal := binance_symbol(query)) is not None:
        return refusal
    at_s, (price, source) = last_trade(world, "binance", now_s)
    _, (before, _) = last_trade(world, "binance", now_s - 86_400)
    told, number = f"{price:.8f}", at_s // TRADE_EVERY_S
    body = {
        "symbol": SYMBOL, "priceChange": f"{price - before:.8f}", "priceChangePercent": f"{(price / before - 1) * 100:.3f}",
        "weightedAvgPrice": told, "prevClosePrice": f"{before:.8f}", "lastPrice": told, "lastQty": "0.01500000",
        "bidPrice": f"{price - 0.01:.8f}", "bidQty": "1.00000000", "askPrice": f"{price + 0.01:.8f}", "askQty": "1.00000000",
        "openPrice": f"{before:.8f}", "highPrice": f"{max(price, before):.8f}", "lowPrice": f"{min(price, before):.8f}",
        "volume": "21000.00000000", "quoteVolume": f"{21_000 * price:.8f}", "openTime": (at_s - 86_400) * 1000,
        "closeTime": at_s * 1000, "firstId": number - 86_400 // TRADE_EVERY_S, "lastId": number,
        "count": 86_400 // TRADE_EVERY_S,
    }  # fmt: skip
    return body if query else [body], source, 200


def gemini_symbol(symbol: str) -> Answer | None:
    """What is wrong with a symbol; None: nothing."""
    if symbol.lower() == GEMINI_SYMBOL:
        return None
    told = f"Supplied value '{symbol[:20]}' is not a valid symbol; the supported ones are [{GEMINI_SYMBOL}]"
    return {"result": "error", "reason": "Bad Request", "message": told}, GENERATED, 400


def gemini_ticker(world: World, symbol: str, now_s: float) -> Answer:
    """Gemini's ticker; the stamp is that of its volume, which moves every five minutes."""
    if (refusal := gemini_symbol(symbol)) is not None:
        return refusal
    at_s, (price, source) = last_trade(world, "gemini", now_s)
    volume = {"BTC": "900.00000000", "USD": f"{900 * price:.8f}", "timestamp": (at_s - at_s % VOLUME_EVERY_S) * 1000}
    told = {"bid": f"{price - 0.5:.2f}", "ask": f"{price + 0.5:.2f}", "last": f"{price:.2f}"}
    return {**told, "volume": volume}, source, 200


def last_trade(world: World, venue: Venue, now_s: float) -> tuple[int, Quote]:
    """The instant of a venue's last trade, Unix seconds, and its price, with what the scenario has wrong there."""
    traded_s, factor, is_stale = now_s, 1.0, False
    for trouble, weight, since_s in world.script.troubles(venue, now_s):
        factor *= 1.0 + (trouble.price_factor - 1.0) * weight
        if trouble.stuck != "no":
            traded_s, is_stale = min(traded_s, since_s), is_stale or trouble.stuck == "stale"
    told_s, at_s = _trade_s(traded_s if is_stale else now_s), _trade_s(traded_s)
    price, source = world.btc_usd(at_s)
    off = 0.0 if source == RECORDED else _OFF * math.sin(at_s / _PERIOD_S[venue] + _PHASE[venue])
    return told_s, Quote(round(price * (1 + off) * factor, 2), source)


def _trade_s(now_s: float) -> int:
    return int(now_s) - int(now_s) % TRADE_EVERY_S
