"""What work used and what that costs, by settlement interval: GPU-seconds and energy, in dollars rounded to a millionth once.

A line is one piece of work's use of one group in one interval, run and treatment. Which rows come in is not decided here, nor
what energy was measured; where a price, a rate or a power is not known its dollars are null, never 0.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.economics.settlement import MONEY, as_money
from hcp_pipelines.workloads.billing.runs import BILLED

STATE_OF_TYPE = {
    "ai_inference_realtime": DeviceState.INFERENCE_REALTIME,
    "ai_inference_batch": DeviceState.INFERENCE_BATCH,
    "model_training": DeviceState.TRAINING,
    "bitcoin_mining": DeviceState.MINING_FULL,
}
METERED, PARTLY, MODEL, UNKNOWN = "metered", "partly", "model", "unknown"  # what a line's energy rests on
DIGITS = 9  # of MWh: sums over devices differ in their last bits from one reading to the next, and the same bill must come twice
OWN, AGREED, MARKET = "own", "agreed", "market"  # whose rate it is
_F, _S = pl.Float64, pl.String
USED: dict[str, Any] = {  # a row an interval, part and group
    "start_at": INSTANT, "customer_id": _S, "workload_id": _S, "run": pl.Int64, "treatment": _S, "facility_id": _S,
    "group_id": _S, "type": _S, "gpu_type": _S, "hours": _F, "gpus": _F, "devices": _F, "told": _F, "told_kwh": _F,
    "usd_per_gpu_hour": _F,
}  # fmt: skip
POWER: dict[str, Any] = {"facility_id": _S, "group_id": _S, "gpu_type": _S, "type": _S, "devices": _F, "model_kw": _F}
TERMS: dict[str, Any] = {"facility_id": _S, "settlement_point": _S, "pue": _F, "adders_usd_per_mwh": _F}
FRACTION: dict[str, Any] = {"facility_id": _S, "type": _S, "rate_fraction": _F}
OWN_RATE: dict[str, Any] = {"customer_id": _S, "gpu_type": _S, "own_usd_per_gpu_hour": _F}
LINE: dict[str, Any] = {
    "start_at": INSTANT, "customer_id": _S, "workload_id": _S, "run": pl.Int64, "treatment": _S, "facility_id": _S,
    "group_id": _S, "type": _S, "gpu_s": _F, "rate_usd_per_gpu_hour": _F, "rate_basis": _S, "gpu_usd": MONEY, "device_mwh": _F,
    "energy_mwh": _F, "energy_basis": _S, "price_usd_per_mwh": _F, "adders_usd_per_mwh": _F, "energy_usd": MONEY, "usd": MONEY,
}  # fmt: skip


@dataclass(frozen=True)
class Places:
    """The facilities at one time.

    What a device of a group draws at each class of work by its model, IT kW (POWER); by facility, what a MWh costs beside its
    price (TERMS), and at which fraction of the market's rate it sells a class (FRACTION).
    """

    power: pl.DataFrame
    terms: pl.DataFrame
    fractions: pl.DataFrame


def lines_of(
    used: pl.DataFrame,
    places: Places,
    rates: pl.DataFrame,
    prices: pl.DataFrame,
    own_rates: pl.DataFrame,
    *,
    is_energy_charged: bool,
) -> pl.DataFrame:
    """The lines (LINE), in order.

    Args:
        used: what work had when (USED): `gpus` that it is charged for, `devices` of the group that it held, of which `told` told
            their power in that time, `told_kwh` in all.
        places: the facilities.
        rates: the market's, by interval and `gpu_type`, `rate_usd_per_gpu_hour`.
        prices: as settled, by `start_at` and `settlement_point`, `price_usd_per_mwh`.
        own_rates: what customers agreed on for all their work (OWN_RATE); it goes before what was agreed as work was placed.
        is_energy_charged: beside the GPU's rate; else the rate has it in it.
    """
    placed = (
        used.select(*USED)
        .join(places.terms, on="facility_id", how="left", maintain_order="left")
        .join(places.fractions, on=["facility_id", "type"], how="left", maintain_order="left")
        .join(rates, on=["start_at", "gpu_type"], how="left", maintain_order="left")
        .join(prices, on=["start_at", "settlement_point"], how="left", maintain_order="left")
        .join(own_rates, on=["customer_id", "gpu_type"], how="left", maintain_order="left")
    )
    energy_usd = pl.col("energy_mwh") * (pl.col("price_usd_per_mwh") + pl.col("adders_usd_per_mwh"))
    priced = _with_rate(_with_energy(placed, places.power)).with_columns(
        (pl.col("hours") * pl.col("gpus") * pl.col("rate_usd_per_gpu_hour")).alias("gpu_usd"),
        energy_usd.alias("energy_usd"),
    )
    billed = pl.col("gpu_usd") + pl.col("energy_usd") if is_energy_charged else pl.col("gpu_usd")
    whole = priced.with_columns(_known(name) for name in ("gpu_usd", "energy_usd"))
    whole = whole.with_columns(as_money("gpu_usd"), as_money("energy_usd")).with_columns(
        gpu_s=pl.col("hours") * 3600 * pl.col("gpus"),
        usd=pl.when(pl.col("treatment") == BILLED).then(billed).otherwise(pl.lit(0, MONEY)),
    )
    return whole.select(pl.col(name).cast(kind) for name, kind in LINE.items()).sort(
        "start_at", "customer_id", "workload_id", "run", "treatment", "group_id"
    )


def _with_energy(placed: pl.DataFrame, power: pl.DataFrame) -> pl.DataFrame:
    """Energy of the devices as they told it, of those that did not as their model draws; and at the meter."""
    by_group = power.select("facility_id", "group_id", "type", group_kw="model_kw")
    of_type = power.group_by("facility_id", "gpu_type", "type").agg(
        type_kw=(pl.col("model_kw") * pl.col("devices")).sum() / pl.col("devices").sum()
    )
    known = placed.join(by_group, on=["facility_id", "group_id", "type"], how="left", maintain_order="left").join(
        of_type, on=["facility_id", "gpu_type", "type"], how="left", maintain_order="left"
    )
    untold = pl.col("devices") - pl.col("told")
    by_model = pl.when(untold > 0).then(untold * pl.col("hours") * pl.coalesce("group_kw", "type_kw")).otherwise(0.0)
    mwh = ((pl.col("told_kwh") + by_model) / 1000).round(DIGITS)
    basis = (
        pl.when(mwh.is_null())
        .then(pl.lit(UNKNOWN))
        .when(untold <= 0)
        .then(pl.lit(METERED))
        .otherwise(pl.when(pl.col("told") > 0).then(pl.lit(PARTLY)).otherwise(pl.lit(MODEL)))
    )
    return known.with_columns(device_mwh=mwh, energy_mwh=mwh * pl.col("pue"), energy_basis=basis)


def _with_rate(placed: pl.DataFrame) -> pl.DataFrame:
    """The customer's own, else what was agreed as the work was placed, else the market's as it began, at its fraction."""
    market = pl.col("rate_usd_per_gpu_hour") * pl.col("rate_fraction").fill_null(1.0)
    known = {OWN: pl.col("own_usd_per_gpu_hour"), AGREED: pl.col("usd_per_gpu_hour"), MARKET: market}
    basis = pl.coalesce(*(pl.when(rate.is_not_null()).then(pl.lit(name)) for name, rate in known.items()), pl.lit(""))
    return placed.with_columns(rate_basis=basis, rate_usd_per_gpu_hour=pl.coalesce(*known.values()))


def _known(name: str) -> pl.Expr:
    """What is no number is as little known as what is null."""
    return pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name)
