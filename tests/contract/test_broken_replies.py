"""Every reply of every outside service, broken at one place: its client says so, or reads on, and nothing else happens."""

import copy
import json
import random
from datetime import timedelta

import httpx
import pytest

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets import (
    aws,
    azure,
    binance,
    bitstamp,
    coinbase,
    ercot,
    gemini,
    gpu_listings,
    kraken,
    mempool,
    open_meteo,
    pool,
)  # fmt: skip
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.tokens import TokenAuth
from tests.support.market_world import START, MarketWorld

NOW = START + timedelta(hours=36)
DAY = START.replace(hour=0)
WINDOW = (DAY, DAY + timedelta(hours=4))
POINTS = ["HB_NORTH"]
WHOLE = [
    b"", b"null", b"true", b"0", b'"x"', b"[]", b"{}", b"[[]]", b"[null]", b"[1]", b"1e999", b"NaN", b"\xff\xfe", b"{",
    b"[" * 50_000, b"<html>502</html>", b"<?xml version='1.0'?><a><b/></a>", b'{"btc": null}', b'{"error": 7}',
    b'{"data": [[]], "fields": []}',
]  # fmt: skip
LEAVES = [
    None, "", "x", "²", "1e999", "-1", "9" * 400, -1, 10**30, 10**400, 1e308, float("inf"), float("nan"), True, [], {}, [[]],
    {"a": 1},
]  # fmt: skip
TRIES = 40  # of one call: each breaks one place of one reply


WORKER = {"hash_rate_unit": "Gh/s", "hash_rate_24h": 200_000.0, "valid_shares": 30_000}
POOL = {
    pool.STATS: {"pool_fee": 0.02, "luck_b10": "0.9", "luck_b50": "1.0", "extensions": ["pages", "workers_daily"]},
    pool.WORKERS_DAILY: {
        "date": int(DAY.timestamp()), "is_final": True, "pagination": {"page": 1, "page_count": 1},
        "workers": {f"hcp.one.{n}": WORKER for n in range(3)},
    },
    pool.REWARDS: {"daily_rewards": [{"date": int(DAY.timestamp()), "total_reward": "0.001"}]},
}  # fmt: skip


class Pool(httpx.AsyncBaseTransport):
    """A pool's replies, small, in their shape."""

    async def handle_async_request(self, request):
        return httpx.Response(200, json={"btc": POOL[request.url.path]})


def credits_of(http):
    client = pool.PoolClient(http)

    async def ask():
        day = DAY.date()
        await client.terms()
        terms = pool.PoolTerms(None, {}, frozenset({"pages", "workers_daily"}))
        await client.credits(day, DAY + timedelta(days=1, minutes=5), terms)
        return await client.rewards_btc(day, day)

    return ask


def calls(http):
    """By name, what each client can be asked."""
    amazon, microsoft = aws.AwsClient(http, http, "us-east-1"), azure.AzureClient(http, http, "s-1")
    power = ercot.ErcotClient(http)
    found = {
        "ercot rt_lmp": lambda: power.rt_lmp(POINTS, *WINDOW),
        "ercot rt_spp": lambda: power.rt_spp(POINTS, *WINDOW),
        "ercot da_spp": lambda: power.da_spp(POINTS, *WINDOW),
        "ercot da_capacity": lambda: power.da_capacity(*WINDOW),
        "ercot zone_load": lambda: power.zone_load(*WINDOW),
        "ercot corrections": lambda: power.corrections(POINTS, DAY),
        "mempool network": mempool.MempoolClient(http).network,
        "mempool blocks": lambda: mempool.MempoolClient(http).blocks(*WINDOW),
        "open_meteo": lambda: open_meteo.OpenMeteoClient(http).temperatures(
            open_meteo.Place("a", 29.8, -95.4), *WINDOW
        ),
        "gpu_listings": lambda: gpu_listings.GpuListingsClient(http).spot(NOW),
        "aws offers": lambda: amazon.offers(NOW),
        "aws spot_history": lambda: amazon.spot_history(*WINDOW),
        "azure": lambda: microsoft.offers("eastus"),
        "pool": credits_of(http),
    }
    venues = (
        coinbase.CoinbaseClient, kraken.KrakenClient, bitstamp.BitstampClient, binance.BinanceClient, gemini.GeminiClient,
    )  # fmt: skip
    for venue in venues:
        found[f"{venue.__name__} ticker"] = venue(http).ticker
        found[f"{venue.__name__} candles"] = lambda venue=venue: venue(http).candles(*WINDOW)
    return found


