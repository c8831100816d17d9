"""The journal as the allocator writes it: commands before they leave, outcomes as they come. No decisions here.

Commands are written only under a lease that still stands; the statement itself looks, so that a process which was paused
past its lease writes nothing. Outcomes derive from the command's own row, so that a successor can write them.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.allocator.desired_table import DesiredOutcome, write_desired
from hcp_pipelines.allocator.on_paper import PaperRow
from hcp_pipelines.allocator.saved_table import SavedRow, write_saved

Connection = psycopg.AsyncConnection[Any]

_COMMANDED = """
    insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, feeder_id,
        wave, from_state, to_state, devices, slots, mw_delta, tick_id, policy_id, decision_price_usd_per_mwh, usd_per_hour,
        reason, reason_detail, actor, steps_ms, simulated_at)
    select 'commanded', v.facility_id, l.owner, l.epoch, v.command_id, v.assignment, v.generation, v.group_id, v.feeder_id,
        v.wave, v.from_state, v.to_state, v.devices, v.slots, v.mw_delta, v.tick_id, v.policy_id, v.price, v.usd_per_hour,
        v.reason, v.reason_detail, v.actor, v.steps_ms::jsonb, v.simulated_at
    from unnest(%b::text[], %b::bigint[], %b::uuid[], %b::int[], %b::bigint[], %b::text[], %b::text[], %b::int[],
                %b::smallint[], %b::smallint[], %b::int[], %b::bytea[], %b::float8[], %b::bigint[], %b::bigint[],
                %b::float8[], %b::float8[], %b::text[], %b::text[], %b::text[], %b::text[], %b::timestamptz[])
         as v(facility_id, epoch, command_id, assignment, generation, group_id, feeder_id, wave, from_state, to_state,
              devices, slots, mw_delta, tick_id, policy_id, price, usd_per_hour, reason, reason_detail, actor,
              steps_ms, simulated_at)
    join facility_leases l on l.facility_id = v.facility_id and l.epoch = v.epoch and l.owner = %s and l.expires_at > now()
    returning facility_id"""
_OUTCOMES = """
    insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, feeder_id,
        wave, from_state, to_state, devices, refused, deferred, failed, superseded, tick_id, policy_id,
        decision_price_usd_per_mwh, usd_per_hour, reason, reason_detail, actor, steps_ms, simulated_at)
    select v.event, c.facility_id, c.owner, c.epoch, c.command_id, c.assignment, c.generation, c.group_id, c.feeder_id,
        c.wave, c.from_state, c.to_state, v.devices, v.refused, v.deferred, v.failed, v.superseded, c.tick_id, c.policy_id,
        c.decision_price_usd_per_mwh, c.usd_per_hour, c.reason, coalesce(nullif(v.detail, ''), c.reason_detail), c.actor,
        v.steps_ms::jsonb, v.simulated_at
    from unnest(%s::text[], %s::text[], %s::uuid[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[],
                %s::text[], %s::text[], %s::timestamptz[])
         as v(facility_id, event, command_id, assignment, devices, refused, deferred, failed, superseded, detail, steps_ms,
              simulated_at)
    join switch_journal c on c.command_id = v.command_id and c.assignment = v.assignment and c.event = 'commanded'
        and c.facility_id = v.facility_id  -- a gateway speaks of its own facility's commands, of whatever epoch and generation
    on conflict (command_id, assignment, event) do nothing"""
_OBSERVED = """
    insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, feeder_id,
        from_state, to_state, devices, slots, reason, reason_detail, actor, simulated_at, mw_delta)
    values ('observed', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (command_id, assignment, event) do nothing"""
_EXPIRE = """
    insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, feeder_id,
        wave, from_state, to_state, devices, tick_id, policy_id, reason, reason_detail, actor, simulated_at)
    select 'expired', c.facility_id, c.owner, c.epoch, c.command_id, c.assignment, c.generation, c.group_id, c.feeder_id,
        c.wave, c.from_state, c.to_state, 0, c.tick_id, c.policy_id, c.reason, 'never reached the gateway', c.actor, %s
    from switch_journal c
    where c.facility_id = %s and c.event = 'commanded' and c.recorded_at > now() - interval '1 day'
      and c.recorded_at <= now() - %s
      and not exists (select from switch_journal o
                      where o.command_id = c.command_id and o.assignment = c.assignment and o.event in ('acked', 'expired'))
    on conflict (command_id, assignment, event) do nothing"""
_CURSOR = """
    insert into process_cursors (process, cursor, value, updated_at) values ('gateway_log', %s, %s, now())
    on conflict (process, cursor) do update set value = greatest(process_cursors.value, excluded.value), updated_at = now()"""
_AUDIT = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"
_REMEMBER = """
    insert into owner_memory (facility_id, epoch, simulated_at, memory) values (%s, %s, %s, %s)
    on conflict (facility_id) do update set epoch = excluded.epoch, simulated_at = excluded.simulated_at,
        memory = excluded.memory, updated_at = now()
    where owner_memory.epoch <= excluded.epoch and owner_memory.memory is distinct from excluded.memory"""
_HISTORY = """
    insert into allocation_history ("timestamp", facility_id, resource_id, resource_type, recommended_workload,
        actual_workload, devices, expected_profit, tick_id, policy_id)
    select * from unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],
                         %s::float8[], %s::bigint[], %s::bigint[])"""

_PAPER = """
    insert into paper_plans (simulated_at, facility_id, control_mode, tick_id, policy_id, decision_price_usd_per_mwh, hours,
        usd_actual, usd_paper, wake_usd, devices, mw_actual, mw_paper)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (facility_id, tick_id, simulated_at) do nothing"""


_STRICT = partial(json.dumps, allow_nan=False)  # Postgres' JSON has neither NaN nor infinity


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One assignment of a command, as it is written before it leaves."""

    facility_id: str
    epoch: int
    command_id: uuid.UUID
    assignment: int
    generation: int
    group_id: str
    feeder_id: str
    wave: int
    from_state: int
    to_state: int
    devices: int
    slots: bytes
    mw_delta: float
    tick_id: int | None
    policy_id: int | None
    price: float | None
    usd_per_hour: float | None
    reason: str
    reason_detail: str
    actor: str
    steps_ms: dict[str, float] | None
    simulated_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one assignment: `acked`, `settled` or `expired`; counts are devices."""

    facility_id: str
    event: str
    command_id: str
    assignment: int
    simulated_at: datetime
    devices: int = 0
    refused: int = 0
    deferred: int = 0
    failed: int = 0
    superseded: int = 0
    detail: str = ""
    steps_ms: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Devices of one group found, or changed by the gateway itself, in a state that no command of ours asked for."""

    facility_id: str
    owner: str
    epoch: int
    event_id: uuid.UUID
    assignment: int
    generation: int
    group_id: str
    feeder_id: str
    from_state: int | None
    to_state: int
    devices: int
    slots: bytes
    reason: str
    detail: str
    actor: str
    simulated_at: datetime
    mw_delta: float = 0.0  # of what the gateway did by itself: it uses the ramp windows as well


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """What an owner hands to its successor."""

    facility_id: str
    epoch: int
    simulated_at: datetime
    memory: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Something for `audit_log` that a gateway told."""

    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One mode of one group after a wave, for `allocation_history`; profit in $/h at the decision price."""

    simulated_at: datetime
    facility_id: str
    resource_id: str
    resource_type: str
    recommended_workload: str
    actual_workload: str
    devices: int
    expected_profit: float
    tick_id: int | None
    policy_id: int | None


