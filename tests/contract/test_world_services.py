"""The outside services as badly as reality: limits, outages, broken and wrong replies, a log-in, prices that are corrected."""

import asyncio
import json
from collections import Counter

import httpx
import pytest
import uvicorn

from simulators.clock import ManualClock
from simulators.ercot_login import CLIENT_ID, TOKEN_PATH
from simulators.gate import Gate
from simulators.http import Services
from simulators.scenarios import Scenario
from simulators.script import Script
from simulators.wrong import OTHER_UNIT
from tests.contract.test_world_http import DAM, LMP, SPP, START_S, Client, Well, rows, world

HOUR_S = 3600.0
TICKER = {
    "coinbase": "/products/BTC-USD/ticker", "kraken": "/0/public/Trades?pair=XBTUSD&count=1",
    "bitstamp": "/api/v2/ticker/btcusd/", "binance": "/api/v3/aggTrades?symbol=BTCUSDT&limit=1", "gemini": "/v1/pubticker/btcusd",
}  # fmt: skip
RT_CORRECTIONS = "/api/public-reports/np4-197-m/rtm_price_corrections_spp"


def troubled(limits="counted", at_s=START_S + HOUR_S, markets=None, **services):
    """A client of a world whose services go wrong as a test says, from its beginning on."""
    client = Client(at_s, markets=markets or {})
    span = {"from_h": 0, "until_h": 168}
    plan = {
        "limits": limits,
        "troubles": [span | each for each in services.pop("troubles", [])],
        "revisions": [span | each for each in services.pop("revisions", [])],
    }
    scenario = Scenario.model_validate({"name": "t", "description": "made for a test", "services": plan, **services})
    client.world.script = Script(scenario, START_S)
    app = Services(client.world, client.clock, Well()).app()
    client.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://world")
    return client


async def statuses(client, path, number, **headers):
    return [(await client.http.get(path, headers=headers)).status_code for _ in range(number)]


async def counted(client, service):
    return (await client.get("/world/services"))["services"][service]


async def test_ercot_takes_thirty_a_minute_of_a_subscription_and_counts_what_goes_beyond():
    client = troubled("enforced")
    assert await statuses(client, LMP, 32) == [200] * 30 + [429] * 2
    reply = await client.http.get(LMP)
    assert reply.json() == {"error_key": "throttled", "error_message": "Too Many Requests"}
    assert "retry-after" not in reply.headers
    assert await statuses(client, LMP, 1, **{"Ocp-Apim-Subscription-Key": "another"}) == [200]
    client.clock.at_s += 59.0
    assert await statuses(client, LMP, 1) == [429]
    client.clock.at_s += 1.0
    assert await statuses(client, LMP, 30) == [200] * 30
    assert await counted(client, "ercot") == {"requests": 65, "over_limit": 4, "refused": 4}


async def test_where_limits_are_counted_nobody_is_refused_and_the_world_s_own_pages_have_none():
    client = troubled()
    assert await statuses(client, LMP, 35) == [200] * 35
    assert await counted(client, "ercot") == {"requests": 35, "over_limit": 5, "refused": 0}
    assert await statuses(client, "/world/time", 100) == [200] * 100
    forced = troubled(markets={"limits": "enforced"})
    assert Counter(await statuses(forced, LMP, 35)) == {200: 30, 429: 5}


async def test_binance_tells_the_weight_warns_and_then_bans():
    client = troubled("enforced")
    first = await client.http.get(TICKER["binance"])
    assert first.headers["x-mbx-used-weight-1m"] == "4"
    await statuses(client, TICKER["binance"], 1499)
    refused = await client.http.get(TICKER["binance"])
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, -1003, "60")
    assert refused.headers["x-mbx-used-weight-1m"] == "6000"
    assert await statuses(client, TICKER["binance"], 5) == [429, 429, 429, 418, 418]
    client.clock.at_s += 61.0
    banned = await client.http.get(TICKER["binance"])
    assert (banned.status_code, banned.headers["retry-after"]) == (418, "59")
    assert "IP banned until" in banned.json()["msg"]
    client.clock.at_s += 60.0
    assert await statuses(client, TICKER["binance"], 1) == [200]


