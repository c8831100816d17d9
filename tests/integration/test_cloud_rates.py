"""What clouds ask for GPUs, from the world's clouds to Postgres, to routing's overflow, and as the market's rate."""

from collections import defaultdict
from datetime import timedelta

import httpx
import pytest
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.ticks import ACTIONABLE, OFFER_SEPARATOR
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.feed.service import CLOUD_PERIOD_S, all_sources, open_clients
from hcp_pipelines.markets.capacity import places_of
from hcp_pipelines.markets.cloud import Way
from hcp_pipelines.storage.postgres import open_pool
from hcp_pipelines.storage.prices import get_latest_prices
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.decisions import decisions_of
from hcp_pipelines.workloads.scheduler.market import read_prices
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.market_world import START, MarketWorld, live
from tests.support.queued import NOON as QUEUE_NOON
from tests.support.queued import api, scheduler, submit
from tests.support.scheduled import customer, scheduler_at

__all__ = ["api", "customer", "scheduler"]
PLACES = places_of("aws:us-east-1,azure:eastus")
HOUR = timedelta(hours=1)
STALE_S = 7200.0
AGGREGATOR = "/api/v1/availability/gpus"


async def lived(market, settings, until, transport=None, stale_s=STALE_S):
    """The feed's GPU sources until an instant; its health."""
    health = {}
    async with (
        await open_pool(settings, Role.FEED, min_size=1, max_size=1) as pool,
        open_clients("http://world", market.clock, transport or market.transport, places=PLACES) as clients,
    ):
        recorder = Recorder(pool, market.clock, Memory(), Rules(), health)
        sources = all_sources(clients, recorder, market.clock, list, stale_s)
        gpus = [source for source in sources if source.name.startswith(("gpu_", "cloud_"))]
        assert [source.name for source in gpus] == ["gpu_listings", "cloud_aws_us-east-1", "cloud_azure_eastus"]
        await live(market.clock, gpus, recorder, health, until)
    return health


def silenced(market, path, since=START):
    """The world over a transport, but for one path, which is down from an instant on."""

    async def answer(request):
        if request.url.path == path and market.clock.now() >= since:
            return httpx.Response(503)
        return await market.transport.handle_async_request(request)

    return httpx.MockTransport(answer)


async def test_each_cloud_s_best_offers_are_series_of_their_own_at_its_pace(settings, database):
    market = MarketWorld(START, 60.0)
    health = await lived(market, settings, START + 2 * HOUR)
    found = defaultdict(list)
    rows = database.execute(
        "select series, source, value, metadata, quality from price_data where stream = 'gpu.spot' order by id"
    )
    for series, source, value, told, quality in rows:
        found[series].append((source, value, told, quality))
    offers = {series: rows for series, rows in found.items() if OFFER_SEPARATOR in series}
    assert {"H100/aws/us-east-1/on_demand", "H100/azure/eastus/spot", "A100/aws/us-east-1/spot"} <= set(offers)
    assert {row[3] for rows in offers.values() for row in rows} <= set(ACTIONABLE)
    [*_, (source, usd, told, _)] = offers["H100/aws/us-east-1/on_demand"]
    assert (source, usd, told["gpu_type"], told["machine"], told["gpus"]) == ("aws", 12.29, "H100", "p5.48xlarge", 8)
    [*_, (_, usd, told, _)] = offers["H100/azure/eastus/spot"]
    assert 0.5 < usd < 3.0
    assert told["is_available"] in (True, False)
    market_rate = {row[0] for row in found["H100"]}
    assert market_rate == {"primeintellect"}, "a cloud's price is not the market's while an aggregator tells that"
    counts = market.counts()
    assert health == dict.fromkeys(health, "")
    passes = len(offers["H100/aws/us-east-1/on_demand"])
    assert passes <= 2 * 3600 / CLOUD_PERIOD_S
    assert {name: counts[name]["over_limit"] for name in ("ec2", "azure")} == {"ec2": 0, "azure": 0}
    assert counts["ec2"]["requests"] > passes
    with_source = {(tick.series, tick.source) for tick in get_latest_prices(database, "gpu_spot")}
    assert ("H100/aws/us-east-1/spot", "aws") in with_source


