"""Settled days in the lake, in the place of what had been settled; what a correction changed is kept beside them.

`core.hcp__settled_days` has a row each time that a day was settled: by it is known what has to be settled again. What devices
earned goes back to `allocation_history.actual_profit` (`history.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import LINE, MONEY
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.settlement.days import SWITCHES
from hcp_pipelines.orchestration.settlement.read import Window
from hcp_pipelines.orchestration.settlement.regret import REGRET
from hcp_pipelines.orchestration.settlement.settled import SETTLED_DAYS, Settlement, rows_of
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb  # not at run time: its import starts threads, and the run server forks

LINES, SWITCH_VALUE = "core.hcp__settlement", "core.hcp__switch_value"
CHANGES, DAYS, REGRETS = "core.hcp__settlement_changes", "core.hcp__settled_days", "core.hcp__regret"
KEY = ("day_at", "facility_id", "operating_day", "kind")
SETTLEMENT: dict[str, Any] = {
    "start_at": INSTANT, "operating_day": pl.Date, "facility_id": pl.String, **{n: t for n, t in LINE.items() if n != "start_at"},
} | {"usd": MONEY}  # fmt: skip
STAMP: dict[str, Any] = {"run_id": pl.String, "settled_at": INSTANT}
_CHANGE: dict[str, Any] = {
    "day_at": INSTANT, "facility_id": pl.String, "operating_day": pl.Date, "kind": pl.String, "was_usd": MONEY, "is_usd": MONEY,
}  # fmt: skip
_TOTALS = f"""
select date_trunc('day', start_at) as day_at, facility_id, operating_day, kind, sum(usd)::decimal(18, 6) as usd
from lake.{LINES} where start_at >= ? and start_at < ? group by all"""  # noqa: S608 - our constant


@dataclass(frozen=True)
class Published:
    """What came of it: lines, and the other tables' rows."""

    lines: int
    switches: pl.DataFrame
    regrets: pl.DataFrame
    days: pl.DataFrame
    changes: pl.DataFrame


def publish(settings: Settings, settlement: Settlement, window: Window, run: Run) -> Published:
    """Put settled days in the place of the window's; what that changed of days that had been settled, by operating day and kind.

    Of facilities that could not be settled, or are no more, stays what was settled of them before.

    Raises:
        StorageError: the lake refuses.
    """
    from hcp_pipelines.storage import lake

    settled, of = settlement.days, settlement.facilities
    lines = _together([day.lines for day in settled], SETTLEMENT)
    switches = _together([day.switches for day in settled], SWITCHES)
    regrets = pl.DataFrame(settlement.regrets, schema=REGRET)
    days = pl.DataFrame(list(rows_of(settlement)), schema=SETTLED_DAYS)
    with lake.attach(settings) as connection:
        before = _before(connection, settings, window).filter(pl.col("facility_id").is_in(of))
        changes = _changes(before, _totals(lines))
        batch = f"{run.run_id}/{window[0]:%Y-%m-%d}"
        for table, frame, by in ((SWITCH_VALUE, switches, "switched_at"), (REGRETS, regrets, "day_at")):
            lake.write(connection, table, frame, batch, "replace", lake.Window(by, *window, of), settings)
        # last, since it says that the days are settled: what ended before it is settled again
        beside = {DAYS: _stamped(days, run), CHANGES: _stamped(changes, run)}
        lake.write(connection, LINES, lines, batch, "replace", lake.Window("start_at", *window, of), settings, beside)
    return Published(len(lines), switches, regrets, days, changes)


def _together(frames: Sequence[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    columns = [pl.col(name).cast(kind) for name, kind in schema.items()]
    return pl.concat([pl.DataFrame(schema=schema), *(frame.select(columns) for frame in frames)])


def _before(connection: "duckdb.DuckDBPyConnection", settings: Settings, window: Window) -> pl.DataFrame:
    if not has_tables(settings, [LINES]):
        return pl.DataFrame(schema=dict.fromkeys(KEY) | {"usd": MONEY}).clear()
    return connection.execute(_TOTALS, list(window)).pl()


def _totals(lines: pl.DataFrame) -> pl.DataFrame:
    day = pl.col("start_at").dt.truncate("1d").alias("day_at")
    return lines.with_columns(day).group_by(KEY).agg(pl.col("usd").sum().cast(MONEY))


def _changes(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Totals of days that were settled before and are others now; 0 stands for what has no line."""
    if before.is_empty():
        return pl.DataFrame(schema=_CHANGE)
    casts = [pl.col(name).cast(_CHANGE[name]) for name in KEY]
    known = before.with_columns(casts).rename({"usd": "was_usd"})
    now = after.with_columns(casts).rename({"usd": "is_usd"})
    seen = known.select("day_at", "facility_id").unique()
    both = known.join(now.join(seen, on=["day_at", "facility_id"], how="semi"), on=KEY, how="full", coalesce=True)
    filled = both.with_columns(pl.col(name).cast(MONEY).fill_null(0) for name in ("was_usd", "is_usd"))
    return filled.filter(pl.col("was_usd") != pl.col("is_usd")).select(*_CHANGE).sort(KEY)


def _stamped(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    return frame.with_columns(run_id=pl.lit(run.run_id), settled_at=pl.lit(run.known_at, INSTANT)).select(
        *frame.columns, *STAMP
    )
