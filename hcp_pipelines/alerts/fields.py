"""What is wrong in the field: prices that stay away, telemetry that is behind, feeders without power, miners that hash less."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.alerts.condition import Condition
from hcp_pipelines.alerts.pages import read_counts
from hcp_pipelines.domain.ticks import OFFER_SEPARATOR, Stream
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.status import world_clock
from hcp_pipelines.supervisor.telemetry import LAG_MAX_S, read_telemetry

ARRIVALS = 20  # the newest values of a series, by which it is judged
FEWEST_ARRIVALS = 5  # instants at which they came: what comes in one batch a day has none to be judged by
LONGEST_TIMES = 3.0  # the longest time without one among these is usual; so many of it are a gap (setting)
FORGOTTEN_AFTER_S = 7 * 86_400.0  # simulated: a series that has been away for so long is no more
LOW_SHARE = 0.02  # of a group's devices (and more than five): single boards die every day (setting)

# Series by series along the index of good values; of each the last arrivals, and the longest time between two of them. What comes
# as it happens, and single offers, which come and go, have no time at which they are due.
_ARRIVALS = """
    with recursive keys as (
        (select stream, series from price_data where quality in ('good', 'unusual') order by stream, series limit 1)
        union all
        select n.stream, n.series from keys k cross join lateral (
            select stream, series from price_data
            where quality in ('good', 'unusual') and (stream, series) > (k.stream, k.series) order by stream, series limit 1) n),
    gaps as (
        select k.stream, k.series, a.received_at,
               extract(epoch from a.received_at - lag(a.received_at) over own) as gap_s
        from keys k cross join lateral (
            select distinct p.received_at from (
                select received_at from price_data
                where stream = k.stream and series = k.series and quality in ('good', 'unusual')
                order by "timestamp" desc, revision desc limit %(arrivals)s) p) a
        where k.stream <> %(events)s and (k.stream <> %(offers)s or position(%(separator)s in k.series) = 0)
        window own as (partition by k.stream, k.series order by a.received_at))
    select stream, series, extract(epoch from %(now)s - max(received_at))::float8 as silent_s, max(gap_s)::float8 as longest_s
    from gaps group by stream, series having count(*) >= %(fewest)s"""
_GROUPS = """
    select g.facility_id, g.group_id, g.devices from device_groups g
    join inventory_generations i on i.facility_id = g.facility_id and i.generation = g.generation and i.is_current"""


def find_gaps(connection: psycopg.Connection[Any], settings: Settings) -> Iterator[Condition]:
    """Prices that came and stay away for longer than is usual of them, by stream; and telemetry that is behind."""
    yield from _silent_series(connection, world_clock(settings).now())
    lag_s = read_telemetry(settings).get("lag_s")
    if lag_s is not None and lag_s > LAG_MAX_S:
        yield Condition(
            "gap/telemetry", "warning", "telemetry",
            f"telemetry is {lag_s:.0f} s behind (limit {LAG_MAX_S:.0f}): what gateways have no room for is given up",
            "see logs/collector.log and docs/telemetry.md", {"stream": "telemetry"},
        )  # fmt: skip


def _silent_series(connection: psycopg.Connection[Any], now: datetime) -> Iterator[Condition]:
    values = {
        "now": now, "arrivals": ARRIVALS, "fewest": FEWEST_ARRIVALS, "events": Stream.GRID_SIGNAL.value,
        "offers": Stream.GPU_SPOT.value, "separator": OFFER_SEPARATOR,
    }  # fmt: skip
    silent = dict[str, list[tuple[str, float, float]]]()
    for stream, series, silent_s, longest_s in connection.execute(_ARRIVALS, values).fetchall():
        if LONGEST_TIMES * longest_s < silent_s < FORGOTTEN_AFTER_S:
            silent.setdefault(stream, []).append((series, silent_s, longest_s))
    for stream, found in silent.items():
        series, silent_s, longest_s = max(found, key=lambda one: one[1] / one[2])
        more = f", and {len(found) - 1} more series" if len(found) > 1 else ""
        yield Condition(
            f"gap/{stream}", "warning", stream,
            f"{stream}: nothing of {series or 'it'} for {silent_s:.0f} simulated s, {longest_s:.0f} s at most are usual{more}",
            "see logs/feed.log and the source; a day that stays away is asked for by the gap sensor", {"stream": stream},
        )  # fmt: skip


def find_dark(pages: Sequence[str]) -> Iterator[Condition]:
    """Feeders without power, by their gateways' metrics."""
    for (facility_id, feeder_id), devices in read_counts(pages, "hcp_edge_dark_devices", "feeder_id").items():
        yield Condition(
            f"power/{facility_id}/{feeder_id}", "critical", facility_id,
            f"{facility_id}: feeder {feeder_id} has no power, {devices} devices are on it",
            "a breaker or a relay has opened (docs/modbus.md): nothing is commanded there until it is closed",
            {"feeder": feeder_id},
        )  # fmt: skip


def find_low_hashrate(connection: psycopg.Connection[Any], pages: Sequence[str]) -> Iterator[Condition]:
    """Groups of which more miners than is usual hash as one with a dead board does, by their gateways' metrics."""
    low = read_counts(pages, "hcp_asic_low_hashrate_miners", "group_id")
    groups = {(row[0], row[1]): row[2] for row in connection.execute(_GROUPS).fetchall()} if low else {}
    for (facility_id, group_id), miners in low.items():
        devices = groups.get((facility_id, group_id), 0)
        if devices and miners > max(LOW_SHARE * devices, 5):
            yield Condition(
                f"boards/{facility_id}/{group_id}", "warning", facility_id,
                f"{facility_id}: {miners} of {devices} miners of {group_id} hash as one with a dead board does",
                "raw.telemetry tells which; look at their boards, fans and power supplies (docs/devices.md)", {"group": group_id},
            )  # fmt: skip
