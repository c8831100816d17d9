"""The feed's bitcoin: one exchange that is off, stuck, failing or mute moves it not; where nobody is right there is none."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Quality, Stream, Tick
from hcp_pipelines.feed import bitcoin as module
from hcp_pipelines.feed.bitcoin import Bitcoin
from hcp_pipelines.markets.consensus import NoConsensusError

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class Exchange:
    """Answers what a test says: a price, an error, or nothing at all."""

    def __init__(self, name, clock, price):
        self.name, self.clock, self.price = name, clock, price
        self.at = None

    async def ticker(self):
        if isinstance(self.price, Exception):
            raise self.price
        if self.price is None:
            await asyncio.sleep(3600)
        at = self.at or self.clock.now() - timedelta(seconds=1)
        return Tick(Stream.BTC_USD, self.name, at, self.price, "USD", self.name)


def rig(*prices, poll_s=10.0):
    clock = ManualClock(NOON)
    venues = {
        name: Exchange(name, clock, price)
        for name, price in zip(("coinbase", "kraken", "bitstamp"), prices, strict=False)
    }
    return clock, venues, Bitcoin(venues, clock, poll_s)


def by_series(ticks):
    return {tick.series: tick for tick in ticks}


async def test_the_median_is_published_and_each_exchange_recorded_once_a_minute():
    clock, _, bitcoin = rig(93_500.0, 93_510.0, 93_480.0)
    first = by_series(await bitcoin.ticks())
    assert set(first) == {"coinbase", "kraken", "bitstamp", "consensus"}
    found = first["consensus"]
    assert (found.value, found.unit, found.source, found.source_at) == (
        93_500.0,
        "USD",
        "aggregate",
        NOON - timedelta(seconds=1),
    )
    assert found.metadata == {"venues": ["bitstamp", "coinbase", "kraken"], "rejected": {}}
    seen = []
    for _ in range(12):
        clock.advance(10)
        seen += [tick.series for tick in await bitcoin.ticks()]
    assert seen.count("consensus") == 12
    assert seen.count("kraken") == 2


async def test_one_eight_percent_off_is_left_out_and_named():
    _, _, bitcoin = rig(93_500.0, 93_510.0, 93_500.0 * 1.08)
    found = by_series(await bitcoin.ticks())["consensus"]
    assert found.value == 93_505.0
    assert "+8.0% off the median" in found.metadata["rejected"]["bitstamp"]


async def test_one_that_is_stuck_is_left_out_after_two_minutes_and_the_price_never_goes_back_in_time():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0, 93_490.0)
    await bitcoin.ticks()
    venues["bitstamp"].at = clock.now() - timedelta(seconds=1)
    for name in ("coinbase", "kraken"):
        venues[name].price = 95_000.0
    instants = []
    for _ in range(14):
        clock.advance(10)
        found = by_series(await bitcoin.ticks())["consensus"]
        instants.append(found.source_at)
    assert instants == sorted(instants)
    assert found.value == 95_000.0
    assert found.metadata["rejected"] == {"bitstamp": "last trade 141 s ago"}


@pytest.mark.parametrize(
    ("ahead_s", "venues"), [(0.3, ["bitstamp", "coinbase", "kraken"]), (60.0, ["bitstamp", "kraken"])]
)
async def test_a_trade_of_just_now_counts_though_our_clock_is_a_little_behind(ahead_s, venues):
    clock, exchanges, bitcoin = rig(93_500.0, 93_510.0, 93_480.0)
    exchanges["coinbase"].at = clock.now() + timedelta(seconds=ahead_s)
    found = by_series(await bitcoin.ticks())["consensus"]
    assert found.metadata["venues"] == venues
    assert found.source_at <= clock.now()


@pytest.mark.parametrize("broken", [MarketError("down"), None])
async def test_one_that_fails_or_is_mute_holds_nobody_up(broken, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.02)
    _, _, bitcoin = rig(broken, 93_510.0, 93_490.0)
    found = by_series(await bitcoin.ticks())
    assert found["consensus"].value == 93_500.0
    assert "coinbase" not in found


async def test_all_failing_or_all_stale_publishes_nothing_and_says_why(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.02)
    _, _, bitcoin = rig(MarketError("down"), None)
    with pytest.raises(MarketError, match=r"coinbase: down; kraken: no answer within 0\.02 s"):
        await bitcoin.ticks()
    clock, venues, bitcoin = rig(93_500.0, 93_510.0)
    await bitcoin.ticks()
    for venue in venues.values():
        venue.at = clock.now()
    clock.advance(300)
    with pytest.raises(NoConsensusError, match=r"coinbase: last trade 300 s ago; kraken: last trade 300 s ago"):
        await bitcoin.ticks()


async def test_two_that_contradict_each_other_are_told_apart_by_what_was_agreed_before():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0)
    await bitcoin.ticks()
    clock.advance(10)
    venues["kraken"].price = 120_000.0
    assert by_series(await bitcoin.ticks())["consensus"].value == 93_500.0
    _, _, fresh = rig(93_500.0, 120_000.0)
    assert set(by_series(await fresh.ticks())) == {"coinbase", "kraken"}


async def polls(clock, bitcoin, number):
    """What is published of the consensus by each of some polls, None where nothing is."""
    found = []
    for _ in range(number):
        clock.advance(10)
        try:
            found.append(by_series(await bitcoin.ticks()).get("consensus"))
        except NoConsensusError:
            found.append(None)
    return found


async def test_two_that_contradict_each_other_for_ten_minutes_stand_for_no_price():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0)
    await bitcoin.ticks()
    venues["kraken"].price = 95_000.0  # it is right, and coinbase repeats itself with new instants
    found = await polls(clock, bitcoin, 90)
    last = max(n for n, tick in enumerate(found) if tick)
    assert last == pytest.approx(59, abs=1)
    assert {tick.value for tick in found[: last + 1]} == {93_500.0}
    assert found[last + 1 :] == [None] * (89 - last)


async def test_two_that_are_wrong_together_for_a_moment_move_nothing():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0, 93_490.0)
    await bitcoin.ticks()
    for name in ("coinbase", "kraken"):
        venues[name].price = 121_500.0
    assert await polls(clock, bitcoin, 2) == [None, None]
    assert "seen 2 of 3 times" in str(await held(clock, bitcoin))
    for name in ("coinbase", "kraken"):
        venues[name].price = 93_510.0
    assert [(tick.value, tick.quality) for tick in await polls(clock, bitcoin, 1)] == [(93_510.0, Quality.GOOD)]


async def held(clock, bitcoin):
    """Why nothing is published, asked again without newer trades."""
    for venue in bitcoin.venues.values():
        venue.at = clock.now() - timedelta(seconds=1)
    with pytest.raises(NoConsensusError) as caught:
        await bitcoin.ticks()
    for venue in bitcoin.venues.values():
        venue.at = None
    return caught.value


async def test_a_leap_that_two_stand_by_is_believed_at_the_third_poll_and_said_to_be_unusual():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0, 93_490.0)
    await bitcoin.ticks()
    for name in ("coinbase", "kraken"):
        venues[name].price = 84_150.0
    found = await polls(clock, bitcoin, 4)
    assert found[:2] == [None, None]
    assert [(tick.value, tick.quality) for tick in found[2:]] == [(84_150.0, Quality.UNUSUAL), (84_150.0, Quality.GOOD)]
    assert found[2].metadata["quality_reason"] == "-10.0% from the last 93,500.00 USD, seen 3 times"


async def test_a_crash_that_all_see_is_acted_on_at_once():
    clock, venues, bitcoin = rig(93_500.0, 93_510.0, 93_490.0)
    await bitcoin.ticks()
    for price in (84_150.0, 75_000.0):
        for venue in venues.values():
            venue.price = price
        assert [tick.value for tick in await polls(clock, bitcoin, 1)] == [price]


async def test_a_fast_world_calls_no_exchange_stale_for_the_time_between_two_polls():
    _, _, bitcoin = rig(93_500.0, 93_510.0, None, poll_s=1800.0)
    bitcoin.quotes["bitstamp"] = module.Quote("bitstamp", NOON - timedelta(seconds=3600), 93_490.0)
    bitcoin.venues = {name: bitcoin.venues[name] for name in ("coinbase", "kraken")}
    found = by_series(await bitcoin.ticks())["consensus"]
    assert found.metadata["venues"] == ["bitstamp", "coinbase", "kraken"]