@dataclass
class Batch:
    """What waits to be written behind the decision path."""

    outcomes: list[Outcome] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)
    papers: list[PaperRow] = field(default_factory=list)
    desired: list[DesiredOutcome] = field(default_factory=list)
    saved: list[SavedRow] = field(default_factory=list)
    audits: list[AuditRow] = field(default_factory=list)
    memories: dict[str, MemoryRow] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        told = (self.outcomes, self.observations, self.desired, self.saved)
        return sum(len(part) for part in (*told, self.history, self.papers, self.audits, self.memories))

    def note_seq(self, facility_id: str, seq: int) -> None:
        """The gateway's log is journalled up to here once this batch is."""
        self.cursors[facility_id] = max(seq, self.cursors.get(facility_id, 0))


async def write_commands(connection: Connection, owner: str, rows: Sequence[CommandRow]) -> set[str]:
    """Write commands before they leave, in one commit; the facilities whose lease stood, and whose waves may leave."""
    columns = [
        [r.facility_id for r in rows], [r.epoch for r in rows], [r.command_id for r in rows],
        [r.assignment for r in rows], [r.generation for r in rows], [r.group_id for r in rows],
        [r.feeder_id for r in rows], [r.wave for r in rows], [r.from_state for r in rows], [r.to_state for r in rows],
        [r.devices for r in rows], [r.slots for r in rows], [r.mw_delta for r in rows], [r.tick_id for r in rows],
        [r.policy_id for r in rows], [r.price for r in rows], [r.usd_per_hour for r in rows],
        [r.reason for r in rows], [r.reason_detail for r in rows], [r.actor for r in rows],
        [None if r.steps_ms is None else json.dumps(r.steps_ms) for r in rows], [r.simulated_at for r in rows],
    ]  # fmt: skip
    cursor = await connection.execute(_COMMANDED, [*columns, owner], prepare=True)
    return {row[0] for row in await cursor.fetchall()}


