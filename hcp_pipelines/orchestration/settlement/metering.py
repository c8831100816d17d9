"""What was measured: energy by market interval, of what a gateway read of the revenue meter, and hashes.

Hashes are as miners told them, brought to what the pool credited where that is known.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.metering import ENERGY, READING, energy_by_interval
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.optimizer.settlement.day import CREDITED, HASHED, METERED, TOLD
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.history.tables import POOL_CREDITS
from hcp_pipelines.orchestration.settlement.read import DAY, INTERVAL, Window

READINGS, ENERGY_5MIN, GROUP_MINUTES = "raw.meter_readings", "core.meter_5min", "core.telemetry_group_1min"
AROUND = timedelta(minutes=15)  # a day's first and last intervals need readings beyond them
ALLOWANCE = 1.2  # of the facility's capacity: what its meter may show at most
FIVES = 3  # of a settlement interval
TABLE: dict[str, Any] = {"start_at": INSTANT, "facility_id": pl.String} | {
    n: t for n, t in ENERGY.items() if n != "start_at"
}
_READINGS = f"""
select facility_id, read_at, power_kw, energy_mwh from lake.{READINGS} where read_at >= ? and read_at < ?
order by facility_id, read_at, seq"""  # noqa: S608 - our constant
MINUTES, DEVICES_TOLD = 15, "devices_with_hashrate"
LEAST_SHARE = (
    0.95  # of a group's miners that tell their hashrate (the others are taken to hash as these do), or are at the pool
)
_HASHED = f"""
with groups as (
    select group_id, devices from lake.raw.device_groups
    where facility_id = ? and generation = ? and type = 'ASIC')
select time_bucket(interval '15 minutes', minute_at) as start_at, group_id,
       sum(hashrate_th_per_s * devices / devices_with_hashrate) / 60 / 24_000 as ph_days, '{TOLD}' as basis
from (select facility_id, generation, group_id, minute_at, hashrate_th_per_s, devices_with_hashrate from lake.{GROUP_MINUTES}
      where minute_at >= ? and minute_at < ? and facility_id = ? and generation = ?)
    join groups using (group_id)
where devices_with_hashrate >= ? * devices and isfinite(hashrate_th_per_s)
group by all having count(*) = ? order by all"""  # noqa: S608 - our constant
_CREDITED = f"""
with groups as (
    select group_id, first_slot, devices from lake.raw.device_groups
    where facility_id = ? and generation = ? and type = 'ASIC')
select group_id, sum(hashrate_th_per_s) / 1000 as credited_ph_days
from (select slot, hashrate_th_per_s from lake.{POOL_CREDITS.name} where start_at = ? and facility_id = ?)
    join groups on slot >= first_slot and slot < first_slot + devices
group by group_id, devices having count(*) >= ? * devices"""  # noqa: S608 - our constant
_ENERGY = f"from lake.{ENERGY_5MIN} where start_at >= ? and start_at < ? and facility_id = ?"


def energy_of_days(reader: Reader, capacity_mw: Mapping[str, float], window: Window) -> pl.DataFrame:
    """Energy by facility and 5 minutes of a window, those that lie between readings (docs/settlement.md)."""
    around = window[0] - AROUND, window[1] + AROUND
    told = reader.table(READINGS, _READINGS, around, {"facility_id": pl.String} | READING)
    found = [
        energy_by_interval(of, capacity_mw[str(name)] * ALLOWANCE).with_columns(facility_id=pl.lit(name))
        for (name,), of in told.group_by("facility_id", maintain_order=True)
        if name in capacity_mw
    ]
    whole = pl.concat([pl.DataFrame(schema=TABLE), *(frame.select(*TABLE) for frame in found)])
    return whole.filter(pl.col("start_at").is_between(*window, closed="left")).sort("start_at", "facility_id")


def read_metered(reader: Reader, facility_id: str, window: Window) -> pl.DataFrame:
    """Energy by settlement interval (METERED) of those whose three fives are all there; one that is estimated makes it so."""
    fives = reader.table(ENERGY_5MIN, _ENERGY, (*window, facility_id), ENERGY)
    start = pl.col("start_at").dt.truncate(timedelta(hours=INTERVAL_H))
    basis = pl.when(pl.col("is_estimated").any()).then(pl.lit("estimated")).otherwise(pl.lit("metered")).alias("basis")
    quarters = fives.group_by(start).agg(pl.col("energy_mwh").sum(), basis, fives=pl.len())
    return quarters.filter(pl.col("fives") == FIVES).select(*METERED).sort("start_at")


def read_hashed(reader: Reader, facility_id: str, generation: int, window: Window) -> pl.DataFrame:
    """PH-days by settlement interval and group of miners (HASHED), where all its minutes are there and nearly all miners told."""
    is_told = reader.has(GROUP_MINUTES, "raw.device_groups") and DEVICES_TOLD in reader.columns(GROUP_MINUTES)
    if not is_told:  # a lake from before the column has it once its collector has started
        return pl.DataFrame(schema=HASHED)
    of = facility_id, generation
    rows = reader.rows(_HASHED, (*of, *window, *of, LEAST_SHARE, MINUTES))
    told = rows.select(pl.col(name).cast(kind) for name, kind in HASHED.items())
    if not reader.has(POOL_CREDITS.name):
        return told
    return as_credited(told, reader.rows(_CREDITED, (*of, window[0], facility_id, LEAST_SHARE)))


def as_credited(told: pl.DataFrame, credited: pl.DataFrame) -> pl.DataFrame:
    """What miners told (HASHED) brought to what the pool credited, of groups that told theirs in every interval of the day.

    The pool counts by UTC day: the day's sum is its word, and how that spreads over the day is the miners'.

    Args:
        told: of one UTC day at most.
        credited: `credited_ph_days` of that day by `group_id`.
    """
    day, ph_days = pl.col("ph_days").sum().over("group_id"), pl.col("ph_days")
    is_known = (pl.len().over("group_id") == DAY // INTERVAL) & pl.col("credited_ph_days").is_not_null() & (day > 0)
    joined = told.join(credited, on="group_id", how="left", maintain_order="left")
    return joined.with_columns(
        pl.when(is_known).then(ph_days / day * pl.col("credited_ph_days")).otherwise(ph_days).alias("ph_days"),
        pl.when(is_known).then(pl.lit(CREDITED)).otherwise(pl.col("basis")).alias("basis"),
    ).select(*HASHED)
