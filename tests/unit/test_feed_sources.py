"""When the sources poll, on a clock that moves only when told; and that one failing source leaves the others alone."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.feed.quality import Memory
from hcp_pipelines.feed.sources import CATCH_UP, IntervalSource, PeriodicSource, supervise
from hcp_pipelines.feed.world import WorldAddress

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)


class Sink:
    def __init__(self):
        self.ticks = []

    def offer(self, ticks):
        self.ticks += ticks


class Market:
    """Publishes an interval `delay` after its start and remembers the windows asked for."""

    def __init__(self, clock, delay=timedelta(0), step=FIVE):
        self.clock, self.delay, self.step, self.windows = clock, delay, step, []
        self.is_up = True

    async def fetch(self, points, start, end):
        self.windows.append((start, end))
        if not self.is_up:
            raise MarketError("away")
        ticks = []
        while start < end and start + self.delay <= self.clock.now():
            ticks += [Tick(Stream.POWER_RT_LMP, point, start, 40.0, "USD/MWh", "ERCOT") for point in points]
            start += self.step
        return ticks


def interval_source(clock, market, memory=None, points=("HB_NORTH",), lag=timedelta(0)):
    sink = Sink()
    source = IntervalSource(
        "rt", Stream.POWER_RT_LMP, market.fetch, sink, memory or Memory(), clock, lambda: points, market.step, lag
    )
    return source, sink


async def run_for(source, clock, simulated):
    """Steps and their waits until `simulated` has passed; the number of steps."""
    until, steps = clock.now() + simulated, 0
    while clock.now() < until:
        wait_s = await source.step()
        clock.advance(max(0.001, wait_s) * clock.speed)
        steps += 1
        assert steps < 2000, "the source polls without pause"
    return steps


async def test_an_interval_is_asked_for_until_it_is_there_then_the_source_sleeps():
    clock = ManualClock(NOON, speed=60)
    market = Market(clock, delay=timedelta(seconds=12))
    source, sink = interval_source(clock, market)
    source.ask_from = NOON
    await run_for(source, clock, FIVE)
    assert {tick.source_at for tick in sink.ticks} == {NOON}
    assert 3 <= len(market.windows) <= 8  # every 3–4 simulated seconds until it is there, and once half way
    assert len(sink.ticks) == 2


async def test_every_interval_of_an_hour_is_delivered_within_seconds():
    clock = ManualClock(NOON, speed=60)
    market = Market(clock, delay=timedelta(seconds=10))
    source, sink = interval_source(clock, market)
    source.ask_from = NOON
    seen_at = {}
    plain = sink.offer
    sink.offer = lambda ticks: (plain(ticks), [seen_at.setdefault(t.source_at, clock.now()) for t in ticks])
    await run_for(source, clock, timedelta(hours=1))
    assert len(seen_at) == 12
    assert max(seen - at for at, seen in seen_at.items()) < timedelta(seconds=16)


async def test_a_restart_catches_up_from_the_newest_recorded_interval():
    clock = ManualClock(NOON + timedelta(seconds=30), speed=60)
    memory = Memory()
    memory.restore([Tick(Stream.POWER_RT_LMP, "HB_NORTH", NOON - 3 * FIVE, 40.0, "USD/MWh", "ERCOT")])
    market = Market(clock)
    source, sink = interval_source(clock, market, memory)
    await source.step()
    assert [tick.source_at for tick in sink.ticks] == [NOON - 2 * FIVE, NOON - FIVE, NOON]


async def test_a_long_absence_is_caught_up_only_so_far():
    clock = ManualClock(NOON, speed=60)
    memory = Memory()
    memory.restore([Tick(Stream.POWER_RT_LMP, "HB_NORTH", NOON - timedelta(days=3), 40.0, "USD/MWh", "ERCOT")])
    market = Market(clock)
    source, _ = interval_source(clock, market, memory)
    await source.step()
    assert market.windows == [(NOON - CATCH_UP, NOON + FIVE)]


async def test_intervals_missed_while_the_market_was_away_are_delivered_afterwards():
    clock = ManualClock(NOON, speed=60)
    market = Market(clock)
    source, sink = interval_source(clock, market)
    source.ask_from = NOON
    await run_for(source, clock, FIVE)
    market.is_up = False
    for _ in range(3):
        with pytest.raises(MarketError):
            await source.step()
        clock.advance(300)
    market.is_up = True
    await source.step()
    assert {tick.source_at for tick in sink.ticks} == {NOON + k * FIVE for k in range(5)}


async def test_a_settlement_interval_is_awaited_when_it_is_over():
    clock = ManualClock(NOON + timedelta(seconds=1), speed=60)
    quarter = timedelta(minutes=15)
    market = Market(clock, delay=quarter, step=quarter)
    source, sink = interval_source(clock, market, lag=quarter)
    source.ask_from = NOON - quarter
    seen_at = {}
    plain = sink.offer
    sink.offer = lambda ticks: (plain(ticks), [seen_at.setdefault(t.source_at, clock.now()) for t in ticks])
    await run_for(source, clock, 2 * quarter)
    assert set(seen_at) >= {NOON - quarter, NOON}
    assert all(timedelta(0) <= seen - (at + quarter) < timedelta(seconds=16) for at, seen in seen_at.items())


async def test_a_late_interval_is_asked_for_ever_more_slowly_but_for_ever():
    clock = ManualClock(NOON, speed=60)
    market = Market(clock, delay=timedelta(days=1))
    source, _ = interval_source(clock, market)
    source.ask_from = NOON
    steps = await run_for(source, clock, timedelta(hours=1))
    assert 12 * 5 <= steps <= 12 * 60


async def test_without_a_facility_nothing_is_asked():
    clock = ManualClock(NOON, speed=60)
    market = Market(clock)
    source, _ = interval_source(clock, market, points=())
    assert await source.step() > 0
    assert market.windows == []


async def test_a_periodic_source_has_a_floor_in_real_time():
    clock, sink = ManualClock(NOON, speed=60), Sink()

    async def fetch():
        return [Tick(Stream.BTC_USD, "coinbase", clock.now(), 95_000.0, "USD", "coinbase")]

    assert await PeriodicSource("btc", fetch, sink, clock, period_s=10).step() == 0.5
    assert await PeriodicSource("network", fetch, sink, clock, period_s=600).step() == 10.0
    assert len(sink.ticks) == 2


class Failing:
    name = "failing"

    def __init__(self, error):
        self.error, self.steps = error, 0

    async def step(self):
        self.steps += 1
        raise self.error


class Counting:
    name = "counting"

    def __init__(self, stop, enough):
        self.stop, self.enough, self.steps = stop, enough, 0

    async def step(self):
        self.steps += 1
        if self.steps >= self.enough:
            self.stop.set()
        return 0.01


@pytest.mark.parametrize("error", [MarketError("away"), KeyError("a defect")])
async def test_one_failing_source_does_not_stop_the_others(error):
    stop, health = asyncio.Event(), {}
    failing, counting = Failing(error), Counting(stop, 20)
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(supervise(failing, stop, health))
        group.create_task(supervise(counting, stop, health))
    assert counting.steps == 20
    assert 1 <= failing.steps <= 3
    assert health["counting"] == ""


def test_a_restarted_worlds_new_address_is_picked_up(tmp_path):
    ready = tmp_path / "world.json"
    address = WorldAddress(ready)
    with pytest.raises(MarketError, match=r"world\.json"):
        address()
    for port in (1111, 2222):
        fresh = tmp_path / "fresh"
        fresh.write_text(f'{{"urls": {{"http": "http://127.0.0.1:{port}"}}}}')
        fresh.replace(ready)
        assert address() == f"http://127.0.0.1:{port}"
