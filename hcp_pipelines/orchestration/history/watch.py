"""What the checks of the lake's tables tell: are the rows good, how old is the newest, do sources that should agree agree.

Each answers a `Judged` with counts and a few rows to look at; nothing here changes a table.
"""

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.orchestration.history.audit import audit
from hcp_pipelines.orchestration.history.daemon_models import DaemonTable
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.orchestration.history.publish import PUBLISHED, REJECTED
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.history.tables import DA_SPP, EXCHANGES, RT_SPP, START, HistoryTable
from hcp_pipelines.orchestration.watching import Judged

Window = tuple[datetime, datetime]
SAMPLE = 5
DAY = timedelta(days=1)
MOST_DAEMON_ROWS = 200_000  # of the newest day
ENDED_WITHIN = timedelta(days=2)  # of the world: a day is fetched by the end of the day after it
SCALE = 4.0  # of medians over a week: a wrong unit is a hundred or a thousand, a bad week three
LEAST_USD_PER_MWH = 5.0  # below it a ratio says nothing
APART, APART_SHARE = 0.01, 0.05  # exchanges: recorded ones are 0.05 % apart, and 1 % for minutes in a crash
# of a settled miner's reported over expected hashrate: of honest ones it spreads by 1.4 %, who lies claims 8 % more and above
REPORTED = (0.8, 1.07)
RECENT = timedelta(minutes=10)
HASHRATE_SQL = """
with newest as (select max(minute_at) as newest_at from lake.core.telemetry_1min),
devices as (  -- steady for ten minutes; what they report may be a minute or two older than their power
    select facility_id, group_id, generation, slot, avg(power_kw_avg) as power_kw,
           avg(hashrate_th_per_s_avg) filter (minute_at > newest_at - ? / 2) as reported_th_per_s
    from lake.core.telemetry_1min, newest where minute_at > newest_at - ? group by all
    having min(power_kw_min) > 0.9 * max(power_kw_max) and count(hashrate_th_per_s_avg) > 0),
told as (
    select facility_id, group_id, generation, (specifications ->> 'hash_rate_th_per_s')::double as full_th,
           (specifications ->> 'efficiency_j_per_th')::double * full_th / 1000 as full_kw,
           (specifications -> 'eco' ->> 'hash_rate_th_per_s')::double as eco_th,
           (specifications -> 'eco' ->> 'power_kw')::double as eco_kw
    from lake.raw.device_groups where (specifications ->> 'efficiency_j_per_th')::double > 0),
miners as (  -- hashrate goes along the line through the profiles
    select *, case when eco_kw < full_kw then (full_th - eco_th) / (full_kw - eco_kw) else full_th / full_kw end as th_per_kw
    from told)
select facility_id, group_id, slot, power_kw, reported_th_per_s, full_th + (power_kw - full_kw) * th_per_kw as expected_th_per_s
from devices join miners using (facility_id, group_id, generation) where power_kw > 0.6 * full_kw"""
TOLD_SHARE = 0.95  # of a facility's devices whose power is known: less says nothing of the whole
LEAST_INTERVALS = 12
METER = (0.97, 1.15)  # of the energy at the meter: over the devices' own at least, over that times the PUE at most
METER_SQL = """
with newest as (select facility_id, max(start_at) as until_at from lake.core.meter_5min group by all),
fleets as (select facility_id, generation, sum(devices) as devices from lake.raw.device_groups group by all),
told as (
    select facility_id, generation, time_bucket(interval '5 minutes', minute_at) as start_at, sum(power_kw) / 60_000 as mwh,
           sum(devices_with_power) as devices
    from lake.core.telemetry_group_1min where minute_at > (select max(until_at) from newest) - interval '2 days' group by all),
known as (
    select told.facility_id, told.start_at, told.mwh * 5 * fleets.devices / told.devices as devices_mwh
    from told join fleets using (facility_id, generation) where told.devices > ? * 5 * fleets.devices)
select facility_id, facilities.pue, count(*) as intervals, sum(meter.energy_mwh) as metered_mwh, sum(devices_mwh) as devices_mwh
from lake.core.meter_5min meter join newest using (facility_id) join known using (facility_id, start_at)
    join (select id as facility_id, pue from lake.raw.facilities) facilities using (facility_id)
where not is_estimated and start_at > until_at - interval '1 day' group by all order by all"""
REJECTED_SQL = f"""
with newest as (from lake.{PUBLISHED} where "table" = ? and day_at >= ? and day_at < ?
                qualify row_number() over (partition by day_at order by published_at desc) = 1)
select count(*), coalesce(sum(rejected), 0)::bigint from newest"""  # noqa: S608 - our constants
SAMPLE_SQL = f"""
select "row", reason from lake.{REJECTED} where "table" = ? and day_at >= ? and day_at < ?
order by rejected_at desc, "row" limit {SAMPLE}"""  # noqa: S608 - our constants


