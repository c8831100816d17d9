"""What was earned, line by line: formulas on columns, dollars signed (costs below zero) and rounded to a millionth once.

A line is one facility's `quantity · price_usd` of one kind in one 15-minute settlement interval, so that each is checked by hand.
Where a price is not known its dollars are null, never 0. Which rows of the lake come in is not decided here, nor local time.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.bounds import check
from hcp_pipelines.economics.contract import ERCOT_PEAKS_PER_YEAR, with_hedges

INTERVAL_H = 0.25
MONEY = pl.Decimal(18, 6)
KINDS = (
    "energy", "adders", "hedge", "peak_charge", "mining", "hash_deviation", "pool_fee", "inference", "training", "reserves",
    "demand_response", "penalties", "wakes",
)  # fmt: skip
OF_LOAD = (
    "energy",
    "adders",
    "peak_charge",
    "mining",
    "pool_fee",
    "inference",
    "training",
)  # in proportion to device-hours
LINE: dict[str, Any] = {
    "start_at": INSTANT, "kind": pl.String, "group_id": pl.String, "detail": pl.String, "quantity": pl.Float64,
    "unit": pl.String, "price_usd": pl.Float64, "usd": pl.Float64, "basis": pl.String,
}  # fmt: skip


def energy_lines(metered: pl.DataFrame, adders_usd_per_mwh: float = 0.0) -> pl.DataFrame:
    """Energy bought: −MWh · price and −MWh · adders.

    Args:
        metered: a row an interval with `start_at`, `energy_mwh` at the revenue meter, `basis` (what that rests on) and
            `price_usd_per_mwh` as settled, null where it is not known.
        adders_usd_per_mwh: transmission and what else each MWh costs.
    """
    check(adders_usd_per_mwh=adders_usd_per_mwh)
    mwh = pl.col("energy_mwh")
    bought = _lines(metered, "energy", mwh, "MWh", -pl.col("price_usd_per_mwh"), basis=pl.col("basis"))
    added = _lines(metered, "adders", mwh, "MWh", pl.lit(-adders_usd_per_mwh), basis=pl.col("basis"))
    return pl.concat([bought, added]) if adders_usd_per_mwh else bought


def hedge_lines(prices: pl.DataFrame, hedges: Sequence[tuple[datetime, datetime, float, float]]) -> pl.DataFrame:
    """What hedges brought beyond the market: hedged MW · h · (price − fixed price), whatever was drawn.

    Args:
        prices: a row an interval with `start_at` and `price_usd_per_mwh`.
        hedges: (start, end, MW, $/MWh) each, as `contract.with_hedges` wants them.
    """
    held = with_hedges(prices, hedges).filter(pl.col("hedge_mw") > 0)
    price = pl.col("price_usd_per_mwh") - pl.col("hedge_usd_per_mwh")
    return _lines(held, "hedge", pl.col("hedge_mw") * INTERVAL_H, "MWh", price)


def peak_lines(
    metered: pl.DataFrame, usd_per_kw_year: float, peaks_per_year: int = ERCOT_PEAKS_PER_YEAR
) -> pl.DataFrame:
    """Charge on load in a coincident peak of one hour: −MWh · $/kW-year · 1000 / peaks; an hour's MWh are its mean MW.

    Args:
        metered: as of `energy_lines`, with `is_peak`: whether the interval is of a peak hour; where that is null, dollars are.
        usd_per_kw_year: the tariff; 0 has no lines.
        peaks_per_year: how many hours share a year's charge. Source: 4CP, FACTS §4.
    """
    check(usd_per_kw_year=usd_per_kw_year)
    price = pl.when(pl.col("is_peak")).then(-usd_per_kw_year * 1000 / peaks_per_year)
    peaks = metered.filter(pl.col("is_peak").fill_null(value=True) & pl.lit(usd_per_kw_year > 0))
    return _lines(peaks, "peak_charge", pl.col("energy_mwh"), "MWh", price, basis=pl.col("basis"))


def mining_lines(hours: pl.DataFrame, pool_fee_fraction: float) -> pl.DataFrame:
    """Hashing at the hashprice of the day, and the pool's share of it: device-hours · TH/s / 24,000 PH-days · $/PH/day.

    Args:
        hours: a row an interval, group and state with `start_at`, `group_id`, `state`, `device_hours`, `hash_rate_th_per_s` of
            one device and `hashprice_usd_per_ph_day`; rows that don't hash have no lines.
        pool_fee_fraction: the pool's share.

    Source: FACTS 1.1; `mining.revenue_usd_per_hour` is the same for an hour.
    """
    check(pool_fee_fraction=pool_fee_fraction)
    hashed = hours.filter((pl.col("hash_rate_th_per_s") > 0) & (pl.col("device_hours") != 0))
    ph_days = pl.col("device_hours") * pl.col("hash_rate_th_per_s") / 24_000
    price, of = pl.col("hashprice_usd_per_ph_day"), {"group": pl.col("group_id"), "detail": pl.col("state")}
    earned = _lines(hashed, "mining", ph_days, "PH-day", price, **of)
    return pl.concat([earned, _lines(hashed, "pool_fee", ph_days, "PH-day", -price * pool_fee_fraction, **of)])


def deviation_lines(deviations: pl.DataFrame, pool_fee_fraction: float) -> pl.DataFrame:
    """Hashes beyond those of `mining_lines` and `wake_lines`, at the same hashprice, and the pool's share.

    Args:
        deviations: a row an interval and group with `start_at`, `group_id`, `ph_days`, `basis` (who has them so: 'told' by
            miners or 'credited' by the pool; the lines' `detail`) and `hashprice_usd_per_ph_day`.
        pool_fee_fraction: the pool's share.
    """
    check(pool_fee_fraction=pool_fee_fraction)
    ph_days, price = pl.col("ph_days"), pl.col("hashprice_usd_per_ph_day")
    of = {"group": pl.col("group_id"), "detail": pl.col("basis")}
    earned = _lines(deviations, "hash_deviation", ph_days, "PH-day", price, **of)
    return pl.concat([earned, _lines(deviations, "pool_fee", ph_days, "PH-day", -price * pool_fee_fraction, **of)])


def gpu_lines(hours: pl.DataFrame, utilization: float) -> pl.DataFrame:
    """GPU-hours that were sold, at the market's rate and the class's fraction of it: device-hours · share sold · rate · fraction.

    Args:
        hours: a row an interval, group and state with `start_at`, `group_id`, `state`, `device_hours`, `kind` ('inference',
            'training'; others have no lines), `rate_fraction` of the class and `rate_usd_per_gpu_hour` of the model.
        utilization: the share of hours that is sold.
    """
    check(utilization=utilization)
    served = hours.filter(pl.col("kind").is_in(("inference", "training")) & (pl.col("device_hours") != 0))
    price = pl.col("rate_usd_per_gpu_hour") * pl.col("rate_fraction")
    of = {"group": pl.col("group_id"), "detail": pl.col("state")}
    return _lines(served, pl.col("kind"), pl.col("device_hours") * utilization, "GPU-hour", price, **of)


def reserve_lines(promises: pl.DataFrame) -> pl.DataFrame:
    """Reserves sold: MW-hours promised · clearing price of capacity (MCPC) of their hour.

    Args:
        promises: a row an interval and obligation with `start_at`, `programme`, `mw_h` and `capacity_usd_per_mw_h`.
    """
    return _lines(
        promises, "reserves", pl.col("mw_h"), "MW-h", pl.col("capacity_usd_per_mw_h"), detail=pl.col("programme")
    )


def response_lines(events: pl.DataFrame) -> pl.DataFrame:
    """Demand response delivered: min(max(0, baseline − metered − `before_mw`), agreed MW) · h · rate.

    Args:
        events: a row an interval and event with `start_at`, `programme`, `hours` of the event in the interval, `baseline_mw`,
            `metered_mw` (mean over the interval), `mw` agreed, `before_mw` agreed in events that go before it in the interval
            and have the same baseline, and `energy_usd_per_mwh`.
    """
    return _lines(
        events, "demand_response", delivered_mw() * pl.col("hours"), "MWh", pl.col("energy_usd_per_mwh"),
        detail=pl.col("programme"),
    )  # fmt: skip


def delivered_mw() -> pl.Expr:
    """MW of load that went for an event: below its baseline, beyond what went for those before it, at most what was agreed.

    Load that went is paid once: of two events at a time the first has it up to its MW, the other what is left.
    """
    left = (pl.col("baseline_mw") - pl.col("metered_mw") - pl.col("before_mw")).clip(lower_bound=0.0)
    return pl.min_horizontal(left, "mw").alias("delivered_mw")


def penalty_lines(missed: pl.DataFrame) -> pl.DataFrame:
    """Obligations that failed: −MWh that were sold and not delivered · penalty.

    Args:
        missed: a row an interval and obligation with `start_at`, `programme`, `missed_mwh` and `penalty_usd_per_mwh`.
    """
    price = -pl.col("penalty_usd_per_mwh")
    return _lines(missed, "penalties", pl.col("missed_mwh"), "MWh", price, detail=pl.col("programme"))


def wake_lines(wakes: pl.DataFrame) -> pl.DataFrame:
    """Wakes: devices · (minutes of revenue that are lost, and wear). Source: `switching.COSTS`.

    Args:
        wakes: a row an interval and group with `start_at`, `group_id`, `devices` and `wake_usd` of one.
    """
    return _lines(
        wakes, "wakes", pl.col("devices").cast(pl.Float64), "wake", -pl.col("wake_usd"), group=pl.col("group_id")
    )


def settled(lines: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All lines in order, dollars as DECIMAL(18,6)."""
    return pl.concat(lines).with_columns(as_money("usd")).sort("start_at", "kind", "group_id", "detail")


def as_money(name: str) -> pl.Expr:
    """A column of dollars as NUMERIC, rounded to a millionth."""
    return pl.col(name).round(6).cast(MONEY)


def _lines(
    frame: pl.DataFrame, kind: str | pl.Expr, quantity: pl.Expr, unit: str, price: pl.Expr,
    *, group: pl.Expr | None = None, detail: pl.Expr | None = None, basis: pl.Expr | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Lines of a kind: dollars are quantity times price; what is no number is as little known as what is null."""
    empty, usd = pl.lit(""), quantity * price
    columns = {
        "start_at": pl.col("start_at"), "kind": pl.lit(kind) if isinstance(kind, str) else kind,
        "group_id": empty if group is None else group, "detail": empty if detail is None else detail,
        "quantity": quantity, "unit": pl.lit(unit), "price_usd": price, "usd": pl.when(usd.is_finite()).then(usd),
        "basis": empty if basis is None else basis,
    }  # fmt: skip
    return frame.select(expression.cast(LINE[name]).alias(name) for name, expression in columns.items())
