"""Fetches recorded market history for a window as a frame: the body of the partitioned assets. Stores nothing."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from hcp_pipelines.domain.errors import NotRunningError
from hcp_pipelines.domain.ticks import Tick
from hcp_pipelines.markets.ercot import REAL_BASE_URL, ErcotClient
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.settings import Settings

SPP_SCHEMA: Mapping[str, pl.DataType] = {
    "start_at": pl.Datetime("us", "UTC"),
    "settlement_point": pl.String(),
    "price_usd_per_mwh": pl.Float64(),
    "source": pl.String(),
}


def rt_settlement_point_prices(
    settings: Settings, points: Sequence[str], start: datetime, end: datetime
) -> pl.DataFrame:
    """15-minute real-time settlement point prices that start in [start, end), one row each."""
    return _frame(asyncio.run(_fetch(settings, "rt_spp", points, start, end)))


def da_settlement_point_prices(
    settings: Settings, points: Sequence[str], start: datetime, end: datetime
) -> pl.DataFrame:
    """Hourly day-ahead settlement point prices that start in [start, end), one row each."""
    return _frame(asyncio.run(_fetch(settings, "da_spp", points, start, end)))


def market_base_url(settings: Settings) -> str:
    """Where the market answers: the real service, or the simulated world of this platform.

    Raises:
        NotRunningError: the world has not announced itself.
    """
    if settings.world == "real":
        return REAL_BASE_URL
    path = settings.at("run", "world.json")
    try:
        return str(json.loads(path.read_text())["urls"]["http"])
    except (OSError, ValueError, KeyError) as error:
        raise NotRunningError(
            f"no market to ask: {path} is not there or not complete. Start `hcp up` first."
        ) from error


async def _fetch(settings: Settings, report: str, points: Sequence[str], start: datetime, end: datetime) -> list[Tick]:
    http = MarketHttp(market_base_url(settings))
    client = ErcotClient(http)
    read = client.rt_spp if report == "rt_spp" else client.da_spp
    try:
        return await read(points, start, end)
    finally:
        await http.close()


def _frame(ticks: Sequence[Tick]) -> pl.DataFrame:
    rows = [(t.source_at, t.series, t.value, t.source) for t in ticks]
    return pl.DataFrame(rows, schema=SPP_SCHEMA, orient="row").unique(
        ["start_at", "settlement_point"], keep="last", maintain_order=True
    )
