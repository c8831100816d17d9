"""A small facility and what its days settle at, for the tests of settlement: no lake, no database."""

from datetime import timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.optimizer.backtest.replay.fleet import fleet_of
from hcp_pipelines.optimizer.backtest.replay.moves import Walk
from hcp_pipelines.optimizer.settlement.day import EVENTS, HASHED, METERED, MISSED, PROMISES, RATES, Day, Terms
from hcp_pipelines.optimizer.settlement.spells import spells
from tests.support.fleet import inventory
from tests.support.replayed import START, journal

INVENTORY = inventory(60)
SITE = site_inputs(INVENTORY)
FLEET = fleet_of(SITE)
FIRST_SLOTS = {group.group_id: group.first_slot for group in INVENTORY.groups}
QUARTER = timedelta(minutes=15)
INTERVALS = {
    "start_at": INSTANT, "price_usd_per_mwh": pl.Float64, "hashprice_usd_per_ph_day": pl.Float64, "is_peak": pl.Boolean,
}  # fmt: skip


def day_of(
    prices, *, fleet=FLEET, start=START, hashprice=55.0, rate=2.4, peaks=(), unknown_peaks=(), terms=None, **frames
):
    """A day with a price an interval; promises, events, missed and the meter as rows."""
    starts = [start + n * QUARTER for n in range(len(prices))]
    is_peak = [None if n in unknown_peaks else n in peaks for n in range(len(prices))]
    rows = [(at, price, hashprice, peak) for at, price, peak in zip(starts, prices, is_peak, strict=True)]
    rates = [(at, "H100", rate) for at in starts]
    schemas = {"meter": METERED, "promises": PROMISES, "events": EVENTS, "missed": MISSED, "hashed": HASHED}
    others = {name: pl.DataFrame(frames.get(name, []), schema=schema, orient="row") for name, schema in schemas.items()}
    intervals = pl.DataFrame(rows, schema=INTERVALS, orient="row")
    return Day(
        fleet, terms or Terms(), intervals, pl.DataFrame(rates, schema=RATES, orient="row"), **others
    )  # fmt: skip


def spells_of(switches, intervals, *, fleet=FLEET, first_slots=None, start=START):
    """The spells of some switches (rows as `replayed.switch` makes them) in one window."""
    walk = Walk(journal(*switches), fleet, FIRST_SLOTS if first_slots is None else first_slots)
    [found] = spells(walk, [(start, start + intervals * QUARTER)])
    return found


def usd(lines, kind=None):
    """Dollars of lines, of one kind or of all."""
    chosen = lines if kind is None else lines.filter(pl.col("kind") == kind)
    return float(chosen["usd"].sum())
