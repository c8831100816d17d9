"""What outside services keep of the past, in their own shapes: candles of five exchanges, a block by time.

Each function answers body, source and HTTP status for a query at an instant. What they serve of now is in `exchanges` and `http`.
Sources: Kraken Spot REST API, Get OHLC Data; Bitstamp HTTP API v2, OHLC data; Binance Spot REST API, Kline/Candlestick data;
Gemini REST API, v2 Candles; mempool.space REST API, Get Block Timestamp.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from simulators.bitcoin import FINE_STEP_S, HOUR_S, Candle
from simulators.exchanges import PAIRS, Answer, binance_refusal, binance_symbol, gemini_symbol
from simulators.series import GENERATED, RECORDED, World

KRAKEN_CANDLES = 720  # it keeps no more of any interval
KRAKEN_MINUTES = (1, 5, 15, 30, 60, 240, 1440)
BITSTAMP_CANDLES = 1000
BITSTAMP_STEPS_S = (60, 180, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
BINANCE_CANDLES = 1000
BINANCE_STEPS_S = {
    "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14_400, "6h": 21_600, "8h": 28_800,
    "12h": 43_200, "1d": 86_400,
}  # fmt: skip
COINBASE_STEPS_S = (60, 300, 900, 3600, 21_600, 86_400)
# Seconds, and how many are kept.
GEMINI_STEPS = {
    "1m": (60, 1440), "5m": (300, 2016), "15m": (900, 1344), "30m": (1800, 1440), "1hr": (3600, 1440), "6hr": (21_600, 240),
    "1day": (86_400, 365),
}  # fmt: skip


def kraken_ohlc(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """`[time, open, high, low, close, vwap, volume, count]`, oldest first, the running one last; errors with status 200."""
    minutes, since_s = _integer(query.get("interval", "1")), _integer(query.get("since", "0"))
    if query.get("pair", "") not in PAIRS:
        return {"error": ["EQuery:Unknown asset pair"]}, GENERATED, 200
    if minutes not in KRAKEN_MINUTES or since_s is None:
        return {"error": ["EGeneral:Invalid arguments"]}, GENERATED, 200
    step_s = minutes * 60
    last = int(now_s) // step_s
    first = max(last - KRAKEN_CANDLES + 1, since_s // step_s + 1)
    made, source = candles_of(world, range(first, last + 1), step_s, now_s)
    rows = [
        [
            one.start_s,
            *(f"{p:.1f}" for p in (one.open, one.high, one.low, one.close, one.close)),
            f"{one.volume:.8f}",
            1000,
        ]
        for one in made
    ]
    return {"error": [], "result": {"XXBTZUSD": rows, "last": (last - 1) * step_s}}, source, 200


def bitstamp_ohlc(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The candles from `start` on, at most `limit`, oldest first; everything is a string."""
    step_s, limit = _integer(query.get("step", "")), _integer(query.get("limit", ""))
    start_s, end_s = _integer(query.get("start", "0")), _integer(query.get("end", str(int(now_s))))
    if (
        step_s not in BITSTAMP_STEPS_S
        or limit is None
        or not 1 <= limit <= BITSTAMP_CANDLES
        or None in (start_s, end_s)
    ):
        errors = [{"field": "step", "message": "Invalid step, limit, start or end.", "code": "invalid"}]
        return {"code": 400, "errors": errors}, GENERATED, 400
    first = max(-(-(start_s or 0) // step_s), (int(now_s) // step_s) - limit + 1 if not start_s else 0)
    last = min((end_s or 0) // step_s, int(now_s) // step_s, first + limit - 1)
    made, source = candles_of(world, range(first, last + 1), step_s, now_s)
    rows = [
        {
            "timestamp": str(one.start_s), "open": f"{one.open:.2f}", "high": f"{one.high:.2f}", "low": f"{one.low:.2f}",
            "close": f"{one.close:.2f}", "volume": f"{one.volume:.8f}",
        }
        for one in made
    ]  # fmt: skip
    return {"data": {"pair": "BTC/USD", "ohlc": rows}}, source, 200


def binance_klines(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Candles of 12 columns, oldest first, the running one last; from `startTime` on, or the newest up to `endTime`."""
    if (refusal := binance_symbol(query)) is not None:
        return refusal
    if (step_s := BINANCE_STEPS_S.get(query.get("interval", ""))) is None:
        return binance_refusal(-1120, "Invalid interval.")
    limit = _integer(query.get("limit", "500"))
    start_ms, end_ms = _integer(query.get("startTime", "0"), 14), _integer(query.get("endTime", f"{int(now_s)}000"), 14)
    if limit is None or not 1 <= limit <= BINANCE_CANDLES or start_ms is None or end_ms is None:
        return binance_refusal(-1130, "Data sent for parameter 'limit', 'startTime' or 'endTime' is not valid.")
    last = min(end_ms // 1000, int(now_s)) // step_s
    first = -(-start_ms // 1000 // step_s) if start_ms else last - limit + 1
    made, source = candles_of(world, range(first, min(last, first + limit - 1) + 1), step_s, now_s)
    return [_kline(one, step_s) for one in made], source, 200


def _kline(one: Candle, step_s: int) -> list[object]:
    quote, half = f"{one.volume * one.close:.8f}", f"{one.volume / 2:.8f}"
    prices = [f"{price:.8f}" for price in (one.open, one.high, one.low, one.close)]
    ends_ms = (one.start_s + step_s) * 1000 - 1
    return [
        one.start_s * 1000,
        *prices,
        f"{one.volume:.8f}",
        ends_ms,
        quote,
        1000,
        half,
        f"{one.volume / 2 * one.close:.8f}",
        "0",
    ]


def gemini_candles(world: World, symbol: str, step: str, now_s: float) -> Answer:
    """`[time, open, high, low, close, volume]`, newest first, as many as it keeps; there is no range to ask for."""
    if (refusal := gemini_symbol(symbol)) is not None:
        return refusal
    if step not in GEMINI_STEPS:
        message = f"Supplied value '{step[:20]}' is not a valid time frame; there are {', '.join(GEMINI_STEPS)}"
        return {"result": "error", "reason": "Bad Request", "message": message}, GENERATED, 400
    step_s, kept = GEMINI_STEPS[step]
    last = int(now_s) // step_s
    made, source = candles_of(world, range(last - kept + 1, last + 1), step_s, now_s)
    rows = [[one.start_s * 1000, one.open, one.high, one.low, one.close, one.volume] for one in reversed(made)]
    return rows, source, 200


def block_at(world: World, text: str, now_s: float) -> Answer:
    """mempool.space: the last block mined by a Unix second."""
    at_s = _integer(text)
    if at_s is None or not 0 < at_s <= 10**11:
        return {"error": f"timestamp {text[:20]!r} is no Unix second"}, GENERATED, 400
    blocks, source = world.blocks(min(at_s, now_s), 1)
    stamp = datetime.fromtimestamp(blocks[0].timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"height": blocks[0].height, "hash": f"{blocks[0].height:064x}", "timestamp": stamp}, source, 200


def candles_of(world: World, steps: range, step_s: int, now_s: float) -> tuple[list[Candle], str]:
    """Candles of whole hours, or of parts of one, the running one partial."""
    made, is_recorded = [], True
    for step in steps:
        hours = range(step * step_s // HOUR_S, (step + 1) * step_s // HOUR_S)
        if step_s < HOUR_S:
            parts = [_within_hour(world, step * step_s, step_s, now_s)] if step * step_s < now_s else []
        else:
            parts = [world.candle(hour, now_s) for hour in hours if hour * HOUR_S < now_s]
        if parts:
            is_recorded &= all(source == RECORDED for _, source in parts)
            made.append(_joined([candle for candle, _ in parts]))
    return made, RECORDED if made and is_recorded else GENERATED


def _within_hour(world: World, start_s: int, step_s: int, now_s: float) -> tuple[Candle, str]:
    """The candle of a part of an hour, as far as it is known, with its share of the hour's volume."""
    hour, offset_s = divmod(start_s, HOUR_S)
    path, source = world.path(hour)
    known_s = min(step_s, int(now_s - start_s))
    prices = np.round(path[offset_s // FINE_STEP_S : (offset_s + known_s) // FINE_STEP_S + 1], 2)
    volume = world.candle(hour, (hour + 1.0) * HOUR_S)[0].volume * known_s / HOUR_S
    low, high = float(prices.min()), float(prices.max())
    return Candle(start_s, low, high, float(prices[0]), float(prices[-1]), round(volume, 8)), source


def _joined(parts: list[Candle]) -> Candle:
    low, high = min(one.low for one in parts), max(one.high for one in parts)
    volume = sum(one.volume for one in parts)
    return Candle(parts[0].start_s, low, high, parts[0].open, parts[-1].close, round(volume, 8))


def _integer(text: str, digits: int = 12) -> int | None:
    """A plain whole number of at most so many digits, or None."""
    return int(text) if text.isdecimal() and len(text) <= digits else None
