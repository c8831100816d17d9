"""Power: the decision price of the current settlement interval, and how much power a site takes for its IT power.

The decision price is the expected settlement price of the 15-minute interval that runs: its elapsed 5-minute LMPs plus the
forecast of the rest (DESIGN §5). Scalar and column forms are proven equal by a property test. Costs are in `contract.py`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.economics.bounds import ImplausibleValueError, check, checked_columns

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
        ImplausibleValueError: no LMP, more than an interval has, or one that is not a number.
    """
    if not 1 <= len(elapsed_lmps) <= steps:
        raise ImplausibleValueError(f"{len(elapsed_lmps)} LMPs: an interval has 1 to {steps}")
    for lmp in elapsed_lmps:
        check(lmp_usd_per_mwh=lmp)
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
        raise ImplausibleValueError("0 LMPs: a decision price needs at least one")
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

    Raises:
        ImplausibleValueError: an LMP is null, not a number or outside its limit.
    """
    checked_columns(lmps, "lmp_usd_per_mwh")
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


def pue_at(
    temperature_celsius: float, value: float, slope_per_celsius: float = 0.0, above_celsius: float = 20.0
) -> float:
    """All-in power over IT power at an outdoor temperature: value + slope · max(0, T − above).

    Below `above_celsius` outdoor air cools enough and fans and pumps alone remain; above it the cooling plant's power rises with
    the difference. Value and slope are the site's own figures (facility file, `pue`): nobody publishes general ones.
    Source: FACTS A, all-in MW = IT MW · PUE(outdoor temperature).

    >>> round(pue_at(35.0, 1.05, 0.002), 3), pue_at(-5.0, 1.05, 0.002)
    (1.08, 1.05)
    """
    check(temperature_celsius=temperature_celsius, pue=value, pue_slope_per_celsius=slope_per_celsius)
    return value + slope_per_celsius * max(0.0, temperature_celsius - above_celsius)


def pue_columns(
    temperature_celsius: pl.Expr, value: float, slope_per_celsius: float = 0.0, above_celsius: float = 20.0
) -> pl.Expr:
    """`pue_at` of a column of temperatures."""
    return (value + slope_per_celsius * (temperature_celsius - above_celsius).clip(lower_bound=0.0)).alias("pue")
