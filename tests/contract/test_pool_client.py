"""The pool's client against the public API's shape (written by hand after its description), and against the simulated pool."""

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import httpx
import pytest

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.markets.pool import (
    LIMIT,
    REWARDS,
    STATS,
    TOKEN_HEADER,
    TOLD_LIMIT,
    WORKERS,
    WORKERS_DAILY,
    PoolClient,
    PoolTerms,
    device_of,
)
from hcp_pipelines.orchestration.history.pool import read_credits
from hcp_pipelines.orchestration.history.pool_pay import read_statements
from tests.contract.test_pool_api import TOKEN, Served
from tests.support.pool import START_S

DAY = date(2025, 1, 1)
TERMS = PoolTerms(None, {}, frozenset())
JUST_OVER = datetime(2025, 1, 2, 0, 10, tzinfo=UTC)
REAL_STATS = {
    "btc": {
        "luck_b10": "0.83", "luck_b50": "1.04", "luck_b250": "0.99", "hash_rate_unit": "Gh/s",
        "pool_scoring_hash_rate": 15_000_000_000.5, "pool_active_workers": 140_000, "round_probability": "0.64",
        "round_started": 1_735_700_000, "round_duration": 3500,
        "blocks": {"877000": {"date_found": 1_735_690_000, "state": "confirmed"}},
    }
}  # fmt: skip
REAL_WORKERS = {
    "btc": {
        "workers": {
            "acct.tx-1.5": {
                "state": "ok", "last_share": 1_735_776_000, "hash_rate_unit": "Gh/s", "hash_rate_scoring": 200_100,
                "hash_rate_5m": 199_000, "hash_rate_60m": 200_000, "hash_rate_24h": 201_500.0, "shares_24h": 4_050_000_000,
            },
            "acct.shed": {"state": "off", "last_share": 0, "hash_rate_unit": "Th/s", "hash_rate_24h": 0},
        }
    }
}  # fmt: skip


class Service:
    def __init__(self, answers):
        self.answers, self.asked = answers, []

    async def __call__(self, request):
        self.asked.append((request.url.path, dict(request.url.params), request.headers.get(TOKEN_HEADER)))
        answer = self.answers[request.url.path]
        answer = answer(dict(request.url.params)) if callable(answer) else answer
        return httpx.Response(200, json=answer)

    def client(self, **options):
        return PoolClient(self.http(**options))

    def http(self, **options):
        headers, transport = {TOKEN_HEADER: TOKEN}, httpx.MockTransport(self)
        return MarketHttp("http://pool", headers=headers, transport=transport, retry_wait_s=0.0, **options)

    async def credits(self):
        client = self.client()
        return await client.credits(DAY, JUST_OVER, await client.terms())


async def test_the_real_pool_tells_the_day_that_has_just_ended():
    service = Service({STATS: REAL_STATS, WORKERS: REAL_WORKERS})
    found = await service.credits()
    assert [(one.worker, one.hashrate_th_per_s, one.valid_shares) for one in found] == [
        ("acct.tx-1.5", 201.5, None),
        ("acct.shed", 0.0, None),
    ]
    assert service.asked == [(STATS, {}, TOKEN), (WORKERS, {}, TOKEN)]
    terms = await service.client().terms()
    assert (terms.fee_fraction, terms.luck, terms.extensions) == (None, {10: 0.83, 50: 1.04, 250: 0.99}, frozenset())


@pytest.mark.parametrize("now", [JUST_OVER + timedelta(hours=3), JUST_OVER - timedelta(hours=1)])
async def test_the_real_pool_is_not_taken_for_another_day(now):
    service = Service({STATS: REAL_STATS, WORKERS: REAL_WORKERS})
    with pytest.raises(MarketError, match="2025-01-01 can be asked for within 2 hours"):
        await service.client().credits(DAY, now, TERMS)


async def test_rewards_by_day():
    told = {"btc": {"daily_rewards": [{"date": 1_735_689_600, "total_reward": "0.01234500", "mining_reward": "0.012"}]}}
    service = Service({REWARDS: told})
    assert await service.client().rewards_btc(DAY, DAY) == {DAY: 0.012345}
    assert service.asked[0][1] == {"from": "2025-01-01", "to": "2025-01-01"}


def daily(**changes):
    worker = {"hash_rate_unit": "Gh/s", "hash_rate_24h": 1.0}
    return {"btc": {"date": 1_735_689_600, "is_final": True, "workers": {"a.b.1": worker}} | changes}


