"""The feed daemon put together: which sources there are, how often each is asked, and what they share.

It writes price_data, and what the grid says where that is listened to. Judging is in quality, writing in recorder, cadence in
sources.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.feed import metrics
from hcp_pipelines.feed.bitcoin import Bitcoin, Venue
from hcp_pipelines.feed.gpu_rates import GpuRates
from hcp_pipelines.feed.quality import MarketRule, Memory, Rules
from hcp_pipelines.feed.recorder import Pool, Recorder
from hcp_pipelines.feed.sources import IntervalSource, PeriodicSource, Source, supervise
from hcp_pipelines.feed.world import WorldAddress, wait_for_world
from hcp_pipelines.markets import binance, bitstamp, coinbase, ercot, gemini, gpu_listings, kraken, mempool
from hcp_pipelines.markets.capacity import Cloud, Place, open_clouds, places_of
from hcp_pipelines.markets.ercot import SCED_INTERVAL, SETTLEMENT_INTERVAL, ErcotClient
from hcp_pipelines.markets.gpu_listings import GpuListingsClient
from hcp_pipelines.markets.http import PATIENCE_S, MarketHttp
from hcp_pipelines.markets.mempool import MempoolClient
from hcp_pipelines.markets.pace import Limit, Pace
from hcp_pipelines.markets.real import Access, RealServices, services_of
from hcp_pipelines.runtime.endless import endless
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.platform import know_platform
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.prices import market_rules, recent_ticks, settlement_points
from hcp_pipelines.storage.roles import Role

BTC_PERIOD_S = 10.0
BTC_FLOOR_S = 0.5  # real
NETWORK_PERIOD_S = 600.0
GPU_PERIOD_S = 60.0
CLOUD_PERIOD_S = 300.0
CLOUD_FLOOR_S = 30.0  # real: a pass over a cloud is a dozen requests
CLOUD_PATIENCE_S = 30.0  # real
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
    """One client a source, each with its own kept connections; None: a real one that wants an account and has none."""

    ercot: ErcotClient | None
    day_ahead: ErcotClient | None
    bitcoin: Mapping[str, Venue]
    mempool: MempoolClient
    gpu: GpuListingsClient | None
    clouds: Sequence[Cloud] = ()


async def run_feed(context: ProcessContext) -> None:
    """Run until `context.stop` is set."""
    real = services_of(context.settings.world, context.settings.markets_file)
    listening = _to_the_grid(context)
    address = WorldAddress(context.settings.at("run", "world.json"))
    if real is None:
        await wait_for_world(address, context.stop)
    elif missing := real.missing():
        context.log.warning("services_not_asked", missing=missing, remedy="add their accounts to HCP_MARKETS_FILE")
    async with AsyncExitStack() as stack:
        pool = await open_pool(context.settings, Role.FEED, min_size=1, max_size=2)
        stack.push_async_callback(pool.close)
        catalogue = Catalogue(pool)
        await catalogue.refresh_points()
        await catalogue.refresh_rules()
        recorder = Recorder(pool, context.clock, await restored_memory(pool), catalogue.rules, context.health)
        places = places_of(context.settings.clouds)
        clients = await stack.enter_async_context(open_clients(address, context.clock, real=real, places=places))
        stale_s = context.settings.gpu_staleness_s
        sources = all_sources(clients, recorder, context.clock, lambda: catalogue.points, stale_s)
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
    """What the recorded ticks say: the newest of each series, so that a restart repeats nothing; and whose ticks they are."""
    memory = Memory()
    async with pool.connection() as connection:
        await know_platform(connection)
        memory.restore(await recent_ticks(connection))
    return memory


@asynccontextmanager
async def open_clients(
    base_url: Callable[[], str] | str,
    clock: Clock,
    transport: httpx.AsyncBaseTransport | None = None,
    real: RealServices | None = None,
    places: Iterable[Place] = (),
) -> AsyncIterator[Clients]:
    """The clients of one base URL, or of the real services, each at its pace; their connections are closed at the end.

    `places`: the clouds to be asked, as far as we have an account there.

    Of ERCOT's one limit real-time prices have two thirds, so that what can wait never holds them up.
    """
    async with AsyncExitStack() as stack:

        def access(name: str) -> Access | None:
            return Access(base_url) if real is None else real.market(name, clock)

        def http(where: Access, limit: Limit, patience_s: float = PATIENCE_S) -> MarketHttp:
            url, auth = where
            made = MarketHttp(url, auth=auth, pace=Pace(clock, limit), patience_s=patience_s, transport=transport)
            stack.push_async_callback(made.close)
            return made

        def public(name: str, limit: Limit) -> MarketHttp:
            return http(Access(base_url) if real is None else real.anybody(name), limit)

        rest = ercot.LIMIT.requests // 3
        power, gpus = access("ercot"), access("gpu_listings")
        clouds = open_clouds(places, base_url, real, clock, CLOUD_PATIENCE_S, transport)
        yield Clients(
            ercot=power and ErcotClient(http(power, ercot.LIMIT._replace(requests=ercot.LIMIT.requests - rest))),
            day_ahead=power and ErcotClient(http(power, ercot.LIMIT._replace(requests=rest), DAY_AHEAD_PATIENCE_S)),
            bitcoin={
                "coinbase": coinbase.CoinbaseClient(public("coinbase", coinbase.LIMIT)),
                "kraken": kraken.KrakenClient(public("kraken", kraken.LIMIT)),
                "bitstamp": bitstamp.BitstampClient(public("bitstamp", bitstamp.LIMIT)),
                "binance": binance.BinanceClient(public("binance", binance.LIMIT)),
                "gemini": gemini.GeminiClient(public("gemini", gemini.LIMIT)),
            },
            mempool=MempoolClient(public("mempool", mempool.LIMIT)),
            gpu=gpus and GpuListingsClient(http(gpus, gpu_listings.LIMIT)),
            clouds=await stack.enter_async_context(clouds),
        )


def all_sources(
    clients: Clients,
    recorder: Recorder,
    clock: Clock,
    points: Callable[[], Sequence[str]],
    gpu_stale_s: float = math.inf,
) -> list[Source]:
    """Every source the feed asks, with its cadence; `gpu_stale_s`: so long without a rate, and the clouds' stands in."""
    bitcoin = Bitcoin(clients.bitcoin, clock, max(BTC_PERIOD_S, BTC_FLOOR_S * clock.speed))
    sources: list[Source] = [
        PeriodicSource("bitcoin", bitcoin.ticks, recorder, clock, BTC_PERIOD_S, BTC_FLOOR_S),
        PeriodicSource("mempool", clients.mempool.network, recorder, clock, NETWORK_PERIOD_S),
    ]
    if clients.ercot is not None and clients.day_ahead is not None:
        sources += _power_sources(clients.ercot, clients.day_ahead, recorder, clock, points)
    return sources + _gpu_sources(clients, GpuRates(clients.gpu, clock, gpu_stale_s), recorder, clock)


