"""What power costs at the margin, for decisions; hedge, transmission and coincident peak. What it cost is `settlement.py`'s.

A hedge changes what is settled, never what a megawatt-hour costs at the margin: what is not used is sold back at the
real-time price (FACTS A). How peaks are chosen is pluggable, since the scheme is being replaced (FACTS §4, PUCT project
58484): here a peak is an interval with a probability, or a load that was measured in it.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from hcp_pipelines.economics.bounds import ImplausibleValueError, check

ERCOT_PEAKS_PER_YEAR = 4  # 4CP: June to September
USD_PER_KW_YEAR = 65.0  # a transmission tariff as in OPTIMIZER §2; a setting


def all_in_usd_per_mwh(
    price_usd_per_mwh: float, adders_usd_per_mwh: float = 0.0, peak_usd_per_mwh: float = 0.0
) -> float:
    """Marginal cost of a MWh at the meter, $/MWh: price + transmission and other adders + the expected peak charge.

    >>> all_in_usd_per_mwh(30.0, 2.5, expected_peak_usd_per_mwh(0.01))
    682.5
    """
    check(price_usd_per_mwh=price_usd_per_mwh, adders_usd_per_mwh=adders_usd_per_mwh)
    return price_usd_per_mwh + adders_usd_per_mwh + peak_usd_per_mwh


def cost_usd_per_hour(it_power_kw: float, pue: float, price_usd_per_mwh: float) -> float:
    """Cost in $/h of IT power at a price per MWh at the meter (ER-06).

    >>> round(cost_usd_per_hour(3.5, 1.1, 40.0), 3)
    0.154
    """
    check(power_kw=it_power_kw, pue=pue, price_usd_per_mwh=price_usd_per_mwh)
    return it_power_kw / 1000 * pue * price_usd_per_mwh


def expected_peak_usd_per_mwh(
    probability: float,
    usd_per_kw_year: float = USD_PER_KW_YEAR,
    peaks_per_year: int = ERCOT_PEAKS_PER_YEAR,
    interval_h: float = 0.25,
) -> float:
    """What a MWh in an interval costs in expected peak charges, $/MWh: P · rate · 1000 / peaks / interval hours.

    Each kW that is drawn in one of the peaks costs its share of the yearly rate: 65 $/kW-year over four peaks is 16,250 $/MW.
    `probability` is that the interval becomes one of the peaks. Source: OPTIMIZER §2.

    >>> expected_peak_usd_per_mwh(1.0) * 0.25
    16250.0
    """
    check(probability=probability, usd_per_kw_year=usd_per_kw_year, hours=interval_h)
    if peaks_per_year < 1 or not interval_h > 0:
        raise ImplausibleValueError(f"peaks_per_year={peaks_per_year}, interval_h={interval_h:g}: both must be above 0")
    return probability * usd_per_kw_year * 1000 / peaks_per_year / interval_h


def peak_charge_usd(
    mw_at_peaks: Sequence[float], usd_per_kw_year: float = USD_PER_KW_YEAR, peaks_per_year: int = ERCOT_PEAKS_PER_YEAR
) -> float:
    """A year's transmission charge in dollars: the mean load at the peaks, times the yearly rate.

    Fewer loads than `peaks_per_year` (a year not over yet) give the part of the charge that they have caused so far.
    Source: 4CP, FACTS §4.

    >>> peak_charge_usd([10.0, 10.0, 0.0, 0.0])
    325000.0
    """
    check(usd_per_kw_year=usd_per_kw_year)
    for mw in mw_at_peaks:
        check(mw=mw)
    if len(mw_at_peaks) > peaks_per_year:
        raise ImplausibleValueError(f"{len(mw_at_peaks)} peak loads: a year has {peaks_per_year}")
    return sum(mw_at_peaks) / peaks_per_year * 1000 * usd_per_kw_year


def with_hedges(intervals: pl.DataFrame, hedges: Sequence[tuple[datetime, datetime, float, float]]) -> pl.DataFrame:
    """The frame with `hedge_mw` and `hedge_usd_per_mwh`, 0 where nothing is hedged.

    Hedges in force together add up, at their mean price weighted by MW.

    Args:
        intervals: a row per interval with `start_at`, aware UTC.
        hedges: (start, end, MW, $/MWh) each, over [start, end), in any order.

    Raises:
        ImplausibleValueError: a hedge whose MW or price can't be, or that ends before it starts.
    """
    at, mw, usd = pl.col("start_at"), pl.lit(0.0), pl.lit(0.0)
    for start, end, hedge_mw, price in hedges:
        check(mw=hedge_mw, price_usd_per_mwh=price)
        if not start < end:
            raise ImplausibleValueError(f"hedge of {hedge_mw:g} MW from {start} to {end}: must end after it starts")
        held = pl.when(at.is_between(start, end, closed="left")).then(hedge_mw).otherwise(0.0)
        mw, usd = mw + held, usd + held * price
    return intervals.with_columns(hedge_mw=mw, hedge_usd_per_mwh=pl.when(mw > 0).then(usd / mw).otherwise(0.0))
