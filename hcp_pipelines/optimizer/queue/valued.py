"""What work with a place is worth: dollars per GPU-hour, per MWh, and of stopping it. Pure, on columns.

Work that waits pays what its class sells at where it was placed, whatever its limit: naming a high one buys no precedence that
is not paid for. Work that holds GPUs pays what was agreed. Work that must run now is worth what is owed if it misses its
deadline, over what is left of it, and over an hour at most: spikes of prices seldom last longer.
"""

from collections.abc import Sequence

import polars as pl

from hcp_pipelines.economics.preemption import preemption_cost_usd, reload_s
from hcp_pipelines.optimizer.band import PLAIN
from hcp_pipelines.optimizer.queue.places import GPU_WORK, STATE_OF, Place
from hcp_pipelines.optimizer.steps import INTERVAL_H

SPIKE_H = 1.0
_H = 3600.0


def valued(work: pl.DataFrame, places: Sequence[Place]) -> pl.DataFrame:
    """The work that has a place, with its `state`, its `usd_per_gpu_hour` and its strikes.

    `worth_slope` and `worth_offset` are affine in the group's index, in $/MWh of all-in power from rest; `on_offset` and
    `off_offset` have the same slope. `stop_usd_per_mw`: what interrupting it costs.

    Args:
        work: of `placed`.
        places: the same.
    """
    here = work.drop_nulls("place").join(_terms(places), on=["place", "type"], how="inner")
    return _per_mwh(_stopping(_paying(here)))


def _terms(places: Sequence[Place]) -> pl.DataFrame:
    """By place and class: the market's rate, what the class sells at, all-in kW from rest."""
    rows = [
        (
            n, each.value, int(STATE_OF[each]), kw, p.usd_per_gpu_hour, p.rate_fraction(each), p.site.adders_usd_per_mwh,
            reload_s(each),
        )
        for n, p in enumerate(places)
        for each in GPU_WORK
        if (kw := p.climb_kw(each)) is not None
    ]  # fmt: skip
    schema = {
        "place": pl.Int64, "type": pl.String, "state": pl.Int64, "climb_kw": pl.Float64, "index": pl.Float64,
        "rate_fraction": pl.Float64, "adders_usd_per_mwh": pl.Float64, "reload_s": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _paying(here: pl.DataFrame) -> pl.DataFrame:
    """`usd_per_gpu_hour` and what of it follows the index; `owed_usd` if the deadline is missed, `urgent_usd_per_gpu_hour`."""
    agreed = pl.col("agreed_usd_per_gpu_hour")
    is_indexed, rate = agreed.is_null(), pl.coalesce(agreed, pl.col("index") * pl.col("rate_fraction"))
    hours = pl.col("estimated_s") / _H
    left_h = (pl.col("left_s") / _H).clip(INTERVAL_H, SPIKE_H)
    return here.with_columns(is_indexed=is_indexed, usd_per_gpu_hour=rate).with_columns(
        owed_usd=pl.col("credit_fraction") * pl.col("gpus") * hours * rate,
        urgent_usd_per_gpu_hour=pl.when("is_urgent").then(pl.col("credit_fraction") * hours * rate / left_h).otherwise(0.0),
    )  # fmt: skip


def _stopping(here: pl.DataFrame) -> pl.DataFrame:
    """`start_usd` of loading it, `stop_usd` of interrupting it: what was not saved, loading it again, what is then owed."""
    gpus, rate = pl.col("gpus").cast(pl.Float64), pl.col("usd_per_gpu_hour")
    lost, reload, nothing = pl.col("unsaved_s") * gpus, pl.col("reload_s"), pl.lit(0.0)
    late = pl.col("is_in_time") & (pl.col("left_s") + pl.col("unsaved_s") + reload > pl.col("due_in_s"))
    is_owed = pl.col("is_held") & ~pl.col("is_urgent") & (~pl.col("is_interruptible") | late.fill_null(value=False))
    owed = pl.when(is_owed).then(pl.col("owed_usd")).otherwise(0.0)
    return here.with_columns(
        start_usd=preemption_cost_usd(nothing, rate, reload, nothing, gpus),
        stop_usd=preemption_cost_usd(lost, rate, reload, owed, gpus),
    )


def _per_mwh(here: pl.DataFrame) -> pl.DataFrame:
    """Strikes around the worth: let in below it by a share of what loading costs, turned down above it by a share of stopping."""
    per_kw, mw = 1000 / pl.col("climb_kw"), pl.col("gpus") * pl.col("climb_kw") / 1000
    slope = pl.when("is_indexed").then("rate_fraction").otherwise(0.0) * per_kw
    fixed = pl.when("is_indexed").then(0.0).otherwise(pl.col("usd_per_gpu_hour")) + pl.col("urgent_usd_per_gpu_hour")
    offset = fixed * per_kw - pl.col("adders_usd_per_mwh")
    start, stop = pl.col("start_usd") / mw, pl.col("stop_usd") / mw
    return here.with_columns(
        worth_slope=slope,
        worth_offset=offset,
        on_offset=offset - PLAIN.wake_share * start / INTERVAL_H,
        off_offset=offset + PLAIN.sleep_share * stop / INTERVAL_H,
        stop_usd_per_mw=stop,
        worth_usd_per_mwh=slope * pl.col("index") + offset,
        off_usd_per_mwh=slope * pl.col("index") + offset + PLAIN.sleep_share * stop / INTERVAL_H,
    )
