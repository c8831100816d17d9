"""A replayed real day through every service, one request in twenty failing: nothing lost or doubled, revisions and limits kept.

The feed's own sources, clients and recorder run on a clock that jumps to whatever is due next, so that a day takes seconds.
"""

import json
import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import BITCOIN
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.feed.service import all_sources, open_clients
from hcp_pipelines.markets import aws, azure, binance, bitstamp, coinbase, ercot, gemini, kraken, mempool, open_meteo
from hcp_pipelines.markets.central import from_local
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.roles import Role
from simulators.cloud.market import ZONES, CloudMarket, types_of
from simulators.corrections import as_known
from simulators.exchanges import TRADE_EVERY_S
from simulators.service_plan import FAILURES
from tests.support.market_world import MarketWorld, live
from tests.support.recorded import real_folder

pytestmark = pytest.mark.shared_data

DAY = datetime(2024, 8, 20, 5, tzinfo=UTC)  # a Central day with prices up to 1,600 $/MWh
END = DAY + timedelta(days=1)
UNTIL = END + timedelta(hours=4)  # its last corrections are told by then
POINTS = ["HB_HOUSTON", "HB_HUBAVG", "HB_NORTH"]
SPEED = 600.0
AWS_REGION = "us-east-1"
EARLIER_S = 0.25  # than the instant that its price is of, a trade is stamped
# Exchanges are polled every 300 s at this speed, and a quote of three polls ago is the oldest that counts. How far back bitcoin's
# prices reach was measured, twice: of 286 and 287 the furthest 185 s and 195 s, 92 % no further than the last trade.
POLL_S, OLDEST_S = 300, 900
FIVE, QUARTER, HOUR = timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1)
BADLY = {"from_h": 0, "until_h": 168, "fail_fraction": 0.05, "slow_ms": 0, "oversized_mb": 17}
PLAN = {
    "services": {
        "limits": "enforced",
        "troubles": [BADLY],
        "revisions": [{"from_h": 0, "until_h": 168, "fraction": 0.1, "spread_usd_per_mwh": 25, "after_h": 2}],
    }
}


