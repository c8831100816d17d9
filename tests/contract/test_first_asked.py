"""What public clients ask of each market service before anything else: answered in its shape, and consistent with the rest."""

from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest

from simulators.clock import ManualClock
from simulators.http import Services
from simulators.services import service_of
from tests.contract.test_world_http import START_S, Well, world

NOW_S = START_S + 36 * 3600 + 1234
DAY_S = 86_400
TOKEN = "/ercotb2c.onmicrosoft.com/B2C_1_PUBAPI-ROPC-FLOW/oauth2/v2.0/token"
CLIENT_ID = "fec253ea-0d06-4272-a5e6-b478baeecd70"


@pytest.fixture
def asked():
    """(path, parameters) to a reply, of a generated world."""
    made = world()
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(Services(made, ManualClock(NOW_S), Well()).app()), base_url="http://world"
    )

    async def ask(path, **params):
        return await client.get(path, params=params)

    ask.world, ask.client = made, client
    return ask


@pytest.mark.parametrize(
    "path",
    [
        "/products", "/products/BTC-USD", "/products/BTC-USD/stats", "/products/BTC-USD/book", "/products/BTC-USD/ticker",
        "/products/BTC-USD/candles", "/time", "/currencies", "/0/public/SystemStatus", "/0/public/Time", "/0/public/Assets",
        "/0/public/AssetPairs", "/0/public/Ticker?pair=XBT/USD", "/0/public/Depth?pair=XBTUSD", "/0/public/OHLC?pair=XBTUSD",
        "/api/v2/ticker/", "/api/v2/ticker/btcusd/", "/api/v2/ticker_hour/btcusd/", "/api/v2/order_book/btcusd/",
        "/api/v2/trading-pairs-info/", "/api/v3/ping", "/api/v3/time", "/api/v3/exchangeInfo", "/api/v3/ticker/price",
        "/api/v3/ticker/24hr", "/api/v3/ticker/bookTicker", "/api/v3/depth?symbol=BTCUSDT", "/api/v3/avgPrice?symbol=BTCUSDT",
        "/api/v3/klines?symbol=BTCUSDT&interval=1h", "/v1/symbols", "/v1/symbols/details/btcusd", "/v1/pubticker/btcusd",
        "/0/public/Ticker?pair=BTC/USD", "/0/public/Spread?pair=XBTUSD", "/api/v3/trades?symbol=BTCUSDT&limit=3",
        '/api/v3/ticker/24hr?symbols=["BTCUSDT"]', '/api/v3/exchangeInfo?symbols=["BTCUSDT"]',
        "/api/v3/uiKlines?symbol=BTCUSDT&interval=1h", "/v2/prices/BTC-USD/spot", "/v2/exchange-rates?currency=BTC", "/v2/time",
        "/api/v3/brokerage/time", "/api/v3/brokerage/market/products", "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=2",
        "/api/v1/mining/difficulty-adjustments/1y", "/api/v1/mining/blocks/fees/1w", "/api/v1/mining/blocks/rewards/24h",
        "/api/v1/fees/mempool-blocks", "/api/v1/historical-price?currency=USD", "/api/fee-estimates",
        "/v2/ticker/btcusd", "/v1/pricefeed", "/v1/book/btcusd", "/api/v1/fees/recommended", "/api/v1/prices",
        "/api/blocks/tip/height", "/api/blocks/tip/hash", "/api/blocks", "/api/v1/blocks", "/api/v1/difficulty-adjustment",
        "/api/v1/mining/hashrate/3d", "/api/v1/mining/reward-stats/144", "/api/mempool",
        "/v1/forecast?latitude=29.8&longitude=-95.4&hourly=temperature_2m", "/api/public-reports",
        "/api/public-reports/np6-788-cd",
        "/api/v1/availability/gpus", "/api/retail/prices",
    ],
)  # fmt: skip
async def test_it_is_answered_and_counts_as_its_service_s(asked, path):
    reply = await asked.client.get(path)
    assert reply.status_code == 200, reply.text
    assert (
        not (isinstance(reply.json(), dict) and reply.json().get("error"))
        if "json" in reply.headers["content-type"]
        else reply.text
    )
    assert service_of(path.partition("?")[0]) is not None


async def test_quotes_of_each_exchange_lie_around_its_own_last_trade(asked):
    books = {
        "coinbase": (await asked("/products/BTC-USD/book")).json(),
        "kraken": (await asked("/0/public/Depth", pair="XBTUSD")).json()["result"]["XXBTZUSD"],
        "bitstamp": (await asked("/api/v2/order_book/btcusd/")).json(),
        "binance": (await asked("/api/v3/depth", symbol="BTCUSDT")).json(),
    }
    last = {
        "coinbase": (await asked("/products/BTC-USD/ticker")).json()["price"],
        "kraken": (await asked("/0/public/Ticker", pair="XBTUSD")).json()["result"]["XXBTZUSD"]["c"][0],
        "bitstamp": (await asked("/api/v2/ticker/btcusd/")).json()["last"],
        "binance": (await asked("/api/v3/ticker/price", symbol="BTCUSDT")).json()["price"],
    }
    for venue, book in books.items():
        assert float(book["bids"][0][0]) < float(last[venue]) < float(book["asks"][0][0])
    gemini, feed = (await asked("/v2/ticker/btcusd")).json(), (await asked("/v1/pricefeed")).json()
    assert float(gemini["bid"]) < float(gemini["close"]) < float(gemini["ask"])
    assert (feed[0]["pair"], feed[0]["price"], len(gemini["changes"])) == ("BTCUSD", gemini["close"], 24)


