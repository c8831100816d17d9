"""The feed daemon put together: which sources there are, how often each is asked, and what they share.

It writes price_data, and what the grid says where that is listened to. Judging is in quality, writing in recorder, cadence in
sources.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.feed import metrics
from hcp_pipelines.feed.bitcoin import Bitcoin, Venue
from hcp_pipelines.feed.quality import MarketRule, Memory, Rules
from hcp_pipelines.feed.recorder import Pool, Recorder
from hcp_pipelines.feed.sources import IntervalSource, PeriodicSource, Source, supervise
from hcp_pipelines.feed.world import WorldAddress, refuse_real_world, wait_for_world
from hcp_pipelines.markets import binance, bitstamp, coinbase, ercot, gemini, gpu_listings, kraken, mempool
from hcp_pipelines.markets.ercot import SCED_INTERVAL, SETTLEMENT_INTERVAL, ErcotClient
from hcp_pipelines.markets.gpu_listings import GpuListingsClient
from hcp_pipelines.markets.http import PATIENCE_S, MarketHttp
from hcp_pipelines.markets.mempool import MempoolClient
from hcp_pipelines.markets.pace import Limit, Pace
from hcp_pipelines.runtime.endless import endless
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.prices import market_rules, recent_ticks, settlement_points
from hcp_pipelines.storage.roles import Role

BTC_PERIOD_S = 10.0
BTC_FLOOR_S = 0.5  # real
NETWORK_PERIOD_S = 600.0
GPU_PERIOD_S = 60.0
DAY_AHEAD_PERIOD_S = 3600.0
DAY_AHEAD_PATIENCE_S = 120.0  # real: ERCOT's minute at real speed, twice
DAY_AHEAD_BACK = timedelta(hours=24)
DAY_AHEAD_FORWARD = timedelta(hours=48)
CORRECTIONS_PERIOD_S = 3600.0
CORRECTIONS_BACK = timedelta(hours=26)  # what an outage of a day has kept from us
POINTS_REFRESH_S = 2.0
RULES_REFRESH_S = 600.0
AGES_S = 1.0


@dataclass
class Catalogue:
    """What Postgres says the feed should know: settlement points and market rules, refreshed while it runs."""

    pool: Pool
    points: list[str] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)

    async def refresh_points(self) -> None:
        """Read the facilities' settlement points."""
        async with self.pool.connection() as connection:
            self.points = await settlement_points(connection)

    async def refresh_rules(self) -> None:
        """Read caps and floors."""
        async with self.pool.connection() as connection:
            rows = await market_rules(connection)
        self.rules = Rules(tuple(MarketRule(*row) for row in rows))


@dataclass(frozen=True)
class Clients:
    """One client a source, each with its own kept connections."""

    ercot: ErcotClient
    day_ahead: ErcotClient
    bitcoin: Mapping[str, Venue]
    mempool: MempoolClient
    gpu: GpuListingsClient


async def run_feed(context: ProcessContext) -> None:
    """Run until `context.stop` is set."""
    refuse_real_world(context.settings)
    listening = _to_the_grid(context)
    address = WorldAddress(context.settings.at("run", "world.json"))
    await wait_for_world(address, context.stop)
    async with AsyncExitStack() as stack:
        pool = await open_pool(context.settings, Role.FEED, min_size=1, max_size=2)
        stack.push_async_callback(pool.close)
        catalogue = Catalogue(pool)
        await catalogue.refresh_points()
        await catalogue.refresh_rules()
        recorder = Recorder(pool, context.clock, await restored_memory(pool), catalogue.rules, context.health)
        clients = await stack.enter_async_context(open_clients(address, context.clock))
        sources = all_sources(clients, recorder, context.clock, lambda: catalogue.points)
        context.ready()
        await _run_until_stopped(context, catalogue, recorder, sources, listening)


async def _run_until_stopped(
    context: ProcessContext,
    catalogue: Catalogue,
    recorder: Recorder,
    sources: Sequence[Source],
    listening: Coroutine[Any, Any, None] | None,
) -> None:
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(endless(recorder.run()))
        keeper = group.create_task(endless(_keep_fresh(catalogue, recorder, context.clock)))
        for source in sources:
            group.create_task(supervise(source, context.stop, context.health))
        listener = group.create_task(endless(listening)) if listening else None
        await context.stop.wait()
        keeper.cancel()
        if listener is not None:
            listener.cancel()
        try:
            async with asyncio.timeout(2.0):
                await recorder.drained()
        except TimeoutError:
            context.log.warning("stopped_with_unrecorded_ticks")
        writer.cancel()


def _to_the_grid(context: ProcessContext) -> Coroutine[Any, Any, None] | None:
    """What listens to the grid where the platform is enrolled; its imports take 55 MB, so nobody else has them."""
    if context.settings.openadr_file is None:
        return None
    from hcp_pipelines.feed.grid_signals import grid_signals

    return grid_signals(context, context.settings.openadr_file).run()


async def restored_memory(pool: Pool) -> Memory:
    """What the recorded ticks say: the newest of each series, so that a restart repeats nothing."""
    memory = Memory()
    async with pool.connection() as connection:
        memory.restore(await recent_ticks(connection))
    return memory