def judge_published(reader: Reader, table: HistoryTable, window: Window) -> Judged:
    """Whether every row of these days is good, and none was kept from them when they were last fetched."""
    if not reader.has(table.name, PUBLISHED):
        return Judged(True, "nothing was fetched yet", {"rows": 0})
    rows = reader.rows(f"from lake.{table.name} where {START} >= ? and {START} < ?", window)
    days, rejected = reader.rows(REJECTED_SQL, (table.name, *window)).row(0)
    found = judge_rows(table.model, rows)
    told = {**found.told, "days": days, "rejected": rejected}
    if not found.passed:
        return Judged(False, f"{found.why}: they were written past the audit. Fetch the days again.", told)
    if rejected:
        sample = reader.rows(SAMPLE_SQL, (table.name, *window))
        why = f"{rejected} rows of the last fetch are not good and were kept out: see {REJECTED}"
        return Judged(False, why, told | {"sample": sample})
    return Judged(True, f"{len(rows)} rows are good", told)


def judge_rows(model: Model, rows: pl.DataFrame) -> Judged:
    """Whether all rows are good."""
    bad = audit(model, rows.select(name for name in rows.columns if name in model.columns)).bad
    told: dict[str, Any] = {"rows": len(rows), "bad": len(bad)}
    if len(bad):
        return Judged(False, f"{len(bad)} of {len(rows)} rows are bad", told | {"sample": bad.head(SAMPLE)})
    return Judged(True, f"{len(rows)} rows are good", told)


def judge_table(reader: Reader, name: str, model: Model, window: Window) -> Judged:
    """Whether the rows of a window in a table of our own are good."""
    if not reader.has(name):
        return Judged(True, "not there yet", {"rows": 0})
    return judge_rows(model, reader.rows(f"from lake.{name} where {START} >= ? and {START} < ?", window))


def judge_daemon(reader: Reader, table: DaemonTable, now: datetime) -> Judged:
    """Whether the newest rows are good: of the last day of the world, or of the table's own span."""
    if not reader.has(table.name):
        return Judged(True, f"the collector has not made {table.name} yet", {"rows": 0})
    columns = ", ".join(f'"{name}"' for name in table.model.columns)
    sql, parameters = f"select {columns} from lake.{table.name}", list[Any]()  # noqa: S608 - our tables
    if table.time:
        sql += f' where "{table.time}" >= ? order by "{table.time}" desc limit {MOST_DAEMON_ROWS}'
        parameters = [now - table.span]
    rows = reader.rows(sql, parameters).with_columns(pl.col(pl.Float64).fill_nan(None))
    return judge_rows(table.model, rows.select(pl.col(n).cast(k) for n, k in table.model.columns.items()))


