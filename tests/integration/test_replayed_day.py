"""A replayed real day through every service, one request in twenty failing: nothing lost or doubled, revisions and limits kept.

The feed's own sources, clients and recorder run on a clock that jumps to whatever is due next, so that a day takes seconds.
"""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import BITCOIN
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.feed.service import all_sources, open_clients
from hcp_pipelines.markets import binance, bitstamp, coinbase, ercot, gemini, kraken, mempool, open_meteo
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.roles import Role
from simulators.corrections import as_known
from simulators.service_plan import FAILURES
from tests.support.market_world import MarketWorld, live
from tests.support.recorded import real_folder

pytestmark = pytest.mark.shared_data

DAY = datetime(2024, 8, 20, 5, tzinfo=UTC)  # a Central day with prices up to 1,600 $/MWh
END = DAY + timedelta(days=1)
UNTIL = END + timedelta(hours=4)  # its last corrections are told by then
POINTS = ["HB_HOUSTON", "HB_HUBAVG", "HB_NORTH"]
SPEED = 600.0
OLDEST_S = 920  # three polls of the exchanges at this speed, and what a poll may take: so old may a quote be
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


@pytest.fixture
async def day(market, settings, database):
    """The feed lives through the day."""
    lived = Day(market)
    async with (
        await open_pool(settings, Role.FEED, min_size=1, max_size=1) as pool,
        open_clients("http://world", market.clock, market.transport) as clients,
    ):
        recorder = Recorder(pool, market.clock, Memory(), Rules(), lived.health)
        sources = all_sources(clients, recorder, market.clock, lambda: POINTS)
        await live(market.clock, sources, recorder, lived.health, UNTIL)
    for stream, series, at, revision, value in database.execute(
        'select stream, series, "timestamp", revision, value from price_data'
    ):
        lived.told[stream, series][at, revision] = value
    return lived


async def test_nothing_is_lost_nothing_doubled_revisions_are_kept_and_no_limit_exceeded(day):
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
    for at, values in consensus.items():
        near = [day.market.world.btc_usd(at.timestamp() - back_s).value for back_s in range(0, OLDEST_S + 1, 5)]
        assert len(values) == 1
        assert min(near) <= values[0] <= max(near)
    heights = [value for values in day.values("btc.network", "height").values() for value in values]
    assert heights == sorted(set(heights)), "each state of the network once"
    assert len(day.values("gpu.spot", "H100")) >= 24 * 12 * 0.9
    assert day.health == dict.fromkeys(day.health, "")

    counts = day.market.counts()
    assert {name: each["over_limit"] + each["refused"] for name, each in counts.items()} == dict.fromkeys(counts, 0)
    asked = ("ercot", "coinbase", "kraken", "bitstamp", "binance", "gemini", "mempool", "primeintellect")
    assert all(counts[name]["requests"] > 250 for name in asked)
    failed = sum(counts[name].get(way, 0) for name in asked for way in FAILURES)
    assert failed == pytest.approx(0.05 * sum(counts[name]["requests"] for name in asked), rel=0.25)
    assert all(sum(each.get(way, 0) for each in counts.values()) > 5 for way in FAILURES)


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
