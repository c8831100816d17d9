"""Of five exchanges one 8 % off, one stuck, one down: the price is that of the healthy ones, an alert tells, nothing switches."""

import json
from datetime import timedelta

import pytest

from hcp_pipelines.alerts.conditions import find_conditions
from hcp_pipelines.domain.ticks import BITCOIN, Stream
from hcp_pipelines.feed.bitcoin import Bitcoin
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.markets import binance, bitstamp, coinbase, gemini, kraken
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.runtime.spans import send_to
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.roles import Role
from tests.support.fleet import row
from tests.support.market_world import START, MarketWorld
from tests.unit.test_allocator_owner import Rig

CLIENTS = {
    "coinbase": coinbase.CoinbaseClient, "kraken": kraken.KrakenClient, "bitstamp": bitstamp.BitstampClient,
    "binance": binance.BinanceClient, "gemini": gemini.GeminiClient,
}  # fmt: skip
LIMITS = {module.SERIES: module.LIMIT for module in (binance, bitstamp, coinbase, gemini, kraken)}
HEALTHY = ("coinbase", "binance")
POLLS = 90  # a quarter of an hour, from the moment on at which the third one goes


@pytest.fixture
async def heard(settings):
    """What the feed publishes while it polls a world of that scenario, recorded as it does: ticks in order, and the counts."""
    market = MarketWorld(START + timedelta(minutes=50), scenario="exchange-disagreement")
    clients = {
        name: made(MarketHttp("http://world", pace=Pace(market.clock, LIMITS[name]), transport=market.transport))
        for name, made in CLIENTS.items()
    }
    bitcoin, found, told = Bitcoin(clients, market.clock, 10.0), [], []
    forget = send_to(told.append)
    async with await open_pool(settings, Role.FEED, min_size=1, max_size=1) as pool:
        recorder = Recorder(pool, market.clock, Memory(), Rules())
        for _ in range(60 + POLLS):
            ticks = await bitcoin.ticks()
            truth = [market.world.btc_usd(market.clock.now().timestamp() - lag_s).value for lag_s in (0, 5)]
            found.append(({tick.series: tick for tick in ticks}, truth))
            recorder.offer(ticks)
            await recorder.record_pending()
            market.clock.advance(10)
    forget()
    return found[60:], market.counts(), told


async def test_the_price_is_that_of_the_healthy_ones_the_disagreement_alerts_and_nothing_switches(
    settings, database, heard
):
    polls, counts, told = heard
    published = [found[BITCOIN] for found, _ in polls]
    for tick, (_, truth) in zip(published, polls, strict=True):
        assert min(truth) * (1 - 10e-4) < tick.value < max(truth) * (1 + 10e-4)
        assert set(tick.metadata["venues"]) <= set(HEALTHY) | {"gemini"}
    assert set(published[-1].metadata["venues"]) == set(HEALTHY)
    assert {name: each["over_limit"] for name, each in counts.items()} == dict.fromkeys(counts, 0)

    stored = database.execute("select id from price_data order by id").fetchall()
    assert [(span.tick_id,) for span in told] == stored, "each tick begins a trace"

    settings.at("run").mkdir(exist_ok=True)
    settings.at("run", "status.json").write_text(json.dumps({"processes": []}))
    alert = {each.key: each for each in find_conditions(settings)}["check/exchanges"]
    assert alert.severity == "warning"
    assert "bitstamp: " in alert.summary
    assert "+8.0% off the median" in alert.summary
    for silent in ("kraken", "gemini"):
        assert f"{silent}: last trade " in alert.summary
    assert not any(name in alert.summary for name in HEALTHY)
    rows = database.execute(
        "select value from price_data where stream = 'btc.usd' and series = %s order by id desc limit %s",
        (BITCOIN, POLLS),
    )
    assert [value for (value,) in rows] == [tick.value for tick in reversed(published)], "each is recorded, once"

    wrong = [found["bitstamp"].value for found, _ in polls if "bitstamp" in found]
    assert switches(published[0].value, [tick.value for tick in published]) == 0
    assert switches(published[0].value, wrong) > 0, "who believed the one that is off would have switched"


def switches(agreed_usd, prices_usd):
    """Devices that an allocator switches as bitcoin goes on, at a power price at which its miners almost pay."""
    power_usd = break_even(agreed_usd)
    rig = site_at(agreed_usd, power_usd)
    moved = 0
    for usd in prices_usd:
        rig.clock.advance(60)
        rig.next_id += 1
        rig.book.take([row(rig.next_id, usd, rig.clock.now(), Stream.BTC_USD.value, BITCOIN)])
        rig.book.take([row(rig.next_id + 1000, power_usd, rig.clock.now().replace(second=0, microsecond=0))])
        wave = rig.plan()
        moved += sum(each.devices for each in wave.rows) if wave else 0
    return moved


def site_at(usd, power_usd):
    """An allocator of one facility whose miners were put to sleep by a spike, which is over."""
    rig = Rig()
    rig.book.take([row(90, usd, rig.clock.now() + timedelta(seconds=1), Stream.BTC_USD.value, BITCOIN)])
    rig.tick(400.0)
    for _ in range(2):
        rig.tick(power_usd, minutes=15)
    return rig


def break_even(usd):
    """The lowest of some power prices at which miners go on sleeping: with bitcoin 8 % dearer it would pay to wake them."""
    found = (float(power_usd) for power_usd in range(90, 200, 2) if site_at(usd, float(power_usd)).miners_on() == 0)
    return next(found)