async def test_blocks_have_one_name_by_height_by_tip_and_in_lists(asked):
    tip = (await asked("/api/blocks/tip/height")).json()
    name = (await asked("/api/blocks/tip/hash")).text
    newest = (await asked("/api/v1/blocks")).json()[0]
    assert (newest["height"], newest["id"]) == (tip, name)
    assert (await asked(f"/api/block-height/{tip}")).text == name
    assert (await asked(f"/api/v1/block/{name}")).json() == newest
    plain = (await asked(f"/api/block/{name}")).json()
    assert plain == {key: value for key, value in newest.items() if key != "extras"}
    page = (await asked(f"/api/blocks/{tip - 5}")).json()
    assert [block["height"] for block in page] == list(range(tip - 5, tip - 15, -1))


async def test_hashrate_is_what_blocks_and_difficulty_say(asked):
    told = (await asked("/api/v1/mining/hashrate/3d")).json()
    expected = told["currentDifficulty"] * 2**32 / 600
    assert told["currentHashrate"] == pytest.approx(expected, rel=0.15)
    assert [row["timestamp"] % DAY_S for row in told["hashrates"]] == [0] * len(told["hashrates"])
    assert 2 <= len(told["hashrates"]) <= 4
    assert all(row["avgHashrate"] == pytest.approx(expected, rel=0.6) for row in told["hashrates"])
    assert (await asked("/api/v1/prices")).json()["USD"] == round(asked.world.btc_usd(NOW_S).value)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/0/public/Nothing", 200, "EGeneral:Unknown method"),
        ("/products/ETH-USD/ticker", 404, '"message":"NotFound"'),
        ("/v1/symbols/nothing/at/all", 404, "EndpointNotFound"),
        ("/api/public-reports/np1-1-cd/nothing", 404, "Resource not found"),
        ('/api/v3/ticker/price?symbols=["DOGE"]', 400, "Invalid symbol"),
        ("/api/v3/ticker/price?symbols=[", 400, "Illegal characters"),
        ("/v2/prices/DOGE-USD/spot", 404, "Invalid base currency"),
        ("/api/v3/brokerage/market/products/DOGE", 404, "valid product_id"),
        ("/api/v3/brokerage/market/products/BTC-USD/candles?start=1&end=2", 400, "granularity"),
        ("/api/v1/historical-price?timestamp=99999999999", 400, "Unix second"),
        ("/api/v1/mining/difficulty-adjustments/9y", 400, "no such interval"),
        ("/api/v1/mining/hashrate/9y", 400, "no such interval"),
        ("/api/block/xyz", 404, "Block not found"),
        (f"/api/v1/block/{'f' * 64}", 404, "Block not found"),
        (f"/api/block-height/{'9' * 400}", 400, "Invalid height"),
        ("/api/block-height/999999999", 404, "Block not found"),
        ("/api/v3/depth", 400, "Mandatory parameter 'symbol'"),
        ("/api/v3/ticker/bookTicker?symbol=DOGE", 400, "Invalid symbol"),
        ("/v2/ticker/dogeusd", 400, "not a valid symbol"),
        ("/v1/symbols/details/dogeusd", 400, "not a valid symbol"),
        ("/0/public/Depth?pair=DOGE", 200, "Unknown asset pair"),
        ("/v1/forecast", 400, "'latitude' and 'longitude'"),
        ("/v1/forecast?latitude=nan&longitude=1", 400, "range of -90 to 90"),
        ("/v1/forecast?latitude=1&longitude=999", 400, "range of -180 to 180"),
        ("/v1/forecast?latitude=1&longitude=1&hourly=rain", 400, "'rain' is not known"),
        (
            "/v1/forecast?latitude=1&longitude=1&hourly=temperature_2m&forecast_days=17",
            400,
            "allowed range from 0 to 16",
        ),
        ("/v1/forecast?latitude=1&longitude=1&hourly=temperature_2m&past_days=²", 400, "allowed range"),
        ("/v1/forecast?latitude=1&longitude=1&format=flatbuffers", 400, "'flatbuffers' is not known"),
        ("/v1/forecast?latitude=1&longitude=1&timezone=../../etc/passwd", 400, "Invalid timezone"),
        ("/v1/forecast?latitude=1,2&longitude=1&hourly=temperature_2m", 400, "same number"),
        (
            "/v1/forecast?latitude=1&longitude=1&hourly=temperature_2m&start_date=2001-01-01&end_date=2001-01-02",
            400,
            "allowed",
        ),
        (
            "/v1/archive?latitude=1,1,1,1,1&longitude=1,1,1,1,1&start_date=2023-01-01&end_date=2024-01-01&daily=temperature_2m_max",
            400,
            "Too many hours",
        ),
    ],
)
async def test_what_is_wrong_is_said_in_the_service_s_own_words(asked, path, status, said):
    reply = await asked.client.get(path)
    assert (reply.status_code, said in reply.text) == (status, True), reply.text


