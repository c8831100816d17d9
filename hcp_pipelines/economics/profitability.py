"""Profitability scores (EC-10 to EC-14 with the corrections ER-01 … ER-08): columns in, columns out, no loops.

One row per resource and use that it could serve. The ranking is `usd_per_mwh`, net profit per MWh of site power; `score`
is the margin for those who want 0–100.
"""

import polars as pl

from hcp_pipelines.domain.modes import Mode

ALLOCATE, HOLD, SWITCH = "allocate", "hold", "switch"
CONFIDENCE = {"GPU": 0.85, "ASIC": 0.90}
SCORE_COLUMNS = (
    "resource_id", "workload_type", "score", "expected_revenue", "estimated_cost", "net_profit", "usd_per_mwh",
    "confidence", "recommendation",
)  # fmt: skip


def score_groups(uses: pl.DataFrame) -> pl.DataFrame:
    """One scored row per use, `SCORE_COLUMNS`, in the order given; dollars are per hour and resource.

    `recommendation`: against the next best other use of the same resource, asleep (0 $/MWh) included:
    `allocate` — run it; `switch` — another use is better by more than the switch costs; `hold` — the difference is within
    the cost of the switch, so leave what is.

    Args:
        uses: a row per resource and use with `resource_id`, `type` ('ASIC' | 'GPU'), `workload_type`,
            `revenue_usd_per_hour` (after pool fee and utilization), `power_kw` (all-in, at the meter),
            `price_usd_per_mwh` (all-in marginal), `switch_usd` (one switch into this use), `is_present` (runs it now),
            `dwell_h` (hours a switch is spread over), `confidence_factor` (1, or less where an input is doubtful).
    """
    revenue, mw = pl.col("revenue_usd_per_hour"), pl.col("power_kw") / 1000
    cost = mw * pl.col("price_usd_per_mwh")
    net = revenue - cost
    per_mwh = pl.when(mw > 0).then(net / mw).otherwise(0.0)
    base = pl.col("type").replace_strict(CONFIDENCE, default=0.8, return_dtype=pl.Float64)
    frame = uses.with_columns(
        score=pl.when(revenue > 0).then((net / revenue * 100).clip(0.0, 100.0)).otherwise(0.0).round(2),
        expected_revenue=revenue,
        estimated_cost=cost,
        net_profit=net,
        usd_per_mwh=per_mwh,
        confidence=(base * pl.col("confidence_factor")).clip(0.0, 1.0).round(2),
        _switch=pl.when(mw > 0).then(pl.col("switch_usd") / mw / pl.col("dwell_h")).otherwise(0.0),
    )
    return _with_rivals(frame).with_columns(recommendation=_recommendation()).select(SCORE_COLUMNS)


def asic_revenue(hash_rate_th_per_s: pl.Expr, hashprice: pl.Expr, pool_fee_fraction: pl.Expr) -> pl.Expr:
    """Revenue in $/h of a column of hashrates; `hashprice` in $/PH/day."""
    return (hash_rate_th_per_s / 1000 * hashprice / 24 * (1 - pool_fee_fraction)).alias("revenue_usd_per_hour")


def gpu_revenue(rate_usd_per_gpu_hour: pl.Expr, utilization: pl.Expr) -> pl.Expr:
    """Revenue in $/h of a column of GPUs."""
    return (rate_usd_per_gpu_hour * utilization).alias("revenue_usd_per_hour")


def is_workload(mode: Mode) -> bool:
    """Whether a mode earns: the four workload types (ER-07)."""
    return mode not in (Mode.IDLE, Mode.CURTAILED)


def _with_rivals(frame: pl.DataFrame) -> pl.DataFrame:
    """With the best use of each row's resource, how many share it, and the second best (null if there is none).

    Most resources have one use, and windows over 300,000 names take seconds: so only the others are grouped.
    """
    value, key = pl.col("usd_per_mwh"), "resource_id"
    alone = ~pl.col(key).is_duplicated()
    single = frame.with_row_index("_row").with_columns(
        _best=value, _ties=pl.lit(1, pl.UInt32), _second=pl.lit(None, pl.Float64), _alone=alone
    )
    if single["_alone"].all():
        return single
    shared = single.filter(~pl.col("_alone"))
    best = shared.group_by(key).agg(_best=value.max())
    shared = shared.drop("_best", "_ties", "_second").join(best, on=key)
    rivals = shared.group_by(key).agg(
        _ties=(value == pl.col("_best")).sum().cast(pl.UInt32), _second=value.filter(value < pl.col("_best")).max()
    )
    shared = shared.join(rivals, on=key).select(single.columns)
    return pl.concat([single.filter(pl.col("_alone")), shared]).sort("_row")


def _recommendation() -> pl.Expr:
    value = pl.col("usd_per_mwh")
    is_best, ties = value == pl.col("_best"), pl.col("_ties") > 1
    other = pl.when(is_best & ~ties).then(pl.col("_second")).otherwise(pl.col("_best"))
    next_best = pl.max_horizontal(other, pl.lit(0.0))
    ahead = value - next_best
    hurdle = pl.col("_switch")
    present = (
        pl.when(ahead >= 0).then(pl.lit(ALLOCATE)).when(ahead >= -hurdle).then(pl.lit(HOLD)).otherwise(pl.lit(SWITCH))
    )
    absent = pl.when(ahead > hurdle).then(pl.lit(ALLOCATE)).when(ahead > 0).then(pl.lit(HOLD)).otherwise(pl.lit(SWITCH))
    return pl.when(pl.col("is_present")).then(present).otherwise(absent)
