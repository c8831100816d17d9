"""What is wrong now: one condition a problem, from the supervisor's view, the database and what allocators and gateways tell.

Reading only. What becomes of a condition (opened once, told, closed) is in `store.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.alerts.condition import LABEL_MAX, Condition
from hcp_pipelines.alerts.fields import find_dark, find_gaps, find_low_hashrate
from hcp_pipelines.alerts.pages import read_critical_issues, read_gateways, read_phases, read_record
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.doctor import Finding, examine_disk, examine_loop
from hcp_pipelines.supervisor.status import read_loop, world_clock

UNSETTLED_SHARE = 0.01  # of a facility's devices in the last quarter of an hour of real time
EVENT_LASTS_S = 900.0  # real: an event has no end of its own, it is an open alert for so long

_UNOWNED = """
    select l.facility_id, extract(epoch from now() - l.expires_at)::float8 from facility_leases l
    join facilities f on f.id = l.facility_id
    where f.status = 'active' and l.expires_at < now() - interval '10 seconds' and l.acquired_at is not null"""
_REFUSED = """
    select f.id, a.is_admitted, a.reason, a.policy_id
    from facilities f cross join lateral (
        select is_admitted, reason, policy_id from policy_admissions where facility_id = f.id order by id desc limit 1) a"""
_UNSETTLED = """
    select j.facility_id, sum(j.failed)::bigint, g.devices
    from (select facility_id, event, failed, recorded_at from switch_journal order by id desc limit %s) j
    join inventory_generations g on g.facility_id = j.facility_id and g.is_current
    where j.event = 'settled' and j.recorded_at > now() - interval '15 minutes'
    group by j.facility_id, g.devices having sum(j.failed) > greatest(%s * g.devices, 5)"""
_SOLVES = """
    select f.id, p.id, p.refresh_due_at, p.expires_at, e.detail
    from facilities f
    left join lateral (
        select id, refresh_due_at, expires_at, published_at from policies
        where facility_id = f.id and status = 'live' order by basis_tick_id desc limit 1) p on true
    left join lateral (
        select detail from audit_log where action = 'alert.solve_failed' and subject = f.id
          and recorded_at > greatest(p.published_at, now() - interval '1 day') order by id desc limit 1) e on true
    where f.status = 'active'"""
_NOT_SOLVED = """
    select detail from audit_log
    where action = 'alert.solve_failed' and subject = 'tick_job' and recorded_at > greatest(
        now() - interval '1 day', (select published_at from policies where status = 'live' order by id desc limit 1))
    order by id desc limit 1"""
_UNFIT = """
    select p.strikes_from ->> 'reason', count(*) from facilities f
    cross join lateral (
        select body -> 'strikes_from' as strikes_from from policies
        where facility_id = f.id and status = 'live' order by basis_tick_id desc limit 1) p
    where f.status = 'active' and (p.strikes_from ->> 'is_model_unfit')::boolean group by 1 order by 2 desc limit 1"""
_EVENTS = """
    select action, subject, (array_agg(detail order by id desc))[1], count(*)
    from audit_log where action like 'alert.%%' and action not in ('alert.solve_failed', 'alert.policy_overdue')
      and recorded_at > now() - make_interval(secs => %s)
    group by action, subject"""

_LOOKED_AT = 20_000  # newest rows of prices (21 hours of them at the clock's own pace), policies and journal
_LATE_ROWS = 100_000  # of the newest: where nothing is indexed by time
_WORK_REFUSED = """
    select facility_id, count(*), (array_agg(reason order by id desc))[1] from desired_outcomes
    where id > (select max(id) from desired_outcomes) - %s and state = 'refused' and recorded_at > now() - interval '15 minutes'
    group by facility_id"""
_UNSERVED = """
    select count(distinct d.workload_id), (array_agg(d.reason order by d.id desc))[1] from routing_decisions d
    join workloads w on w.id = d.workload_id and w.queued_at is not null and w.type = 'ai_inference_realtime'
    where d.id > (select max(id) from routing_decisions) - %s and d.outcome <> 'placed'
        and d.recorded_at > now() - interval '15 minutes'
    having count(*) > 0"""


def find_conditions(settings: Settings) -> list[Condition]:
    """Everything that is wrong now, each key once.

    Raises:
        StorageError, psycopg.Error: Postgres can't be asked, so that nothing is known of half of it.
    """
    gateways = read_gateways(settings)
    found = [*_processes(settings), *_of_findings([examine_disk(settings)]), *_database(settings, gateways)]
    found += [*_phases(settings), *_devices(gateways), *find_dark(gateways)]
    return list({condition.key: condition for condition in found}.values())


def has_started(settings: Settings) -> bool:
    """Whether the supervisor has seen everything ready: what is not there before that is under way, not wrong."""
    return bool(read_record(settings, "status.json").get("ready"))


def _processes(settings: Settings) -> Iterator[Condition]:
    """Processes that the supervisor found unwell; that it no longer looks at all shows in the heartbeat."""
    for process in read_record(settings, "status.json").get("processes", []):
        if not process["healthy"]:
            reason = (process["reason"] or process["state"]).splitlines()[0][:400]
            name = str(process["name"])
            yield Condition(
                f"process/{name}", "critical", name, f"{name} is not well: {reason}", f"see {process['log']}"
            )


def _of_findings(findings: list[Finding]) -> Iterator[Condition]:
    for finding in findings:
        if not finding.is_well:
            yield Condition(
                f"check/{finding.check}", "warning", finding.check, f"{finding.check}: {finding.found}", finding.remedy
            )


def _database(settings: Settings, gateways: Sequence[str]) -> Iterator[Condition]:
    loop = read_loop(settings, _LOOKED_AT)
    if loop.get("error"):
        raise StorageError(str(loop["error"]))
    yield from _of_findings(examine_loop(loop, settings))
    with connect(settings, Role.OPERATOR) as connection:
        yield from _unowned(connection)
        yield from _refused(connection)
        yield from _solves(connection, world_clock(settings).now())
        yield from _unfit(connection)
        yield from _unsettled(connection)
        yield from _work(connection)
        yield from _events(connection)
        yield from find_gaps(connection, settings)
        yield from find_low_hashrate(connection, gateways)


def _unowned(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    for facility_id, since_s in connection.execute(_UNOWNED):
        yield Condition(
            f"unowned/{facility_id}", "critical", facility_id,
            f"{facility_id}: no allocator owns it for {since_s:.0f} s; its gateway goes on alone",
            "see logs/allocator-a.log and allocator-b.log",
        )  # fmt: skip


def _refused(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    for facility_id, is_admitted, reason, policy_id in connection.execute(_REFUSED):
        if not is_admitted:
            yield Condition(
                f"policy_refused/{facility_id}", "warning", facility_id,
                f"{facility_id}: the newest policy, {policy_id}, was refused: {reason}",
                "the one before stays in force; `hcp policy show` has it",
            )  # fmt: skip


def _solves(connection: psycopg.Connection[Any], now: datetime) -> Iterator[Condition]:
    """Solves that failed or are late, until the next one works; what was in force stays so until it expires."""
    for facility_id, policy_id, refresh_due_at, expires_at, detail in connection.execute(_SOLVES):
        until = "" if expires_at is None else f"{expires_at:%Y-%m-%d %H:%M}Z"
        stays = f"policy {policy_id} stays in force until {until}" if policy_id else "it has no policy yet"
        if detail is not None:
            yield Condition(
                f"solve_failed/{facility_id}", "warning", facility_id,
                f"{facility_id}: its last solve failed, {stays}: {detail.get('reason', '')}"[:500],
                "see core_hcp__policies of the run in the Dagster UI",
            )  # fmt: skip
        if refresh_due_at is not None and refresh_due_at <= now:
            late_s = (now - refresh_due_at).total_seconds()
            yield Condition(
                f"policy_overdue/{facility_id}", "warning", facility_id,
                f"{facility_id}: its next policy is late by {late_s:.0f} simulated s; {stays}",
                "see logs/tick-launcher.log and the runs of tick_job in the Dagster UI",
            )  # fmt: skip
    for (detail,) in connection.execute(_NOT_SOLVED):
        yield Condition(
            "solve_failed/tick_job", "warning", "tick_job",
            f"the last solve of all facilities failed, their policies stay in force: {detail.get('reason', '')}"[:500],
            "see the run in the Dagster UI",
        )  # fmt: skip


def _unfit(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    """A model serves that the newest policies could not use."""
    for reason, facilities in connection.execute(_UNFIT):
        yield Condition(
            "model_unfit/waiting", "warning", "waiting",
            f"{facilities} facilities are solved with the plain band, the model can't be used: {reason}"[:500],
            "run waiting_model_job in the Dagster UI; `hcp model list` has the versions",
        )  # fmt: skip


def _unsettled(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    for facility_id, failed, devices in connection.execute(_UNSETTLED, (_LATE_ROWS, UNSETTLED_SHARE)):
        yield Condition(
            f"unsettled/{facility_id}", "warning", facility_id,
            f"{facility_id}: {failed} switches of {devices} devices did not settle within 15 minutes",
            "see marts.fct_switches; a group that lies or hangs is quarantined by itself",
        )  # fmt: skip


def _work(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    """Customers' work that an owner takes no devices for, and real-time work that finds no room."""
    for facility_id, refused, reason in connection.execute(_WORK_REFUSED, (_LATE_ROWS,)):
        yield Condition(
            f"work_refused/{facility_id}", "warning", facility_id,
            f"{facility_id}: devices of {refused} pieces of work were refused within 15 minutes, the last: {reason}"[:500],
            "`hcp workload explain ID` has the devices; the inventory and the scheduler see the group differently",
        )  # fmt: skip
    for waiting, reason in connection.execute(_UNSERVED, (_LATE_ROWS,)):
        yield Condition(
            "work_unserved/realtime", "warning", "realtime",
            f"{waiting} pieces of real-time work find no room: {reason}"[:500],
            "`hcp workload explain ID` says why; `hcp capacity` what clouds ask; raise HCP_ROUTING_REALTIME_SPARE",
        )  # fmt: skip


