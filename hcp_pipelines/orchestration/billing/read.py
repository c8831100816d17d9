"""What a bill is made of: the events, checkpoints and devices of the work that ran, and what its devices told of their power.

Energy is told by devices' minutes (`core.telemetry_1min`): a minute belongs to the work that held the device in its middle. A
device's mean power in a part of a run, times the part's hours in the interval, is its energy there; the mean of its other
minutes, times the interval's other hours, is what it drew for nobody. The groups' own minutes say what both should come to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.workloads.billing.lines import FRACTION, POWER, STATE_OF_TYPE, TERMS, Places
from hcp_pipelines.workloads.billing.runs import CHECKPOINT, EVENT
from hcp_pipelines.workloads.billing.use import DEVICES, FREE, GROUP, TOLD, slots_of

Window = tuple[datetime, datetime]
EVENTS, ALLOCATIONS, CHECKPOINTS, DESIRED = (
    "raw.workload_events", "raw.allocation_events", "raw.workload_checkpoints", "raw.desired_state",
)  # fmt: skip
GROUPS, DEVICE_MINUTES, GROUP_MINUTES = "raw.device_groups", "core.telemetry_1min", "core.telemetry_group_1min"
_RAN = f"""
select workload_id from lake.{EVENTS} where occurred_at < ? group by 1
having min(occurred_at) filter (new_status = 'running') is not null
    and (max(occurred_at) >= ? or arg_max(new_status, id) = 'running')"""  # noqa: S608 - our constants
_EVENTS = f"select {', '.join(EVENT)} from lake.{EVENTS} where workload_id in (select workload_id from ran) order by id"  # noqa: S608
_CHECKPOINTS = f"""
select {", ".join(CHECKPOINT)} from lake.{CHECKPOINTS} where workload_id in (select workload_id from ran)"""  # noqa: S608
_ALLOCATED = f"""
with newest as (
    select workload_id, lease_epoch, devices from lake.{ALLOCATIONS}
    where event = 'allocation.created' and workload_id in (select workload_id from ran)
    qualify row_number() over (partition by workload_id, lease_epoch order by id desc) = 1),
each as (
    select workload_id, lease_epoch,
           unnest(from_json(devices, '[{{"facility_id": "VARCHAR", "group_id": "VARCHAR", "slots": ["INTEGER"]}}]')) as held
    from newest)
select workload_id, lease_epoch, held.facility_id, held.group_id, held.slots from each"""  # noqa: S608
_DESIRED = f"""
select d.workload_id, d.lease_epoch, d.facility_id, d.group_id, g.first_slot, d.slots
from lake.{DESIRED} d join lake.{GROUPS} g using (facility_id, generation, group_id)
where d.workload_id in (select workload_id from ran)
qualify row_number() over (partition by d.workload_id, d.lease_epoch, d.facility_id, d.group_id order by d.id desc) = 1"""  # noqa: S608
_OURS = f"""
select distinct group_id from lake.{GROUPS} where facility_id = ? and type = 'GPU' union select unnest(?::varchar[])"""  # noqa: S608
_TOLD = f"""
with ours as ({_OURS}),
minutes as (
    select group_id, slot, minute_at, minute_at + interval 30 seconds as middle_at, power_kw_avg as kw
    from lake.{DEVICE_MINUTES} join ours using (group_id)
    where facility_id = ? and minute_at >= ? and minute_at < ? and power_kw_count > 0 and isfinite(power_kw_avg)),
marked as (
    select m.*, case when middle_at < h.until_at then h.part end as part
    from minutes m asof left join held h on m.slot = h.slot and m.middle_at >= h.from_at),
each as (
    select time_bucket(interval '15 minutes', minute_at) as start_at, group_id, slot, part, avg(kw) as kw
    from marked group by all)
select start_at, ? as facility_id, group_id, part, count(*) as told, sum(kw) as kw,
       sum(kw * greatest(0.25 - coalesce(hours, 0), 0)) / 1000 as free_mwh
from each left join held_hours using (start_at, slot) group by all"""  # noqa: S608
_GROUPS = f"""
with ours as ({_OURS})
select time_bucket(interval '15 minutes', minute_at) as start_at, facility_id, group_id,
       sum(power_kw) / sum(devices_with_power) * max(devices_with_power) * 0.25 / 1000 as group_mwh
