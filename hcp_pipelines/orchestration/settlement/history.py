"""What was earned, back in `allocation_history.actual_profit`: dollars per hour as settled, NUMERIC, beside what was expected.

A row's devices in the workload that most of their group had: revenue less energy and adders of one device in that workload's
state (of two profiles the one that the group ran more that day), from the row to the group's next one or the settled day's end.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.economics.settlement import OF_LOAD
from hcp_pipelines.forecasting.hours import HOUR_US, instant, microseconds
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.settlement.switch_value import earned, earned_by
from hcp_pipelines.orchestration.settlement.read import Connection
from hcp_pipelines.orchestration.settlement.settled import SettledDay

_ROWS = """
select id, "timestamp", resource_id, actual_workload, devices,
       lead("timestamp") over (partition by resource_id order by "timestamp" range between current row and unbounded following
                               exclude group)
from allocation_history where facility_id = %s and "timestamp" >= %s and "timestamp" < %s order by id"""
_FILL = """
update allocation_history h set actual_profit = v.usd
from unnest(%s::bigint[], %s::numeric[]) as v (id, usd)
where h.id = v.id and h.actual_profit is distinct from v.usd"""


class _Row(NamedTuple):
    id: int
    from_us: int
    until_us: int
    group: int
    state: int
    devices: int


def fill(connection: Connection, settled: Sequence[SettledDay]) -> int:
    """Fill the rows of settled days; how many changed. A day of which a price is unknown fills nothing."""
    whole = (day for day in settled if not day.lines.filter(day.lines["kind"].is_in(OF_LOAD))["usd"].null_count())
    return sum(_fill(connection, day) for day in whole)


def _fill(connection: Connection, settled: SettledDay) -> int:
    rows = list(_rows(connection, settled))
    if not rows:
        return 0
    columns = {name: np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in _Row._fields}
    usd = _usd_per_hour(settled, columns)
    ids = [row.id for row in rows]
    return connection.execute(_FILL, (ids, [f"{value:.6f}" for value in usd.tolist()])).rowcount


def _usd_per_hour(settled: SettledDay, rows: dict[str, Ints]) -> Floats:
    dollars, done, of = earned(settled.day, settled.done), settled.done, (rows["group"], rows["state"])
    gained = earned_by(dollars, done, of, rows["until_us"]) - earned_by(dollars, done, of, rows["from_us"])
    found: Floats = rows["devices"] * gained / (rows["until_us"] - rows["from_us"]) * HOUR_US
    return found


def _rows(connection: Connection, settled: SettledDay) -> "list[_Row]":
    done, places = settled.done, {group.group_id: g for g, group in enumerate(settled.day.fleet.groups)}
    ran = done.device_hours().sum(axis=0)
    window = settled.start, instant(done.end_us)
    found = []
    for number, at, resource, mode, devices, next_at in connection.execute(_ROWS, (settled.facility_id, *window)):
        group = places.get(resource.removeprefix(f"{settled.facility_id}/"))
        until_us = done.end_us if next_at is None else microseconds(next_at)
        if group is None or until_us <= microseconds(at):
            continue
        ladder = [int(each.state) for each in settled.day.fleet.groups[group].ladder]
        states = [state for state in ladder if DeviceState(state).mode.value == mode]
        if states:
            state = max(states, key=lambda code: float(ran[group, code]))
            found.append(_Row(number, microseconds(at), until_us, group, state, devices))
    return found
