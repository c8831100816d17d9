"""Odd questions to every path that the world's market services have: each is answered with what is wrong, none with a failure."""

import itertools
from datetime import timedelta

import httpx
import pytest

from simulators.clock import ManualClock
from simulators.http import Services
from tests.contract.test_world_http import START_S, Well, world

NOW_S = START_S + 36 * 3600
# What the services' parameters are called, each with something that is none, or too much of it.
NAMES = (
    "symbol", "pair", "interval", "granularity", "start", "end", "startTime", "endTime", "limit", "limit_trades", "since",
    "count", "timestamp", "after", "time", "step", "latitude", "longitude", "start_date", "end_date", "hourly", "current",
    "past_days",
    "forecast_days", "gpu_type", "gpu_count", "page", "page_size", "size", "$filter", "$skip", "$top", "api-version", "Action",
    "StartTime", "EndTime", "MaxResults", "NextToken", "InstanceType.1", "deliveryDateFrom", "deliveryDateTo",
    "SCEDTimestampFrom", "settlementPoint", "postDatetimeFrom", "download", "sort", "dir",
)  # fmt: skip
ODD = (
    "", " ", "x", "-1", "0", "²", "9" * 400, "1e308", "nan", "inf", "\x00", "%00", "../../etc/passwd", "null", "[]", "{}", "';--",
    "2025-13-45", "9999-12-31T23:59:59", "0001-01-01", "2025-02-30T25:61", "é" * 300, "a" * 5000, "1,2,3", "true", "١٢",
)  # fmt: skip


@pytest.fixture(scope="module")
def app():
    return Services(world(), ManualClock(NOW_S), Well())


def paths(app):
    """Every path of the application with a place of its parameters, and its methods."""
    for route in app.routed().routes:
        for method in sorted(route.methods - {"HEAD"}):
            yield method, route.path


async def asked(app, method, url, params=None, content=None):
    """The reply; what fails within the application is raised here."""
    transport = httpx.ASGITransport(app.routed(), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://world") as client:
        return await client.request(method, url, params=params, content=content, timeout=timedelta(seconds=20).seconds)


def filled(path, value):
    """A path with something in the place of each parameter."""
    parts = [value if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


async def test_every_path_answers_odd_parts_and_parameters_with_what_is_wrong(app):
    found = list(paths(app))
    assert len(found) > 60
    names, values = itertools.cycle(NAMES), itertools.cycle(ODD)
    for method, path in found:
        parts = ("0", "x", "9" * 40, "f" * 64, "btcusd", "%00", "-1", "²")
        for part in parts if "{" in path else ("",):
            for _ in range(1 if "{" in path else 6):
                params = {next(names): next(values) for _ in range(7)}
                reply = await asked(app, method, filled(path, part), params, b"" if method == "POST" else None)
                assert reply.status_code < 500 or path == "/healthz", (method, path, part, params)
                assert reply.status_code < 400 or len(reply.content) > 5, (method, path, part, params)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"a" * 100_000, b"[" * 50_000, b"&&&===", b'{"docIds": {}}']
)
async def test_every_post_answers_odd_bodies_with_what_is_wrong(app, content):
    for method, path in paths(app):
        if method == "POST":
            reply = await asked(app, method, filled(path, "np6-788-cd"), content=content)
            assert 200 <= reply.status_code < 500, (path, content[:20])
            assert reply.content, (path, content[:20])


@pytest.mark.parametrize("height", [0, 1, 2, 100, 209_999, 500_000, 999_999_999])
async def test_blocks_below_any_height_are_told_or_said_to_be_unknown(app, height):
    for path in (f"/api/v1/blocks/{height}", f"/api/blocks/{height}", f"/api/block-height/{height}"):
        reply = await asked(app, "GET", path)
        assert reply.status_code in (200, 404), (path, reply.text)
