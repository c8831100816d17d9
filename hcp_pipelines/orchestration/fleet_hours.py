"""The fleet by the hour from the lake: devices' hours of telemetry, lockouts, outdoor temperature and price, a row a group.

A device is available for the share of an hour in which it answered: told its temperature, or where no device of its group does
that, drew power. What it is locked out for is taken off. Which devices an allocator has in quarantine is known of now alone, and
those do not answer or do not obey: what does not answer is missing here already.
"""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.forecasting.capacity.fleet_days import FLEET_HOURS
from hcp_pipelines.forecasting.known_prices import first_words
from hcp_pipelines.orchestration.forecasting import read_prices
from hcp_pipelines.orchestration.history.fleet_models import FLEET_KEY
from hcp_pipelines.orchestration.history.joined import Window
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.history.tables import TEMPERATURE
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.slots import decode_slots

HOURS, INVENTORY, FACILITIES = "core.telemetry_1h", "raw.device_groups", "raw.facilities"
SLOTS_MAX = 1_000_000
AT_WORK = 0.5  # of the power of its most powerful state: a device that draws so much works
_TELEMETRY_SQL = f"""
with groups as (
    select facility_id, generation, group_id, type, first_slot, devices,
           list_max(cast(json_extract(ladder, '$[*].power_kw') as double[])) as full_kw
    from lake.{INVENTORY}
),
hours as (
    select *, max(samples) over (partition by hour_at, facility_id, group_id, generation) as most,
           max(temperature_celsius_count) over (partition by facility_id, group_id, generation) > 0 as tells_heat
    from lake.{HOURS} where hour_at >= ? - interval 1 hour and hour_at < ?
),
shares as (
    select hour_at, facility_id, group_id, generation, slot, power_kw_avg, temperature_celsius_max,
           case when tells_heat then temperature_celsius_count
                when power_kw_avg > 0 then power_kw_count else 0 end / most::double as share
    from hours
),
turns as (
    select *, lag(share) over (partition by facility_id, group_id, generation, slot order by hour_at) as before from shares
)
select t.hour_at as start_at, t.facility_id, t.group_id, any_value(g.type) as type, any_value(g.first_slot) as first_slot,
       any_value(g.devices) as installed, sum(t.share) as available_h,
       sum(t.share) filter (where t.power_kw_avg >= {AT_WORK} * g.full_kw) as in_use_h,
       count(*) filter (where t.share < 0.5 and t.before >= 0.5) as failures,
       max(t.temperature_celsius_max)::double as hottest_celsius
from turns as t join groups as g using (facility_id, generation, group_id)
where t.hour_at >= ? group by t.hour_at, t.facility_id, t.group_id, t.generation
qualify row_number() over (partition by t.hour_at, t.facility_id, t.group_id order by t.generation desc) = 1
"""  # noqa: S608 - our constants
_TELEMETRY: dict[str, Any] = {
    "start_at": INSTANT, "facility_id": pl.String, "group_id": pl.String, "type": pl.String, "first_slot": pl.Int32,
    "installed": pl.Int32, "available_h": pl.Float64, "in_use_h": pl.Float64, "failures": pl.Int32, "hottest_celsius": pl.Float64,
}  # fmt: skip
_WEATHER: dict[str, Any] = {
    "start_at": INSTANT, "place": pl.String, "temperature_celsius": pl.Float64, "known_at": INSTANT,
}  # fmt: skip
_LOCKED: dict[str, Any] = {
    "facility_id": pl.String, "group_id": pl.String, "locked": pl.Int64, "from_at": INSTANT, "until_at": INSTANT,
}  # fmt: skip
_POINTS: dict[str, Any] = {"facility_id": pl.String, "settlement_point": pl.String}
_POINTS_SQL = f"select id as facility_id, settlement_point from lake.{FACILITIES}"  # noqa: S608 - our constant
_WEATHER_SQL = f"from lake.{TEMPERATURE.revisions} where not is_withdrawn and start_at >= ? and start_at < ?"
_LOCKOUTS_SQL = """
    select l.facility_id, l.scope, l.feeder_id, l.slots, l.placed_at, l.removed_at from lockouts l
    where l.removed_at is null or l.removed_at > %s"""
_FEEDERS_SQL = """
    select facility_id, group_id, feeder_id from device_groups
    join inventory_generations using (facility_id, generation) where is_current"""