KEEPS_DAYS = {"btc": {"extensions": ["workers_daily", "pages"]}}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"error": "no"}, "not what a pool answers"),
        ([], "not what a pool answers"),
        ({"btc": None}, "not what a pool answers"),
        (daily(workers={"a.b.1": {"hash_rate_unit": "Gh/s", "hash_rate_24h": -1}}), "not what a pool answers"),
        (daily(workers={"a.b.1": {"hash_rate_unit": "Sol/s", "hash_rate_24h": 1}}), "not a unit that is known"),
        (daily(date=0), "another day"),
        (daily(is_final=False), "not settled yet"),
        (daily(pagination={"page_count": 10_000}), "more than"),
    ],
)
async def test_what_a_pool_would_not_say_is_an_error(answer, why, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.markets.pool.MAX_PAGES", 3)
    with pytest.raises(MarketError, match=why):
        await Service({STATS: KEEPS_DAYS, WORKERS_DAILY: answer}).credits()


async def test_pages_are_read_to_the_last_and_each_worker_counts_once():
    def page(asked):
        worker = {"hash_rate_unit": "Ph/s", "hash_rate_24h": 0.2}
        return daily(workers={f"a.b.{asked['page']}": worker, "a.b.1": worker}, pagination={"page_count": 3})

    found = await Service({STATS: KEEPS_DAYS, WORKERS_DAILY: page}).credits()
    assert [(one.worker, one.hashrate_th_per_s) for one in found] == [
        ("a.b.1", 200.0),
        ("a.b.2", 200.0),
        ("a.b.3", 200.0),
    ]


async def asked_at(answers):
    """The instants (seconds) at which a pool is asked for a day."""
    clock, instants = ManualClock(JUST_OVER), []
    pace = Pace(clock, LIMIT)

    class Timed(Service):
        async def __call__(self, request):
            instants.append(clock.monotonic_s())
            return await super().__call__(request)

    window = (JUST_OVER.replace(minute=0) - timedelta(days=1), JUST_OVER.replace(minute=0))
    found = await read_credits(Timed(answers).http(pace=pace, patience_s=180), pace, window, JUST_OVER)
    assert len(found.rows) >= 1
    return instants


async def test_the_real_pool_is_asked_no_more_often_than_once_in_five_seconds():
    instants = await asked_at({STATS: REAL_STATS, WORKERS: REAL_WORKERS})
    assert len(instants) == 2
    assert min(later - sooner for sooner, later in pairwise(instants)) >= 5.0


async def test_a_pool_that_tells_its_limit_is_asked_as_often_as_that():
    told = {"btc": {"extensions": ["workers_daily", "pages", "rate_limit_headers"]}}
    instants = await asked_at({STATS: told, WORKERS_DAILY: daily(pagination={"page_count": 40})})
    assert len(instants) == 41
    assert instants[-1] - instants[0] < 1.0


async def test_the_simulated_pool_tells_each_miners_day(tmp_path, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.markets.pool.PAGE_SIZE", 3)
    async with Served(tmp_path, requests_per_minute=50) as world:
        world.mine(range(4))
        world.pass_time(86_400 + 600)
        http = MarketHttp(world.pool.urls["pool-api"], headers={TOKEN_HEADER: TOKEN})
        client = PoolClient(http)
        terms = await client.terms()
        found = {device_of(one.worker).slot: one for one in await client.credits(DAY, JUST_OVER, terms)}
        rewards = await client.rewards_btc(DAY, DAY)
        with pytest.raises(MarketError, match="not settled yet"):
            await client.credits(DAY + timedelta(days=1), JUST_OVER, terms)
        await http.close()
        done = world.fleet.sites["one"].hashed_th(world.clock.at_s)[:8] / (86_400 + 600)
    assert sorted(found) == list(range(8))
    for slot in range(4):
        assert found[slot].hashrate_th_per_s == pytest.approx(0.996 * done[slot], rel=0.04)
        assert found[slot].valid_shares > 25_000
    assert found[5].hashrate_th_per_s == 0.0
    assert terms.fee_fraction == 0.02
    assert terms.limit == TOLD_LIMIT
    assert set(terms.luck) == {10, 50, 250}
    assert rewards[DAY] > 0


async def test_what_the_pool_says_of_a_day_is_a_row_and_an_untold_day_an_error():
    window = (JUST_OVER.replace(minute=0) - timedelta(days=1), JUST_OVER.replace(minute=0))
    reward = {"date": int(window[0].timestamp()), "total_reward": "0.00012345"}
    for rewards, said in (([reward], None), ([], "no pay of 2025-01-01")):
        clock = ManualClock(JUST_OVER)
        pace = Pace(clock, LIMIT)
        pool = Service({STATS: REAL_STATS, REWARDS: {"btc": {"daily_rewards": rewards}}}).http(
            pace=pace, patience_s=180
        )
        if said:
            with pytest.raises(MarketError, match=said):
                await read_statements(pool, pace, window, JUST_OVER)
            continue
        [row] = (await read_statements(pool, pace, window, JUST_OVER)).to_dicts()
        assert (row["start_at"], row["earned_btc"], row["told_at"]) == (window[0], 0.00012345, JUST_OVER)
        assert (row["fee_fraction"], row["luck_of_10_blocks"], row["luck_of_250_blocks"]) == (None, 0.83, 0.99)


class Flaky(httpx.AsyncBaseTransport):
    """Every twentieth request or so fails: refused, answered with 503, cut off, or not JSON."""

    def __init__(self):
        self.real, self.draw, self.failed = httpx.AsyncHTTPTransport(), random.Random(7), 0

    async def handle_async_request(self, request):
        if self.draw.random() >= 0.05:
            return await self.real.handle_async_request(request)
        self.failed += 1
        kind = self.failed % 4
        if kind == 0:
            raise httpx.ConnectError("refused", request=request)
        if kind == 1:
            return httpx.Response(503, text="busy")
        return httpx.Response(200, text='{"btc": {"workers"' if kind == 2 else "<html>")

    async def aclose(self):
        await self.real.aclose()


async def test_with_one_request_in_twenty_failing_nothing_is_lost_or_doubled(tmp_path, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.markets.pool.PAGE_SIZE", 1)
    async with Served(tmp_path, devices=120, requests_per_minute=200) as world:
        world.mine(range(60))
        world.pass_time(86_400 + 600)
        flaky = Flaky()
        http = MarketHttp(
            world.pool.urls["pool-api"], headers={TOKEN_HEADER: TOKEN}, transport=flaky, retry_wait_s=0.001
        )
        client = PoolClient(http)
        found = await client.credits(DAY, JUST_OVER, await client.terms())
        await http.close()
        ledger = world.pool.ledgers["one"]
        assert flaky.failed >= 4
        assert [device_of(one.worker).slot for one in found] == list(range(120))
        assert [one.valid_shares for one in found] == ledger.day(int(START_S // 86_400), 0, 120)[0].tolist()
        assert world.pool.api.limiter.refused == 0