def _gpu_sources(clients: Clients, rates: GpuRates, recorder: Recorder, clock: Clock) -> list[Source]:
    """The aggregator and the clouds, of which none holds up another."""
    sources: list[Source] = []
    if clients.gpu is not None:
        sources.append(PeriodicSource("gpu_listings", rates.listed, recorder, clock, GPU_PERIOD_S))
    for cloud in clients.clouds:
        fetch, name = partial(rates.of_cloud, cloud), f"cloud_{cloud.place.provider}_{cloud.place.region}"
        sources.append(PeriodicSource(name, fetch, recorder, clock, CLOUD_PERIOD_S, CLOUD_FLOOR_S))
    return sources


def _power_sources(
    real_time: ErcotClient, rest: ErcotClient, recorder: Recorder, clock: Clock, points: Callable[[], Sequence[str]]
) -> list[Source]:
    """What ERCOT is asked; `rest`: what can wait."""

    async def day_ahead() -> Sequence[Tick] | None:
        now, wanted = clock.now(), list(points())
        return await rest.da_spp(wanted, now - DAY_AHEAD_BACK, now + DAY_AHEAD_FORWARD) if wanted else None

    async def corrections() -> Sequence[Tick] | None:
        wanted = list(points())
        return await rest.corrections(wanted, clock.now() - CORRECTIONS_BACK) if wanted else None

    def power(name: str, stream: Stream, length: timedelta, lag: timedelta) -> IntervalSource:
        fetch = real_time.rt_lmp if stream is Stream.POWER_RT_LMP else rest.rt_spp
        return IntervalSource(name, stream, fetch, recorder, recorder.memory, clock, points, length, lag)

    return [
        power("ercot_rt_lmp", Stream.POWER_RT_LMP, SCED_INTERVAL, timedelta(0)),
        power("ercot_rt_spp", Stream.POWER_RT_SPP, SETTLEMENT_INTERVAL, SETTLEMENT_INTERVAL),
        PeriodicSource("ercot_da_spp", day_ahead, recorder, clock, DAY_AHEAD_PERIOD_S),
        PeriodicSource("ercot_corrections", corrections, recorder, clock, CORRECTIONS_PERIOD_S),
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
