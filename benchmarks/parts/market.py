"""The market of a benchmark: seeded prices around the fleet's own strikes, written as the feed would; policies solved once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.economics.power import STEP_MINUTES, interval_start
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.load import load_inputs
from hcp_pipelines.optimizer.publish import publish_all
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.prices import store_price_data
from hcp_pipelines.storage.roles import Role

INTERVAL = timedelta(minutes=STEP_MINUTES)
SEED = 7
USUAL_USD_PER_MWH, SPREAD_USD_PER_MWH, LOCAL_USD_PER_MWH = 85.0, 14.0, 4.0
SPIKE_USD_PER_MWH, DIP_USD_PER_MWH = 5000.0, -30.0  # above every strike, GPUs' too; below every strike
EVENT_EACH = (9, 16)  # ticks from one event to the next
EVENT_LASTS = (3, 6)
POINTS_SQL = "select distinct settlement_point from facilities order by 1"
ADMITTED_SQL = """
    select count(distinct l.facility_id), count(distinct l.owner) from facility_leases l
    join policy_admissions a on a.facility_id = l.facility_id and a.allocator = l.owner and a.is_admitted
    where l.expires_at > now()"""

Floats = npt.NDArray[np.float64]
Row = tuple[Any, ...]


def price_path(ticks: int, points: int, seed: int = SEED) -> Floats:
    """[tick, point] LMPs, $/MWh: a quiet market around the miners' strikes, and in turn spikes and dips of the whole system.

    >>> path = price_path(60, 3)
    >>> path.shape, bool((path > 4000).any()), bool((path < 0).any()), bool((path == price_path(60, 3)).all())
    ((60, 3), True, True, True)
    """
    random = np.random.default_rng(seed)
    common = USUAL_USD_PER_MWH + SPREAD_USD_PER_MWH * _wandering(random, ticks)[:, None]
    path = common + LOCAL_USD_PER_MWH * random.normal(size=(ticks, points))
    at, is_spike = 2, True
    while at < ticks:
        lasts = int(random.integers(*EVENT_LASTS, endpoint=True))
        path[at : at + lasts] = SPIKE_USD_PER_MWH if is_spike else DIP_USD_PER_MWH
        at, is_spike = at + int(random.integers(*EVENT_EACH, endpoint=True)), not is_spike
    return path


def _wandering(random: np.random.Generator, ticks: int) -> Floats:
    """A mean-reverting walk of unit variance; an hour's correlation."""
    keep = np.exp(-1 / 12)
    steps = random.normal(size=ticks) * np.sqrt(1 - keep**2)
    level, out = float(random.normal()), np.zeros(ticks)
    for n in range(ticks):
        level = keep * level + steps[n]
        out[n] = level
    return out


@dataclass(frozen=True)
class Sent:
    """A tick as it was written: its rows' ids, and milliseconds from just before the statement to its return."""

    number: int
    row_ids: tuple[int, ...]
    source_to_commit_ms: float


