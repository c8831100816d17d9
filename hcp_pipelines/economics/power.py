"""Power: the decision price of the current settlement interval, and what a megawatt-hour costs all in.

The decision price is the expected settlement price of the 15-minute interval that runs: its elapsed 5-minute LMPs plus the
forecast of the rest (DESIGN §5). Scalar and column forms are proven equal by a property test.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

INTERVAL_MINUTES = 15
STEP_MINUTES = 5
STEPS = INTERVAL_MINUTES // STEP_MINUTES


def decision_price(elapsed_lmps: Sequence[float], slope: float = 1.0, offset: float = 0.0, steps: int = STEPS) -> float:
    """Expected settlement price in $/MWh, from the LMPs of the interval so far (one per 5-minute run, first to last).

    Each remaining run is expected at `slope · last + offset`.
    Source: 15-minute prices are the time-weighted mean of the 5-minute LMPs (FACTS §4).

    >>> decision_price([5000.0, 20.0, 20.0])
    1680.0
    >>> decision_price([5000.0], slope=0.0, offset=20.0)
    1680.0

    Raises:
        ValueError: no LMP, or more than an interval has.
    """
    if not 1 <= len(elapsed_lmps) <= steps:
        raise ValueError(f"{len(elapsed_lmps)} LMPs: an interval has 1 to {steps}")
    rest = slope * elapsed_lmps[-1] + offset
    return (sum(elapsed_lmps) + (steps - len(elapsed_lmps)) * rest) / steps


def interval_start(instant: datetime, minutes: int = INTERVAL_MINUTES) -> datetime:
    """Start of the interval of so many minutes an aware instant lies in.

    >>> from datetime import UTC
    >>> interval_start(datetime(2025, 1, 1, 0, 29, 59, tzinfo=UTC)).minute
    15
    """
    into = timedelta(minutes=instant.minute % minutes, seconds=instant.second, microseconds=instant.microsecond)
    return instant - into


def elapsed_lmps(lmps: Sequence[tuple[datetime, float]]) -> list[float]:
    """The LMPs by 5-minute slot of the interval that the newest value lies in, up to that value.

    `lmps` are (start of run, value), oldest first; the newest decides the interval. A slot without a run of its own holds
    the value before it; leading ones, with nothing before, the first there is.

    >>> from datetime import UTC
    >>> t = datetime(2025, 1, 1, 0, 0, tzinfo=UTC)
    >>> elapsed_lmps([(t, 10.0), (t + timedelta(minutes=25), 40.0)])
    [10.0, 10.0, 40.0]
    """
    if not lmps:
        raise ValueError("no LMP yet")
    newest_at = lmps[-1][0]
    start = interval_start(newest_at)
    before = [value for instant, value in lmps if instant < start]
    inside = {(instant - start) // timedelta(minutes=STEP_MINUTES): v for instant, v in lmps if instant >= start}
    held = before[-1] if before else inside[min(inside)]
    slots = []
    for slot in range((newest_at - start) // timedelta(minutes=STEP_MINUTES) + 1):
        held = inside.get(slot, held)
        slots.append(held)
    return slots


def decision_price_of(lmps: Sequence[tuple[datetime, float]], slope: float = 1.0, offset: float = 0.0) -> float:
    """Decision price in $/MWh at the newest of some LMPs (start of run, value), oldest first.

    What the allocator calls at each tick with the LMPs of the last half hour.
    """
    return decision_price(elapsed_lmps(lmps), slope, offset)


def with_decision_price(lmps: pl.DataFrame, slope: float = 1.0, offset: float = 0.0) -> pl.DataFrame:
    """The frame with `decision_price_usd_per_mwh`: at each LMP, what `decision_price_of` gives there.

    Args:
        lmps: one row per settlement point and 5-minute run, in any order: `settlement_point`, `source_at`,
            `lmp_usd_per_mwh`; no two of a point in the same 5 minutes.
        slope: of the rest of the interval on the last LMP.
        offset: the same, $/MWh.
    """
    lmp, at = pl.col("lmp_usd_per_mwh"), pl.col("source_at")
    interval = ["settlement_point", "_interval"]
    slot = pl.col("_slot")
    before = lmp.shift(1).over("settlement_point")
    last_slot = slot.shift(1).over(interval).fill_null(-1)
    missing = slot - last_slot - 1
    return (
        lmps.sort("settlement_point", "source_at")
        .with_columns(at.dt.truncate(f"{INTERVAL_MINUTES}m").alias("_interval"))
        .with_columns(((at - pl.col("_interval")).dt.total_minutes() // STEP_MINUTES).alias("_slot"))
        .with_columns((lmp + missing * before.fill_null(lmp)).alias("_filled"))
        .with_columns(
            ((pl.col("_filled").cum_sum().over(interval) + (STEPS - 1 - slot) * (slope * lmp + offset)) / STEPS).alias(
                "decision_price_usd_per_mwh"
            )
        )
        .drop("_interval", "_slot", "_filled")
    )


def all_in_usd_per_mwh(price_usd_per_mwh: float, adders_usd_per_mwh: float = 0.0) -> float:
    """Marginal cost in $/MWh at the meter. A hedge does not enter: a hedged megawatt could be resold (FACTS A)."""
    return price_usd_per_mwh + adders_usd_per_mwh


def cost_usd_per_hour(it_power_kw: float, pue: float, price_usd_per_mwh: float) -> float:
    """Cost in $/h of IT power at a price per MWh at the meter (ER-06).

    >>> round(cost_usd_per_hour(3.5, 1.1, 40.0), 3)
    0.154
    """
    return it_power_kw / 1000 * pue * price_usd_per_mwh