class Day:
    """What was recorded of the day, and the world that told it."""

    def __init__(self, market):
        self.market, self.told, self.health = market, defaultdict(dict), {}

    def values(self, stream, series, start=DAY, end=END):
        """By instant, what was recorded, oldest revision first."""
        found = defaultdict(list)
        for (at, revision), value in sorted(self.told[stream, series].items()):
            if start <= at < end:
                assert revision == len(found[at]), "revisions count from 0"
                found[at].append(value)
        return found

    def truth(self, kind, point, step, known_at=None):
        """By instant, what the world has: first told, or as it is known at an instant."""
        starts = [DAY + n * step for n in range((END - DAY) // step)]
        starts_s = np.array([at.timestamp() for at in starts], dtype=np.int64)
        values = getattr(self.market.world, {"spp": "spp", "da": "day_ahead", "lmp": "lmp"}[kind])(point, starts_s)
        prices = values.values
        if known_at is not None:
            script, seed = self.market.world.script, self.market.world.config.seed
            prices = as_known(script, seed, kind, point, starts_s, prices, known_at.timestamp())
        assert values.is_recorded.all() or point == "HB_NORTH"
        return dict(zip(starts, prices.tolist(), strict=True))


@pytest.fixture(scope="module")
def market():
    """The world of that day."""
    folder = real_folder()
    return MarketWorld(DAY, SPEED, PLAN, replay_dir=folder, settlement_points=POINTS)


class Clouds:
    """Asks two clouds every hour what is offered, and one of them how its spot prices have changed since the last time."""

    name = "clouds"

    def __init__(self, market):
        self._clock, self.told_until, self.changes, self.offers = market.clock, DAY, [], []
        amazon, microsoft = (
            MarketHttp("http://world", pace=Pace(market.clock, module.LIMIT), transport=market.transport)
            for module in (aws, azure)
        )
        self._amazon, self._azure = (
            aws.AwsClient(amazon, amazon, AWS_REGION),
            azure.AzureClient(microsoft, microsoft, "s-1"),
        )

    async def step(self):
        now = self._clock.now()
        changes = await self._amazon.spot_history(self.told_until, now)
        offers = [*(await self._amazon.offers(now)), *(await self._azure.offers("eastus"))]
        self.changes, self.told_until = [*self.changes, *changes], now
        self.offers.append(offers)
        return HOUR.total_seconds() / self._clock.speed

    def truth(self, market):
        """By machine, zone and instant, the spot price that the world has from then on, USD of a machine."""
        world = CloudMarket(market.world.config.seed, market.world.script)
        return {
            (kind.name, zone, datetime.fromtimestamp(change.at_s, UTC)): change.usd
            for kind in types_of("aws")
            for zone in ZONES["aws"][AWS_REGION]
            for change in world.changes(kind, zone, DAY.timestamp(), self.told_until.timestamp())
            if DAY.timestamp() <= change.at_s < self.told_until.timestamp()
        }


async def lived_through(market, settings, database, until, transport=None, more=()):
    """The feed lives until an instant, and what it recorded."""
    lived = Day(market)
    async with (
        await open_pool(settings, Role.FEED, min_size=1, max_size=1) as pool,
        open_clients("http://world", market.clock, transport or market.transport) as clients,
    ):
        recorder = Recorder(pool, market.clock, Memory(), Rules(), lived.health)
        sources = [*all_sources(clients, recorder, market.clock, lambda: POINTS), *more]
        await live(market.clock, sources, recorder, lived.health, until)
    for stream, series, at, revision, value in database.execute(
        'select stream, series, "timestamp", revision, value from price_data'
    ):
        lived.told[stream, series][at, revision] = value
    return lived


def lag_s(world, at, usd):
    """How far back from an instant the world's price has to be looked at for one to lie within it, seconds."""
    low, high = math.inf, -math.inf
    for back_s in range(0, 2 * OLDEST_S, TRADE_EVERY_S):
        price = world.btc_usd(at.timestamp() + EARLIER_S - back_s).value
        low, high = min(low, price), max(high, price)
        if low <= usd <= high:
            return back_s
    return math.inf


def lost(day, start, end):
    """The real-time prices of the world that were never recorded: stream, point and instant."""
    return {
        (stream, point, at)
        for stream, kind, step in (("power.rt_lmp", "lmp", FIVE), ("power.rt_spp", "spp", QUARTER))
        for point in POINTS
        for at in day.truth(kind, point, step)
        if start <= at < end and at not in day.values(stream, point)
    }


async def test_nothing_is_lost_nothing_doubled_revisions_are_kept_and_no_limit_exceeded(market, settings, database):
    clouds = Clouds(market)
    day = await lived_through(market, settings, database, UNTIL, more=[clouds])
    assert lost(day, DAY, END) == set()
    for point in POINTS:
        lmps = day.values("power.rt_lmp", point)
        assert {at: [value] for at, value in day.truth("lmp", point, FIVE).items()} == lmps
        for stream, kind, step in (("power.rt_spp", "spp", QUARTER), ("power.da_spp", "da", HOUR)):
            found, first, last = (
                day.values(stream, point),
                day.truth(kind, point, step),
                day.truth(kind, point, step, UNTIL),
            )
            assert set(found) == set(first)
            assert {at: values[-1] for at, values in found.items()} == last
            assert all(values in ([first[at], last[at]], [last[at]]) for at, values in found.items())
        spp, corrected = day.values("power.rt_spp", point), day.truth("spp", point, QUARTER, UNTIL)
        revised = {at for at, value in day.truth("spp", point, QUARTER).items() if value != corrected[at]}
        assert len(revised) >= 3
        assert {at for at, values in spp.items() if len(values) == 2} == revised, "what was told first is kept"

    consensus = day.values("btc.usd", BITCOIN)
    assert len(consensus) >= 24 * 12 * 0.95
    assert {len(values) for values in consensus.values()} == {1}
    lags = [lag_s(day.market.world, at, values[0]) for at, values in consensus.items()]
    assert max(lags) <= OLDEST_S
    assert sum(lag <= POLL_S for lag in lags) >= 0.99 * len(lags)
    assert sum(lag <= TRADE_EVERY_S for lag in lags) >= 0.85 * len(lags)
    heights = [value for values in day.values("btc.network", "height").values() for value in values]
    assert heights == sorted(set(heights)), "each state of the network once"
    assert len(day.values("gpu.spot", "H100")) >= 24 * 12 * 0.9
    assert day.health == dict.fromkeys(day.health, "")

    changes = {(one.machine, one.zone, one.since): one.usd_per_gpu_hour * one.gpus for one in clouds.changes}
    assert changes == pytest.approx(clouds.truth(market), abs=1e-6)
    assert len(clouds.changes) == len(changes) > 50
    assert clouds.told_until > UNTIL - 2 * HOUR
    assert len(clouds.offers) >= 26
    assert {one.provider for offers in clouds.offers for one in offers} == {"aws", "azure"}
    assert {len(offers) for offers in clouds.offers} == {6 * (1 + 3) + 5 * 2}, "each time all types, on demand and spot"

    counts = day.market.counts()
    assert {name: each["over_limit"] + each["refused"] for name, each in counts.items()} == dict.fromkeys(counts, 0)
    asked = ("ercot", "coinbase", "kraken", "bitstamp", "binance", "gemini", "mempool", "primeintellect", "ec2")
    assert all(counts[name]["requests"] > 250 for name in asked)
    failed = sum(counts[name].get(way, 0) for name in asked for way in FAILURES)
    assert failed == pytest.approx(0.05 * sum(counts[name]["requests"] for name in asked), rel=0.25)
    assert all(sum(each.get(way, 0) for each in counts.values()) > 5 for way in FAILURES)
    assert all(sum(counts[name].get(way, 0) for way in FAILURES) > 0 for name in (*asked, "azure"))


class Dropping(httpx.AsyncBaseTransport):
    """The world, but for the SCED run of one interval, which no reply ever has."""

    def __init__(self, inner, interval):
        self._inner, self._interval = inner, interval

    async def handle_async_request(self, request):
        response = await self._inner.handle_async_request(request)
        if not request.url.path.startswith(ercot.RT_LMP):
            return response
        body = await response.aread()
        try:
            document = json.loads(body)
            document["data"] = [row for row in document["data"] if self._is_kept(row[0])]
        except (KeyError, TypeError, ValueError):  # it went wrong already
            return httpx.Response(response.status_code, headers=response.headers, content=body)
        return httpx.Response(response.status_code, json=document)

    def _is_kept(self, stamp):
        return ercot.floor_to(from_local(datetime.fromisoformat(stamp)), FIVE) != self._interval


async def test_where_one_instant_is_never_told_it_is_found_to_be_lost(settings, database):
    market = MarketWorld(DAY, SPEED, PLAN, replay_dir=real_folder(), settlement_points=POINTS)
    day = await lived_through(market, settings, database, DAY + 2 * HOUR, Dropping(market.transport, DAY + HOUR))
    assert lost(day, DAY, DAY + 1.5 * HOUR) == {("power.rt_lmp", point, DAY + HOUR) for point in POINTS}


async def whole(market, module, client, ask):
    """What a client answers of the past, asked again as Dagster does where it fails."""
    http = MarketHttp("http://world", pace=Pace(market.clock, module.LIMIT), patience_s=180, transport=market.transport)
    for _ in range(20):
        try:
            return await ask(client(http))
        except MarketError:
            market.clock.advance(60 * SPEED)
    raise AssertionError(f"{module.__name__}: failed twenty times")


async def test_the_past_of_the_day_is_told_whole_by_every_service_that_keeps_it(market):
    market.clock.advance(max(0.0, (UNTIL - market.clock.now()).total_seconds()))
    hours = [DAY + n * HOUR for n in range(24)]
    for module, client in (
        (coinbase, coinbase.CoinbaseClient), (bitstamp, bitstamp.BitstampClient), (binance, binance.BinanceClient),
        (gemini, gemini.GeminiClient),
    ):  # fmt: skip
        candles = await whole(market, module, client, lambda c: c.candles(DAY, END))
        assert [candle.start_at for candle in candles] == hours
        recorded = [market.world.recording.candles[int(at.timestamp())] for at in hours]
        assert [candle.close_usd for candle in candles] == [pytest.approx(one.close) for one in recorded]
    four = await whole(market, kraken, kraken.KrakenClient, lambda c: c.candles(DAY, END))
    assert [candle.start_at.hour % 4 for candle in four] == [0] * 6
    load = await whole(market, ercot, ercot.ErcotClient, lambda c: c.zone_load(DAY, END))
    assert [at for at, zone, _ in load if zone == "total"] == hours
    capacity = await whole(market, ercot, ercot.ErcotClient, lambda c: c.da_capacity(DAY, END))
    assert len({(one.start_at, one.product) for one in capacity}) == len(capacity) == 24 * 5
    blocks = await whole(market, mempool, mempool.MempoolClient, lambda c: c.blocks(DAY, END))
    assert [b.height for b in blocks] == list(range(blocks[0].height, blocks[0].height + len(blocks)))
    place = open_meteo.PLACES[0]
    weather = await whole(market, open_meteo, open_meteo.OpenMeteoClient, lambda c: c.temperatures(place, DAY, END))
    assert [one.start_at for one in weather] == hours
    counts = market.counts()
    assert {name: each["over_limit"] for name, each in counts.items()} == dict.fromkeys(counts, 0)