REMEDIES = {
    "alert.run_failed": "open the run in the Dagster UI: its last events say why",
    "alert.settlement_failed": "mend what the reason names, then materialize settled_days of those days again",
    "alert.billing_off": "see marts.fct_billing and core.hcp__work_energy of that day, and docs/billing.md",
    "alert.data_gap": "see the runs of history_job in the Dagster UI; `hcp backfill` asks again once the source answers",
    "alert.miners_overclaim": "see marts.fct_device_credits of that day; look at the firmware of these miners (docs/pool.md)",
    "alert.pool_underpays": "see marts.fct_pool_days; ask the pool about that day (docs/pool.md)",
    "alert.regret_grew": "see `hcp report daily` of that day, and docs/settlement.md",
}


def _events(connection: psycopg.Connection[Any]) -> Iterator[Condition]:
    for action, subject, detail, count in connection.execute(_EVENTS, (EVENT_LASTS_S,)):
        name = action.removeprefix("alert.").replace("_", " ")
        said = ", ".join(f"{key} {value}" for key, value in sorted(detail.items()) if not isinstance(value, dict))
        times = f" ({count} times)" if count > 1 else ""
        summary = f"{subject}: {name}{times}: {said}"[:500]
        yield Condition(f"{action}/{subject}", "warning", subject, summary, REMEDIES.get(action, ""), _about(detail))


