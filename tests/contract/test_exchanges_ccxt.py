"""The world's exchanges by ccxt, which we did not write: over a socket, with nothing changed but its base URLs."""

import threading
from urllib.parse import urlsplit

import pytest
import uvicorn

from simulators.clock import ManualClock
from simulators.http import Services
from tests.contract.test_world_http import START_S, Well, world

NOW_S = START_S + 36 * 3600 + 1234
HOUR_MS = 3_600_000
# Binance's other products and what its key-holders see are not served.
VENUES = {
    "coinbase": ("BTC/USD", {}),
    "coinbaseexchange": ("BTC/USD", {}), "kraken": ("BTC/USD", {}), "bitstamp": ("BTC/USD", {}), "gemini": ("BTC/USD", {}),
    "binance": ("BTC/USDT", {"options": {"fetchMarkets": {"types": ["spot"]}}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def served():
    """A generated world and where it answers."""
    made = world()
    server = uvicorn.Server(
        uvicorn.Config(Services(made, ManualClock(NOW_S), Well()).app(), port=0, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    yield made, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def moved(urls, base):
    """The same paths at another base URL, however deep they lie."""
    if isinstance(urls, dict):
        return {name: moved(each, base) for name, each in urls.items()}
    return base + urlsplit(urls).path


@pytest.fixture(params=sorted(VENUES))
def venue(request, served):
    import ccxt  # not by each process of the tests that collects this file: half a second of CPU

    made, base = served
    symbol, config = VENUES[request.param]
    exchange = getattr(ccxt, request.param)({"timeout": 5000, "enableRateLimit": False, **config})
    exchange.urls["api"] = moved(exchange.urls["api"], base)
    exchange.session.trust_env = False
    yield exchange, symbol, made
    exchange.session.close()


def test_ccxt_reads_markets_prices_trades_and_candles(venue):
    exchange, symbol, made = venue
    true_usd = made.btc_usd(NOW_S).value
    assert set(exchange.load_markets()) == {symbol}
    assert exchange.market(symbol)["active"] is not False
    assert exchange.fetch_ticker(symbol)["last"] == pytest.approx(true_usd, rel=5e-4)

    if exchange.has["fetchTime"]:
        assert exchange.fetch_time() == pytest.approx(NOW_S * 1000, abs=1000)

    trades = exchange.fetch_trades(symbol, limit=5)
    assert len({trade["id"] for trade in trades}) == 5
    assert [trade["timestamp"] for trade in trades] == sorted(trade["timestamp"] for trade in trades)
    assert NOW_S - 30 < trades[0]["timestamp"] / 1000 < trades[-1]["timestamp"] / 1000 <= NOW_S
    assert trades[-1]["price"] == pytest.approx(true_usd, rel=5e-4)
    assert trades[-1]["symbol"] == symbol

    since = int(NOW_S * 1000) // HOUR_MS * HOUR_MS - 3 * HOUR_MS
    candles = exchange.fetch_ohlcv(symbol, "1h", since=since, limit=3)
    assert [candle[0] for candle in candles] == [since + n * HOUR_MS for n in range(3)]
    for at_ms, first, high, low, last, volume in candles:
        assert low <= min(first, last) <= max(first, last) <= high
        assert last == pytest.approx(made.btc_usd(at_ms / 1000 + 3599).value, rel=5e-4)
        assert volume > 0

    minutes = exchange.fetch_ohlcv(symbol, since=since + HOUR_MS, limit=60)
    assert [candle[0] for candle in minutes] == [since + HOUR_MS + n * 60_000 for n in range(60)]
    _, first, high, low, last, volume = candles[1]
    assert (minutes[0][1], minutes[-1][4]) == pytest.approx((first, last), abs=0.06)
    assert max(candle[2] for candle in minutes) == pytest.approx(high, abs=0.06)
    assert min(candle[3] for candle in minutes) == pytest.approx(low, abs=0.06)
    assert sum(candle[5] for candle in minutes) == pytest.approx(volume, rel=1e-3)
    if exchange.id != "coinbase":  # which asks by its own machine's clock
        assert len(exchange.fetch_ohlcv(symbol)) > 200, "what a client asks for that says nothing"
