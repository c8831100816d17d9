"""Credits of the mining pool by worker and day, and who claims more than that: the bodies of the asset and of its check.

A platform without a pool (`HCP_POOL_URL`) has neither. What is asked of the pool is in `markets.pool`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

import polars as pl

from hcp_pipelines.domain.errors import ConfigError, NotRunningError
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.markets.pool import LIMIT, SOURCE, TOKEN_HEADER, Credit, PoolClient, PoolTerms, device_of
from hcp_pipelines.orchestration.dbt_project import project_number
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.fetch import PATIENCE_S, Window
from hcp_pipelines.orchestration.history.publish import each_day
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.history.tables import HistoryTable
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings

WORLD: Final = "world"
SHOWN: Final = 10
# Hours in which nothing was told count as nothing: an honest miner is never taken for a liar for want of telemetry.
CLAIMS_SQL = f"""
with newest as (select max({tables.START}) as day_at from lake.{tables.POOL_CREDITS.name}),
credited as (
    select facility_id, slot, hashrate_th_per_s as credited_th_per_s, valid_shares, day_at
    from lake.{tables.POOL_CREDITS.name}, newest where {tables.START} = day_at and slot is not null),
told as (
    select facility_id, slot, count(*) as hours, sum(hashrate_th_per_s_avg) / 24 as reported_th_per_s
    from lake.core.telemetry_1h, newest
    where hour_at >= day_at and hour_at < day_at + interval '1 day' and hashrate_th_per_s_count > 0 group by all)
select * from credited join told using (facility_id, slot) where hours >= ? order by facility_id, slot"""  # noqa: S608 - our constants


class Fetched(NamedTuple):
    """Credits as a frame of `raw.pool__credits`, and the pool's terms now."""

    rows: pl.DataFrame
    terms: PoolTerms


def configured(settings: Settings) -> tuple[HistoryTable, ...]:
    """The tables of optional services that this platform has."""
    return tables.OPTIONAL if settings.pool_url else ()


def credits_of(settings: Settings, window: Window, now: datetime) -> Fetched:
    """What the pool credited: one row a worker and UTC day of the window.

    Raises:
        ConfigError: no pool is configured. MarketError: it does not tell these days. NotRunningError: the world is not there.
    """

    async def asked() -> Fetched:
        async with at_the_pool(settings) as (http, pace):
            return await read_credits(http, pace, window, now)

    return asyncio.run(asked())


def pool_base_url(settings: Settings) -> str:
    """Where the pool's statistics are.

    Raises:
        ConfigError: nowhere. NotRunningError: the simulated pool has not announced itself.
    """
    if not settings.pool_url:
        raise ConfigError("no mining pool is configured: set HCP_POOL_URL (docs/pool.md)")
    if settings.pool_url != WORLD:
        return settings.pool_url
    path = settings.at("run", "world.json")
    try:
        return str(json.loads(path.read_text())["urls"]["pool-api"])
    except (OSError, ValueError, KeyError) as error:
        raise NotRunningError(f"no pool to ask: {path} names none. Start `hcp up` with HCP_POOL_URL=world.") from error


def judge_claims(reader: Reader) -> Judged:
    """Whether any miner reported more on the newest credited day than the pool credited it."""
    if not reader.has(tables.POOL_CREDITS.name, "core.telemetry_1h"):
        return Judged(True, "no credits yet", {"devices": 0})
    return claimed_as_credited(reader.rows(CLAIMS_SQL, [project_number("claims_least_hours")]))


def claimed_as_credited(devices: pl.DataFrame) -> Judged:
    """Whether no device's `reported_th_per_s` is above its `credited_th_per_s` beyond what the luck of its shares explains.

    As the mart `fct_device_credits` has it, by the same thresholds, for devices that have told theirs in enough hours.
    """
    reported, shares = pl.col("reported_th_per_s"), pl.col("valid_shares").cast(pl.Float64)
    luck = project_number("claims_sigmas") / shares.fill_null(project_number("claims_shares_untold")).clip(1.0).sqrt()
    most = pl.col("credited_th_per_s") * (project_number("claims_tolerated") + luck)
    off = devices.filter((reported > most) & (reported >= project_number("claims_least_th_per_s")))
    told = {"devices": len(devices), "off": len(off), "sample": off.head(SHOWN)}
    if devices.is_empty():
        return Judged(True, "of no miner are both telemetry and credits of a whole day there yet", told)
    if off.is_empty():
        return Judged(True, f"{len(devices)} miners report what they are credited", told)
    why = f"{len(off)} of {len(devices)} miners report more than the pool credits them"
    return Judged(False, why, {**told, "liars": off})


def liars_by_facility(liars: pl.DataFrame) -> Iterator[tuple[str, dict[str, str | int | float]]]:
    """(facility, what an alert says of its liars)."""
    for (facility_id,), own in liars.group_by("facility_id", maintain_order=True):
        slots = own["slot"].to_list()
        claimed, credited = float(own["reported_th_per_s"].sum()), float(own["credited_th_per_s"].sum())
        yield (
            str(facility_id),
            {
                "day": f"{own['day_at'][0]:%Y-%m-%d}",
                "miners": len(slots),
                "slots": ", ".join(map(str, slots[:SHOWN])) + (", …" if len(slots) > SHOWN else ""),
                "reported_th_per_s": round(claimed, 1),
                "credited_th_per_s": round(credited, 1),
            },
        )


@asynccontextmanager
async def at_the_pool(settings: Settings) -> AsyncIterator[tuple[MarketHttp, Pace]]:
    """The connection to the pool, and its pace.

    Raises:
        ConfigError: no pool is configured. NotRunningError: the world is not there.
    """
    headers = {TOKEN_HEADER: token} if (token := _token(settings)) else {}
    pace = Pace(read_clock(settings), LIMIT)
    http = MarketHttp(pool_base_url(settings), headers=headers, pace=pace, patience_s=PATIENCE_S)
    try:
        yield http, pace
    finally:
        await http.close()


async def read_credits(http: MarketHttp, pace: Pace, window: Window, now: datetime) -> Fetched:
    """As `credits_of`, of a pool that is asked as often as its terms allow; the pace is that of its `http`.

    Raises:
        MarketError: it does not tell these days.
    """
    client = PoolClient(http)
    terms = await client.terms()
    pace.keep(terms.limit)
    rows = [(at, *_row(one)) for at in each_day(window) for one in await client.credits(at.date(), now, terms)]
    frame = pl.DataFrame(rows, schema=dict(tables.POOL_CREDITS.model.columns), orient="row")
    return Fetched(frame, terms)


def _row(credit: Credit) -> tuple[str, str | None, int | None, float, int | None, int | None, int | None, str]:
    device = device_of(credit.worker)
    facility_id, slot = device or (None, None)
    return (credit.worker, facility_id, slot, *credit[1:], SOURCE)


def _token(settings: Settings) -> str:
    """What the pool asks for; empty where nothing is configured.

    Raises:
        ConfigError: the file can't be read.
    """
    if settings.pool_token_file is None:
        return ""
    try:
        return settings.pool_token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"HCP_POOL_TOKEN_FILE={settings.pool_token_file} can't be read: {error}") from error
