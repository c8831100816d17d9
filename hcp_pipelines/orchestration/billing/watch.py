"""Which days have to be billed, or billed again, and whether bills agree with what was counted and metered elsewhere."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.orchestration.billing.publish import DAYS, LINES, WORK_ENERGY
from hcp_pipelines.orchestration.billing.read import EVENTS, Window, read_work
from hcp_pipelines.orchestration.billing.terms import kept_rates, note, points_by_day
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.settlement.read import DAY, PRICES, Connection
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings
from hcp_pipelines.workloads.billing.runs import parts_of, slices_of
from hcp_pipelines.workloads.billing.terms import Dated, OwnRate, changed_since

MOST_DAYS = 7  # asked for at once
LOOKS_BACK = timedelta(days=28)  # devices' minutes are kept for 30 days: a later bill would have no metered energy
ENERGY_OFF = 0.02  # of a group's energy in a day: work's and the rest's against the group's own minutes
GPU_S_OFF = 1.0  # second of a piece of work: instants are told in microseconds, sums in floats
_ANY_RUN = "select exists (select from workload_events where new_status = 'running')"
_BILLED = f"""
select date_trunc('day', start_at) as start_at, workload_id, treatment, sum(gpu_s) as billed_s from lake.{LINES}
where start_at >= ? group by all"""  # noqa: S608 - our constants
_REPRICED = f"""
select distinct date_trunc('day', l.start_at) from lake.{LINES} l
    join points f on f.facility_id = l.facility_id and f.day_at = date_trunc('day', l.start_at)
    join lake.{PRICES} p on p.start_at = l.start_at and p.settlement_point = f.settlement_point
where l.start_at >= ? and p.price_usd_per_mwh is not null and p.price_usd_per_mwh is distinct from l.price_usd_per_mwh"""  # noqa: S608
_NEWEST = f"select day_at, max(until_at), max(billed_at) from lake.{DAYS} group by 1"  # noqa: S608
_ENERGY = f"""
select facility_id, group_id, sum(work_mwh + free_mwh) as told_mwh, sum(group_mwh) as group_mwh from lake.{WORK_ENERGY}
where start_at >= ? and start_at < ? group by all order by all"""  # noqa: S608
_GPU_S = (
    f"select workload_id, sum(gpu_s) as billed_s from lake.{LINES} where workload_id in (select unnest(?)) group by 1"  # noqa: S608
)
_USED = """
select id::text, used_gpu_s from workloads
where status in ('completed', 'failed', 'cancelled') and changed_at >= %s and changed_at < %s and started_at >= %s
    and used_gpu_s > 0"""
_UNKNOWN = f"""
select count(*) as lines, count(*) filter (usd is null) as unknown, min(start_at) filter (usd is null) as first_at,
       arg_min(coalesce(facility_id, 'no facility'), start_at) filter (usd is null) as facility
from lake.{LINES} where start_at >= ? and start_at < ?"""  # noqa: S608


def days_to_bill(connection: Connection, settings: Settings, now: datetime) -> list[datetime]:
    """The first of the days that are `due`, as many as are asked for at once; where nothing ever ran the lake isn't asked."""
    row = connection.execute(_ANY_RUN).fetchone()
    if row is None or not row[0]:
        return []
    with reading(settings) as reader:
        return list(due(reader, note(connection, settings, now), kept_rates(connection), now))[:MOST_DAYS]


def due(reader: Reader, terms: list[Dated], rates: list[OwnRate], now: datetime) -> Iterator[datetime]:
    """Days that are over in which work ran and that are not billed as it is known to have run, at other prices or other terms."""
    since, until = midnight(now - LOOKS_BACK), midnight(now)
    if not reader.has(EVENTS) or since >= until:
        return
    ran = _ran(reader, (since, until), now)
    if not reader.has(LINES, DAYS):
        yield from ran["start_at"].unique().sort()
        return
    billed = reader.rows(_BILLED, (since,)).with_columns(pl.col("start_at").cast(ran.schema["start_at"]))
    both = ran.join(billed, on=["start_at", "workload_id", "treatment"], how="full", coalesce=True)
    off = (pl.col("ran_s").fill_null(0.0) - pl.col("billed_s").fill_null(0.0)).abs() > GPU_S_OFF
    days = set(both.filter(off & (pl.col("start_at") < until))["start_at"])
    ran_on = set(ran["start_at"])
    if reader.has(PRICES):
        points = points_by_day(terms, sorted(ran_on))
        days |= set(reader.rows(_REPRICED, (since,), {"points": points}).to_series())
    for day, end, billed_at in reader.rows(_NEWEST).iter_rows():
        if day in ran_on and (end < day + DAY or changed_since(terms, rates, day, billed_at)):
            days.add(day)
    yield from sorted(day for day in days if day < until)


