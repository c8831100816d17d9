"""Binance's answers for lists of symbols, and the single trades beside the aggregated ones. The answers themselves are elsewhere.

Source: Binance Spot REST API, market data endpoints.
"""

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from simulators.exchanges import SYMBOL, Answer, binance_refusal, binance_ticker
from simulators.history import binance_klines
from simulators.listings import binance_info, binance_price
from simulators.quotes import binance_quotes
from simulators.series import World
from simulators.trades import binance_trades

Asked = Callable[[World, Mapping[str, str], float], Answer]
MOST_LIST: Final = 2048  # characters


def _by_symbols(answer: Asked, *, is_list: bool = True) -> Asked:
    """The same answer to `symbols=["BTCUSDT"]`: a list of one where the real one lists."""

    def answered(world: World, query: Mapping[str, str], now_s: float) -> Answer:
        if "symbols" not in query:
            return answer(world, query, now_s)
        if "symbol" in query:
            return binance_refusal(-1128, "Combination of optional parameters invalid.")
        try:
            symbols = orjson.loads(query["symbols"][:MOST_LIST])
        except orjson.JSONDecodeError:
            symbols = None
        if not isinstance(symbols, list) or not symbols:
            return binance_refusal(-1100, "Illegal characters found in parameter 'symbols'.")
        if symbols != [SYMBOL]:
            return binance_refusal(-1121, "Invalid symbol.")
        body, source, status = answer(world, {"symbol": SYMBOL}, now_s)
        return [body] if is_list else body, source, status

    return answered


def _single(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The newest trades, oldest first, each by itself."""
    told, source, status = binance_trades(world, query, now_s)
    if not isinstance(told, list):
        return told, source, status
    rows = [
        {
            "id": one["a"], "price": one["p"], "qty": one["q"], "quoteQty": f"{float(one['p']) * float(one['q']):.8f}",
            "time": one["T"], "isBuyerMaker": one["m"], "isBestMatch": one["M"],
        }
        for one in told
    ]  # fmt: skip
    return rows, source, status


PATHS: Final[Mapping[str, Asked]] = {
    "/api/v3/ticker/24hr": _by_symbols(binance_ticker),
    "/api/v3/ticker/price": _by_symbols(binance_price),
    "/api/v3/ticker/bookTicker": _by_symbols(binance_quotes),
    "/api/v3/exchangeInfo": _by_symbols(binance_info, is_list=False),
    "/api/v3/trades": _single,
    "/api/v3/historicalTrades": _single,
    "/api/v3/uiKlines": binance_klines,
}