@dataclass
class Market:
    """Writes one power tick an interval, each at the instant at which its interval begins."""

    settings: Settings
    clock: SystemClock
    connection: psycopg.AsyncConnection[Any]
    points: Sequence[str]
    next_at: datetime
    sent: list[Sent] = field(default_factory=list)

    async def open(self, first_usd_per_mwh: float) -> None:
        """Everything but power prices, and a first power price for the interval that runs."""
        await store_price_data(
            self.connection,
            [
                Tick(Stream.BTC_USD, "consensus", self.next_at, 95_000.0, "USD", "coinbase"),
                Tick(Stream.BTC_NETWORK, "difficulty", self.next_at, 1.1e14, "1", "mempool"),
                Tick(Stream.BTC_NETWORK, "fees_btc_per_block", self.next_at, 0.05, "BTC", "mempool"),
                Tick(Stream.BTC_NETWORK, "height", self.next_at, 880_000.0, "1", "mempool"),
                Tick(Stream.GPU_SPOT, "H100", self.next_at, 2.1, "USD/GPU-hour", "listings"),
            ],
        )
        await self._write([first_usd_per_mwh] * len(self.points))

    def skip_to_now(self) -> None:
        """Begin with the next interval; those that have passed get no price."""
        missed = (self.clock.now() - self.next_at) // INTERVAL + 1
        self.next_at += max(missed, 0) * INTERVAL

    async def tick(self, number: int, prices: Sequence[float]) -> None:
        """The next interval's prices, at its beginning."""
        wait_s = (self.next_at - self.clock.now()).total_seconds() / self.clock.speed
        await asyncio.sleep(max(wait_s, 0.0))
        mark_ns, row_ids = await self._write(prices)
        self.sent.append(Sent(number, row_ids, (time.monotonic_ns() - mark_ns) / 1e6))

    async def correct(self, price: float) -> Sent:
        """The settlement interval that runs costs this everywhere, its past runs too: the decision price from now on.

        Nobody waits for the next run's beginning, and no mean with earlier prices blurs what is asked for.
        """
        now = self.clock.now()
        start = interval_start(now)
        runs = [start + n * INTERVAL for n in range((now - start) // INTERVAL + 1)]
        mark_ns, row_ids = await self._store([(run, point, price) for run in runs for point in self.points])
        return Sent(-1, row_ids, (time.monotonic_ns() - mark_ns) / 1e6)

    async def _write(self, prices: Sequence[float]) -> tuple[int, tuple[int, ...]]:
        rows = [(self.next_at, point, float(price)) for point, price in zip(self.points, prices, strict=True)]
        self.next_at += INTERVAL
        return await self._store(rows)

    async def _store(self, rows: Sequence[tuple[datetime, str, float]]) -> tuple[int, tuple[int, ...]]:
        """The monotonic instant before the statement, and the ids of its rows of (begin, settlement point, $/MWh)."""
        mark_ns = time.monotonic_ns()
        mark = {"mark_ns": mark_ns}
        lmp = Stream.POWER_RT_LMP
        ticks = [Tick(lmp, point, at, price, "USD/MWh", "ERCOT", metadata=mark) for at, point, price in rows]
        stored = await store_price_data(self.connection, ticks)
        return mark_ns, tuple(row.id for row in stored)


async def open_market(settings: Settings, clock: SystemClock, first_usd_per_mwh: float = USUAL_USD_PER_MWH) -> Market:
    """A market on a connection of its own."""
    with connect(settings, Role.OPERATOR) as reader:
        points = [row[0] for row in reader.execute(POINTS_SQL).fetchall()]
    connection = await psycopg.AsyncConnection.connect(dsn(settings, Role.FEED), autocommit=True)
    market = Market(settings, clock, connection, points, interval_start(clock.now(), STEP_MINUTES))
    await market.open(first_usd_per_mwh)
    return market


def publish_policies(settings: Settings, now: datetime) -> None:
    """Each facility's policy over the real inputs, live, and to outlast the run."""
    options = {"expires_after_s": settings.policy_expires_s, "refresh_after_s": settings.policy_refresh_s}
    with connect(settings, Role.CONTROL) as connection:
        inputs = load_inputs(connection, load_sites(connection), now, options)
        publish_all(connection, [solve_facility(each) for each in inputs])


async def until_admitted(settings: Settings, owners: int, within_s: float) -> None:
    """Wait until each facility's owner follows its policy, and the facilities are shared out."""
    wanted = (settings.facilities, min(owners, settings.facilities))
    await until_row(settings, ADMITTED_SQL, (), wanted, within_s, "(facilities with a policy in force, owners)")


async def until_row(
    settings: Settings, query: LiteralString, parameters: Sequence[object], wanted: Row, within_s: float, what: str
) -> None:
    """Ask Postgres again and again until a query's row is the one that is wanted.

    Raises:
        TimeoutError: not within so many seconds; the message says `what` it was last.
    """
    deadline_s = time.monotonic() + within_s
    with connect(settings, Role.OPERATOR) as connection:
        while (found := connection.execute(query, parameters).fetchone()) != wanted:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{what} = {found}, not {wanted}, within {within_s:g} s")
            await asyncio.sleep(0.1)
