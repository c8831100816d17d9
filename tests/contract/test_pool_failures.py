"""Days of a pool that fails one request in twenty: each day is credited whole and once, and no limit is exceeded."""

import random
from datetime import UTC, date, datetime, timedelta

import httpx

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pool import TOKEN_HEADER, PoolClient
from tests.contract.test_pool_api import TOKEN, Served
from tests.support.pool import START_S

DAYS = [date(2025, 1, 1), date(2025, 1, 2)]
WAYS = ("error", "torn", "truncated", "not_json")


class Failing(httpx.AsyncBaseTransport):
    """The pool's own server, a twentieth of whose replies goes wrong on the way."""

    def __init__(self):
        self._inner, self._draw, self.asked, self.failed = httpx.AsyncHTTPTransport(), random.Random(7), 0, []

    async def handle_async_request(self, request):
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        self.asked += 1
        if self._draw.random() >= 0.05:
            return httpx.Response(response.status_code, headers=response.headers, content=body)
        self.failed.append(way := self._draw.choice(WAYS))
        if way == "torn":
            raise httpx.RemoteProtocolError("the connection ended within the body", request=request)
        if way == "error":
            return httpx.Response(self._draw.choice((500, 502, 503, 504)))
        return httpx.Response(200, content=body[: len(body) // 2] if way == "truncated" else b"<html>busy</html>")

    async def aclose(self):
        await self._inner.aclose()


async def asked_hourly(world, client, hours):
    """What each hour was told of the days that are over, and how often it was told nothing."""
    told, silent = [], 0
    for hour in range(1, hours + 1):
        world.pass_time(hour * 3600 + 600)
        now = datetime.fromtimestamp(world.clock.at_s, UTC)
        over = [day for day in DAYS if datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= now]
        try:
            terms = await client.terms()
            credited = {day: sorted(await client.credits(day, now, terms)) for day in over}
            told.append((credited, await client.rewards_btc(DAYS[0], over[-1]) if over else {}))
        except MarketError:
            silent += 1
    return told, silent


async def test_days_of_a_pool_that_fails_are_credited_whole_and_once_and_no_limit_is_exceeded(tmp_path, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.markets.pool.PAGE_SIZE", 3)
    async with Served(tmp_path, requests_per_minute=50) as world:
        world.mine(range(4))
        failing = Failing()
        plain, http = (
            MarketHttp(
                world.pool.urls["pool-api"], headers={TOKEN_HEADER: TOKEN}, retry_wait_s=0.0, transport=transport
            )
            for transport in (None, failing)
        )
        told, silent = await asked_hourly(world, PoolClient(http), 60)
        terms = await PoolClient(plain).terms()
        now = datetime.fromtimestamp(START_S + 61 * 3600, UTC)
        truth = {day: sorted(await PoolClient(plain).credits(day, now, terms)) for day in DAYS}
        rewards = await PoolClient(plain).rewards_btc(*DAYS)
        for each in (plain, http):
            await each.close()
        assert world.pool.api.limiter.refused == 0
    assert silent <= 1, "three tries each: hardly ever all of them"
    assert failing.asked > 250
    assert len(failing.failed) > 8
    assert set(failing.failed) == set(WAYS)
    for credited, earned in told:
        assert credited == {day: truth[day] for day in credited}
        assert earned == {day: rewards[day] for day in credited}
    assert set(told[-1][0]) == set(DAYS)
    assert [one.worker for one in truth[DAYS[0]]] == [f"hcp.one.{slot}" for slot in range(8)]
    assert sum(one.hashrate_th_per_s > 0 for one in truth[DAYS[0]]) == 4