def observe_daemon(reader: Reader, table: DaemonTable, now: datetime) -> dict[str, Any]:
    """How many rows a daemon's table has, and how old its newest is, seconds of the world; nothing where it is not there yet."""
    if not reader.has(table.name):
        return {}
    if not table.time:
        return {"dagster/row_count": reader.rows(f"select count(*) from lake.{table.name}").item()}  # noqa: S608 - our tables
    rows, newest = reader.rows(f'select count(*), max("{table.time}") from lake.{table.name}').row(0)  # noqa: S608
    if newest is None:
        return {"dagster/row_count": rows}
    return {
        "dagster/row_count": rows,
        "newest_at": newest.isoformat(),
        "lag_s": round((now - newest).total_seconds(), 1),
    }


def judge_freshness(reader: Reader, table: HistoryTable, now: datetime) -> Judged:
    """Whether the last day that has been over for a day is there; a table that nobody has asked for yet is not judged."""
    newest = None
    if reader.has(PUBLISHED):
        sql = f'select max(day_at) from lake.{PUBLISHED} where "table" = ?'  # noqa: S608 - our constant
        newest = reader.rows(sql, [table.name]).item()
    if newest is None:
        return Judged(True, "no day was ever fetched: `hcp backfill` does", {"newest_day": ""})
    age = now - (newest + DAY)
    told = {"newest_day": f"{newest:%Y-%m-%d}", "age_h": round(age / timedelta(hours=1), 1)}
    if age > ENDED_WITHIN:
        return Judged(
            False,
            f"the newest day of {table.name} is {newest:%Y-%m-%d}, and it is {now:%Y-%m-%d %H:%M}Z: backfill since then",
            told,
        )
    return Judged(True, f"{newest:%Y-%m-%d} is there", told)


def judge_scale(reader: Reader, now: datetime) -> Judged:
    """Whether day-ahead and real-time prices of the last week are of one scale at each point."""
    if not reader.has(RT_SPP.name, DA_SPP.name):
        return Judged(True, "nothing was fetched yet", {"points": 0})
    sql = f"""
        select settlement_point, median(abs(d.price_usd_per_mwh)) as day_ahead, median(abs(r.price_usd_per_mwh)) as real_time
        from lake.{DA_SPP.name} d join lake.{RT_SPP.name} r using (start_at, settlement_point)
        where start_at >= ? and start_at < ? group by all order by all"""  # noqa: S608 - our tables
    return of_one_scale(reader.rows(sql, (now - 7 * DAY, now)))


def of_one_scale(points: pl.DataFrame) -> Judged:
    """Whether no point's medians (`day_ahead`, `real_time`, $/MWh) are further apart than a factor of four."""
    judged = points.filter(pl.max_horizontal("day_ahead", "real_time") >= LEAST_USD_PER_MWH)
    ratio = pl.max_horizontal("day_ahead", "real_time") / pl.min_horizontal("day_ahead", "real_time").clip(1.0)
    off = judged.with_columns(ratio=ratio).filter(pl.col("ratio") > SCALE)
    told = {
        "points": len(points),
        "off": len(off),
        "sample": points.head(SAMPLE) if off.is_empty() else off.head(SAMPLE),
    }
    if len(off):
        names = ", ".join(off["settlement_point"])
        return Judged(
            False, f"day-ahead and real-time prices differ more than {SCALE:g} times at {names}: a wrong unit?", told
        )
    return Judged(True, "day-ahead and real-time prices are of one scale", told)


def judge_hashrate(reader: Reader, _now: datetime) -> Judged:
    """Whether miners that have settled, and report a hashrate, report what their power makes: of the newest ten minutes."""
    if not reader.has("core.telemetry_1min", "raw.device_groups"):
        return Judged(True, "no telemetry yet", {"devices": 0})
    return reported_as_expected(reader.rows(HASHRATE_SQL, [RECENT, RECENT]))


