"""The market clients against replies in the services' real shapes (written by hand after the published specifications)."""

import asyncio
import gzip
import json
import math
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.markets import http as market_http
from hcp_pipelines.markets.binance import BinanceClient
from hcp_pipelines.markets.bitstamp import BitstampClient
from hcp_pipelines.markets.coinbase import CoinbaseClient
from hcp_pipelines.markets.ercot import ErcotClient
from hcp_pipelines.markets.gemini import GeminiClient
from hcp_pipelines.markets.gpu_listings import GpuListingsClient
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.kraken import KrakenClient
from hcp_pipelines.markets.mempool import MempoolClient
from hcp_pipelines.markets.pace import Pace
from tests.support.market_world import MarketWorld

LMP_FIELDS = ("SCEDTimestamp", "repeatHourFlag", "settlementPoint", "LMP")
SPP_FIELDS = (
    "deliveryDate",
    "deliveryHour",
    "deliveryInterval",
    "settlementPoint",
    "settlementPointType",
    "settlementPointPrice",
    "DSTFlag",
)
DA_FIELDS = ("deliveryDate", "hourEnding", "settlementPoint", "settlementPointPrice", "DSTFlag")


class Service:
    """An httpx transport that answers by path and remembers what it was asked."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    async def __call__(self, request):
        self.asked.append((request.url.path, dict(request.url.params)))
        answer = self.answers[request.url.path]
        if callable(answer):
            answer = answer(dict(request.url.params))
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def http(self, **options):
        return MarketHttp("http://world", transport=httpx.MockTransport(self), retry_wait_s=0.0, **options)


def report(fields, rows, pages=1, page=1):
    return {
        "_meta": {"totalRecords": len(rows), "pageSize": 1000, "totalPages": pages, "currentPage": page, "query": {}},
        "report": {"reportName": "a report", "reportId": "1", "reportEMIL": "NP"},
        "fields": [{"name": name, "dataType": "VARCHAR", "cardinality": i} for i, name in enumerate(fields)],
        "data": rows,
        "_links": {},
    }


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def lmps(rows, start, end, points=("HB_NORTH",)):
    service = Service({"/api/public-reports/np6-788-cd/lmp_node_zone_hub": report(LMP_FIELDS, rows)})
    return await ErcotClient(service.http()).rt_lmp(points, start, end), service


async def test_an_irregular_sced_stamp_prices_its_clock_interval():
    rows = [["2024-07-01T00:05:13", False, "HB_NORTH", 24.5]]
    ticks, service = await lmps(rows, utc("2024-07-01T05:05"), utc("2024-07-01T05:10"))
    assert [(t.stream, t.series, t.source_at, t.value) for t in ticks] == [
        (Stream.POWER_RT_LMP, "HB_NORTH", utc("2024-07-01T05:05"), 24.5)
    ]
    assert (ticks[0].unit, ticks[0].source) == ("USD/MWh", "ERCOT")
    asked = service.asked[0][1]
    assert asked["SCEDTimestampFrom"] == "2024-07-01T00:05:00"
    assert asked["settlementPoint"] == "HB_NORTH"


async def test_both_passes_of_the_repeated_hour_are_told_apart():
    rows = [
        ["2024-11-03T01:30:10", False, "HB_NORTH", 20.0],
        ["2024-11-03T01:30:12", True, "HB_NORTH", 30.0],
    ]
    first, service = await lmps(rows, utc("2024-11-03T06:30"), utc("2024-11-03T06:35"))
    second, _ = await lmps(rows, utc("2024-11-03T07:30"), utc("2024-11-03T07:35"))
    assert ([t.value for t in first], [t.value for t in second]) == ([20.0], [30.0])
    assert service.asked[0][1]["SCEDTimestampFrom"] <= "2024-11-03T01:30:00" <= service.asked[0][1]["SCEDTimestampTo"]


async def test_other_points_are_left_out_and_what_is_no_number_stays_visible():
    rows = [
        ["2024-07-01T00:05:13", False, "HB_NORTH", None],
        ["2024-07-01T00:05:13", False, "HB_WEST", 1.0],
        ["2024-07-01T00:05:13", False, "HB_HOUSTON", "31.25"],
    ]
    ticks, _ = await lmps(rows, utc("2024-07-01T05:05"), utc("2024-07-01T05:10"), ("HB_NORTH", "HB_HOUSTON"))
    assert {t.series for t in ticks} == {"HB_NORTH", "HB_HOUSTON"}
    assert math.isnan(next(t.value for t in ticks if t.series == "HB_NORTH"))
    assert next(t.value for t in ticks if t.series == "HB_HOUSTON") == 31.25


MANY = [f"RN_{number:02}" for number in range(20)]
SPP_PATH = "/api/public-reports/np6-905-cd/spp_node_zone_hub"
LMP_PATH = "/api/public-reports/np6-788-cd/lmp_node_zone_hub"


async def asked_of(path, fields, ask):
    service = Service({path: report(fields, [])})
    await ask(ErcotClient(service.http()))
    return [query for _, query in service.asked]


async def test_a_short_window_of_many_points_is_one_request_of_its_hours():
    (query,) = await asked_of(
        SPP_PATH, SPP_FIELDS, lambda c: c.rt_spp(MANY, utc("2024-07-01T17:15"), utc("2024-07-01T17:30"))
    )
    assert query == {
        "deliveryDateFrom": "2024-07-01", "deliveryDateTo": "2024-07-01", "deliveryHourFrom": "13", "deliveryHourTo": "13",
        "size": "10000", "page": "1",
    }  # fmt: skip
    over_midnight = await asked_of(
        SPP_PATH, SPP_FIELDS, lambda c: c.rt_spp(MANY, utc("2024-07-02T03:30"), utc("2024-07-02T05:30"))
    )
    assert [(each["deliveryDateTo"], each["deliveryHourFrom"], each["deliveryHourTo"]) for each in over_midnight] == [
        ("2024-07-01", "23", "24"), ("2024-07-02", "1", "1"),
    ]  # fmt: skip
    runs = await asked_of(
        LMP_PATH, LMP_FIELDS, lambda c: c.rt_lmp(MANY, utc("2024-07-01T17:00"), utc("2024-07-01T17:45"))
    )
    assert [query.get("settlementPoint") for query in runs] == [None]


@pytest.mark.parametrize(
    ("points", "days", "asked"),
    [(MANY, 1, [None]), (MANY[:16], 1, MANY[:16]), (MANY, 10, MANY), (MANY[:1], 1, MANY[:1])],
)
async def test_a_long_window_is_asked_for_whole_or_by_point_as_takes_fewer_requests(points, days, asked):
    start = utc("2024-07-01T05:00")
    found = await asked_of(SPP_PATH, SPP_FIELDS, lambda c: c.rt_spp(points, start, start + timedelta(days=days)))
    assert [query.get("settlementPoint") for query in found] == asked
    assert all("deliveryHourFrom" not in query for query in found)


async def test_the_hours_of_a_clock_change_are_told_whole_by_the_world():
    market = MarketWorld(utc("2024-11-03T12:00"), settlement_points=MANY)
    client = ErcotClient(MarketHttp("http://world", transport=market.transport))
    for start in (utc("2024-11-03T05:45"), utc("2024-11-03T06:30"), utc("2024-03-10T07:15"), utc("2024-07-02T04:00")):
        ticks = await client.rt_spp(MANY, start, start + timedelta(hours=2, minutes=15))
        expected = [(start + n * timedelta(minutes=15), point) for n in range(9) for point in MANY]
        assert [(tick.source_at, tick.series) for tick in ticks] == expected
        values = {
            point: market.world.spp(point, np.array([start.timestamp()], dtype=np.int64)).values[0] for point in MANY
        }
        assert {tick.series: tick.value for tick in ticks if tick.source_at == start} == values


async def test_every_page_is_read():
    pages = {
        1: [["2024-07-01T00:05:13", False, "HB_NORTH", 1.0]],
        2: [["2024-07-01T00:10:13", False, "HB_NORTH", 2.0]],
    }
    path = "/api/public-reports/np6-788-cd/lmp_node_zone_hub"
    service = Service({path: lambda q: report(LMP_FIELDS, pages[int(q["page"])], pages=2, page=int(q["page"]))})
    client = ErcotClient(service.http())
    ticks = await client.rt_lmp(["HB_NORTH"], utc("2024-07-01T05:05"), utc("2024-07-01T05:15"))
    assert [t.value for t in ticks] == [1.0, 2.0]


async def test_settlement_prices_are_placed_by_date_hour_and_interval():
    rows = [
        ["2024-07-01", 1, 1, "HB_NORTH", "HU", 10.0, False],
        ["2024-07-01", 24, 4, "HB_NORTH", "HU", 20.0, False],
        ["2024-11-03", 2, 3, "HB_NORTH", "HU", 30.0, True],
    ]
    service = Service({"/api/public-reports/np6-905-cd/spp_node_zone_hub": report(SPP_FIELDS, rows)})
    client = ErcotClient(service.http())
    ticks = await client.rt_spp(["HB_NORTH"], utc("2024-07-01T05:00"), utc("2024-12-01T00:00"))
    assert [(t.source_at, t.value) for t in ticks] == [
        (utc("2024-07-01T05:00"), 10.0),
        (utc("2024-07-02T04:45"), 20.0),
        (utc("2024-11-03T07:30"), 30.0),
    ]


async def test_day_ahead_prices_are_placed_by_hour_ending():
    rows = [["2024-07-01", "01:00", "HB_NORTH", 10.0, False], ["2024-07-01", "24:00", "HB_NORTH", 20.0, False]]
    service = Service({"/api/public-reports/np4-190-cd/dam_stlmnt_pnt_prices": report(DA_FIELDS, rows)})
    client = ErcotClient(service.http())
    ticks = await client.da_spp(["HB_NORTH"], utc("2024-07-01T05:00"), utc("2024-07-02T05:00"))
    assert [t.source_at for t in ticks] == [utc("2024-07-01T05:00"), utc("2024-07-02T04:00")]


async def test_corrections_are_the_right_prices_with_what_was_told_first():
    fields = (
        "deliveryDate",
        "deliveryHour",
        "deliveryInterval",
        "settlementPointName",
        "settlementPointType",
        "SPPOriginal",
    )
    fields += ("SPPCorrected", "priceCorrectionTime", "DSTFlag")
    real_time = [
        ["2024-07-01", 2, 3, "HB_NORTH", "HU", 919.6, 348.57, "2024-07-03T14:00:00", False],
        ["2024-07-01", 2, 3, "HB_WEST", "HU", 1.0, 2.0, "2024-07-03T14:00:00", False],
    ]
    day_ahead = [["2024-07-01", 24, "HB_NORTH", 20.0, 25.5, "2024-07-02T09:00:00", False]]
    root = "/api/public-reports"
    service = Service({
        f"{root}/np4-197-m/rtm_price_corrections_spp": report(fields, real_time),
        f"{root}/np4-196-m/dam_price_corrections_spp": report((*fields[:2], fields[3], *fields[5:]), day_ahead),
    })  # fmt: skip
    ticks = await ErcotClient(service.http()).corrections(["HB_NORTH"], utc("2024-07-02T12:00"))
    assert [(t.stream, t.source_at, t.value, t.metadata["corrected_from"]) for t in ticks] == [
        (Stream.POWER_DA_SPP, utc("2024-07-02T04:00"), 25.5, 20.0),
        (Stream.POWER_RT_SPP, utc("2024-07-01T06:30"), 348.57, 919.6),
    ]
    assert ticks[1].metadata["corrected_at"] == "2024-07-03T19:00:00+00:00"
    assert service.asked[0][1]["priceCorrectionTimeFrom"] == "2024-07-02T07:00:00"


async def test_another_page_than_the_one_asked_for_is_an_error_and_no_loop():
    path = "/api/public-reports/np6-788-cd/lmp_node_zone_hub"
    row = ["2024-07-01T00:05:13", False, "HB_NORTH", 1.0]
    service = Service({path: report(LMP_FIELDS, [row], pages=3, page=1)})
    with pytest.raises(MarketError, match="page 1 in place of page 2"):
        await ErcotClient(service.http()).rt_lmp(["HB_NORTH"], utc("2024-07-01T05:05"), utc("2024-07-01T05:15"))
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"error_key": "throttled"},
        [],
        report(("SCEDTimestamp", "settlementPoint"), [["2024-07-01T00:05:13", "HB_NORTH"]]),
        report(LMP_FIELDS, [["2024-07-01T00:05:13", False]]),
        report(LMP_FIELDS, [["yesterday", False, "HB_NORTH", 1.0]]),
    ],
)
async def test_a_report_of_another_shape_is_an_error_not_an_empty_answer(body):
    service = Service({"/api/public-reports/np6-788-cd/lmp_node_zone_hub": body})
    with pytest.raises(MarketError):
        await ErcotClient(service.http()).rt_lmp(["HB_NORTH"], utc("2024-07-01T05:05"), utc("2024-07-01T05:10"))


async def test_no_rows_is_an_empty_answer():
    empty = report((), [], pages=0)
    service = Service({"/api/public-reports/np6-788-cd/lmp_node_zone_hub": empty})
    start = utc("2024-07-01T05:05")
    assert await ErcotClient(service.http()).rt_lmp(["HB_NORTH"], start, start + timedelta(minutes=5)) == []


async def test_the_exchange_ticker_is_read_with_its_own_time():
    body = {
        "trade_id": 1,
        "price": "96123.45",
        "size": "0.1",
        "time": "2025-01-01T12:00:05.25Z",
        "bid": "1",
        "ask": "2",
    }
    tick = await CoinbaseClient(Service({"/products/BTC-USD/ticker": body}).http()).ticker()
    assert (tick.stream, tick.series, tick.value, tick.unit) == (Stream.BTC_USD, "coinbase", 96123.45, "USD")
    assert tick.source_at == utc("2025-01-01T12:00:05.250")


async def test_kraken_s_last_trade_is_read_with_its_own_time():
    trades = [
        ["95999.00000", "0.1", 1735732800.5, "b", "m", "", 1],
        ["96123.40000", "0.2", 1735732805.25, "s", "l", "", 2],
    ]
    body = {"error": [], "result": {"XXBTZUSD": trades, "last": "1735732805250000000"}}
    tick = await KrakenClient(Service({"/0/public/Trades": body}).http()).ticker()
    assert (tick.stream, tick.series, tick.value, tick.unit) == (Stream.BTC_USD, "kraken", 96123.4, "USD")
    assert tick.source_at == utc("2025-01-01T12:00:05.250")


async def test_bitstamp_s_ticker_is_all_text():
    body = {"timestamp": "1735732805", "last": "96123.45", "open": "1", "high": "1", "low": "1", "bid": "1", "ask": "2"}
    tick = await BitstampClient(Service({"/api/v2/ticker/btcusd/": body}).http()).ticker()
    assert (tick.stream, tick.series, tick.value, tick.unit) == (Stream.BTC_USD, "bitstamp", 96123.45, "USD")
    assert tick.source_at == utc("2025-01-01T12:00:05")


async def test_binance_s_last_trade_is_read_with_its_own_time():
    trade = {"a": 1, "p": "96123.45000000", "q": "0.1", "f": 1, "l": 1, "T": 1735732805250, "m": True, "M": True}
    service = Service({"/api/v3/aggTrades": [trade | {"p": "1.0", "T": 1735732800000}, trade]})
    tick = await BinanceClient(service.http()).ticker()
    assert (tick.stream, tick.series, tick.value, tick.unit) == (Stream.BTC_USD, "binance", 96123.45, "USD")
    assert tick.source_at == utc("2025-01-01T12:00:05.250")
    assert service.asked == [("/api/v3/aggTrades", {"symbol": "BTCUSDT", "limit": "1"})]


async def test_gemini_s_last_trade_is_read_with_its_own_time_not_that_of_a_day_s_volume():
    trade = {
        "timestamp": 1735732805, "timestampms": 1735732805250, "tid": 2, "price": "96123.45", "amount": "0.1",
        "exchange": "gemini", "type": "buy",
    }  # fmt: skip
    service = Service({"/v1/trades/btcusd": [trade, trade | {"timestampms": 1735732800000, "price": "1.0"}]})
    tick = await GeminiClient(service.http()).ticker()
    assert (tick.stream, tick.series, tick.value, tick.unit) == (Stream.BTC_USD, "gemini", 96123.45, "USD")
    assert tick.source_at == utc("2025-01-01T12:00:05.250")
    assert service.asked == [("/v1/trades/btcusd", {"limit_trades": "1"})]


@pytest.mark.parametrize(
    ("client", "path", "body"),
    [
        (BinanceClient, "/api/v3/aggTrades", {"code": -1121, "msg": "Invalid symbol."}),
        (BinanceClient, "/api/v3/aggTrades", []),
        (BinanceClient, "/api/v3/aggTrades", [{"p": "1.0", "T": 1e30}]),
        (GeminiClient, "/v1/trades/btcusd", []),
        (GeminiClient, "/v1/trades/btcusd", [{"price": "1.0"}]),
        (GeminiClient, "/v1/trades/btcusd", [{"price": "1.0", "timestampms": "soon"}]),
        (GeminiClient, "/v1/trades/btcusd", {"result": "error", "reason": "Bad Request", "message": "no"}),
    ],
)
async def test_what_is_no_trade_of_theirs_is_an_error(client, path, body):
    with pytest.raises(MarketError, match=path):
        await client(Service({path: body}).http()).ticker()


@pytest.mark.parametrize(
    "body",
    [{"error": ["EService:Unavailable"]}, {"error": [], "result": {"last": "1"}}, {"error": [], "result": {"A": []}}, [],
     {"error": [], "result": {"A": [["1", "2"]]}}, {"error": [], "result": {"A": [["1", "2", 1e30]]}}],
)  # fmt: skip
async def test_what_is_no_trade_of_kraken_s_is_an_error(body):
    with pytest.raises(MarketError, match="/0/public/Trades"):
        await KrakenClient(Service({"/0/public/Trades": body}).http()).ticker()


@pytest.mark.parametrize(
    "body", [{}, {"last": "1"}, {"last": "1", "timestamp": "soon"}, [], {"last": 1, "timestamp": None}]
)
async def test_what_is_no_ticker_of_bitstamp_s_is_an_error(body):
    with pytest.raises(MarketError, match="not a ticker"):
        await BitstampClient(Service({"/api/v2/ticker/btcusd/": body}).http()).ticker()


async def test_the_network_is_read_from_blocks_and_reward_statistics():
    blocks = [
        {"height": 877_001, "timestamp": 1735690000, "difficulty": 1.1e14, "extras": {"totalFees": 5_000_000}},
        {"height": 877_000, "timestamp": 1735690100, "difficulty": 1.0e14, "extras": {"totalFees": 5_000_000}},
    ]
    stats = {"startBlock": 876_858, "endBlock": 877_001, "totalReward": "47000000000", "totalFee": "1440000000"}
    service = Service({"/api/v1/blocks": blocks, "/api/v1/mining/reward-stats/144": stats})
    ticks = {t.series: t for t in await MempoolClient(service.http()).network()}
    assert {name: t.value for name, t in ticks.items()} == {
        "difficulty": 1.1e14,
        "fees_btc_per_block": 0.1,
        "height": 877_001.0,
    }
    assert {t.source_at.timestamp() for t in ticks.values()} == {1735690100}


async def test_gpu_offers_are_rates_per_gpu_and_only_what_can_be_rented_counts():
    def offer(gpu, count, price, stock="High"):
        prices = {"onDemand": price, "communityPrice": None, "isVariable": False, "currency": "USD"}
        return {"provider": "p", "gpuType": gpu, "gpuCount": count, "prices": prices, "stockStatus": stock}

    items = [
        offer("H100_80GB", 8, 16.0),
        offer("H100_80GB", 1, 2.4),
        offer("H100_80GB", 2, 6.0, "Low"),
        offer("H100_80GB", 1, 0.01, "Unavailable"),
        offer("B200_180GB", 1, None),
        offer("H100/PCIE_80GB", 1, 2.0),
        offer("_", 1, 2.0),
    ]

    def page(query):
        return {"items": items[:3] if query["page"] == "1" else items[3:], "totalCount": len(items)}

    service = Service({"/api/v1/availability/gpus": page})
    ticks = await GpuListingsClient(service.http()).spot(utc("2025-01-01T12:00:31"))
    assert [(t.series, t.value, t.source_at) for t in ticks] == [("H100", 2.4, utc("2025-01-01T12:00"))]


async def test_a_simulated_worlds_provenance_is_kept():
    headers = {"x-world-source": "generated", "x-world-time": "2025-01-01T00:00:00+00:00"}
    body = {"price": "96123.45", "time": "2025-01-01T12:00:05Z"}
    answer = httpx.Response(200, headers=headers, content=json.dumps(body))
    tick = await CoinbaseClient(Service({"/products/BTC-USD/ticker": answer}).http()).ticker()
    assert tick.metadata == {"world": "generated"}


async def test_overload_is_retried_and_a_refusal_is_not():
    replies = [
        httpx.Response(503),
        httpx.Response(429, json={"error_key": "throttled"}),
        {"price": "1", "time": "2025-01-01T00:00:00Z"},
    ]
    service = Service({"/products/BTC-USD/ticker": lambda _: replies[len(service.asked) - 1]})
    http = service.http(pace=Pace(ManualClock(utc("2025-01-01T00:00"))))
    assert (await CoinbaseClient(http).ticker()).value == 1.0
    refusing = Service({"/products/BTC-USD/ticker": httpx.Response(403, text="no")})
    with pytest.raises(MarketError, match="403"):
        await CoinbaseClient(refusing.http()).ticker()
    assert len(refusing.asked) == 1


@pytest.mark.parametrize("said", ["EGeneral:Too many requests", "EAPI:Rate limit exceeded"])
async def test_kraken_s_too_many_requests_come_with_status_200_and_are_waited_out(said):
    trades = [["96123.40000", "0.2", 1735732805.25, "s", "l", "", 2]]
    replies = [{"error": [said]}, {"error": [], "result": {"XXBTZUSD": trades, "last": "1"}}]
    service = Service({"/0/public/Trades": lambda _: replies[len(service.asked) - 1]})
    clock = ManualClock(utc("2025-01-01T00:00"))
    assert (await KrakenClient(service.http(pace=Pace(clock))).ticker()).value == 96123.4
    assert clock.monotonic_s() == pytest.approx(1.0)


async def test_a_source_that_stays_away_is_named_after_its_last_try():
    def away(_):
        raise httpx.ConnectError("refused")

    service = Service({"/products/BTC-USD/ticker": away})
    with pytest.raises(MarketError, match="after 3 tries"):
        await CoinbaseClient(service.http()).ticker()
    assert len(service.asked) == 3


async def test_a_reply_is_read_no_further_than_its_limit_however_well_it_is_packed():
    limit, taken = market_http.MAX_REPLY_BYTES, []
    packed = gzip.compress(b" " * (20 * limit))

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):
            for n in range(0, len(packed), 1024):
                taken.append(n)
                yield packed[n : n + 1024]

    service = Service({"/x": httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Body())})
    with pytest.raises(MarketError, match=f"more than {limit} bytes"):
        await service.http().get_json("/x")
    assert len(taken) < len(packed) / 1024 / 10
    assert len(service.asked) == 1


async def test_a_packed_reply_is_unpacked_once():
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    service = Service({"/x": httpx.Response(200, headers=headers, content=gzip.compress(b'{"a": 1}'))})
    assert (await service.http().get_json("/x")).body == {"a": 1}


async def test_a_source_that_drips_is_left(monkeypatch):
    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                yield b" "
                await asyncio.sleep(0.005)

    monkeypatch.setattr(market_http, "REPLY_WITHIN_S", 0.02)
    service = Service({"/x": lambda _: httpx.Response(200, stream=Body())})
    with pytest.raises(MarketError, match="not all there after 0 s after 3 tries"):
        await service.http().get_json("/x")


async def test_a_reply_nested_too_deep_is_not_json():
    service = Service({"/x": httpx.Response(200, text="[" * 100_000)})
    with pytest.raises(MarketError, match="not JSON"):
        await service.http().get_json("/x")