def _about(detail: Mapping[str, Any]) -> dict[str, str]:
    """What an event names by a word or a number, for silences: `group_id` is called group, as everywhere among labels."""
    return {
        key.removesuffix("_id"): str(value)
        for key, value in detail.items()
        if isinstance(value, str | int) and len(str(value)) <= LABEL_MAX
    }


def _phases(settings: Settings) -> Iterator[Condition]:
    """Facilities that hold, or are on their fallback plan, as their owner says."""
    for facility_id, phase in read_phases(settings).items():
        if phase == 1:
            yield Condition(
                f"hold/{facility_id}", "warning", facility_id,
                f"{facility_id}: its inputs are stale; no economic switch until they are good again",
                "see `hcp doctor` and logs/feed.log",
            )  # fmt: skip
        elif phase > 1:
            yield Condition(
                f"fallback/{facility_id}", "critical", facility_id,
                f"{facility_id}: its inputs are stale for so long that it runs its static fallback plan",
                "see `hcp doctor` and logs/feed.log",
            )  # fmt: skip


def _devices(gateways: Sequence[str]) -> Iterator[Condition]:
    """Devices that are beyond a limit of their model that is critical, as their gateway read them last."""
    for (facility_id, issue), devices in read_critical_issues(gateways).items():
        yield Condition(
            f"devices/{facility_id}/{issue}", "critical", facility_id,
            f"{facility_id}: {issue.replace('_', ' ')} at {devices} of its devices",
            "its gateway's log and raw.telemetry tell which; what is too hot is taken down there by itself",
            {"issue": issue},
        )  # fmt: skip