def reported_as_expected(devices: pl.DataFrame) -> Judged:
    """Whether no device (`reported_th_per_s`, `expected_th_per_s`) reports much more or less than is expected of it."""
    ratio = (pl.col("reported_th_per_s") / pl.col("expected_th_per_s")).fill_nan(None)
    off = devices.with_columns(ratio=ratio).filter(~pl.col("ratio").is_between(*REPORTED).fill_null(value=False))
    told = {"devices": len(devices), "off": len(off), "sample": off.head(SAMPLE)}
    if len(off):
        return Judged(
            False,
            f"{len(off)} of {len(devices)} miners report a hashrate that their power can't make, or far less",
            told,
        )
    return Judged(True, f"{len(devices)} miners report what is expected", told)


def judge_meter(reader: Reader, _now: datetime) -> Judged:
    """Whether each revenue meter shows what the facility's devices say they draw: of its newest day."""
    if not reader.has("core.meter_5min", "core.telemetry_group_1min", "raw.device_groups", "raw.facilities"):
        return Judged(True, "no meter or no telemetry yet", {"facilities": 0})
    return metered_as_told(reader.rows(METER_SQL, [TOLD_SHARE]))


def metered_as_told(facilities: pl.DataFrame) -> Judged:
    """Whether no facility (`metered_mwh`, `devices_mwh` of `intervals`, `pue`) shows less than devices draw, or far more."""
    judged = facilities.filter(pl.col("intervals") >= LEAST_INTERVALS, pl.col("devices_mwh") > 0)
    ratio = pl.col("metered_mwh") / pl.col("devices_mwh")
    off = judged.with_columns(ratio=ratio).filter(~ratio.is_between(METER[0], METER[1] * pl.col("pue")))
    shown = judged.with_columns(ratio=ratio) if off.is_empty() else off
    told = {"facilities": len(judged), "off": len(off), "sample": shown.head(SAMPLE)}
    if len(off):
        names = ", ".join(f"{row['facility_id']} ({row['ratio']:.2f})" for row in off.to_dicts())
        why = (
            f"meter over devices at {names}: at least {METER[0]:g}, at most {METER[1]:g} times the PUE are expected: a meter "
            "that is off, devices that lie, or load that nobody knows"
        )
        return Judged(False, why, told)
    return Judged(True, f"{len(judged)} meters show what devices draw", told)


def judge_exchanges(reader: Reader, now: datetime) -> Judged:
    """Whether the exchanges agreed on bitcoin's price in the last week."""
    venues = {table.source: table.name for table in EXCHANGES if reader.has(table.name)}
    if len(venues) < 2:
        return Judged(True, f"{len(venues)} exchanges were fetched yet: nothing to compare", {"venues": len(venues)})
    close = "start_at + to_seconds(candle_s) as end_at, close_usd"  # closes, since candles are of different lengths
    parts = [
        f"select '{venue}' as venue, {close} from lake.{name} where start_at >= ?"  # noqa: S608 - our tables
        for venue, name in venues.items()
    ]
    return agreeing(reader.rows(" union all ".join(parts), [now - 7 * DAY] * len(parts)))


def agreeing(closes: pl.DataFrame) -> Judged:
    """Whether no venue (`venue`, `end_at`, `close_usd`) is off the median by more than 1 % in more than 5 % of its closes.

    Of two venues that are apart both are named.
    """
    middle = closes.group_by("end_at").agg(middle=pl.col("close_usd").median(), venues=pl.len())
    off = (pl.col("close_usd") / pl.col("middle") - 1).abs()
    compared = closes.join(middle.filter(pl.col("venues") > 1), on="end_at").with_columns(off=off)
    shares = compared.group_by("venue").agg(share=(pl.col("off") > APART).mean(), closes=pl.len())
    wrong = sorted(shares.filter(pl.col("share") > APART_SHARE)["venue"])
    worst = compared.sort("off", descending=True).head(SAMPLE)
    told = {"closes": len(compared), "venues": len(shares), "sample": worst}
    if wrong:
        return Judged(
            False,
            f"{', '.join(wrong)}: more than {APART_SHARE:.0%} of closes are over {APART:.0%} off the median",
            told,
        )
    return Judged(True, "the exchanges agree", told)
