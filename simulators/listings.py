"""What exchanges and the block explorer tell of themselves and of now, beside `exchanges` and `history`: markets, times, quotes.

Field clients ask for it before anything else. Each function answers body, source and HTTP status. Sources: Coinbase Exchange,
Kraken Spot REST API, Bitstamp HTTP API v2, Binance Spot REST API, Gemini REST API, mempool.space REST API.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from simulators.bitcoin import EPOCH_BLOCKS
from simulators.clock import iso
from simulators.exchanges import GEMINI_SYMBOL, PAIRS, SYMBOL, Answer, binance_symbol, last_trade
from simulators.series import GENERATED, World

BLOCK_S: Final = 600.0
FEES: Final = {"fastestFee": 1.6, "halfHourFee": 1.3, "hourFee": 1.0, "economyFee": 0.6, "minimumFee": 0.4}


def coinbase_products(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one product."""
    product = {
        "id": "BTC-USD",
        "base_currency": "BTC",
        "quote_currency": "USD",
        "quote_increment": "0.01",
        "base_increment": "0.00000001",
        "display_name": "BTC-USD",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "auction_mode": False,
    }
    return [product], GENERATED, 200


def coinbase_currencies(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The two currencies of the product."""
    rows = [
        {
            "id": name, "name": full, "min_size": smallest, "status": "online", "message": "", "max_precision": smallest,
            "convertible_to": [], "details": {"type": kind, "symbol": None, "network_confirmations": 2, "sort_order": 1},
            "default_network": network, "supported_networks": [], "display_name": full,
        }
        for name, full, smallest, kind, network in (
            ("BTC", "Bitcoin", "0.00000001", "crypto", "bitcoin"), ("USD", "United States Dollar", "0.01", "fiat", ""),
        )
    ]  # fmt: skip
    return rows, GENERATED, 200


def coinbase_time(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The instant."""
    return {"iso": iso(now_s).replace("+00:00", "Z"), "epoch": round(now_s, 3)}, GENERATED, 200


def kraken_time(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The instant."""
    told = datetime.fromtimestamp(now_s, UTC).strftime("%a, %d %b %y %H:%M:%S +0000")
    return {"error": [], "result": {"unixtime": int(now_s), "rfc1123": told}}, GENERATED, 200


def kraken_pairs(_world: World, query: Mapping[str, str], _now_s: float) -> Answer:
    """The one pair, under its full name."""
    if query.get("pair", "XBTUSD") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    pair = {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "aclass_base": "currency",
        "base": "XXBT",
        "aclass_quote": "currency",
        "quote": "ZUSD",
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }
    return {"error": [], "result": {"XXBTZUSD": pair}}, GENERATED, 200


def kraken_assets(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The two assets of the pair, under their full names."""
    made = {
        full: {
            "aclass": "currency",
            "altname": short,
            "decimals": decimals,
            "display_decimals": shown,
            "status": "enabled",
        }
        for full, short, decimals, shown in (("XXBT", "XBT", 10, 5), ("ZUSD", "USD", 4, 2))
    }
    return {"error": [], "result": made}, GENERATED, 200


def kraken_ticker(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The ticker of the pair; `c` is the last trade."""
    if query.get("pair", "XBTUSD") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    _, (price, source) = last_trade(world, "kraken", now_s)
    _, (before, _) = last_trade(world, "kraken", now_s - now_s % 86_400)
    told, low, high = f"{price:.5f}", f"{min(price, before):.5f}", f"{max(price, before):.5f}"
    body = {
        "a": [f"{price + 0.1:.5f}", "1", "1.000"],
        "b": [told, "1", "1.000"],
        "c": [told, "0.01500000"],
        "v": ["2000.0", "4000.0"],
        "p": [told, told],
        "t": [20_000, 40_000],
        "l": [low, low],
        "h": [high, high],
        "o": f"{before:.5f}",
    }
    return {"error": [], "result": {"XXBTZUSD": body}}, source, 200


def bitstamp_pairs(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one pair."""
    pair = {
        "name": "BTC/USD",
        "url_symbol": "btcusd",
        "base_decimals": 8,
        "counter_decimals": 0,
        "instant_order_counter_decimals": 2,
        "minimum_order": "10.0 USD",
        "trading": "Enabled",
        "instant_and_market_orders": "Enabled",
        "description": "Bitcoin / U.S. dollar",
    }
    return [pair], GENERATED, 200


def bitstamp_markets(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one market, as the newer listing has it."""
    market = {
        "name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC", "base_decimals": 8, "counter_currency": "USD",
        "counter_decimals": 0, "minimum_order_value": "10", "trading": "Enabled", "instant_order_counter_decimals": 2,
        "instant_and_market_orders": "Enabled", "description": "Bitcoin / U.S. dollar", "market_type": "SPOT",
    }  # fmt: skip
    return [market], GENERATED, 200


def bitstamp_currencies(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The two currencies of the market."""
    rows = [
        {"name": name, "currency": short, "type": kind, "symbol": symbol, "decimals": decimals, "available_supply": "",
         "deposit": "Enabled", "withdrawal": "Enabled", "networks": []}
        for name, short, kind, symbol, decimals in (
            ("Bitcoin", "BTC", "crypto", "₿", 8), ("U.S. dollar", "USD", "fiat", "$", 2),
        )
    ]  # fmt: skip
    return rows, GENERATED, 200


def binance_ping(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """Nothing."""
    return {}, GENERATED, 200


def binance_time(_world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The instant."""
    return {"serverTime": int(now_s * 1000)}, GENERATED, 200


def binance_info(_world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The rate limits and the one symbol."""
    if "symbol" in query and (refusal := binance_symbol(query)) is not None:
        return refusal
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
    filters = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01000000",
            "maxPrice": "1000000.00000000",
            "tickSize": "0.01000000",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
    ]
    symbol = {
        "symbol": SYMBOL,
        "status": "TRADING",
        "baseAsset": "BTC",
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters,
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
    return (
        {
            "timezone": "UTC",
            "serverTime": int(now_s * 1000),
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": [symbol],
        },
        GENERATED,
        200,
    )


def binance_price(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The last price of the symbol; of all symbols a list."""
    if query and (refusal := binance_symbol(query)) is not None:
        return refusal
    _, (price, source) = last_trade(world, "binance", now_s)
    told = {"symbol": SYMBOL, "price": f"{price:.8f}"}
    return told if query else [told], source, 200


def gemini_symbols(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The one symbol."""
    return [GEMINI_SYMBOL], GENERATED, 200


def fees(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """Fee rates that are recommended, satoshi per virtual byte: in this world they don't move."""
    return FEES, GENERATED, 200


def difficulty_adjustment(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """How far the epoch is, and when its end is expected."""
    blocks, source = world.blocks(now_s, EPOCH_BLOCKS)
    done = blocks[0].height % EPOCH_BLOCKS
    left = EPOCH_BLOCKS - done
    spent_s = blocks[0].timestamp_s - blocks[min(done, len(blocks) - 1)].timestamp_s
    mean_s = spent_s / done if done else BLOCK_S
    body = {
        "progressPercent": 100.0 * done / EPOCH_BLOCKS,
        "difficultyChange": 100.0 * (BLOCK_S / mean_s - 1.0),
        "estimatedRetargetDate": int((now_s + left * mean_s) * 1000),
        "remainingBlocks": left,
        "remainingTime": int(left * mean_s * 1000),
        "previousRetarget": 0.0,
        "nextRetargetHeight": blocks[0].height + left,
        "timeAvg": int(mean_s * 1000),
        "adjustedTimeAvg": int(mean_s * 1000),
        "timeOffset": 0,
    }
    return body, source, 200


def tip_height(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The height of the newest block: a bare number."""
    blocks, source = world.blocks(now_s, 1)
    return blocks[0].height, source, 200


PATHS: Final[Mapping[str, Callable[[World, Mapping[str, str], float], Answer]]] = {
    "/products": coinbase_products,
    "/currencies": coinbase_currencies,
    "/time": coinbase_time,
    "/0/public/Time": kraken_time,
    "/0/public/Assets": kraken_assets,
    "/0/public/AssetPairs": kraken_pairs,
    "/0/public/Ticker": kraken_ticker,
    "/api/v2/trading-pairs-info/": bitstamp_pairs,
    "/api/v2/markets/": bitstamp_markets,
    "/api/v2/currencies/": bitstamp_currencies,
    "/api/v3/ping": binance_ping,
    "/api/v3/time": binance_time,
    "/api/v3/exchangeInfo": binance_info,
    "/api/v3/ticker/price": binance_price,
    "/v1/symbols": gemini_symbols,
    "/api/v1/fees/recommended": fees,
    "/api/v1/difficulty-adjustment": difficulty_adjustment,
    "/api/blocks/tip/height": tip_height,
}