@asynccontextmanager
async def open_clients(
    base_url: Callable[[], str] | str, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Clients]:
    """The clients of one base URL, each at its service's pace; their connections are closed at the end.

    Of ERCOT's one limit real-time prices have two thirds, so that what can wait never holds them up.
    """
    async with AsyncExitStack() as stack:

        def http(limit: Limit, patience_s: float = PATIENCE_S) -> MarketHttp:
            made = MarketHttp(base_url, pace=Pace(clock, limit), patience_s=patience_s, transport=transport)
            stack.push_async_callback(made.close)
            return made

        rest = ercot.LIMIT.requests // 3
        yield Clients(
            ercot=ErcotClient(http(ercot.LIMIT._replace(requests=ercot.LIMIT.requests - rest))),
            day_ahead=ErcotClient(http(ercot.LIMIT._replace(requests=rest), DAY_AHEAD_PATIENCE_S)),
            bitcoin={
                "coinbase": coinbase.CoinbaseClient(http(coinbase.LIMIT)),
                "kraken": kraken.KrakenClient(http(kraken.LIMIT)),
                "bitstamp": bitstamp.BitstampClient(http(bitstamp.LIMIT)),
                "binance": binance.BinanceClient(http(binance.LIMIT)),
                "gemini": gemini.GeminiClient(http(gemini.LIMIT)),
            },
            mempool=MempoolClient(http(mempool.LIMIT)),
            gpu=GpuListingsClient(http(gpu_listings.LIMIT)),
        )


def all_sources(
    clients: Clients, recorder: Recorder, clock: Clock, points: Callable[[], Sequence[str]]
) -> list[Source]:
    """Every source the feed asks, with its cadence."""
    bitcoin = Bitcoin(clients.bitcoin, clock, max(BTC_PERIOD_S, BTC_FLOOR_S * clock.speed))

    async def gpu() -> Sequence[Tick]:
        return await clients.gpu.spot(clock.now())

    async def day_ahead() -> Sequence[Tick] | None:
        now, wanted = clock.now(), list(points())
        return await clients.day_ahead.da_spp(wanted, now - DAY_AHEAD_BACK, now + DAY_AHEAD_FORWARD) if wanted else None

    async def corrections() -> Sequence[Tick] | None:
        wanted = list(points())
        return await clients.day_ahead.corrections(wanted, clock.now() - CORRECTIONS_BACK) if wanted else None

    def power(name: str, stream: Stream, length: timedelta, lag: timedelta) -> IntervalSource:
        async def fetch(wanted: Sequence[str], start: datetime, end: datetime) -> Sequence[Tick]:
            if stream is Stream.POWER_RT_LMP:
                return await clients.ercot.rt_lmp(wanted, start, end)
            return await clients.day_ahead.rt_spp(wanted, start, end)

        return IntervalSource(name, stream, fetch, recorder, recorder.memory, clock, points, length, lag)

    return [
        power("ercot_rt_lmp", Stream.POWER_RT_LMP, SCED_INTERVAL, timedelta(0)),
        power("ercot_rt_spp", Stream.POWER_RT_SPP, SETTLEMENT_INTERVAL, SETTLEMENT_INTERVAL),
        PeriodicSource("ercot_da_spp", day_ahead, recorder, clock, DAY_AHEAD_PERIOD_S),
        PeriodicSource("ercot_corrections", corrections, recorder, clock, CORRECTIONS_PERIOD_S),
        PeriodicSource("bitcoin", bitcoin.ticks, recorder, clock, BTC_PERIOD_S, BTC_FLOOR_S),
        PeriodicSource("mempool", clients.mempool.network, recorder, clock, NETWORK_PERIOD_S),
        PeriodicSource("gpu_listings", gpu, recorder, clock, GPU_PERIOD_S),
    ]


async def _keep_fresh(catalogue: Catalogue, recorder: Recorder, clock: Clock) -> None:
    """Refresh points, rules and the age gauges, for ever; Postgres being away is the recorder's to report."""
    log = structlog.get_logger("feed")
    points_due_s = rules_due_s = clock.monotonic_s()
    while True:
        now_s = clock.monotonic_s()
        try:
            if now_s >= points_due_s:
                points_due_s = now_s + POINTS_REFRESH_S
                await catalogue.refresh_points()
            if now_s >= rules_due_s:
                rules_due_s = now_s + RULES_REFRESH_S
                await catalogue.refresh_rules()
                recorder.rules = catalogue.rules
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("catalogue_not_refreshed", error=str(error))
        update_ages(recorder.memory, clock)
        await asyncio.sleep(AGES_S)


def update_ages(memory: Memory, clock: Clock) -> None:
    """Set the age gauge of each stream to that of its newest actionable value, simulated seconds."""
    now = clock.now()
    newest: dict[Stream, datetime] = {}
    for (stream, _), series in memory.series.items():
        if series.newest_at is not None:
            newest[stream] = max(series.newest_at, newest.get(stream, series.newest_at))
    for stream, at in newest.items():
        metrics.SOURCE_AGE_SECONDS.labels(stream.value).set((now - at).total_seconds())