def is_whole(reader: Reader, window: Window) -> Judged:
    """Whether every line of a window that is billed has dollars."""
    if not reader.has(LINES):
        return Judged(True, "nothing is billed yet", {"lines": 0})
    lines, unknown, first, facility = reader.rows(_UNKNOWN, window).row(0)
    told = {"lines": lines, "unknown": unknown}
    if not unknown:
        return Judged(True, f"{lines} lines have their prices", told)
    why = (
        f"{unknown} of {lines} lines have no price, rate or power, first of {facility} at {first:%Y-%m-%d %H:%M}Z: "
        "materialize the prices of that day; it is then billed again"
    )
    return Judged(False, why, told)


def energy_agrees(reader: Reader, window: Window) -> dict[str, Judged]:
    """By facility, whether the energy of its work and of what nobody had is that of its groups, as these were rolled up."""
    if not reader.has(WORK_ENERGY):
        return {}
    found = reader.rows(_ENERGY, window).with_columns(off=pl.col("told_mwh") / pl.col("group_mwh") - 1)
    return {str(name): _judged(groups) for (name,), groups in found.group_by("facility_id", maintain_order=True)}


def gpu_seconds_agree(reader: Reader, connection: Connection, window: Window) -> Judged:
    """Whether what is in the lines of work that ended in a window is what the queue counted of it."""
    if not reader.has(LINES):
        return Judged(True, "nothing is billed yet", {"workloads": 0})
    rows = connection.execute(_USED, (*window, window[1] - LOOKS_BACK)).fetchall()
    used = pl.DataFrame(rows, schema={"workload_id": pl.String, "used_s": pl.Float64}, orient="row")
    billed = reader.rows(_GPU_S, (used["workload_id"].to_list(),))
    both = used.join(billed, on="workload_id", how="left").with_columns(pl.col("billed_s").fill_null(0.0))
    off = both.filter((pl.col("used_s") - pl.col("billed_s")).abs() > GPU_S_OFF)
    told = {
        "workloads": len(both),
        "off": len(off),
        "used_gpu_s": both["used_s"].sum(),
        "billed_gpu_s": both["billed_s"].sum(),
    }
    if off.is_empty():
        return Judged(True, f"{len(both)} pieces of work are billed as the queue counted them", told)
    first = off.row(0, named=True)
    why = (
        f"{len(off)} of {len(both)} pieces of work are not billed as the queue counted them, first {first['workload_id']}: "
        f"{first['billed_s']:.0f} of {first['used_s']:.0f} GPU-seconds; bill the days on which they ran again"
    )
    return Judged(False, why, told | {"sample": off.head(5)})


def _ran(reader: Reader, window: Window, now: datetime) -> pl.DataFrame:
    """GPU-seconds by day, piece of work and treatment, as known now."""
    events, checkpoints, _ = read_work(reader, window)
    parts = parts_of(events, checkpoints, now)
    about = parts.with_row_index("part").select("part", "workload_id", "treatment", "gpu_count")
    each = slices_of(parts, window, DAY).join(about, on="part")
    ran_s = (pl.col("hours") * 3600 * pl.col("gpu_count")).sum()
    return each.group_by("start_at", "workload_id", "treatment").agg(ran_s=ran_s)


def _judged(groups: pl.DataFrame) -> Judged:
    told = {"told_mwh": groups["told_mwh"].sum(), "group_mwh": groups["group_mwh"].sum()}
    off = groups.filter(~(pl.col("off").abs() <= ENERGY_OFF))
    if off.is_empty():
        return Judged(True, f"{told['told_mwh']:.4g} MWh of devices, {told['group_mwh']:.4g} of their groups", told)
    worst = off.row(0, named=True)
    why = f"{worst['group_id']}: work and the rest {worst['told_mwh']:.4g} MWh, its own minutes {worst['group_mwh']:.4g} MWh"
    return Judged(False, why, told)