@pytest.mark.parametrize(
    ("service", "path", "limit", "status", "told"),
    [
        ("coinbase", TICKER["coinbase"], 10, 429, '{"message":"Public rate limit exceeded"}'),
        ("kraken", TICKER["kraken"], 60, 200, '{"error":["EGeneral:Too many requests"]}'),
        ("gemini", TICKER["gemini"], 120, 429, '"result":"error","reason":"RateLimit"'),
        ("mempool", "/api/v1/mining/reward-stats/1", 250, 429, "Too Many Requests"),
        ("primeintellect", "/api/v1/availability/gpus", 60, 429, '"detail"'),
    ],
)
async def test_each_refuses_in_its_own_words(service, path, limit, status, told):
    client = troubled("enforced")
    await statuses(client, path, limit)
    refused = await client.http.get(path)
    assert (refused.status_code, told in refused.text) == (status, True), refused.text
    assert (await counted(client, service))["refused"] == 1


async def test_a_share_of_the_requests_fails_in_each_way_the_same_for_the_same_seed():
    async def outcomes():
        client = troubled(
            troubles=[{"services": ["coinbase"], "fail_fraction": 0.3, "slow_ms": 0, "oversized_mb": 0.1}]
        )
        found = []
        for _ in range(300):
            reply = await client.http.get(TICKER["coinbase"])
            found.append((reply.status_code, len(reply.content)))
        return found, await counted(client, "coinbase")

    found, counts = await outcomes()
    assert (found, counts) == await outcomes()
    ways = {name: counts[name] for name in ("error", "throttled", "torn", "truncated", "not_json", "oversized", "slow")}
    assert all(ways.values())
    assert 60 < sum(ways.values()) < 120
    assert sum(status >= 500 for status, _ in found) == ways["error"]
    assert sum(size > 100_000 for _, size in found) == ways["oversized"]
    other = troubled(troubles=[{"services": ["coinbase"], "fail_fraction": 1.0}])
    assert await statuses(other, TICKER["gemini"], 5) == [200] * 5, "the others are well"


async def test_an_outage_begins_and_ends_and_the_world_s_own_pages_stay():
    client = troubled(at_s=START_S + 0.9 * HOUR_S, troubles=[{"from_h": 1, "until_h": 2, "is_down": True}])
    for hours, status in ((0.9, 200), (1.0, 503), (1.99, 503), (2.0, 200)):
        client.clock.at_s = START_S + hours * HOUR_S
        assert await statuses(client, LMP, 1) == [status]
        assert await statuses(client, "/healthz", 1) == [200]
    assert (await counted(client, "ercot"))["down"] == 2


async def test_wrong_numbers_are_null_no_number_or_in_another_unit_and_nothing_else_changes():
    good, bad = troubled(), troubled(troubles=[{"wrong_fraction": 0.3}])
    whole, spoilt = await good.get(LMP), await bad.get(LMP)
    assert {key: spoilt[key] for key in spoilt if key != "data"} == {key: whole[key] for key in whole if key != "data"}
    pairs = list(zip(whole["data"], spoilt["data"], strict=True))
    assert all(was[:3] == now[:3] for was, now in pairs)
    wrong = [(was[3], now[3]) for was, now in pairs if was[3] != now[3]]
    assert 0.2 < len(wrong) / len(pairs) < 0.4
    assert all(now in (None, "N/A", "NaN") or now == pytest.approx(was * OTHER_UNIT) for was, now in wrong)
    assert {type(now) for _, now in wrong} == {type(None), str, float}


