"""Past ranges: each client against replies in the services' published shapes, and against what the world serves."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.binance import BinanceClient
from hcp_pipelines.markets.bitstamp import BitstampClient
from hcp_pipelines.markets.candles import Candle
from hcp_pipelines.markets.coinbase import CoinbaseClient
from hcp_pipelines.markets.ercot import CapacityPrice, ErcotClient, ZoneLoad
from hcp_pipelines.markets.gemini import GeminiClient
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.kraken import KrakenClient
from hcp_pipelines.markets.mempool import MempoolClient, MinedBlock
from hcp_pipelines.markets.open_meteo import PLACES, OpenMeteoClient, Temperature
from simulators.clock import ManualClock
from simulators.http import Services
from tests.contract.test_markets_clients import Service, report, utc
from tests.contract.test_world_http import START_S, Well, world

DAY = datetime(2025, 1, 10, tzinfo=UTC)
NOW_S = START_S + 30 * 86_400
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def served():
    """A month of the generated world, as an outside service."""
    return httpx.ASGITransport(Services(world(), ManualClock(NOW_S), Well()).app())


def asked(served):
    return MarketHttp("http://world", transport=served)


async def test_capacity_prices_of_the_repeated_hour_are_told_apart():
    fields = ("deliveryDate", "hourEnding", "ancillaryType", "MCPC", "DSTFlag")
    rows = [["2024-11-03", "02:00", "RRS", 3.5, flag] for flag in (False, True)]
    path = "/api/public-reports/np4-188-cd/dam_clear_price_for_cap"
    client = ErcotClient(Service({path: report(fields, rows)}).http())
    assert await client.da_capacity(utc("2024-11-03T06:00"), utc("2024-11-03T08:00")) == [
        CapacityPrice(utc("2024-11-03T06:00"), "RRS", 3.5), CapacityPrice(utc("2024-11-03T07:00"), "RRS", 3.5),
    ]  # fmt: skip


async def test_load_of_the_zones_and_of_the_system():
    zones = ("coast", "east", "farWest", "north", "northC", "southern", "southC", "west", "total")
    rows = [["2024-07-01", "24:00", *range(1, 9), 36.0, False]]
    path = "/api/public-reports/np6-345-cd/act_sys_load_by_wzn"
    service = Service({path: report(("operatingDay", "hourEnding", *zones, "DSTFlag"), rows)})
    found = await ErcotClient(service.http()).zone_load(utc("2024-07-02T00:00"), utc("2024-07-03T00:00"))
    assert ZoneLoad(utc("2024-07-02T04:00"), "total", 36.0) in found
    assert len(found) == 9
    assert service.asked[0][1]["operatingDayFrom"] == "2024-07-01"


async def test_candles_in_the_shapes_of_five_exchanges():
    start, end = utc("2025-01-01T00:00"), utc("2025-01-02T00:00")
    coinbase = [[1735693200, 1.0, 4.0, 2.0, 3.0, 9.0], [1735689600, 1.0, 4.0, 2.0, 2.5, 9.0]]
    found = await CoinbaseClient(Service({"/products/BTC-USD/candles": coinbase}).http()).candles(start, end)
    assert found == [Candle(start, 2.0, 4.0, 1.0, 2.5, 9.0), Candle(start + HOUR, 2.0, 4.0, 1.0, 3.0, 9.0)]
    rows = [[1735689600, "2.0", "4.0", "1.0", "2.5", "2.2", "9.0", 7], [1735704000, "2", "4", "1", "3", "2", "9", 7]]
    kraken = {"error": [], "result": {"XXBTZUSD": rows, "last": 1735689600}}
    found = await KrakenClient(Service({"/0/public/OHLC": kraken}).http()).candles(start, end)
    assert found == [Candle(start, 2.0, 4.0, 1.0, 2.5, 9.0)], "the last one is still running"
    row = {"timestamp": "1735689600", "open": "2.0", "high": "4.0", "low": "1.0", "close": "2.5", "volume": "9.0"}
    bitstamp = {"data": {"pair": "BTC/USD", "ohlc": [row]}}
    found = await BitstampClient(Service({"/api/v2/ohlc/btcusd/": bitstamp}).http()).candles(start, end)
    assert found == [Candle(start, 2.0, 4.0, 1.0, 2.5, 9.0)]
    row = [1735689600000, "2.0", "4.0", "1.0", "2.5", "9.0", 1735693199999, "20.0", 7, "4.5", "10.0", "0"]
    service = Service({"/api/v3/klines": [row]})
    assert await BinanceClient(service.http()).candles(start, end) == [Candle(start, 2.0, 4.0, 1.0, 2.5, 9.0)]
    assert service.asked[0][1] | {"endTime": "*"} == {
        "symbol": "BTCUSDT", "interval": "1h", "limit": "1000", "startTime": "1735689600000", "endTime": "*",
    }  # fmt: skip
    gemini = [[1735693200000, 2.0, 4.0, 1.0, 3.0, 9.0], [1735689600000, 2.0, 4.0, 1.0, 2.5, 9.0]]
    found = await GeminiClient(Service({"/v2/candles/btcusd/1hr": gemini}).http()).candles(start, end)
    assert found == [Candle(start, 2.0, 4.0, 1.0, 2.5, 9.0), Candle(start + HOUR, 2.0, 4.0, 1.0, 3.0, 9.0)]


@pytest.mark.parametrize(
    ("client", "path", "body"),
    [
        (CoinbaseClient, "/products/BTC-USD/candles", {}),
        (CoinbaseClient, "/products/BTC-USD/candles", [[1735689600, 1.0]]),
        (KrakenClient, "/0/public/OHLC", {"error": ["EGeneral:Invalid arguments"]}),
        (KrakenClient, "/0/public/OHLC", {"error": [], "result": {"XXBTZUSD": [[1], [2]], "last": 1}}),
        (BitstampClient, "/api/v2/ohlc/btcusd/", {"data": {"ohlc": [{"open": "1"}]}}),
        (BitstampClient, "/api/v2/ohlc/btcusd/", []),
        (BinanceClient, "/api/v3/klines", {"code": -1120, "msg": "Invalid interval."}),
        (BinanceClient, "/api/v3/klines", [["soon", "1", "1", "1", "1", "1"]]),
        (GeminiClient, "/v2/candles/btcusd/1hr", {"result": "error"}),
        (GeminiClient, "/v2/candles/btcusd/1hr", [[1735689600000, 1.0]]),
    ],
)
async def test_what_are_no_candles_is_an_error(client, path, body):
    with pytest.raises(MarketError, match=path):
        await client(Service({path: body}).http()).candles(DAY, DAY + HOUR)


async def test_weather_skips_the_hours_that_are_not_known_yet():
    hourly = {"time": ["2025-01-10T00:00", "2025-01-10T01:00", "2025-01-10T02:00"], "temperature_2m": [3.1, 4, None]}
    client = OpenMeteoClient(Service({"/v1/archive": {"hourly": hourly}}).http())
    assert await client.temperatures(PLACES[0], DAY, DAY + 24 * HOUR) == [
        Temperature(DAY, "HOUSTON", 3.1), Temperature(DAY + HOUR, "HOUSTON", 4.0),
    ]  # fmt: skip
    with pytest.raises(MarketError, match="/v1/archive: not hours"):
        await OpenMeteoClient(Service({"/v1/archive": {"hourly": {"time": [1]}}}).http()).temperatures(
            PLACES[0], DAY, DAY + HOUR
        )


async def test_the_world_serves_a_month_to_every_client(served):
    month, http = (DAY - 8 * 24 * HOUR, DAY + 22 * 24 * HOUR), asked(served)
    hours = 29 * 24  # the world is at the end of the 30th of January
    ercot = ErcotClient(http)
    capacity = await ercot.da_capacity(*month)
    assert len(capacity) == 5 * len({one.start_at for one in capacity})
    load = await ercot.zone_load(*month)
    assert len({(one.start_at, one.zone) for one in load}) == len(load)
    total = {one.start_at: one.load_mw for one in load if one.zone == "total"}
    parts = [one for one in load if one.zone != "total" and one.start_at == DAY]
    assert sum(one.load_mw for one in parts) == pytest.approx(total[DAY], abs=0.05)
    assert all(25_000 < mw < 90_000 for mw in total.values())
    for client in (CoinbaseClient(http), BitstampClient(http), BinanceClient(http), GeminiClient(http)):
        candles = await client.candles(month[0], month[0] + hours * HOUR)
        assert [one.start_at for one in candles] == [month[0] + n * HOUR for n in range(hours)]
    candles = await KrakenClient(http).candles(DAY, DAY + 24 * HOUR)
    assert [one.start_at for one in candles] == [DAY + n * 4 * HOUR for n in range(6)]
    weather = await OpenMeteoClient(http).temperatures(PLACES[1], DAY, DAY + 24 * HOUR)
    assert len(weather) == 24
    await http.close()


async def test_every_block_of_some_days_once(served):
    http = asked(served)
    blocks = await MempoolClient(http).blocks(DAY, DAY + 24 * HOUR)
    await http.close()
    assert 100 < len(blocks) < 190
    assert all(b.height - a.height == 1 for a, b in pairwise(blocks))
    assert all(DAY <= block.start_at < DAY + 24 * HOUR for block in blocks)
    assert all(3.125 <= block.reward_btc == pytest.approx(3.125 + block.fees_btc) for block in blocks)


async def test_a_block_with_a_stray_stamp_is_of_the_day_of_its_stamp():
    stamps = {7: -90, 6: 30, 5: -60, 4: 10, 3: -8 * 3600, 2: -8 * 3600}  # seconds from the day's beginning

    def block(height):
        at = int(DAY.timestamp()) + stamps[height]
        extras = {"totalFees": 1000, "reward": 312_501_000}
        return {"height": height, "timestamp": at, "difficulty": 1e14, "tx_count": 1, "extras": extras}

    answers = {f"/api/v1/blocks/{n}": [block(m) for m in (n, n - 1) if m in stamps] for n in stamps}
    late = int((DAY + 3 * HOUR).timestamp())
    service = Service(
        {**answers, f"/api/v1/mining/blocks/timestamp/{late}": {"height": 7, "hash": "", "timestamp": ""}}
    )
    found = await MempoolClient(service.http()).blocks(DAY, DAY + HOUR)
    assert [one.height for one in found] == [4, 6]
    assert found[0] == MinedBlock(DAY + timedelta(seconds=10), 4, 1e14, 1e-5, 3.12501, 1)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/0/public/OHLC", {"pair": "DOGEUSD"}, 200),
        ("/0/public/OHLC", {"pair": "XBTUSD", "interval": "7"}, 200),
        ("/api/v2/ohlc/btcusd/", {"step": "3600", "limit": "5000"}, 400),
        ("/api/v2/ohlc/btcusd/", {"step": "x" * 5000, "limit": "1"}, 400),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "7h"}, 400),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "5000"}, 400),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "startTime": "9" * 5000}, 400),
        ("/api/v3/aggTrades", {"limit": "1"}, 400),
        ("/api/v3/aggTrades", {"symbol": "BTCUSDT", "limit": "0"}, 400),
        ("/api/v3/ticker/24hr", {"symbol": "DOGEUSDT"}, 400),
        ("/v1/pubticker/dogeusd", {}, 400),
        ("/v2/candles/btcusd/7hr", {}, 400),
        ("/v2/candles/" + "d" * 5000 + "/1hr", {}, 400),
        ("/v1/archive", {"latitude": "nan"}, 400),
        ("/v1/archive", {"latitude": "1", "longitude": "1", "start_date": "2024-01-01", "end_date": "2034-01-01"}, 400),
        ("/api/v1/mining/blocks/timestamp/" + "9" * 5000, {}, 400),
        ("/api/v1/mining/blocks/timestamp/soon", {}, 400),
    ],
)
async def test_the_world_refuses_what_the_services_refuse(served, path, query, status):
    async with httpx.AsyncClient(transport=served, base_url="http://world") as client:
        reply = await client.get(path, params=query)
    assert reply.status_code == status
    assert set(reply.json()) & {"error", "errors", "code"} or reply.json()["result"] == "error"
    assert len(reply.content) < 600