NAMES = sorted(calls(None))


class Breaking(httpx.AsyncBaseTransport):
    """Asks on, once each; one reply of a call, by its number, is broken."""

    def __init__(self, behind):
        self.behind, self.number, self.asked, self.broken, self._known = behind, 0, 0, None, {}

    async def handle_async_request(self, request):
        key = (str(request.url), request.content)
        if key not in self._known:
            reply = await self.behind.handle_async_request(request)
            self._known[key] = (reply.status_code, reply.headers, await reply.aread())
        status, headers, content = self._known[key]
        self.asked += 1
        if self.asked == self.number and self.broken is not None:
            return httpx.Response(200, content=self.broken(content), headers={"content-type": "application/json"})
        return httpx.Response(status, headers=headers, content=content)


def places(told, path=()):
    """The ways to every value in a document, its containers too."""
    yield path
    items = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def break_one(rng):
    """A function that breaks a body at one place: another value, or nothing, or one value twice."""

    def broken(content):
        try:
            told = json.loads(content)
        except ValueError:
            cut = rng.randrange(max(len(content), 1))
            return content[:cut] + rng.choice([b"", b"<x>", b"&#0;", b"\x00"]) + content[cut + rng.randrange(40) :]
        ways = list(places(told))
        path = rng.choice(ways[:2000])
        if not path:
            return rng.choice(WHOLE)
        inner = told = copy.deepcopy(told)
        for key in path[:-1]:
            inner = inner[key]
        how = rng.random()
        if how < 0.2:
            del inner[path[-1]]
        elif how < 0.3 and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[path[-1]]))
        else:
            inner[path[-1]] = rng.choice(LEAVES)
        return json.dumps(told).encode()

    return broken


@pytest.fixture(scope="module")
def market():
    return MarketWorld(NOW, 1.0)


async def outcome(call):
    """`answered` or `said`; anything else is a defect of the client."""
    try:
        await call()
    except MarketError as error:
        return "said" if len(str(error)) > 10 else "without a word"
    return "answered"


@pytest.mark.parametrize("name", NAMES)
async def test_a_reply_that_is_broken_anywhere_is_said_or_read(market, name):
    breaking = Breaking(Pool() if name == "pool" else market.transport)
    rng = random.Random(name)

    async def ask():
        http = MarketHttp("http://world", transport=breaking, retry_wait_s=0.0, attempts=1)
        breaking.asked = 0
        try:
            return await outcome(calls(http)[name])
        finally:
            await http.close()

    assert await ask() == "answered"
    requests = breaking.asked
    found = set()
    for n in range(TRIES + len(WHOLE)):
        breaking.number = 1 + rng.randrange(requests)
        breaking.broken = (lambda _, n=n: WHOLE[n]) if n < len(WHOLE) else break_one(rng)
        found.add(await ask())
    assert found <= {"said", "answered"}
    assert "said" in found
    breaking.broken = None
    assert await ask() == "answered", "what was broken before costs nothing after"


LOGINS = [b'{"access_token": []}', b'{"access_token": "a\\nb"}', b'{"access_token": "t", "expires_in": "soon"}']


@pytest.mark.parametrize("body", [*WHOLE, *LOGINS])
async def test_a_log_in_that_is_answered_with_nonsense_is_said(market, body):
    async def answer(request):
        if request.method == "POST":
            return httpx.Response(200, content=body)
        return await market.transport.handle_async_request(request)

    transport = httpx.MockTransport(answer)
    auth = TokenAuth("http://127.0.0.1/token", {"grant_type": "password"}, market.clock)
    http = MarketHttp("http://world", auth=auth, transport=transport, retry_wait_s=0.0, attempts=1)
    try:
        found = await outcome(lambda: ercot.ErcotClient(http).rt_lmp(POINTS, *WINDOW))
    finally:
        await http.close()
    assert found == ("answered" if b'"t"' in body else "said")
