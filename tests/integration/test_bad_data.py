"""The feed through a day of `bad-data`: what is wrong is recorded and never acted on, outages end, and nothing else stops."""

from collections import defaultdict
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.ticks import ACTIONABLE, BITCOIN
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.feed.service import all_sources, open_clients
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.roles import Role
from simulators.service_plan import FAILURES
from tests.support.market_world import START, MarketWorld, live

POINTS = ["HB_HOUSTON", "HB_NORTH"]
HOURS = 10  # with an outage of each kind in them
FIVE, HOUR = timedelta(minutes=5), timedelta(hours=1)


@pytest.fixture
async def lived(settings, database):
    """The world, what was recorded as (quality, value) by series and instant, and the feed's health."""
    market = MarketWorld(START, 600.0, scenario="bad-data", settlement_points=POINTS)
    async with (
        await open_pool(settings, Role.FEED, min_size=1, max_size=1) as pool,
        open_clients("http://world", market.clock, market.transport) as clients,
    ):
        health = {}
        recorder = Recorder(pool, market.clock, Memory(), Rules(), health)
        sources = all_sources(clients, recorder, market.clock, lambda: POINTS)
        await live(market.clock, sources, recorder, health, START + HOURS * HOUR)
    found = defaultdict(lambda: defaultdict(list))
    for stream, series, at, quality, value in database.execute(
        'select stream, series, "timestamp", quality, value from price_data order by id'
    ):
        found[stream, series][at].append((quality, value))
    return market, found, health


async def test_what_is_wrong_is_recorded_and_never_acted_on(lived):
    market, found, health = lived
    absurd = [
        value for series in found.values() for rows in series.values() for quality, value in rows if quality == "absurd"
    ]
    assert any(np.isnan(absurd))
    assert any(abs(value) > 1e6 for value in absurd)
    for point in POINTS:
        lmps = found["power.rt_lmp", point]
        starts = [at for at in lmps if START <= at < START + HOURS * HOUR]
        truth = market.world.lmp(point, np.array([at.timestamp() for at in starts], dtype=np.int64)).values
        right = dict(zip(starts, truth.tolist(), strict=True))
        told = {at: {value for quality, value in lmps[at] if quality in ACTIONABLE} for at in starts}
        assert all(values <= {right[at]} for at, values in told.items()), "no wrong price may be acted on"
        late = {at: {value for _, value in lmps[at]} for at in starts}
        known = [at for at in starts if right[at] in late[at]]
        assert len(known) > 0.97 * HOURS * 12, "an outage is made up for, and what was wrong is asked for again"
    for at, rows in found["btc.usd", BITCOIN].items():
        near = [market.world.btc_usd(at.timestamp() - back_s).value for back_s in range(0, 921, 60)]
        for quality, value in rows:
            assert quality not in ACTIONABLE or min(near) * 0.998 < value < max(near) * 1.002
    heights = {v for rows in found["btc.network", "height"].values() for quality, v in rows if quality in ACTIONABLE}
    lowest, highest = (market.world.blocks(at.timestamp(), 1)[0][0].height for at in (START, market.clock.now()))
    assert heights <= set(range(lowest, highest + 1))
    assert len(heights) > 20
    assert {name for name, told in health.items() if told} == set(), "all are well again"
    counts = market.counts()
    assert all(sum(each.get(way, 0) for each in counts.values()) for way in FAILURES)
    assert all(counts[name]["down"] > 0 for name in ("ercot", "mempool", "primeintellect"))
    assert {name: each["over_limit"] for name, each in counts.items()} == dict.fromkeys(counts, 0)
