"""The market services' shapes, over the real application with a clock that the test moves."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from simulators.clock import ManualClock
from simulators.http import Services
from simulators.series import World
from simulators.settings import WorldConfig

LMP = "/api/public-reports/np6-788-cd/lmp_node_zone_hub"
SPP = "/api/public-reports/np6-905-cd/spp_node_zone_hub"
DAM = "/api/public-reports/np4-190-cd/dam_stlmnt_pnt_prices"
START_S = 1_735_689_600.0


class Well:
    def problem(self) -> str:
        return ""

    def devices(self) -> int:
        return 0


def world(**changes):
    paths = dict.fromkeys(("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), Path("unused"))
    document = {"version": 1, **paths, "settlement_points": ["HB_HOUSTON", "HB_NORTH"]} | changes
    return World.load(WorldConfig.model_validate(document))


class Client:
    def __init__(self, at_s=START_S, **changes):
        self.clock = ManualClock(at_s)
        self.world = world(**changes)
        transport = httpx.ASGITransport(Services(self.world, self.clock, Well()).app())
        self.http = httpx.AsyncClient(transport=transport, base_url="http://world")

    async def get(self, path, expected=200, **query):
        reply = await self.http.get(path, params=query)
        assert reply.status_code == expected, reply.text
        assert "X-World-Time" in reply.headers
        assert reply.headers["X-World-Source"] in {"recorded", "generated"}
        return reply.json()


async def rows(client, path, **query):
    reply = await client.get(path, **query)
    names = [field["name"] for field in reply["fields"]]
    return [dict(zip(names, row, strict=True)) for row in reply["data"]]


async def test_a_lmp_reply_has_the_documented_shape():
    client = Client(START_S + 3600)
    reply = await client.get(LMP, SCEDTimestampFrom="2024-12-31T18:00:00", size=4)
    assert set(reply) == {"_meta", "report", "fields", "data", "_links"}
    assert [(field["name"], field["dataType"]) for field in reply["fields"]] == [
        ("SCEDTimestamp", "DATETIME"),
        ("repeatHourFlag", "BOOLEAN"),
        ("settlementPoint", "VARCHAR"),
        ("LMP", "DOUBLE"),
    ]
    meta = reply["_meta"]
    assert (meta["totalRecords"], meta["totalPages"], meta["currentPage"], meta["pageSize"]) == (24, 6, 1, 4)
    assert len(reply["data"]) == 4
    assert reply["data"][0][0].startswith("2024-12-31T18:00:")
    assert "next" in reply["_links"]


async def test_pages_make_up_the_whole():
    client = Client(START_S + 7200)
    whole = await rows(client, LMP, SCEDTimestampFrom="2024-12-31T18:00:00")
    parts = []
    for page in range(1, 6):
        parts += await rows(client, LMP, SCEDTimestampFrom="2024-12-31T18:00:00", size=11, page=page)
    assert parts == whole
    assert len(whole) == 48


async def test_a_lmp_appears_when_its_interval_begins():
    client = Client(START_S + 3599)
    asked = {"SCEDTimestampFrom": "2024-12-31T18:55:00", "settlementPoint": "HB_NORTH"}
    assert len(await rows(client, LMP, **asked)) == 1
    client.clock.at_s = START_S + 3600 + 20
    assert len(await rows(client, LMP, **asked)) == 2


async def test_a_settlement_price_appears_after_its_interval_and_is_the_mean():
    client = Client(START_S + 899)
    asked = {"deliveryDateFrom": "2024-12-31", "deliveryHourFrom": 19, "settlementPoint": "HB_NORTH"}
    assert await rows(client, SPP, **asked) == []
    client.clock.at_s = START_S + 900
    (row,) = await rows(client, SPP, **asked)
    assert (row["deliveryDate"], row["deliveryHour"], row["deliveryInterval"]) == ("2024-12-31", 19, 1)
    assert row["settlementPointType"] == "HU"
    lmps = await rows(client, LMP, SCEDTimestampFrom="2024-12-31T18:00:00", settlementPoint="HB_NORTH")
    assert row["settlementPointPrice"] == pytest.approx(np.mean([lmp["LMP"] for lmp in lmps]), abs=0.006)


async def test_day_ahead_prices_of_tomorrow_appear_after_half_past_one_central():
    half_past_one = datetime(2025, 1, 15, 19, 30, tzinfo=UTC).timestamp()
    client = Client(half_past_one - 1)
    assert await rows(client, DAM, deliveryDateFrom="2025-01-16", deliveryDateTo="2025-01-16") == []
    client.clock.at_s = half_past_one
    tomorrow = await rows(client, DAM, deliveryDateFrom="2025-01-16", deliveryDateTo="2025-01-16")
    assert len(tomorrow) == 48
    assert [row["hourEnding"] for row in tomorrow[::2]] == [f"{hour:02d}:00" for hour in range(1, 25)]


@pytest.mark.parametrize(("day", "hours", "repeated"), [("2024-03-10", 23, 0), ("2024-11-03", 25, 1)])
async def test_days_of_the_clock_change(day, hours, repeated):
    client = Client()
    asked = {"deliveryDateFrom": day, "deliveryDateTo": day, "settlementPoint": "HB_NORTH"}
    day_ahead = await rows(client, DAM, **asked)
    assert len(day_ahead) == hours
    assert sum(row["DSTFlag"] for row in day_ahead) == repeated
    real_time = await rows(client, SPP, **asked)
    assert len(real_time) == 4 * hours
    lmps = await rows(
        client,
        LMP,
        SCEDTimestampFrom=f"{day}T00:00:00",
        SCEDTimestampTo=f"{day}T23:59:59",
        settlementPoint="HB_NORTH",
    )
    assert len(lmps) == 12 * hours
    assert sum(row["repeatHourFlag"] for row in lmps) == 12 * repeated


async def test_filters_and_sorting():
    client = Client(START_S + 7200)
    high = await rows(client, LMP, SCEDTimestampFrom="2024-12-31T18:00:00", LMPFrom=90, sort="LMP", dir="desc")
    found = [row["LMP"] for row in high]
    assert found == sorted(found, reverse=True)
    assert found[-1] >= 90
    assert await rows(client, LMP, settlementPoint="NO_SUCH_POINT") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"SCEDTimestampFrom": "yesterday"}, "SCEDTimestampFrom must be Central time"),
        ({"SCEDTimestampFrom": "2025-01-01T00:00:00+00:00"}, "without an offset"),
        ({"deliveryDateFrom": "2025-01-01"}, "Unknown parameter deliveryDateFrom"),
        ({"size": "0"}, "size must be an integer from 1 to 100000"),
        ({"page": "x"}, "page must be an integer"),
        ({"LMPFrom": "nan"}, "LMPFrom must be a number"),
        ({"repeatHourFlag": "maybe"}, "must be true or false"),
        ({"SCEDTimestampFrom": "2011-01-01T00:00:00"}, "over 400 days"),
        ({"sort": "price"}, "sort must name a column"),
    ],
)
async def test_a_bad_parameter_is_a_400_in_ercots_shape(query, says):
    reply = await Client().get(LMP, expected=400, **query)
    assert set(reply) == {"timestamp", "code", "status", "message", "data"}
    assert (reply["code"], reply["status"]) == (400, "BAD_REQUEST")
    assert says in reply["message"]


async def test_a_past_range_is_the_same_whenever_it_is_asked_for():
    early, late = Client(START_S), Client(START_S + 300 * 86_400)
    asked = {"deliveryDateFrom": "2024-07-01", "deliveryDateTo": "2024-07-03"}
    assert await rows(early, SPP, **asked) == await rows(late, SPP, **asked)


async def test_coinbase_ticker_and_candles_agree():
    client = Client(START_S + 3600 * 10 + 1800)
    ticker = await client.get("/products/BTC-USD/ticker")
    assert isinstance(ticker["price"], str)
    candles = await client.get(
        "/products/BTC-USD/candles", granularity=3600, start="2025-01-01T05:00:00Z", end="2025-01-01T10:00:00+00:00"
    )
    assert [row[0] for row in candles] == [int(START_S) + 3600 * hour for hour in range(10, 4, -1)]
    assert float(ticker["price"]) == candles[0][4]
    assert all(low <= min(first, last) and high >= max(first, last) for _, low, high, first, last, _ in candles)
    assert candles[2][4] == candles[1][3]
    await client.get("/products/BTC-USD/candles", expected=400, granularity=61)
    await client.get("/products/BTC-USD/candles", expected=400, start="2020-01-01", end="2025-01-01")


async def test_three_exchanges_tell_nearly_the_same_price_each_in_its_own_shape():
    for hour in range(12):
        client = Client(START_S + 3600 * hour + 1234)
        coinbase = float((await client.get("/products/BTC-USD/ticker"))["price"])
        trades = (await client.get("/0/public/Trades", pair="XBTUSD", count=1))["result"]["XXBTZUSD"]
        bitstamp = await client.get("/api/v2/ticker/btcusd/")
        for price, at_s in (
            (float(trades[-1][0]), trades[-1][2]),
            (float(bitstamp["last"]), int(bitstamp["timestamp"])),
        ):
            assert 0 <= START_S + 3600 * hour + 1234 - at_s <= 5
            assert 0 < abs(price / coinbase - 1) < 0.0003
    assert (await client.get("/0/public/Trades", pair="DOGEUSD"))["error"] == ["EQuery:Unknown asset pair"]


async def test_gemini_s_ticker_is_stamped_as_its_volume_and_its_trades_with_their_own_times():
    client = Client(START_S + 1234)
    ticker = await client.get("/v1/pubticker/btcusd")
    assert ticker["volume"]["timestamp"] == (START_S + 1200) * 1000
    trades = await client.get("/v1/trades/btcusd", limit_trades=3)
    assert [trade["timestampms"] / 1000 - START_S for trade in trades] == [1229.75, 1224.75, 1219.75]
    assert trades[0]["price"] == ticker["last"]
    client.clock.at_s = START_S + 1230
    assert (await client.get("/v1/trades/btcusd", limit_trades=3)) == trades, "none is from the future"
    since = trades[1]["timestampms"]
    assert await client.get("/v1/trades/btcusd", limit_trades=50, timestamp=since) == trades[:2]
    for bad in ({"limit_trades": 501}, {"limit_trades": 0}, {"timestamp": "soon"}):
        assert (await client.get("/v1/trades/btcusd", expected=400, **bad))["reason"] == "Bad Request"


async def test_trades_go_back_page_by_page_and_from_an_instant_on():
    client = Client(START_S + 1234)
    first = await client.get("/products/BTC-USD/trades", limit=4)
    assert await client.get("/products/BTC-USD/trades", limit=2, after=first[1]["trade_id"]) == first[2:]
    asked = {"pair": "XBTUSD", "since": int((START_S + 100) * 1e9), "count": 3}
    rows = (await client.get("/0/public/Trades", **asked))["result"]["XXBTZUSD"]
    assert [row[2] - START_S for row in rows] == [104.75, 109.75, 114.75]
    minute = await client.get("/api/v2/transactions/btcusd/", time="minute")
    assert [int(row["date"]) - START_S for row in minute] == [1230 - 5 * n for n in range(12)]
    for path, asked in (
        ("/products/BTC-USD/trades", {"limit": 1001}), ("/products/BTC-USD/trades", {"after": "x" * 5000}),
        ("/api/v2/transactions/btcusd/", {"time": "year"}),
    ):  # fmt: skip
        await client.get(path, expected=400, **asked)
    assert (await client.get("/0/public/Trades", pair="XBTUSD", count=0))["error"] == ["EGeneral:Invalid arguments"]


async def test_mempool_blocks_and_reward_stats_agree():
    client = Client(START_S + 86_400)
    blocks = await client.get("/api/v1/blocks")
    assert len(blocks) == 15
    assert [block["height"] for block in blocks] == list(range(blocks[0]["height"], blocks[0]["height"] - 15, -1))
    assert blocks[0]["timestamp"] <= START_S + 86_400
    stats = await client.get("/api/v1/mining/reward-stats/15")
    assert stats["totalFee"] == str(sum(block["extras"]["totalFees"] for block in blocks))
    assert stats["totalReward"] == str(sum(block["extras"]["reward"] for block in blocks))
    older = await client.get(f"/api/v1/blocks/{blocks[-1]['height'] - 1}")
    assert older[0]["height"] == blocks[-1]["height"] - 1
    for path in ("/api/v1/mining/reward-stats", "/api/v1/blocks"):
        for number in ("9" * 5000, "x", "-1", "1e3", "999999999999"):
            refused = await client.get(f"{path}/{number}", expected=400)
            assert "must be an integer from" in refused["error"]
            assert len(refused["error"]) < 200
    await client.get("/api/v1/mining/reward-stats/999999", expected=400)
    assert await client.get("/api/v1/blocks/999999999") == blocks, "above the tip: the tip"


async def test_exchanges_tell_their_markets_and_one_price_on_every_page():
    client = Client(START_S + 5000)
    assert [product["id"] for product in await client.get("/products")] == ["BTC-USD"]
    assert (await client.get("/time"))["epoch"] == START_S + 5000
    assert list((await client.get("/0/public/AssetPairs"))["result"]) == ["XXBTZUSD"]
    ticker = (await client.get("/0/public/Ticker", pair="XBTUSD"))["result"]["XXBTZUSD"]
    trade = (await client.get("/0/public/Trades", pair="XBTUSD"))["result"]["XXBTZUSD"][-1]
    assert ticker["c"][0] == trade[0]
    assert "error" in await client.get("/0/public/Ticker", pair="DOGEUSD")
    assert (await client.get("/api/v2/trading-pairs-info/"))[0]["url_symbol"] == "btcusd"
    info = await client.get("/api/v3/exchangeInfo", symbol="BTCUSDT")
    assert (info["symbols"][0]["symbol"], info["rateLimits"][0]["limit"]) == ("BTCUSDT", 6000)
    assert await client.get("/api/v3/ping") == {}
    assert (await client.get("/api/v3/time"))["serverTime"] == (START_S + 5000) * 1000
    price = (await client.get("/api/v3/ticker/price", symbol="BTCUSDT"))["price"]
    assert price == (await client.get("/api/v3/ticker/24hr", symbol="BTCUSDT"))["lastPrice"]
    assert (await client.get("/api/v3/ticker/price"))[0]["price"] == price
    await client.get("/api/v3/ticker/price", expected=400, symbol="X")
    await client.get("/api/v3/exchangeInfo", expected=400, symbol="X")
    assert await client.get("/v1/symbols") == ["btcusd"]
    last = (await client.get("/v1/pubticker/btcusd"))["last"]
    assert (await client.get("/v1/trades/btcusd"))[0]["price"] == last
    await client.get("/v1/trades/dogeusd", expected=400)


async def test_the_explorer_tells_the_tip_and_how_far_the_epoch_is():
    client = Client(START_S + 86_400)
    height = await client.get("/api/blocks/tip/height")
    assert height == (await client.get("/api/v1/blocks"))[0]["height"]
    epoch = await client.get("/api/v1/difficulty-adjustment")
    assert epoch["nextRetargetHeight"] % 2016 == 0
    assert epoch["nextRetargetHeight"] - height == epoch["remainingBlocks"]
    assert abs(epoch["difficultyChange"]) < 30
    assert (await client.get("/api/v1/fees/recommended"))["fastestFee"] > 0


async def test_gpu_listings():
    client = Client()
    listing = await client.get("/api/v1/availability/gpus", gpu_type="H100_80GB", gpu_count=8)
    assert listing["totalCount"] == len(listing["items"]) > 0
    for item in listing["items"]:
        assert 10 < item["prices"]["onDemand"] < 40
        assert item["stockStatus"] in {"High", "Medium", "Low", "Unavailable"}
    await client.get("/api/v1/availability/gpus", expected=422, page="-1")
    await client.get("/api/v1/availability/gpus", expected=422, page="000000001" + "0" * 5000)


async def test_world_and_health():
    client = Client()
    about = await client.get("/world/time")
    assert (about["simulated_at"], about["seed"]) == ("2025-01-01T00:00:00+00:00", 7)
    assert {row["source"] for row in (await client.get("/world/series"))["series"]} == {"generated"}
    assert (await client.get("/healthz"))["status"] == "ok"
