"""Settles days: of each facility the lines, what each switch was worth beside what was expected of it, and the regret."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.economics.settlement import MONEY, as_money
from hcp_pipelines.fleet.settled_site import settled_site
from hcp_pipelines.optimizer.backtest.replay.moves import Walk
from hcp_pipelines.optimizer.settlement.day import Day, settle, settle_stayed
from hcp_pipelines.optimizer.settlement.inputs import Facility, Market, Told, booked, day_of
from hcp_pipelines.optimizer.settlement.spells import Spells, spells
from hcp_pipelines.optimizer.settlement.switch_value import VALUE, switch_values
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.settlement.metering import read_hashed, read_metered
from hcp_pipelines.orchestration.settlement.read import (
    DAY,
    INTERVAL,
    Connection,
    Recorded,
    Window,
    generations,
    read_market,
    read_owed,
    read_recorded,
)
from hcp_pipelines.orchestration.settlement.regret import regret_of
from hcp_pipelines.orchestration.settlement.settled import SettledDay, Settlement, by_day
from hcp_pipelines.settings import Settings

_COMMAND: dict[str, Any] = {
    "facility_id": pl.String, "group_id": pl.String, "from_state": pl.Int16, "to_state": pl.Int16, "reason": pl.String,
    "decision_price_usd_per_mwh": pl.Float64, "usd_per_hour": pl.Float64, "expected_usd": MONEY,
}  # fmt: skip
SWITCHES: dict[str, Any] = VALUE | _COMMAND
_EVENT_ORDER = ("commanded", "observed")


def settle_days(connection: Connection, settings: Settings, window: Window, now: datetime) -> Settlement:
    """Settle every facility's days of a window, as far as they are over.

    What one facility trips over costs the others nothing: it keeps what was settled of it before.

    Raises:
        ConfigError: the window has not begun, or no facility could be settled.
        StorageError: the lake can't be read.
    """
    days = days_of(window, now)
    if not days:
        raise ConfigError(f"{window[0]:%Y-%m-%d} has not begun: it is {now:%Y-%m-%dT%H:%MZ} on the platform's clock")
    found: dict[str, list[SettledDay]] = {}
    failed: dict[str, str] = {}
    regrets: list[Mapping[str, object]] = []
    with reading(settings) as reader:
        market = read_market(reader, (days[0][0], days[-1][1]))
        for (name,) in connection.execute("select id from facilities order by id").fetchall():
            try:
                found[name] = list(facility_days(reader, connection, name, days, market))
                regrets += [row for parts in by_day(found[name]) for row in regret_of(parts)]
            except (StorageError, psycopg.Error):
                raise  # of all
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are settled
                found.pop(name, None)
                failed[name] = f"{type(error).__name__}: {error}"
    if failed and not found:
        raise ConfigError(f"no facility could be settled: {'; '.join(f'{n}: {why}' for n, why in failed.items())}")
    return Settlement([day for of in found.values() for day in of], tuple(found), regrets, failed, tuple(days))


def days_of(window: Window, now: datetime) -> list[Window]:
    """The UTC days of a window, each until now at most, in whole settlement intervals."""
    count = (window[1] - window[0]) // DAY
    days = [(window[0] + n * DAY, window[0] + (n + 1) * DAY) for n in range(count)]
    over = [(start, min(end, start + max(now - start, timedelta()) // INTERVAL * INTERVAL)) for start, end in days]
    return [(start, end) for start, end in over if start < end]


def facility_days(
    reader: Reader, connection: Connection, facility_id: str, days: Sequence[Window], market: Market
) -> Iterator[SettledDay]:
    """The days of one facility."""
    for generation, chosen in generations(reader, facility_id, days):
        window = chosen[0][0], chosen[-1][1]
        recorded = read_recorded(reader, connection, facility_id, generation, window[1])
        facility, owed = settled_site(recorded.inventory), read_owed(connection, facility_id, window)
        walk = walk_of(recorded, facility)
        for span, done in zip(chosen, spells(walk, chosen), strict=True):
            told = Told(read_metered(reader, facility_id, span), read_hashed(reader, facility_id, generation, span))
            day = day_of(facility, market, owed, told, span)
            yield _settled(recorded, day, done, walk.unnamed)


def _settled(recorded: Recorded, day: Day, done: Spells, unnamed: int) -> SettledDay:
    name, start = recorded.inventory.facility_id, day.intervals["start_at"][0]
    lines, switches = booked(settle(day, done), name), _switches(recorded, day, done)
    return SettledDay(name, start, lines, switches, settle_stayed(day, done), unnamed, day, done)


def walk_of(recorded: Recorded, facility: Facility) -> Walk:
    """The devices along the journal."""
    first_slots = {group.group_id: group.first_slot for group in recorded.inventory.groups}
    return Walk(recorded.journal, facility.fleet, first_slots)


def _switches(recorded: Recorded, day: Day, done: Spells) -> pl.DataFrame:
    """What switches were worth, beside what the decision expected: its dollars per hour until these devices switched again."""
    told = recorded.journal.filter(pl.col("event").is_in(_EVENT_ORDER)).unique(
        ["command_id", "assignment"], keep="first"
    )
    named = told.select("command_id", "assignment", *(n for n in _COMMAND if n in told.columns), told="devices")
    values = switch_values(day, done).join(named, on=["command_id", "assignment"], how="left", maintain_order="left")
    per_device = pl.col("usd_per_hour") / pl.col("told")
    expected = (per_device * pl.col("device_hours")).alias("expected_usd")
    facility = pl.lit(recorded.inventory.facility_id).alias("facility_id")
    whole = values.with_columns(expected, facility).with_columns(as_money("expected_usd"))
    return whole.select(pl.col(name).cast(kind) for name, kind in SWITCHES.items())