async def price(client, venue):
    """What an exchange says: its price and its stamp, Unix seconds."""
    body = (await client.http.get(TICKER[venue])).json()
    if venue == "bitstamp":
        return float(body["last"]), int(body["timestamp"])
    trade = body["result"]["XXBTZUSD"][0] if venue == "kraken" else body[0]
    return (float(trade[0]), int(trade[2])) if venue == "kraken" else (float(trade["p"]), trade["T"] // 1000)


async def test_an_exchange_that_is_off_and_two_that_are_stuck_with_their_stamp_and_with_new_ones():
    stuck = [{"services": ["kraken"], "stuck": "stale"}, {"services": ["binance"], "stuck": "repeated"}]
    off = {"services": ["bitstamp"], "price_factor": 1.08, "from_h": 1}
    client, calm = troubled(troubles=[off, *({"from_h": 1} | each for each in stuck)]), troubled()
    before = {venue: await price(client, venue) for venue in ("kraken", "binance")}
    for one in (client, calm):
        one.clock.at_s += 1800.0
    assert await price(client, "kraken") == before["kraken"] != await price(calm, "kraken")
    (repeated, stamp), (moved, now) = await price(client, "binance"), await price(calm, "binance")
    assert (repeated, stamp) == (before["binance"][0], now)
    assert repeated != moved
    assert (await price(client, "bitstamp"))[0] == pytest.approx(1.08 * (await price(calm, "bitstamp"))[0], abs=0.01)


async def test_bitcoin_falls_where_the_scenario_has_it_for_candles_too():
    client = troubled(bitcoin=[{"from_h": 2, "until_h": 10, "rise_h": 1, "factor": 0.5}])
    calm = troubled()
    for hours, factor in ((1.5, 1.0), (2.5, 0.75), (4.0, 0.5), (11.0, 1.0)):
        at_s = START_S + hours * HOUR_S
        assert client.world.btc_usd(at_s).value == pytest.approx(factor * calm.world.btc_usd(at_s).value, rel=1e-3)
    at_s = START_S + 8 * HOUR_S
    assert client.world.candle(int(at_s // 3600) - 3, at_s)[0].high == pytest.approx(
        0.5 * calm.world.candle(int(at_s // 3600) - 3, at_s)[0].high, rel=1e-3
    )


async def test_what_is_published_late_appears_late():
    client = troubled(troubles=[{"services": ["ercot"], "late_minutes": 3}])
    asked = {"SCEDTimestampFrom": "2024-12-31T19:00:00", "settlementPoint": "HB_NORTH"}
    client.clock.at_s = START_S + HOUR_S + 150
    assert await rows(client, LMP, **asked) == []
    client.clock.at_s = START_S + HOUR_S + 200
    assert len(await rows(client, LMP, **asked)) == 1


async def test_a_price_is_told_corrected_later_and_listed_with_both_values():
    client = troubled(revisions=[{"fraction": 0.3, "spread_usd_per_mwh": 20, "after_h": 2}])
    asked = {
        "deliveryDateFrom": "2024-12-31",
        "deliveryDateTo": "2024-12-31",
        "deliveryHourFrom": 19,
        "deliveryHourTo": 19,
    }
    client.clock.at_s = START_S + HOUR_S
    first = await rows(client, SPP, **asked)
    assert await rows(client, RT_CORRECTIONS) == []
    client.clock.at_s = START_S + 4 * HOUR_S
    later, listed = await rows(client, SPP, **asked), await rows(client, RT_CORRECTIONS, **asked)
    place = ("deliveryDate", "deliveryHour", "deliveryInterval")
    moved = {
        (*(was[key] for key in place), was["settlementPoint"]): (
            was["settlementPointPrice"],
            now["settlementPointPrice"],
        )
        for was, now in zip(first, later, strict=True)
        if was != now
    }
    assert 0 < len(moved) < len(first)
    told = {
        (*(row[key] for key in place), row["settlementPointName"]): (row["SPPOriginal"], row["SPPCorrected"])
        for row in listed
    }
    assert told == moved
    assert {row["priceCorrectionTime"] for row in listed} <= {"2024-12-31T20:00:00", "2024-12-31T21:00:00"}
    since = await rows(client, RT_CORRECTIONS, priceCorrectionTimeFrom="2024-12-31T22:00:00")
    assert since
    assert all(row["priceCorrectionTime"] == "2024-12-31T22:00:00" for row in since)


@pytest.mark.parametrize(("report", "name"), [("spp", "settlementPointName"), ("mcpc", "ASType")])
async def test_day_ahead_corrections_agree_with_the_reports(report, name):
    client = troubled(
        at_s=START_S + 40 * HOUR_S, revisions=[{"fraction": 0.3, "spread_usd_per_mwh": 20, "after_h": 12}]
    )
    listed = await rows(
        client, f"/api/public-reports/np4-196-m/dam_price_corrections_{report}", deliveryDate="2025-01-01"
    )
    assert listed
    path, price = (
        (DAM, "settlementPointPrice")
        if report == "spp"
        else ("/api/public-reports/np4-188-cd/dam_clear_price_for_cap", "MCPC")
    )
    now = {
        (int(row["hourEnding"][:2]), row["settlementPoint" if report == "spp" else "ancillaryType"]): row[price]
        for row in await rows(client, path, deliveryDate="2025-01-01")
    }
    right = "SPPCorrected" if report == "spp" else "MCPCCorrected"
    assert all(now[row["deliveryHour"], row[name]] == row[right] for row in listed)


LOGIN = {"username": "ann", "password": "hush", "subscription_key": "k1", "token_life_s": 3600}
FORM = {
    "grant_type": "password",
    "username": "ann",
    "password": "hush",
    "client_id": CLIENT_ID,
    "response_type": "id_token",
}


async def test_reports_want_a_key_and_a_token_that_lasts():
    client = troubled(markets={"ercot_login": LOGIN})
    reply = await client.http.post(TOKEN_PATH, data=FORM)
    token = reply.json()["id_token"]
    good = {"Ocp-Apim-Subscription-Key": "k1", "Authorization": f"Bearer {token}"}
    assert await statuses(client, LMP, 1, **good) == [200]
    assert await statuses(client, LMP + "?subscription-key=k1", 1, Authorization=good["Authorization"]) == [200]
    for bad in (
        {},
        {"Authorization": "Bearer x.y.z"},
        {"Ocp-Apim-Subscription-Key": "k2"},
        {"Authorization": f"Bearer {token}x"},
    ):
        headers = good | bad if bad else {}
        refused = await client.http.get(LMP, headers=headers)
        assert (refused.status_code, refused.json()["error_key"]) == (401, "unauthorized")
    client.clock.at_s += 3600
    assert await statuses(client, LMP, 1, **good) == [401]
    assert await statuses(client, TICKER["coinbase"], 1) == [200]


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"password": "x"}, "access_denied"), ({"client_id": "x"}, "unauthorized_client"),
     ({"grant_type": "x"}, "unsupported_grant_type"), ({"username": "y" * 100_000}, "unsupported_grant_type")],
)  # fmt: skip
async def test_a_wrong_log_in_is_refused(changed, error):
    client = troubled(markets={"ercot_login": LOGIN})
    reply = await client.http.post(TOKEN_PATH, data=FORM | changed)
    assert (reply.status_code, reply.json()["error"]) == (400, error)


async def test_what_has_a_name_is_not_sent_again():
    client = troubled()
    path = "/api/v1/mining/reward-stats/10"
    first = await client.http.get(path)
    again = await client.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await client.http.get(path, headers={"If-None-Match": '"other"'})).content == first.content
    client.clock.at_s += 86_400
    assert (await client.http.get(path, headers={"If-None-Match": first.headers["etag"]})).status_code == 200


async def test_over_a_socket_a_torn_reply_ends_the_connection_and_the_server_answers_on():
    client = troubled(troubles=[{"services": ["coinbase"], "fail_fraction": 1.0, "failures": ["torn"]}])
    services = Services(client.world, ManualClock(START_S + HOUR_S), Well()).app()
    assert isinstance(services, Gate)
    server = uvicorn.Server(uvicorn.Config(services, port=0, log_level="critical", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(TICKER["coinbase"])
        assert (await http.get(TICKER["gemini"])).status_code == 200
        assert json.loads((await http.get("/world/services")).content)["services"]["coinbase"]["torn"] == 1
    server.should_exit = True
    await serving


def test_a_world_of_its_own_has_no_trouble():
    assert world().script.troubles("ercot", START_S) == []