async def test_a_forecast_has_the_past_as_it_was_and_errors_that_grow(asked):
    place = {"latitude": 29.76, "longitude": -95.37}
    told = (await asked("/v1/forecast", **place, hourly="temperature_2m", current="temperature_2m", past_days=1)).json()
    times = [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in told["hourly"]["time"]]
    true = [asked.world.temperature_c("HB_HOUSTON", at_s).value for at_s in times]
    off = [abs(value - real) for value, real in zip(told["hourly"]["temperature_2m"], true, strict=True)]
    assert len(times) == 8 * 24
    past = [error for at_s, error in zip(times, off, strict=True) if at_s <= NOW_S]
    assert max(past) <= 0.051
    assert 0.2 < sum(off[-48:]) / 48 < 6.0
    assert told["current"]["temperature_2m"] == pytest.approx(
        asked.world.temperature_c("HB_HOUSTON", NOW_S).value, abs=0.3
    )
    again = (await asked("/v1/forecast", **place, hourly="temperature_2m", past_days=1)).json()
    assert again["hourly"] == told["hourly"]


async def test_weather_comes_in_the_zone_units_days_and_places_that_are_asked_for(asked):
    place = {"latitude": 29.76, "longitude": -95.37, "hourly": "temperature_2m"}
    plain = (await asked("/v1/archive", **place, start_date="2024-12-30", end_date="2025-01-01")).json()
    days = {"start_date": "2024-12-31", "end_date": "2024-12-31"}
    local = (
        await asked(
            "/v1/archive", **place, **days, timezone="America/Chicago", temperature_unit="fahrenheit",
            daily="temperature_2m_max,temperature_2m_mean",
        )
    ).json()  # fmt: skip
    assert (local["utc_offset_seconds"], local["timezone_abbreviation"], local["hourly"]["time"][0]) == (
        -21_600,
        "CST",
        "2024-12-31T00:00",
    )
    from_s = plain["hourly"]["time"].index("2024-12-31T06:00")
    same = plain["hourly"]["temperature_2m"][from_s : from_s + 24]
    assert local["hourly"]["temperature_2m"] == pytest.approx([each * 1.8 + 32 for each in same], abs=0.15)
    assert local["daily"]["temperature_2m_max"] == [max(local["hourly"]["temperature_2m"])]
    assert local["daily_units"]["temperature_2m_mean"] == "°F"

    stamps = (await asked("/v1/forecast", **place, **days, timeformat="unixtime")).json()["hourly"]["time"]
    assert (stamps[0], len(stamps)) == (int(datetime(2024, 12, 31, tzinfo=UTC).timestamp()), 24)
    two = {"latitude": "29.76,32.78", "longitude": "-95.37,-96.8", "current_weather": "true", "timezone": "auto"}
    told = (await asked("/v1/forecast", **two)).json()
    assert [each["latitude"] for each in told] == [29.76, 32.78]
    assert told[0]["current_weather"]["temperature"] == pytest.approx(
        asked.world.temperature_c("HB_HOUSTON", NOW_S).value, abs=0.3
    )


async def test_adjustments_are_the_steps_of_difficulty_between_blocks(asked):
    rows = (await asked("/api/v1/mining/difficulty-adjustments/3m")).json()
    assert [row[1] % 2016 for row in rows] == [0] * 7
    newest = (await asked("/api/v1/blocks")).json()[0]
    assert rows[0][2] == newest["difficulty"]
    assert [row[3] for row in rows[:-1]] == pytest.approx([a[2] / b[2] for a, b in pairwise(rows)], rel=1e-5)
    target = (newest["bits"] & 0xFFFFFF) << 8 * ((newest["bits"] >> 24) - 3)
    assert (0xFFFF << 208) / target == pytest.approx(newest["difficulty"], rel=1e-5)
    below = (await asked(f"/api/block/{newest['previousblockhash']}/status")).json()
    assert below == {"in_best_chain": True, "height": newest["height"] - 1, "next_best": newest["id"]}
    then = (await asked("/api/v1/historical-price", currency="USD", timestamp=int(NOW_S - 7200))).json()["prices"]
    assert then[0]["USD"] == round(asked.world.btc_usd(then[0]["time"]).value)


@pytest.mark.parametrize("is_in_address", [True, False])
async def test_ercot_s_token_is_given_for_the_form_in_the_address_or_in_the_body(asked, is_in_address):
    form = {
        "username": "ann", "password": "hush-hush", "grant_type": "password", "response_type": "id_token",
        "scope": f"openid {CLIENT_ID} offline_access", "client_id": CLIENT_ID,
    }  # fmt: skip
    sent = {"params": form} if is_in_address else {"data": form}
    reply = await asked.client.post(TOKEN, **sent)
    assert (reply.status_code, reply.json()["token_type"]) == (200, "Bearer")
    assert reply.json()["id_token"].count(".") == 2
