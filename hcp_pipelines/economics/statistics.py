"""Statistics of price series (EC-19, EC-20): what a history of prices looks like, a row a series. Reading it is in `storage`."""

from typing import Literal

import polars as pl

from hcp_pipelines.economics.bounds import ImplausibleValueError

PERCENTILES = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
Returns = Literal["log", "difference"]
RETURNS_OF_TYPE: dict[str, Returns] = {
    "electricity": "difference",
    "btc": "log",
    "gpu_spot": "log",
}  # power crosses zero (ER-14)


def get_price_statistics(history: pl.DataFrame) -> pl.DataFrame:
    """A row per series with `count mean median std min max p25 p75 p95`, in the series' own unit.

    Percentiles are interpolated, `std` is the sample's (null for a single value). Every value counts alike, however long it held.

    Args:
        history: `series` and `value`, in any order.

    Raises:
        ImplausibleValueError: a value is null or not finite.
    """
    _refuse_not_finite(history)
    value = pl.col("value")
    return (
        history.group_by("series")
        .agg(
            count=value.len(),
            mean=value.mean(),
            std=value.std(),
            min=value.min(),
            max=value.max(),
            **{name: value.quantile(share, interpolation="linear") for name, share in PERCENTILES.items()},
        )
        .select("series", "count", "mean", "median", "std", "min", "max", "p25", "p75", "p95")
        .sort("series")
    )


def calculate_price_volatility(history: pl.DataFrame, returns: Returns) -> pl.DataFrame:
    """A row per series with `volatility`, the standard deviation from one value to the next, and the `count` of such steps.

    `log`: of log returns, a plain number, for what is always above zero (bitcoin, GPU rates). `difference`: of differences in
    the series' own unit, for power, which crosses zero (ER-14). Null for fewer than three values. Steps are as the values
    come: to compare two series, give both at one interval.

    Args:
        history: `series`, `source_at` and `value`, in any order.
        returns: which of the two; `RETURNS_OF_TYPE` has it by price type.

    Raises:
        ImplausibleValueError: a value is null or not finite, or not above 0 where logarithms are taken.
    """
    _refuse_not_finite(history)
    if returns == "log" and (wrong := history.filter(pl.col("value") <= 0)).height:
        first = wrong.row(0, named=True)
        raise ImplausibleValueError(
            f"{first['series']}: value={first['value']:g}: log returns need values above 0; use returns='difference'"
        )
    value = pl.col("value").log() if returns == "log" else pl.col("value")
    step = value.sort_by("source_at").diff()
    return history.group_by("series").agg(count=step.count(), volatility=step.std()).sort("series")


def _refuse_not_finite(history: pl.DataFrame) -> None:
    wrong = history.filter(~pl.col("value").is_finite().fill_null(value=False))
    if wrong.height:
        first = wrong.row(0, named=True)
        raise ImplausibleValueError(f"{first['series']}: value={first['value']}: must be a finite number")