def fleet_hours(
    settings: Settings, connection: psycopg.Connection[Any], window: Window, clock: SystemClock
) -> pl.DataFrame:
    """Hours of a window that are over: one row an hour, facility and group."""
    until = min(window[1], clock.now())
    with reading(settings) as reader:
        found = _telemetry(reader, (window[0], until))
        points = reader.table(FACILITIES, _POINTS_SQL, (), _POINTS)
        weather = reader.table(TEMPERATURE.revisions, _WEATHER_SQL, (window[0], until), _WEATHER)
    found = found.filter(pl.col("start_at") + timedelta(hours=1) <= until)
    if found.is_empty():
        return pl.DataFrame(schema=dict(FLEET_HOURS))
    found = without_locked(found, locked_out(connection, found, clock))
    told = found.join(points, on="facility_id", how="left").join(
        _prices(settings, (window[0], until)), _PLACE, how="left"
    )
    told = told.join(_outdoors(weather), on=_PLACE, how="left").with_columns(
        known_at=pl.col("start_at") + timedelta(hours=1)
    )
    return told.select(pl.col(name).cast(kind) for name, kind in FLEET_HOURS.items()).sort(FLEET_KEY)


_PLACE = ["start_at", "settlement_point"]


def _telemetry(reader: Reader, window: Window) -> pl.DataFrame:
    if not reader.has(HOURS, INVENTORY):
        return pl.DataFrame(schema=_TELEMETRY)
    rows = reader.rows(_TELEMETRY_SQL, (*window, window[0]))
    return rows.select(pl.col(name).cast(kind) for name, kind in _TELEMETRY.items()).with_columns(
        pl.col("available_h", "in_use_h").fill_null(0.0)
    )


def _prices(settings: Settings, window: Window) -> pl.DataFrame:
    """Mean real-time price of each hour and point, of what was known when its day was over; corrections came later."""
    start, day_end = pl.col("start_at"), pl.col("start_at").dt.truncate("1d") + timedelta(days=1)
    told = read_prices(settings, window).filter(pl.col("stream") == Stream.POWER_RT_SPP, pl.col("known_at") <= day_end)
    hours = first_words(told.drop_nulls("price_usd_per_mwh")).group_by(start.dt.truncate("1h"), "settlement_point")
    return hours.agg(pl.col("price_usd_per_mwh").mean())


def _outdoors(weather: pl.DataFrame) -> pl.DataFrame:
    """The first word on each hour's temperature and when it was known, by settlement point: places are named as regions are."""
    point = (pl.lit("HB_") + pl.col("place")).alias("settlement_point")
    first = weather.sort("known_at").unique(["start_at", "place"], keep="first", maintain_order=True)
    return first.select("start_at", point, outdoor_celsius="temperature_celsius", outdoor_known_at="known_at")


def locked_out(connection: psycopg.Connection[Any], hours: pl.DataFrame, clock: SystemClock) -> pl.DataFrame:
    """Devices by group that are locked out, and from when until when in the world's time: a row a lockout and group."""
    oldest = hours["start_at"].min()
    groups = hours.group_by("facility_id", "group_id", maintain_order=True).agg(
        pl.col("first_slot", "installed").last()
    )
    feeders = {(row[0], row[1]): row[2] for row in connection.execute(_FEEDERS_SQL).fetchall()}
    found = []
    for facility, scope, feeder, slots, placed_at, removed_at in connection.execute(
        _LOCKOUTS_SQL, (oldest,)
    ).fetchall():
        own = np.zeros(0, dtype=np.uint32) if slots is None else decode_slots(bytes(slots), SLOTS_MAX)
        span = clock.to_simulated(placed_at), clock.to_simulated(removed_at or clock.real_now())
        for _, group, first, devices in groups.filter(facility_id=facility).iter_rows():
            of_feeder = devices if feeders.get((facility, group)) == feeder else 0
            of_slots = int(((own >= first) & (own < first + devices)).sum())
            reached = {"site": devices, "feeder": of_feeder, "device": of_slots}[scope]
            found.append((facility, group, reached, *span))
    return pl.DataFrame(found, schema=_LOCKED, orient="row").filter(pl.col("locked") > 0)


def without_locked(hours: pl.DataFrame, locked: pl.DataFrame) -> pl.DataFrame:
    """Hours whose available devices are those beside the locked-out ones, for as long as these were."""
    if locked.is_empty():
        return hours
    both = hours.select(FLEET_KEY).join(locked, on=["facility_id", "group_id"])
    begins = pl.max_horizontal("start_at", "from_at")
    ends = pl.min_horizontal(pl.col("start_at") + timedelta(hours=1), "until_at")
    lost = both.with_columns(share=((ends - begins).dt.total_microseconds() / 3.6e9).clip(0.0, 1.0))
    lost = lost.group_by(FLEET_KEY).agg(locked_h=(pl.col("share") * pl.col("locked")).sum())
    left = pl.min_horizontal("available_h", (pl.col("installed") - pl.col("locked_h").fill_null(0.0)).clip(0.0))
    told = hours.join(lost, on=list(FLEET_KEY), how="left").with_columns(available_h=left)
    return told.with_columns(in_use_h=pl.min_horizontal("in_use_h", "available_h")).drop("locked_h")
