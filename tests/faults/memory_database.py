"""The tables of the in-memory store: what each statement of the allocator's SQL promises, in plain Python."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from hcp_pipelines.allocator.devices import Switched
from hcp_pipelines.allocator.intake import POLICIES_LOOKED_AT, PolicyRow
from hcp_pipelines.allocator.journal import Batch, CommandRow, Observation, Outcome
from hcp_pipelines.allocator.locks import REASON, Ahead
from hcp_pipelines.allocator.market import TickRow
from hcp_pipelines.allocator.obligations import Rows
from hcp_pipelines.allocator.standing import Lockout, Standing, Timed
from hcp_pipelines.allocator.wave import COMMIT_WITHIN_S
from hcp_pipelines.domain.fencing import CATCH_UP_MAX
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.policy.obligations import Obligation, Signals, Status
from hcp_pipelines.wire.slots import decode_slots
from tests.faults.desires import DesiredTable
from tests.faults.memory_server import Server
from tests.faults.records import Admission, Journal, Span
from tests.faults.virtual import SPEED, VirtualLoop, real_s

ACTIVE = (Status.AWARDED, Status.ARMED, Status.DEPLOYED, Status.RECOVERING)


class Lease:
    """A row of `facility_leases`."""

    def __init__(self) -> None:
        self.owner, self.epoch, self.from_s, self.expires_s = "", 0, 0.0, 0.0


class Database(Server):
    """The tables."""

    def __init__(self, loop: VirtualLoop, seed: str, inventories: Sequence[FacilityInventory], address: dict[str, str]):
        super().__init__(loop, seed)
        self.inventories, self.address = list(inventories), address
        self.leases = {i.facility_id: Lease() for i in inventories}
        self.alive: dict[str, tuple[bool, float]] = {}
        self.commanded: dict[tuple[str, int], CommandRow] = {}
        self.open: dict[str, set[tuple[str, int]]] = {i.facility_id: set() for i in inventories}
        self.recorded_s: dict[tuple[str, int], float] = {}
        self.events: set[tuple[str, int, str]] = set()
        self.acked_at: dict[tuple[str, int], datetime] = {}
        self.observed: list[Observation] = []
        self.cursors: dict[str, int] = {}
        self.memories: dict[str, tuple[int, dict[str, Any]]] = {}
        self.ticks: list[TickRow] = []
        self.policies: dict[str, list[PolicyRow]] = {i.facility_id: [] for i in inventories}
        self.standing: dict[str, Standing] = {i.facility_id: Standing() for i in inventories}
        self.obligations: dict[int, Obligation] = {}
        self.signals: dict[int, Signals] = {}
        self.desires = DesiredTable()
        self.journal: list[Journal] = []
        self.spans: list[Span] = []
        self.admissions: list[Admission] = []
        self._armed_s: dict[int, float] = {}
        self.owner_of: dict[str, str] = {}

    # -- leases -------------------------------------------------------------------------------------------------------

    def ends(self) -> dict[str, float]:
        """Seconds until each lease ends."""
        return {f: max(lease.expires_s - self.loop.now_s, -3600.0) for f, lease in sorted(self.leases.items())}

    def renew(self, name: str, held: Mapping[str, int], ttl_s: float) -> set[str]:
        """As the statement does."""
        renewed = {f for f, epoch in held.items() if self.stands(f, name, epoch)}
        for facility_id in renewed:
            self.leases[facility_id].expires_s = self.loop.now_s + ttl_s
        return renewed

    def take(self, name: str, facility_ids: Iterable[str], ttl_s: float) -> list[tuple[str, int]]:
        """As the statement does."""
        taken = []
        for facility_id in facility_ids:
            lease = self.leases[facility_id]
            if lease.expires_s <= self.loop.now_s:
                self._note_lease(facility_id)
                lease.owner, lease.epoch, lease.from_s = name, lease.epoch + 1, self.loop.now_s
                lease.expires_s = self.loop.now_s + ttl_s
                taken.append((facility_id, lease.epoch))
        return taken

    def outgrow(self, name: str, facility_id: str, epoch: int, highest: int) -> int | None:
        """As the statement does."""
        lease = self.leases[facility_id]
        if not self.stands(facility_id, name, epoch) or epoch > highest:
            return None
        expires_s, lease.expires_s = lease.expires_s, self.loop.now_s
        self._note_lease(facility_id)
        lease.epoch, lease.from_s, lease.expires_s = min(highest + 1, epoch + CATCH_UP_MAX), self.loop.now_s, expires_s
        return lease.epoch

    def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """As the statement does."""
        for facility_id, epoch in held:
            lease = self.leases[facility_id]
            if lease.owner == name and lease.epoch == epoch:
                lease.expires_s = min(lease.expires_s, self.loop.now_s)

    def stands(self, facility_id: str, owner: str, epoch: int) -> bool:
        """Whether a lease is good now."""
        lease = self.leases[facility_id]
        return lease.owner == owner and lease.epoch == epoch and lease.expires_s > self.loop.now_s

    def admit(self, facility_id: str, owner: str, taken: Admission | None) -> bool:
        """As the statement does; the checker is told of what was taken."""
        lease = self.leases[facility_id]
        is_owner = lease.owner == owner and lease.expires_s > self.loop.now_s
        if is_owner and taken is not None:
            self.admissions.append(replace(taken, at_s=self.loop.now_s))
        return is_owner

    def _note_lease(self, facility_id: str) -> None:
        lease = self.leases[facility_id]
        if lease.epoch:
            self.spans.append(Span("lease", facility_id, lease.from_s, lease.expires_s, lease.owner, lease.epoch))

    def finish(self) -> None:
        """The run is over: the leases that stand count as well."""
        self.spans += self.desires.spans()
        for facility_id in self.leases:
            self._note_lease(facility_id)
        for number in list(self._armed_s):
            self._note_armed(number, self.obligations[number].facility_id, self.obligations[number].mw)

    # -- journal ------------------------------------------------------------------------------------------------------

    def write_commands(self, owner: str, rows: Sequence[CommandRow]) -> set[str]:
        """Those whose lease stands."""
        stood = set()
        for row in rows:
            if self.stands(row.facility_id, owner, row.epoch):
                stood.add(row.facility_id)
                self._command(owner, row)
        return stood

    def _command(self, owner: str, row: CommandRow) -> None:
        key = (str(row.command_id), row.assignment)
        if key in self.commanded:
            raise psycopg.errors.UniqueViolation(f"switch_journal: {key}")
        self.commanded[key] = row
        self.open[row.facility_id].add(key)
        self.recorded_s[key] = self.loop.now_s
        self.owner_of[key[0]] = owner
        self.journal.append(
            Journal(
                self.loop.now_s, "commanded", row.facility_id, owner, row.epoch, *key, row.group_id, row.from_state,
                row.to_state, tuple(decode_slots(row.slots, 1 << 20).tolist()), row.devices, row.reason, row.mw_delta,
            )
        )  # fmt: skip

    def write_outcomes(self, batch: Batch) -> None:
        """All of it, or nothing."""
        for outcome in batch.outcomes:
            self._outcome(outcome)
        for observation in batch.observations:
            self._observe(observation)
        for facility_id, memory in batch.memories.items():
            if self.memories.get(facility_id, (0, {}))[0] <= memory.epoch:
                self.memories[facility_id] = (memory.epoch, memory.memory)
        for facility_id, seq in batch.cursors.items():
            self.cursors[facility_id] = max(seq, self.cursors.get(facility_id, 0))

    def _is_new(self, command_id: str, assignment: int, event: str) -> bool:
        key = (command_id, assignment, event)
        if key in self.events:
            return False
        self.events.add(key)
        return True

    def _outcome(self, o: Outcome) -> None:
        command = self.commanded.get((o.command_id, o.assignment))
        if (
            command is None
            or command.facility_id != o.facility_id
            or not self._is_new(o.command_id, o.assignment, o.event)
        ):
            return
        if o.event in ("acked", "expired"):
            self.open[command.facility_id].discard((o.command_id, o.assignment))
        if o.event == "acked":
            self.acked_at[o.command_id, o.assignment] = o.simulated_at
        self._append(command, o.event, o.devices, o.refused, o.deferred, o.failed, o.superseded)

    def _append(self, c: CommandRow, event: str, devices: int, *counts: int) -> None:
        owner = self.owner_of[str(c.command_id)]
        self.journal.append(
            Journal(
                self.loop.now_s, event, c.facility_id, owner, c.epoch, str(c.command_id), c.assignment, c.group_id,
                c.from_state, c.to_state, (), devices, c.reason, 0.0, *counts,
            )
        )  # fmt: skip

    def _observe(self, o: Observation) -> None:
        if not self._is_new(str(o.event_id), o.assignment, "observed"):
            return
        self.observed.append(o)
        self.journal.append(
            Journal(
                self.loop.now_s, "observed", o.facility_id, o.owner, o.epoch, str(o.event_id), o.assignment, o.group_id,
                o.from_state, o.to_state, tuple(decode_slots(o.slots, 1 << 20).tolist()), o.devices, o.reason, o.mw_delta,
            )
        )  # fmt: skip

    def expire(self, facility_id: str, older_than_s: float = 0.0) -> int:
        """Close what has no ack."""
        until_s = self.loop.now_s - older_than_s
        closed = sorted(key for key in self.open[facility_id] if self.recorded_s[key] <= until_s)
        for key in closed:
            self._is_new(*key, "expired")
            self._append(self.commanded[key], "expired", 0)
        self.open[facility_id] -= set(closed)
        return len(closed)

    def bookings_of(self, facility_id: str, since: datetime) -> list[tuple[float, str, float]]:
        """What used up the ramps."""
        rows = [(self._left_at(k, r), r) for k, r in self.commanded.items() if r.facility_id == facility_id]
        seen = [(o.simulated_at, o) for o in self.observed if o.facility_id == facility_id]
        found = [(at.timestamp(), r.feeder_id, r.mw_delta) for at, r in [*rows, *seen] if at > since and r.mw_delta]
        return sorted(found, key=lambda b: b[0])

    def _left_at(self, key: tuple[str, int], row: CommandRow) -> datetime:
        """When a command left at the latest."""
        latest = row.simulated_at + timedelta(seconds=COMMIT_WITHIN_S * SPEED)
        return min(self.acked_at.get(key, latest), latest)

    def switches(self, facility_id: str, generation: int, since: datetime) -> list[Switched]:
        """What was commanded and may have left."""
        rows = (
            (self._left_at(key, row), row)
            for key, row in self.commanded.items()
            if row.facility_id == facility_id and row.generation == generation and (*key, "expired") not in self.events
        )
        found = sorted(((at, r) for at, r in rows if at > since and r.mw_delta), key=lambda f: f[0])
        return [Switched(at.timestamp(), r.from_state, r.mw_delta, r.slots) for at, r in found]

    # -- what stands --------------------------------------------------------------------------------------------------

    def enter_locks(self, owner: str, epoch: int, ahead: Ahead) -> None:
        """As the statements do; here nobody gets ahead but a gateway with the devices of another generation."""
        standing = self.standing[ahead.facility_id]
        if not self.stands(ahead.facility_id, owner, epoch) or standing.version > ahead.version:
            return
        lockouts = standing.lockouts
        if ahead.devices:
            number = 1 + max((lockout.lockout_id for lockout in lockouts), default=0)
            lockouts = (*lockouts, Lockout(number, ahead.holder, REASON, "device", slots=ahead.slots))
        self.standing[ahead.facility_id] = replace(standing, lockouts=lockouts, version=ahead.version + 1)

    def standing_of(self, facility_ids: Iterable[str], now: datetime) -> dict[str, Standing]:
        """What stands and has not ended."""
        found = {}
        for facility_id in facility_ids:
            standing = self.standing[facility_id]
            timed = tuple(t for t in standing.timed if t.valid_until is None or t.valid_until > now)
            found[facility_id] = replace(standing, timed=timed)
        return found

    def order(self, facility_id: str, timed: Timed) -> None:
        """An operator's override, curtailment or stop."""
        standing = self.standing[facility_id]
        self.standing[facility_id] = replace(standing, timed=(*standing.timed, timed))
        self.notify("hcp_directive")

    def rows_of(self, facility_ids: Iterable[str]) -> dict[str, Rows]:
        """The obligations that are under way."""
        active = [o for o in self.obligations.values() if o.status in ACTIVE]
        return {f: Rows(tuple(o for o in active if o.facility_id == f), dict(self.signals), None) for f in facility_ids}

    def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """Under a lease that stands, and if nobody else was faster."""
        stored = self.obligations[after.obligation_id]
        if stored.status is not before or not self.stands(after.facility_id, owner, epoch):
            return False
        self.obligations[after.obligation_id] = after
        number, facility_id = after.obligation_id, after.facility_id
        if after.status is Status.ARMED and before is not Status.ARMED:
            self._armed_s[number] = self.loop.now_s
        elif before is Status.ARMED and after.status is not Status.ARMED:
            self._note_armed(number, facility_id, after.mw)
        return True

    def _note_armed(self, number: int, facility_id: str, mw: float) -> None:
        since_s, signals = self._armed_s.pop(number, self.loop.now_s), self.signals.get(number, Signals())
        ends_s = [real_s(self.obligations[number].end_s), self.loop.now_s]
        ends_s += [] if signals.deploy_at_s is None else [real_s(signals.deploy_at_s)]
        self.spans.append(Span("obligation", facility_id, since_s, min(ends_s), mw=mw))

    def newest(self, facility_id: str) -> list[PolicyRow]:
        """The live policies of the newest ticks, newest first."""
        known = sorted(self.policies[facility_id], key=lambda p: -int(p.body["basis_tick_id"]))
        return known[:POLICIES_LOOKED_AT]

    def put_tick(self, stream: str, series: str, at: datetime, value: float) -> None:
        """A value of the market, committed now."""
        self.ticks.append(TickRow(len(self.ticks) + 1, stream, series, at, value, "good"))
        self.notify("hcp_tick")
