"""What public clients ask of each market service before anything else: answered in its shape, and consistent with the rest."""

from datetime import UTC, datetime

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