async def test_where_the_aggregator_is_silent_for_too_long_the_clouds_rate_stands_in_and_says_so(settings, database):
    market = MarketWorld(START, 60.0)
    down_at = START + HOUR
    health = await lived(market, settings, START + 4 * HOUR, silenced(market, AGGREGATOR, down_at))
    assert "failed polls" in health["gpu_listings"]
    rows = database.execute(
        """select "timestamp", source, value, quality, quality_reason from price_data
           where stream = 'gpu.spot' and series = 'H100' order by "timestamp", id"""
    ).fetchall()
    sources = {source: [at for at, told, *_ in rows if told == source] for source in ("primeintellect", "clouds")}
    assert sources["primeintellect"][-1] < down_at
    stands_in_after_s = (sources["clouds"][0] - down_at).total_seconds()
    assert STALE_S - 120 <= stands_in_after_s <= STALE_S + 31 * 60, "one pass of a cloud after it has gone stale"
    *_, (_, _, usd, quality, reason) = rows
    assert (quality, "no aggregator" in reason) == ("unusual", True)
    newest = [tick for tick in get_latest_prices(database, "gpu_spot") if tick.series.startswith("H100/")]
    assert usd == min(tick.value for tick in newest if tick.metadata["is_available"] is not False)


async def test_a_cloud_that_is_down_costs_the_other_nothing_and_its_old_offers_count_for_nothing(
    settings, api, database
):
    market = MarketWorld(START, 60.0)
    down_at = START + HOUR
    health = await lived(market, settings, START + 4 * HOUR, silenced(market, "/api/retail/prices", down_at))
    assert "failed polls" in health["cloud_azure_eastus"]
    assert health["cloud_aws_us-east-1"] == ""
    now = market.clock.now()
    prices = await read_prices(api, [], [], now, STALE_S)
    assert {offer.provider for offer in prices.offers(now, STALE_S)} == {"aws"}
    then = await read_prices(api, [], [], down_at, STALE_S)
    assert {offer.provider for offer in then.offers(down_at, STALE_S)} == {"aws", "azure"}
    assert {offer.way for offer in then.clouds} == set(Way)


async def test_a_series_that_only_looks_like_a_clouds_offer_costs_scheduling_nothing(
    database, api, scheduler, customer
):
    tell(database, "H100/PCIE", 2.0, "primeintellect", {"gpu_type": "H100/PCIE", "offers": 1})
    tell_offer(database, "H100/azure/eastus/on_loan", 1.25, True)
    assert (await read_prices(api, [], [], QUEUE_NOON, STALE_S)).clouds == []
    work = (await submit(api, customer)).workload_id
    one, _ = scheduler_at(routing_realtime_spare=0.0)
    await one.round(scheduler)
    assert not (await store.read(api, work, None)).is_waiting


@pytest.mark.parametrize(
    ("is_available", "told"), [(True, "azure eastus has H100 at $1.25"), (False, "market any has H100 at $2.50")]
)
async def test_work_without_room_is_told_of_the_cheapest_cloud_that_has_any(
    database, api, scheduler, customer, is_available, told
):
    tell_offer(database, "H100/azure/eastus/spot", 1.25, is_available)
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    for _ in range(8):
        await submit(api, customer, spec(8))
    await one.round(scheduler)
    left = (await submit(api, customer, spec(8))).workload_id
    clock.advance(120)
    await one.round(scheduler)
    [decision] = await decisions_of(scheduler, left)
    assert decision.outcome == "overflow"
    assert told in decision.reason
    assert decision.reason.endswith("not carried out")


def spec(gpus):
    work = WorkloadType.MODEL_TRAINING
    return WorkloadSpec(
        workload_type=work, gpu_count=gpus, gpu_type="H100", estimated_duration_s=3600, interruptible=False
    )


def tell_offer(database, series, usd, is_available):
    """A cloud's offer as the feed writes one."""
    model, provider, region, way = series.split(OFFER_SEPARATOR)
    told = {
        "gpu_type": model, "provider": provider, "region": region, "zone": "", "machine": "m", "gpus": 1, "way": way,
        "is_available": is_available, "since": QUEUE_NOON.isoformat(),
    }  # fmt: skip
    tell(database, series, usd, provider, told)


def tell(database, series, usd, source, told):
    database.execute(
        """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at, metadata)
           values ('gpu.spot', %s, %s, 'gpu_spot', %s, 'USD/GPU-hour', %s, 'good', %s, %s)""",
        (series, QUEUE_NOON, usd, source, QUEUE_NOON, Jsonb(told)),
    )


@pytest.mark.parametrize("wrong", ["aws", "gcp:us-central1", "aws:", ":eastus"])
def test_a_place_that_is_none_is_an_error_that_names_it(wrong):
    with pytest.raises(ConfigError, match="HCP_CLOUDS"):
        places_of(f"azure:eastus,{wrong}")
