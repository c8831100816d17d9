"""Obligations by settlement interval: MW-hours promised, events that were to be paid, and MWh that were missed.

What an obligation's status means is in `policy.obligations`. What was promised is paid from when it begins to when it ends,
whatever became of it; what was not delivered is charged beside that.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.forecasting.hours import HOUR_US
from hcp_pipelines.optimizer.settlement.day import EVENTS, MISSED, PROMISES
from hcp_pipelines.policy.obligations import Status

OBLIGATION: dict[str, Any] = {
    "obligation_id": pl.Int64, "programme": pl.String, "status": pl.String, "mw": pl.Float64, "start_at": INSTANT,
    "end_at": INSTANT, "notice_s": pl.Float64, "duration_s": pl.Float64, "penalty_usd_per_mwh": pl.Float64,
    "deployed_at": INSTANT, "recalled_at": INSTANT, "baseline_mw": pl.Float64, "delivered_fraction": pl.Float64,
}  # fmt: skip
RESERVES = ("REGUP", "REGDN", "RRS", "ECRS", "NSPIN")  # programmes that are products of the day-ahead market
NEVER_SOLD = (Status.OFFERED.value, Status.WITHDRAWN.value)
CALLED = pl.col("deployed_at").is_not_null()


def promises(obligations: pl.DataFrame, intervals: pl.DataFrame, capacity: pl.DataFrame) -> pl.DataFrame:
    """MW-hours of reserves by interval, at the price of capacity of their hour (null where it is not known).

    Args:
        obligations: columns OBLIGATION.
        intervals: `start_at`, each 15 minutes.
        capacity: a row an hour and product with `start_at`, `product`, `price_usd_per_mw_h`; a programme that is none of
            RESERVES has no rows.
    """
    sold = obligations.filter(~pl.col("status").is_in(NEVER_SOLD), pl.col("programme").is_in(RESERVES))
    spread = _overlaps(sold, intervals, pl.col("start_at"), pl.col("end_at"))
    hour = pl.col("start_at").dt.truncate("1h").alias("hour")
    prices = capacity.select(hour="start_at", programme="product", capacity_usd_per_mw_h="price_usd_per_mw_h")
    priced = spread.with_columns(hour).join(prices, on=["hour", "programme"], how="left")
    return priced.with_columns(mw_h=pl.col("mw") * pl.col("hours")).select(*PROMISES).sort("start_at", "programme")


def events(obligations: pl.DataFrame, intervals: pl.DataFrame, usd_per_mwh: Mapping[str, float]) -> pl.DataFrame:
    """Events of programmes that pay for energy not drawn (`usd_per_mwh`, by programme), with the hours of each in an interval.

    `before_mw` is what was agreed in events deployed before it, by the part of its time in which they were under way too;
    `baseline_mw` is the highest of its own and theirs, since its own was read when their load had gone already.
    """
    paid = obligations.filter(CALLED, pl.col("programme").is_in(list(usd_per_mwh)), pl.col("baseline_mw").is_not_null())
    spread = _overlaps(paid, intervals, *_event())
    rate = pl.col("programme").replace_strict(dict(usd_per_mwh), default=None, return_dtype=pl.Float64)
    ordered = spread.sort("start_at", "deployed_at", "obligation_id").with_row_index("order")
    return (
        ordered.join(_before(ordered), on="order", how="left", maintain_order="left")
        .with_columns(
            pl.col("before_mw").fill_null(0.0),
            baseline_mw=pl.max_horizontal("baseline_mw", "baseline_of_others"),
            energy_usd_per_mwh=rate,
        )
        .select(*EVENTS)
    )


def _before(ordered: pl.DataFrame) -> pl.DataFrame:
    """By `order`, MW of the events before it that share its time, and the highest of their baselines."""
    pairs = ordered.join(ordered, on="start_at", suffix="_of_other").filter(pl.col("order_of_other") < pl.col("order"))
    shared = pl.min_horizontal("last", "last_of_other") - pl.max_horizontal("first", "first_of_other")
    part = shared.dt.total_microseconds().clip(lower_bound=0) / (pl.col("hours") * HOUR_US)
    sharing = pairs.with_columns(part=part).filter(pl.col("part") > 0)
    return sharing.group_by("order").agg(
        before_mw=(pl.col("mw_of_other") * pl.col("part")).sum(),
        baseline_of_others=pl.col("baseline_mw_of_other").max(),
    )


def missed(obligations: pl.DataFrame, intervals: pl.DataFrame) -> pl.DataFrame:
    """MWh that failed obligations had sold and did not deliver: of the event where it was called, of the interval sold elsewhere.

    The fraction delivered is that of the worst sample; where nothing was measured it is 0.
    """
    failed = obligations.filter(pl.col("status") == Status.FAILED.value)
    begin, end = _event()
    begin, end = (pl.when(CALLED).then(e).otherwise(pl.col(of)) for e, of in ((begin, "start_at"), (end, "end_at")))
    short = 1 - pl.col("delivered_fraction").fill_null(0.0).clip(0.0, 1.0)
    spread = _overlaps(failed, intervals, begin, end)
    return (
        spread.with_columns(missed_mwh=pl.col("mw") * pl.col("hours") * short)
        .filter(pl.col("missed_mwh") > 0)
        .select(*MISSED)
        .sort("start_at", "programme")
    )


def _event() -> tuple[pl.Expr, pl.Expr]:
    """When an event that was called began to count, and when it ended."""
    begin = pl.col("deployed_at") + pl.duration(microseconds=pl.col("notice_s") * 1e6)
    longest = begin + pl.duration(microseconds=pl.col("duration_s") * 1e6)
    return begin, pl.min_horizontal(longest, "end_at", pl.col("recalled_at").fill_null(pl.col("end_at")))


def _overlaps(obligations: pl.DataFrame, intervals: pl.DataFrame, begin: pl.Expr, end: pl.Expr) -> pl.DataFrame:
    """A row an obligation and interval of which it covers a part: `hours` of it, from `first` to `last`."""
    spans = obligations.with_columns(_begin=begin, _end=end).drop("start_at", "end_at")
    first = pl.max_horizontal("_begin", "start_at")
    last = pl.min_horizontal("_end", pl.col("start_at") + pl.duration(minutes=round(INTERVAL_H * 60)))
    placed = intervals.select("start_at").join(spans, how="cross").with_columns(first=first, last=last)
    hours = (pl.col("last") - pl.col("first")).dt.total_microseconds() / HOUR_US
    return placed.with_columns(hours=hours).filter(pl.col("hours") > 0)
