"""Asks the sources for their past by UTC days, as frames of `tables`: the bodies of the history assets. Stores nothing.

What is not over yet is left out: a candle that still runs would be a revision of itself the next time.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

import polars as pl
import psycopg

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import ConfigError, MarketError, NotRunningError
from hcp_pipelines.domain.ticks import Tick
from hcp_pipelines.markets import binance, bitstamp, coinbase, ercot, gemini, kraken, mempool, open_meteo
from hcp_pipelines.markets.candles import Candle
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit, Pace
from hcp_pipelines.markets.real import Access, services_of
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.tables import START, HistoryTable
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings

PATIENCE_S = 180.0  # real: nobody waits for the past, and a minute's limit is over by then
Window = tuple[datetime, datetime]
T = TypeVar("T")
SIGNALS_SQL = """
select effective_at, id, kind, level, market, facility_id, ends_at, payload::text, received_at, source from grid_signals
where effective_at >= %s and effective_at < %s"""
OBLIGATIONS_SQL = """
select lower(during), id, facility_id, programme, status, mw, tranche, upper(during), delivered_fraction, reason, programme
from grid_obligations where lower(during) >= %s and lower(during) < %s"""


class Exchange(Protocol):
    """What each client of an exchange has."""

    async def candles(self, start: datetime, end: datetime) -> list[Candle]:
        """Candles that start in [start, end)."""
        ...


class _Source(Protocol):
    """The module of a service."""

    __name__: str
    LIMIT: Limit


class _Venue(_Source, Protocol):
    """The module of an exchange."""

    CANDLE_S: int


def rt_settlement_point_prices(
    settings: Settings, points: Sequence[str], window: Window, now: datetime
) -> pl.DataFrame:
    """15-minute real-time settlement point prices, USD/MWh: one row an interval and point."""
    ticks = _ask(settings, ercot, lambda http: ercot.ErcotClient(http).rt_spp(points, *window))
    return over(tables.RT_SPP, _prices(tables.RT_SPP, ticks), now)


def da_settlement_point_prices(settings: Settings, points: Sequence[str], window: Window) -> pl.DataFrame:
    """Hourly day-ahead settlement point prices, USD/MWh: one row an hour and point, from the day before on."""
    ticks = _ask(settings, ercot, lambda http: ercot.ErcotClient(http).da_spp(points, *window))
    return _prices(tables.DA_SPP, ticks)


def da_capacity_prices(settings: Settings, window: Window) -> pl.DataFrame:
    """Day-ahead clearing prices of capacity, USD for a MW and hour: one row an hour and product, from the day before on."""
    rows = _ask(settings, ercot, lambda http: ercot.ErcotClient(http).da_capacity(*window))
    return _frame(tables.DA_CAPACITY, ((*row, ercot.SOURCE) for row in rows))


def zone_load(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Actual load, MW: one row an hour and weather zone, and one of the system (`total`)."""
    rows = _ask(settings, ercot, lambda http: ercot.ErcotClient(http).zone_load(*window))
    return over(tables.ZONE_LOAD, _frame(tables.ZONE_LOAD, ((*row, ercot.SOURCE) for row in rows)), now)


