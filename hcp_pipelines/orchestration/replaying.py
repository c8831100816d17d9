"""What the replay's asset does: a facility's recorded prices and journal from the lake, its policies from Postgres, the replay.

The arithmetic is in `optimizer.backtest.replay`. Only rows of the inventory's present generation are read: slots are its.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.optimizer.backtest.finished import Finished
from hcp_pipelines.optimizer.backtest.record import Run
from hcp_pipelines.optimizer.backtest.replay import report
from hcp_pipelines.optimizer.backtest.replay.fleet import fleet_of
from hcp_pipelines.optimizer.backtest.replay.history import History, history_of, wanted_series
from hcp_pipelines.optimizer.backtest.replay.realised import realised, reasons_of
from hcp_pipelines.optimizer.backtest.replay.run import InForce, replay
from hcp_pipelines.orchestration.backtesting import refuse_unknown
from hcp_pipelines.settings import Settings

LEARNT_FROM = timedelta(days=180)
LONGEST = timedelta(days=31)
_TICKS = """
    select stream, series, "timestamp", revision, value from lake.raw.price_ticks
    where quality in ('good', 'unusual') and "timestamp" >= ? and "timestamp" < ?
      and stream || ' ' || series in (select unnest(?))"""
_JOURNAL = """
    select event, command_id, assignment, from_state, to_state, devices, deferred, failed, slots, mw_delta, reason, simulated_at
    from lake.raw.switch_journal where facility_id = ? and generation = ? and simulated_at < ? order by id"""
_POLICIES = """
    select p.solved_at, p.body::text, coalesce(p.body -> 'strikes_from' ->> 'model', '') from policies p
    where p.facility_id = %s and p.inventory_generation = %s and p.status = 'live' and p.expires_at > %s and p.solved_at < %s
      and coalesce((select bool_or(a.is_admitted) from policy_admissions a where a.policy_id = p.id), true)
    order by p.id"""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class AskedReplay:
    """A facility, [start, end) of the platform's own (simulated) time, and strategies: none named means all that can be run."""

    facility: str
    start: datetime
    end: datetime
    strategies: Sequence[str] = ()


def run_replay(connection: Connection, settings: Settings, asked: AskedReplay, run: Run) -> Finished:
    """What strategies would have earned at a facility over a window that the platform recorded, beside what it did earn.

    Raises:
        ConfigError: an unknown facility, a window that is empty or too long, or one without recorded prices.
        StorageError: the lake can't be read.
    """
    if not timedelta(0) < asked.end - asked.start <= LONGEST:
        raise ConfigError(
            f"a window from {asked.start} to {asked.end}: start must be before end, by {LONGEST.days} days at most"
        )
    inventory = _inventory(connection, asked.facility)
    fleet, point = fleet_of(site_inputs(inventory)), inventory.settlement_point
    ticks, journal = _recorded(settings, inventory, fleet.site.indices, asked)
    whole = history_of(ticks, point, fleet.site.indices, asked.start - LEARNT_FROM, asked.end)
    window = _window(whole, asked)
    first_slots = {group.group_id: group.first_slot for group in inventory.groups}
    done = realised(journal, fleet, first_slots, window)
    found = replay(
        fleet,
        whole,
        (asked.start, asked.end),
        done,
        _policies(connection, inventory.generation, asked),
        asked.strategies,
    )
    return report.finished(found, run, point, reasons_of(journal, asked.start))


def _window(whole: History, asked: AskedReplay) -> History:
    window = whole.since(whole.row_at(microseconds(asked.start)))
    if not len(window):
        raise ConfigError(
            f"no prices are recorded from {asked.start} to {asked.end}: choose a window in which the platform ran"
        )
    return window


def _inventory(connection: Connection, facility_id: str) -> FacilityInventory:
    inventories = {each.facility_id: each for each in load_inventories(connection)}
    refuse_unknown("facility", facility_id, sorted(inventories))
    return inventories[facility_id]


def _recorded(
    settings: Settings, inventory: FacilityInventory, index_names: Sequence[str], asked: AskedReplay
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ticks of the window and of what is learnt from, and the journal up to the window's end."""
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    wanted = [f"{stream} {series}" for stream, series in wanted_series(inventory.settlement_point, index_names)]
    with lake.attach(settings, read_only=True) as connection:
        ticks = connection.execute(_TICKS, [asked.start - LEARNT_FROM, asked.end, wanted]).pl()
        journal = connection.execute(_JOURNAL, [inventory.facility_id, inventory.generation, asked.end]).pl()
    return ticks, journal


def _policies(connection: Connection, generation: int, asked: AskedReplay) -> list[InForce]:
    """Live policies that owners took, or that none had a word on."""
    rows = connection.execute(_POLICIES, (asked.facility, generation, asked.start, asked.end)).fetchall()
    return [InForce(microseconds(solved_at), body, model) for solved_at, body, model in rows]