async def write_batch(connection: Connection, batch: Batch) -> None:
    """Write outcomes, observations, history and cursors in one transaction; repeating it changes nothing but history.

    Raises:
        one of `refused.UNFIT`: a row of it can't be stored, and so nothing of it was.
        psycopg.Error: Postgres is away, or the process may not.
    """
    async with connection.pipeline(), connection.transaction():
        if batch.outcomes:
            await connection.execute(_OUTCOMES, _outcome_columns(batch.outcomes), prepare=True)
        for o in batch.observations:
            await connection.execute(_OBSERVED, _observed(o))
        if batch.history:
            await connection.execute(_HISTORY, _history_columns(batch.history))
        for paper in batch.papers:
            await connection.execute(_PAPER, astuple(paper))
        if batch.desired:
            await write_desired(connection, batch.desired)
        if batch.saved:
            await write_saved(connection, batch.saved)
        for a in batch.audits:
            await connection.execute(_AUDIT, (a.actor, a.action, a.subject, _jsonb(a.detail)))
        for m in batch.memories.values():
            await connection.execute(_REMEMBER, (m.facility_id, m.epoch, m.simulated_at, _jsonb(m.memory)))
        for facility_id, seq in batch.cursors.items():
            await connection.execute(_CURSOR, (facility_id, seq))


async def expire(
    connection: Connection, facility_id: str, simulated_at: datetime, older_than: timedelta = timedelta()
) -> int:
    """Close the facility's commands that have no ack: called when its gateway's log is journalled and nothing is in flight.

    `older_than`: of real time, so that what may be in flight is left alone.
    """
    return (await connection.execute(_EXPIRE, (simulated_at, facility_id, older_than))).rowcount


def _jsonb(value: dict[str, Any]) -> Jsonb:
    return Jsonb(value, dumps=_STRICT)


def _outcome_columns(rows: Sequence[Outcome]) -> list[list[Any]]:
    return [
        [r.facility_id for r in rows], [r.event for r in rows], [r.command_id for r in rows],
        [r.assignment for r in rows], [r.devices for r in rows], [r.refused for r in rows], [r.deferred for r in rows],
        [r.failed for r in rows], [r.superseded for r in rows], [r.detail for r in rows],
        [None if r.steps_ms is None else _STRICT(r.steps_ms) for r in rows], [r.simulated_at for r in rows],
    ]  # fmt: skip


def _history_columns(rows: Sequence[HistoryRow]) -> list[list[Any]]:
    return [
        [r.simulated_at for r in rows], [r.facility_id for r in rows], [r.resource_id for r in rows],
        [r.resource_type for r in rows], [r.recommended_workload for r in rows], [r.actual_workload for r in rows],
        [r.devices for r in rows], [r.expected_profit for r in rows], [r.tick_id for r in rows],
        [r.policy_id for r in rows],
    ]  # fmt: skip


def _observed(o: Observation) -> tuple[Any, ...]:
    return (
        o.facility_id, o.owner, o.epoch, o.event_id, o.assignment, o.generation, o.group_id, o.feeder_id, o.from_state,
        o.to_state, o.devices, o.slots, o.reason, o.detail, o.actor, o.simulated_at, o.mw_delta,
    )  # fmt: skip