def temperatures(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Outdoor temperature, °C: one row an hour and place."""

    async def every_place(http: MarketHttp) -> list[open_meteo.Temperature]:
        client = open_meteo.OpenMeteoClient(http)
        return [row for place in open_meteo.PLACES for row in await client.temperatures(place, *window)]

    rows = _ask(settings, open_meteo, every_place)
    return over(tables.TEMPERATURE, _frame(tables.TEMPERATURE, ((*row, "open-meteo") for row in rows)), now)


def coinbase_candles(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Candles of BTC-USD on Coinbase: one row an hour."""
    return _candles(settings, tables.COINBASE, coinbase.CoinbaseClient, coinbase, window, now)


def kraken_candles(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Candles of XBT/USD on Kraken: one row every four hours, not further back than it keeps them."""
    return _candles(settings, tables.KRAKEN, kraken.KrakenClient, kraken, window, now)


def bitstamp_candles(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Candles of BTC/USD on Bitstamp: one row an hour."""
    return _candles(settings, tables.BITSTAMP, bitstamp.BitstampClient, bitstamp, window, now)


def binance_candles(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Candles of BTC/USDT on Binance: one row an hour."""
    return _candles(settings, tables.BINANCE, binance.BinanceClient, binance, window, now)


def gemini_candles(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """Candles of BTC/USD on Gemini: one row an hour, not further back than it keeps them."""
    return _candles(settings, tables.GEMINI, gemini.GeminiClient, gemini, window, now)


def blocks(settings: Settings, window: Window) -> pl.DataFrame:
    """Blocks of the bitcoin chain by their own stamp: one row a block."""
    rows = _ask(settings, mempool, lambda http: mempool.MempoolClient(http).blocks(*window))
    return _frame(tables.BLOCKS, ((*row, mempool.SOURCE) for row in rows))


def grid_signals(connection: "psycopg.Connection[Any]", window: Window) -> pl.DataFrame:
    """Signals of the grid by when they take effect: one row a signal."""
    return _frame(tables.SIGNALS, connection.execute(SIGNALS_SQL, window).fetchall())


def grid_obligations(connection: "psycopg.Connection[Any]", window: Window) -> pl.DataFrame:
    """Obligations by when they begin, in the state they are in now: one row an obligation."""
    return _frame(tables.OBLIGATIONS, connection.execute(OBLIGATIONS_SQL, window).fetchall())


def over(table: HistoryTable, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The rows whose interval has ended."""
    return frame.filter(pl.col(START) + (table.step or timedelta()) <= now)


def market_access(settings: Settings, name: str, clock: Clock) -> Access:
    """Where a market answers, by the name of its module: the real service, or the simulated world of this platform.

    Raises:
        ConfigError: the real one wants an account, and there is none. NotRunningError: the world has not announced itself.
    """
    if (real := services_of(settings.world, settings.markets_file)) is None:
        return Access(world_base_url(settings))
    if (access := real.market(name, clock)) is None:
        raise ConfigError(f"{name}: HCP_MARKETS_FILE={settings.markets_file} has no account there (docs/markets.md).")
    return access


def world_base_url(settings: Settings) -> str:
    """Where the simulated world of this platform answers.

    Raises:
        NotRunningError: it has not announced itself.
    """
    path = settings.at("run", "world.json")
    try:
        return str(json.loads(path.read_text())["urls"]["http"])
    except (OSError, ValueError, KeyError) as error:
        raise NotRunningError(
            f"no market to ask: {path} is not there or not complete. Start `hcp up` first."
        ) from error


def _candles(
    settings: Settings,
    table: HistoryTable,
    client: Callable[[MarketHttp], Exchange],
    venue: _Venue,
    window: Window,
    now: datetime,
) -> pl.DataFrame:
    if table.keeps is not None and window[0] < now - table.keeps:
        raise MarketError(
            f"{table.source} keeps {table.keeps.days} days, and it is {now:%Y-%m-%d}: {window[0]:%Y-%m-%d} can't be asked for "
            f"any more. What is in {table.name} stays; ask from {now - table.keeps + timedelta(days=1):%Y-%m-%d} on."
        )
    rows = _ask(settings, venue, lambda http: client(http).candles(*window))
    return over(table, _frame(table, ((row.start_at, venue.CANDLE_S, *row[1:], table.source) for row in rows)), now)


def _ask(settings: Settings, source: _Source, ask: Callable[[MarketHttp], Awaitable[T]]) -> T:
    """What a client of a source answers, asked at the source's pace by the platform's clock."""

    async def asked() -> T:
        pace = Pace(read_clock(settings), source.LIMIT)
        url, auth = market_access(settings, source.__name__.rpartition(".")[2], pace.clock)
        http = MarketHttp(url, auth=auth, pace=pace, patience_s=PATIENCE_S)
        try:
            return await ask(http)
        finally:
            await http.close()

    return asyncio.run(asked())


def _prices(table: HistoryTable, ticks: Sequence[Tick]) -> pl.DataFrame:
    return _frame(table, ((tick.source_at, tick.series, tick.value, tick.source) for tick in ticks))


def _frame(table: HistoryTable, rows: Iterable[Sequence[Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dict(table.model.columns), orient="row")
