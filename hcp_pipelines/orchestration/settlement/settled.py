"""What came of settling: a facility's day, or a part of it, all days of a window, and the rows that tell of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import MONEY
from hcp_pipelines.optimizer.settlement.day import Day
from hcp_pipelines.optimizer.settlement.spells import Spells
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.settlement.read import INTERVAL, Window

SETTLED_DAYS: dict[str, Any] = {
    "day_at": INSTANT, "facility_id": pl.String, "until_at": INSTANT, "lines": pl.Int64, "unknown": pl.Int64,
    "net_usd": MONEY, "stayed_usd": MONEY, "metered_fraction": pl.Float64, "unnamed_devices": pl.Int64,
}  # fmt: skip


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

    days: Sequence[SettledDay]
    facilities: tuple[str, ...]  # that were settled; of one without a switch there is no day
    regrets: Sequence[Mapping[str, object]]
    failed: Mapping[str, str]
    spans: tuple[Window, ...]


def by_day(settled: Sequence[SettledDay]) -> list[list[SettledDay]]:
    """The parts of each facility's day together."""
    return [list(parts) for _, parts in groupby(settled, key=lambda part: (part.facility_id, midnight(part.start)))]


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


def rows_of(settlement: Settlement) -> Iterator[dict[str, Any]]:
    """Rows of SETTLED_DAYS, one a facility and day: also of days in which nothing was to be settled.

    What could not be settled is without dollars, and due again when a price of its day is newly known.
    """
    told = {(row["facility_id"], row["day_at"]): row for row in map(facts, by_day(settlement.days))}
    for names, unknown in ((settlement.facilities, 0), (settlement.failed, 1)):
        for name in names:
            for start, end in settlement.spans:
                empty = {"day_at": start, "facility_id": name, "until_at": end, "lines": 0, "unknown": unknown}
                yield told.get((name, start), dict.fromkeys(SETTLED_DAYS) | empty)