from lake.{GROUP_MINUTES} join ours using (group_id)
where facility_id = ? and minute_at >= ? and minute_at < ? and devices_with_power > 0 and isfinite(power_kw)
group by all"""  # noqa: S608


@dataclass(frozen=True)
class Told:
    """What devices told: with work (TOLD), without (FREE), and by their groups' minutes (GROUP)."""

    work: pl.DataFrame
    free: pl.DataFrame
    groups: pl.DataFrame

    @classmethod
    def of(cls, *facilities: "Told") -> "Told":
        """Of several facilities together."""
        return cls(
            pl.concat([pl.DataFrame(schema=TOLD), *(each.work for each in facilities)]),
            pl.concat([pl.DataFrame(schema=FREE), *(each.free for each in facilities)]),
            pl.concat([pl.DataFrame(schema=GROUP), *(each.groups for each in facilities)]),
        )


def read_work(reader: Reader, window: Window) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """All events (EVENT), checkpoints (CHECKPOINT) and devices (DEVICES) of the work that ran in a window, or may have."""
    if not reader.has(EVENTS):
        return pl.DataFrame(schema=EVENT), pl.DataFrame(schema=CHECKPOINT), pl.DataFrame(schema=DEVICES)
    ran = {"ran": reader.rows(_RAN, (window[1], window[0]))}
    events = reader.rows(_EVENTS, frames=ran).select(pl.col(n).cast(k) for n, k in EVENT.items())
    return events, _read(reader, CHECKPOINTS, _CHECKPOINTS, ran, CHECKPOINT), _devices(reader, ran)


def read_energy(
    reader: Reader, facility_id: str, window: Window, held: pl.DataFrame, held_hours: pl.DataFrame, groups: list[str]
) -> Told:
    """What a facility's devices told in a window.

    Args:
        reader: of the lake.
        facility_id: whose.
        window: [start, end).
        held: from when to when each slot had work (HELD).
        held_hours: hours of each `slot` with work by `start_at`.
        groups: that had work; they count beside the facility's groups of GPUs.
    """
    if not reader.has(DEVICE_MINUTES, GROUP_MINUTES, GROUPS):
        return Told.of()
    given = (facility_id, groups, facility_id, *window)
    found = reader.rows(_TOLD, (*given, facility_id), {"held": held, "held_hours": held_hours})
    is_free = pl.col("part").is_null()
    return Told(
        found.filter(~is_free).select(pl.col(n).cast(k) for n, k in TOLD.items()),
        found.filter(is_free).select(pl.col(n).cast(k) for n, k in FREE.items()),
        reader.rows(_GROUPS, given).select(pl.col(n).cast(k) for n, k in GROUP.items()),
    )


def places(inventories: list[FacilityInventory]) -> Places:
    """The facilities in the meter's words."""
    return Places(
        pl.DataFrame(list(_power(inventories)), schema=POWER, orient="row"),
        pl.DataFrame(
            [(i.facility_id, i.settlement_point, i.pue, i.document.contract.adders_usd_per_mwh) for i in inventories],
            schema=TERMS, orient="row",
        ),
        pl.DataFrame(
            [
                (i.facility_id, kind, i.document.economics.gpu_rate_fraction.get(state, 1.0))
                for i in inventories
                for kind, state in STATE_OF_TYPE.items()
            ],
            schema=FRACTION, orient="row",
        ),
    )  # fmt: skip


def _power(inventories: list[FacilityInventory]) -> Iterator[tuple[str, str, str, str, float, float]]:
    """A device's IT kW by group and class; a class that the ladder doesn't have draws what its highest state does."""
    for inventory in inventories:
        for group in inventory.groups:
            by_state, gpu_type = group.power_kw_by_state(), str(group.specifications.get("gpu_type", ""))
            for kind, state in STATE_OF_TYPE.items():
                kw = by_state.get(state, group.ladder[-1].power_kw)
                yield inventory.facility_id, group.group_id, gpu_type, kind, float(group.devices), kw


def _devices(reader: Reader, ran: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The devices that each holder of the work was given: as allocated, else as the scheduler wanted them."""
    allocated = _read(reader, ALLOCATIONS, _ALLOCATED, ran, DEVICES)
    if not reader.has(DESIRED, GROUPS):
        return allocated
    rows = reader.rows(_DESIRED, frames=ran)
    slots = [slots_of(first, packed) for first, packed in rows.select("first_slot", "slots").iter_rows()]
    wanted = rows.with_columns(pl.Series("slots", slots, pl.List(pl.Int32))).select(
        pl.col(n).cast(k) for n, k in DEVICES.items()
    )
    return pl.concat([allocated, wanted.join(allocated, on=["workload_id", "lease_epoch"], how="anti")])


def _read(
    reader: Reader, table: str, sql: str, frames: dict[str, pl.DataFrame], schema: dict[str, Any]
) -> pl.DataFrame:
    if not reader.has(table):
        return pl.DataFrame(schema=schema)
    return reader.rows(sql, frames=frames).select(pl.col(name).cast(kind) for name, kind in schema.items())
