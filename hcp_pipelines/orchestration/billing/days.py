"""Makes the bills of UTC days, as far as they are over, at prices and of events as they stand now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.markets.central import operating_days
from hcp_pipelines.optimizer.settlement.inputs import rates_of
from hcp_pipelines.orchestration.billing.read import Told, read_energy, read_work
from hcp_pipelines.orchestration.billing.terms import kept_rates, note
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.settlement.days import days_of
from hcp_pipelines.orchestration.settlement.read import Connection, Window, read_market
from hcp_pipelines.settings import Settings
from hcp_pipelines.workloads.billing.lines import LINE, lines_of
from hcp_pipelines.workloads.billing.runs import parts_of, slices_of
from hcp_pipelines.workloads.billing.terms import in_force, own_rates, places_on
from hcp_pipelines.workloads.billing.use import ENERGY, energy_of, held_at, places_of, used_of

QUARTER = timedelta(hours=INTERVAL_H)
BILLING: dict[str, Any] = {"start_at": LINE["start_at"], "operating_day": pl.Date} | {
    name: kind for name, kind in LINE.items() if name != "start_at"
}


@dataclass(frozen=True)
class Bill:
    """What came of billing a window: lines (BILLING), energy by group (ENERGY), and until when each of its days is billed."""

    lines: pl.DataFrame
    energy: pl.DataFrame
    spans: Sequence[Window]


def bill_days(connection: Connection, settings: Settings, window: Window, now: datetime) -> Bill:
    """Bill a window's days, as far as they have begun, each by the terms that were in force as it began.

    Raises:
        StorageError: the lake can't be read.
    """
    spans = days_of(window, now)
    with reading(settings) as reader:
        found = list(_days(reader, connection, settings, spans, now))
    lines = [pl.DataFrame(schema=BILLING), *(lines for lines, _ in found)]
    energy = [pl.DataFrame(schema=ENERGY), *(energy for _, energy in found)]
    return Bill(pl.concat(lines), pl.concat(energy), spans)


def _days(
    reader: Reader, connection: Connection, settings: Settings, spans: Sequence[Window], now: datetime
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    known, rates = note(connection, settings, now), kept_rates(connection)
    for span in spans:
        events, checkpoints, devices = read_work(reader, span)
        parts = parts_of(events, checkpoints, now)
        slices = slices_of(parts, span, QUARTER)
        if slices.is_empty():
            continue
        placed = places_of(parts, devices)
        told = _told(reader, span, parts, slices, placed)
        day = midnight(span[0])
        dated = in_force(known, day)
        assert dated is not None, "the first terms hold from ever"
        market = read_market(reader, span)
        starts = slices.select("start_at").unique().sort("start_at")
        lines = lines_of(
            used_of(parts, slices, placed, told.work), places_on(known, day), rates_of(starts, market.rates), market.prices,
            own_rates(rates, day), is_energy_charged=dated.terms.is_energy_charged,
        )  # fmt: skip
        yield booked(lines), energy_of(lines, told.free, told.groups)


def booked(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines (LINE) with `operating_day`: the Central day that they are billed in, of 23, 24 or 25 hours."""
    return lines.with_columns(operating_days(pl.col("start_at")).alias("operating_day")).select(*BILLING)


def _told(reader: Reader, span: Window, parts: pl.DataFrame, slices: pl.DataFrame, placed: pl.DataFrame) -> Told:
    """What the devices of those facilities told at which work ran."""
    ran = placed.filter(pl.col("part").is_in(slices["part"].unique().implode())).drop_nulls("facility_id")
    found = []
    for (name,), of_it in ran.group_by("facility_id", maintain_order=True):
        held = held_at(parts, of_it, str(name))
        hours = (
            slices.join(held.select("part", "slot"), on="part").group_by("start_at", "slot").agg(pl.col("hours").sum())
        )
        groups = [group for group in of_it["group_id"].unique() if group]
        found.append(read_energy(reader, str(name), span, held, hours, groups))
    return Told.of(*found)
