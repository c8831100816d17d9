"""Days of a facility, settled: the lines, what each switch was worth beside what was expected of it, and the day's facts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import groupby
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.economics.settlement import INTERVAL_H, MONEY, as_money
from hcp_pipelines.fleet.settled_site import settled_site
from hcp_pipelines.optimizer.backtest.replay.moves import Walk
from hcp_pipelines.optimizer.settlement.day import Day, settle, settle_stayed
from hcp_pipelines.optimizer.settlement.inputs import Facility, Market, Told, booked, day_of
from hcp_pipelines.optimizer.settlement.spells import Spells, spells
from hcp_pipelines.optimizer.settlement.switch_value import VALUE, switch_values
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.settlement.metering import read_hashed, read_metered
from hcp_pipelines.orchestration.settlement.read import (
    Connection,
    Recorded,
    Window,
    generations,
    read_market,
    read_owed,
    read_recorded,
)
from hcp_pipelines.settings import Settings

DAY, INTERVAL = timedelta(days=1), timedelta(hours=INTERVAL_H)
_COMMAND: dict[str, Any] = {
    "facility_id": pl.String, "group_id": pl.String, "from_state": pl.Int16, "to_state": pl.Int16, "reason": pl.String,
    "decision_price_usd_per_mwh": pl.Float64, "usd_per_hour": pl.Float64, "expected_usd": MONEY,
}  # fmt: skip
SWITCHES: dict[str, Any] = VALUE | _COMMAND
_EVENT_ORDER = ("commanded", "observed")


@dataclass(frozen=True)
class SettledDay:
    """A facility's day, or the part with one inventory: its lines, its switches, and the lines of nobody having switched."""

    facility_id: str
    start: datetime
    lines: pl.DataFrame
    switches: pl.DataFrame
    stayed: pl.DataFrame
    unnamed: int  # devices that no row of the journal names: taken to run
    day: Day
    done: Spells


@dataclass(frozen=True)
class Settlement:
    """What came of settling a window: the days by facility and day, and by facility why its days could not be settled."""

    days: list[SettledDay]
    facilities: tuple[str, ...]  # that were settled; of one without a switch there is no day
    failed: Mapping[str, str]
    spans: tuple[Window, ...]


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
    with reading(settings) as reader:
        market = cache(partial(read_market, reader))
        for (name,) in connection.execute("select id from facilities order by id").fetchall():
            try:
                found[name] = list(facility_days(reader, connection, name, days, market))
            except (StorageError, psycopg.Error):
                raise  # of all
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are settled
                failed[name] = f"{type(error).__name__}: {error}"
    if failed and not found:
        raise ConfigError(f"no facility could be settled: {'; '.join(f'{n}: {why}' for n, why in failed.items())}")
    return Settlement([day for of in found.values() for day in of], tuple(found), failed, tuple(days))


def days_of(window: Window, now: datetime) -> list[Window]:
    """The UTC days of a window, each until now at most, in whole settlement intervals."""
    count = (window[1] - window[0]) // DAY
    days = [(window[0] + n * DAY, window[0] + (n + 1) * DAY) for n in range(count)]
    over = [(start, min(end, start + max(now - start, timedelta()) // INTERVAL * INTERVAL)) for start, end in days]
    return [(start, end) for start, end in over if start < end]


def facility_days(
    reader: Reader,
    connection: Connection,
    facility_id: str,
    days: Sequence[Window],
    market_of: Callable[[Window], Market],
) -> Iterator[SettledDay]:
    """The days of one facility."""
    for generation, chosen in generations(reader, facility_id, days):
        window = midnight(chosen[0][0]), chosen[-1][1]
        recorded = read_recorded(reader, connection, facility_id, generation, window[1])
        facility, owed = settled_site(recorded.inventory), read_owed(connection, facility_id, window)
        market, walk = market_of(window), walk_of(recorded, facility)
        for span, done in zip(chosen, spells(walk, chosen), strict=True):
            told = Told(read_metered(reader, facility_id, span), read_hashed(reader, facility_id, generation, span))
            day = day_of(facility, market, owed, told, span)
            yield _settled(recorded, day, done, walk.unnamed)


def midnight(at: datetime) -> datetime:
    """The beginning of an instant's UTC day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def by_day(settled: Sequence[SettledDay]) -> list[list[SettledDay]]:
    """The parts of each facility's day together."""
    return [list(parts) for _, parts in groupby(settled, key=lambda part: (part.facility_id, midnight(part.start)))]


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


SETTLED_DAYS: dict[str, Any] = {
    "day_at": INSTANT, "facility_id": pl.String, "until_at": INSTANT, "lines": pl.Int64, "unknown": pl.Int64,
    "net_usd": MONEY, "stayed_usd": MONEY, "metered_fraction": pl.Float64, "unnamed_devices": pl.Int64,
}  # fmt: skip


def facts(parts: Sequence[SettledDay]) -> dict[str, Any]:
    """A row of SETTLED_DAYS: how much of a facility's day is settled, on what, and for how much."""
    lines = pl.concat([part.lines for part in parts])
    energy = lines.filter(pl.col("kind") == "energy")
    return {
        "day_at": midnight(parts[0].start),
        "facility_id": parts[0].facility_id,
        "until_at": energy["start_at"].max() + INTERVAL,  # type: ignore[operator]
        "lines": len(lines),
        "unknown": lines["usd"].null_count(),
        "net_usd": lines["usd"].sum(),
        "stayed_usd": pl.concat([part.stayed for part in parts])["usd"].sum(),
        "metered_fraction": (energy["basis"] == "metered").mean(),
        "unnamed_devices": max(part.unnamed for part in parts),
    }


def facts_of_failed(settlement: Settlement) -> Iterator[dict[str, Any]]:
    """Rows of SETTLED_DAYS of what could not be settled: without dollars, and due again when a price of theirs is newly known."""
    for name in settlement.failed:
        for start, end in settlement.spans:
            row = {"day_at": start, "facility_id": name, "until_at": end, "lines": 0, "unknown": 1}
            yield dict.fromkeys(SETTLED_DAYS) | row
