"""Two more bitcoin exchanges beside Coinbase, in their own shapes: Kraken's trades and Bitstamp's ticker.

Their last trades lie a few hundredths of a percent off the world's price, as exchanges do; recorded ones are as they were.
Sources: Kraken Spot REST API, Get Recent Trades; Bitstamp HTTP API v2, Ticker.
"""

import math

from simulators.series import GENERATED, RECORDED, Quote, World

PAIRS = frozenset({"XBTUSD", "XXBTZUSD"})
TRADE_EVERY_S = 5
_OFF = 2e-4  # at most; recorded spot and perpetual prices are 0.045 % apart (standard deviation)
_PERIOD_S = {"kraken": 1700.0, "bitstamp": 2300.0}
_PHASE = {"kraken": 1.0, "bitstamp": 4.0}


def kraken(world: World, pair: str, now_s: float) -> tuple[dict[str, object], str]:
    """Kraken's trades and where they come from: `[price, volume, time, side, kind, misc, id]`; prices are strings."""
    if pair not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED
    at_s, (price, source) = _last_trade(world, "kraken", now_s)
    trade = [f"{price:.5f}", "0.01500000", at_s + 0.25, "b", "l", "", at_s // TRADE_EVERY_S]
    return {"error": [], "result": {"XXBTZUSD": [trade], "last": f"{at_s}250000000"}}, source


def bitstamp(world: World, now_s: float) -> tuple[dict[str, str], str]:
    """Bitstamp's ticker and where it comes from: everything is a string, the timestamp Unix seconds."""
    at_s, (price, source) = _last_trade(world, "bitstamp", now_s)
    told = f"{price:.2f}"
    body = {
        "timestamp": str(at_s), "last": told, "open": told, "high": told, "low": told, "vwap": told, "volume": "1200.00000000",
        "bid": f"{price - 1:.2f}", "ask": f"{price + 1:.2f}", "side": "0", "open_24": told, "percent_change_24": "0.00",
        "market_type": "SPOT",
    }  # fmt: skip
    return body, source


def _last_trade(world: World, venue: str, now_s: float) -> tuple[int, Quote]:
    """The instant of a venue's last trade, Unix seconds, and its price."""
    at_s = int(now_s) - int(now_s) % TRADE_EVERY_S
    price, source = world.btc_usd(now_s)
    off = 0.0 if source == RECORDED else _OFF * math.sin(at_s / _PERIOD_S[venue] + _PHASE[venue])
    return at_s, Quote(round(price * (1 + off), 2), source)
