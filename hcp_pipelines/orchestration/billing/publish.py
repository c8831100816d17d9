"""Billed days in the lake, in the place of what had been billed; what that changed of a customer's day is kept beside them.

`core.hcp__billed_days` has a row each time that a day was billed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import MONEY
from hcp_pipelines.orchestration.billing.days import Bill
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.settlement.read import Window
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb  # not at run time: its import starts threads, and the run server forks

LINES, WORK_ENERGY = "core.hcp__billing", "core.hcp__work_energy"
DAYS, CHANGES = "core.hcp__billed_days", "core.hcp__billing_changes"
STAMP: dict[str, Any] = {"run_id": pl.String, "billed_at": INSTANT}
BILLED_DAYS: dict[str, Any] = {
    "day_at": INSTANT, "until_at": INSTANT, "lines": pl.Int64, "unknown": pl.Int64, "gpu_s": pl.Float64, "usd": MONEY,
} | STAMP  # fmt: skip
_KEY: dict[str, Any] = {
    "day_at": INSTANT, "operating_day": pl.Date, "customer_id": pl.String, "workload_id": pl.String, "facility_id": pl.String,
}  # fmt: skip
CHANGE: dict[str, Any] = _KEY | {"was_usd": MONEY, "is_usd": MONEY} | STAMP
_BEFORE = f"""
select date_trunc('day', start_at) as day_at, operating_day, customer_id, workload_id, facility_id,
       sum(usd)::decimal(18, 6) as usd
from lake.{LINES} where start_at >= ? and start_at < ? group by all"""  # noqa: S608 - our constant
_BILLED = f"select distinct day_at from lake.{DAYS} where day_at >= ? and day_at < ?"  # noqa: S608


@dataclass(frozen=True)
class Published:
    """What came of it: how much there is, a row a billed day (BILLED_DAYS), and what changed (CHANGE)."""

    lines: int
    energy: int
    days: pl.DataFrame
    changes: pl.DataFrame


def publish(settings: Settings, bill: Bill, window: Window, run: Run) -> Published:
    """Put billed days in the place of the window's; what that changed of days that had been billed.

    Raises:
        StorageError: the lake refuses.
    """
    from hcp_pipelines.storage import lake

    days = _days(bill, run)
    with lake.attach(settings) as connection:
        changes = _changes(*_before(connection, settings, window), bill.lines, run)
        batch = f"{run.run_id}/{window[0]:%Y-%m-%d}"
        span = lake.Window("start_at", *window)
        lake.write(connection, WORK_ENERGY, bill.energy, batch, "replace", span, settings)
        # last, since it says that the days are billed: what ended before it is billed again
        lake.write(connection, LINES, bill.lines, batch, "replace", span, settings, {DAYS: days, CHANGES: changes})
    return Published(len(bill.lines), len(bill.energy), days, changes)


def _days(bill: Bill, run: Run) -> pl.DataFrame:
    rows = []
    for start, end in bill.spans:
        lines = bill.lines.filter(pl.col("start_at").is_between(start, end, closed="left"))
        told = {
            "lines": len(lines),
            "unknown": lines["usd"].null_count(),
            "gpu_s": lines["gpu_s"].sum(),
            "usd": lines["usd"].sum(),
        }
        rows.append(
            {"day_at": midnight(start), "until_at": end, **told, "run_id": run.run_id, "billed_at": run.known_at}
        )
    return pl.DataFrame(rows, schema=BILLED_DAYS)


def _before(
    connection: "duckdb.DuckDBPyConnection", settings: Settings, window: Window
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What was billed of the window's days (a row a key), and which of them were."""
    if not has_tables(settings, [LINES, DAYS]):
        return pl.DataFrame(schema=_KEY | {"usd": MONEY}), pl.DataFrame(schema={"day_at": INSTANT})
    totals = connection.execute(_BEFORE, list(window)).pl()
    days = connection.execute(_BILLED, list(window)).pl()
    return totals.select(pl.col(n).cast(k) for n, k in (_KEY | {"usd": MONEY}).items()), days.cast({"day_at": INSTANT})


def _changes(before: pl.DataFrame, billed: pl.DataFrame, lines: pl.DataFrame, run: Run) -> pl.DataFrame:
    """Bills of days that were billed before and are others now; 0 stands for what has no line."""
    day = pl.col("start_at").dt.truncate("1d").alias("day_at")
    after = lines.with_columns(day).group_by(list(_KEY)).agg(pl.col("usd").sum().cast(MONEY))
    known, now = (
        before.rename({"usd": "was_usd"}),
        after.rename({"usd": "is_usd"}).join(billed, on="day_at", how="semi"),
    )
    both = known.join(now, on=list(_KEY), how="full", coalesce=True, nulls_equal=True)
    filled = both.with_columns(pl.col(name).cast(MONEY).fill_null(0) for name in ("was_usd", "is_usd"))
    changed = filled.filter(pl.col("was_usd") != pl.col("is_usd")).with_columns(
        run_id=pl.lit(run.run_id), billed_at=pl.lit(run.known_at, INSTANT)
    )
    return changed.select(pl.col(name).cast(kind) for name, kind in CHANGE.items()).sort(list(_KEY))
