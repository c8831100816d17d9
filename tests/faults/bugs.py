"""Bugs, put into the real code at run time, by which the checker is proven. Nothing here is ever on in the platform."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from hcp_pipelines.allocator import owner as owner_module
from hcp_pipelines.allocator import session as session_module
from hcp_pipelines.allocator.control import FacilityControl
from hcp_pipelines.allocator.desired_table import StoredRows
from hcp_pipelines.allocator.following import Following
from hcp_pipelines.allocator.health import InputAges, InputHealth, Phase, Step
from hcp_pipelines.allocator.late_commits import LateCommits
from hcp_pipelines.allocator.leases import Lease, LeaseKeeper
from hcp_pipelines.allocator.obligations import ObligationBook
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.planning import Planner
from hcp_pipelines.allocator.returns import Returns
from hcp_pipelines.allocator.wave import Wave
from hcp_pipelines.allocator.work import Work
from hcp_pipelines.allocator.working import Working
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.edge import facility as facility_module
from hcp_pipelines.edge import owners as owners_module
from hcp_pipelines.edge import recovery
from hcp_pipelines.edge.acks import Acks
from hcp_pipelines.edge.bars import Bars
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.floors import Floors
from hcp_pipelines.edge.owners import Owners
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots

Patches = Sequence[Any]


def skip_fencing() -> Patches:
    """The gateway takes commands from whoever sends them, of whatever epoch."""
    return [
        patch.object(facility_module, "check_command", lambda *_: ("", "")),
        patch.object(Owners, "obeys", lambda *_: True),
        patch.object(Owners, "is_of", lambda *_: True),
    ]


def accept_lower_epoch() -> Patches:
    """The gateway takes announcements of epochs that have passed."""
    return [patch.object(owners_module, "check_announce", lambda *_: "")]


def ack_before_store() -> Patches:
    """The ack leaves while the command is still being written."""

    async def store(self: Any, command: pb.Command, ack: pb.Ack) -> None:
        command_seq, ack.seq = self._log.reserve(), self._log.reserve()
        body = ack.SerializeToString()
        entries = [(command_seq, "command", command.SerializeToString()), (ack.seq, "ack", body)]
        self._tasks.spawn(self._log.append(entries))
        self._acks.remember(command.command_id, body)

    return [patch.object(FacilityGateway, "_store", store)]


def send_before_journal() -> Patches:
    """A wave leaves, and is written then."""
    real = Planner._journal

    async def journal(self: Any, waves: Sequence[Wave]) -> set[str]:
        for wave in waves:
            control = self._controls.get(wave.facility_id)
            if control is not None:
                control.session.send(pb.OwnerMessage(command=wave.command))
        return await real(self, waves)

    return [patch.object(Planner, "_journal", journal)]


def send_in_next_session() -> Patches:
    """A wave leaves however long its commit took."""
    return [patch.object(FacilityControl, "may_send", lambda self: self.owner.is_ready)]


def forget_predecessor() -> Patches:
    """A new owner begins with empty ramp windows."""
    return [patch.object(Owner, "restore_ramps", lambda *_: None)]


def drive_without_booking() -> Patches:
    """Waves that no tick led to are not booked."""
    real = Owner.take

    def take(self: Owner, wave: Wave) -> None:
        before = list(self.ledger._bookings)
        real(self, wave)
        if wave.decision.new_tick is None:
            self.ledger.restore(before)

    return [patch.object(Owner, "take", take)]


def drop_failures() -> Patches:
    """Devices that did not obey are not counted."""
    real = Returns.take_settled

    def take(self: Returns, settled: pb.Settled) -> None:
        settled.failed = b""
        real(self, settled)

    return [patch.object(Returns, "take_settled", take)]


def energise_locked() -> Patches:
    """Locks are told, and neither side looks at them."""
    real = owner_module.plan_directed

    def plan(pool: Any, locked_out: Any, *more: Any) -> Any:
        return real(pool, np.zeros_like(locked_out), *more)

    return [
        patch.object(owner_module, "plan_directed", plan),
        patch.object(Owner, "free", lambda self: self.devices.eligible(self._clock.monotonic_s())),
        patch.object(Bars, "refusals", lambda *_: []),
    ]


def apply_again() -> Patches:
    """After a restart the gateway tells its devices all that it ever took on."""
    real = recovery._Reading.take

    def take(self: Any, entry: pb.LogEntry) -> None:
        if entry.kind != "settled":
            real(self, entry)

    def drive(self: Any, pending: Any, slots: Any) -> None:
        if (
            finish := self._driver.hand_over(pending.command_id, pending.index, pending.state, encode_slots(slots))
        ) is not None:
            finish()

    return [patch.object(recovery._Reading, "take", take), patch.object(Devices, "_drive", drive)]


def ignore_lease_deadline() -> Patches:
    """An owner goes on while nobody tells it that its lease is over."""

    async def watch(_: LeaseKeeper) -> None:
        """Nobody watches."""
        await asyncio.Event().wait()

    return [patch.object(Lease, "holds", lambda *_: True), patch.object(LeaseKeeper, "watch", watch)]


def forget_uncertain_commits() -> Patches:
    """A wave whose commit got no answer is planned again, and nobody closes the first."""
    return [patch.object(FacilityControl, "give_up", lambda self, _: self.owner.ask())]


def forget_late_commits() -> Patches:
    """Nobody looks for commits that came about after their client was told that they had failed."""

    async def look(self: LateCommits, facility_id: str) -> None:
        """Nobody looks."""

    return [patch.object(LateCommits, "look", look)]


def ignore_floor() -> Patches:
    """What is sold as reserve is switched off for money."""
    return [patch.object(ObligationBook, "floor_mw", lambda _: 0.0)]


def ignore_floor_alone() -> Patches:
    """A gateway that is cut off takes its fallback plan whatever is sold."""
    return [patch.object(Floors, "keep", lambda _, _shape, _present, targets, _now_s: targets)]


def trust_stale_prices() -> Patches:
    """No price is ever too old."""
    normal = Step(Phase.NORMAL, ReasonCode.ECONOMICS, has_changed=False)
    return [patch.object(InputHealth, "assess", lambda *_: normal)]


def need_a_policy() -> Patches:
    """Without a policy nothing is done, the fallback plan neither."""
    real = Following.want

    def want(self: Following, *more: Any) -> Any:
        return real(self, *more) if self.in_force is not None else None

    return [patch.object(Following, "want", want)]


def hold_anew() -> Patches:
    """A single price makes the hold begin anew."""
    real = InputHealth.assess

    def assess(self: InputHealth, now_s: float, ages: InputAges, hold_s: float) -> Step:
        self._since_s = math.inf
        return real(self, now_s, replace(ages, stale_before_s=math.inf), hold_s)

    return [patch.object(InputHealth, "assess", assess)]


def forget_refusals() -> Patches:
    """What the disk refused is taken on as new when it comes again."""
    real = Acks.remember

    def remember(self: Acks, command_id: str, ack: bytes) -> None:
        if not pb.Ack.FromString(ack).refusal:
            real(self, command_id, ack)

    return [patch.object(Acks, "remember", remember)]


def take_of_any_session() -> Patches:
    """What was made for an earlier session is taken on."""
    return [patch.object(Owners, "is_of", lambda *_: True)]


def end_with_the_channel() -> Patches:
    """Whoever reads a gateway's state ends with the session that is ended meanwhile: a loop over all facilities, for ever."""
    return [patch.object(session_module, "is_being_ended", lambda: True)]


def leave_void_unsaid() -> Patches:
    """That a command came too late is not stored, where the disk did not take it at first."""

    async def again(*_: Any) -> None:
        """Nobody tries."""

    return [patch.object(FacilityGateway, "_say_void_again", again)]


def work_for_nobody() -> Patches:
    """The policy's numbers are carried out in groups where work is scheduled as well."""
    return [patch.object(Working, "_serve", lambda *_: None)]


def keep_withdrawn_rows() -> Patches:
    """A row stands until its lease ends, whatever becomes of it before."""
    real = Work.take

    def take(self: Work, stored: StoredRows, now_s: float) -> bool:
        return bool(set(self._stored.ids) <= set(stored.ids)) and real(self, stored, now_s)

    return [patch.object(Work, "take", take)]


BUGS: dict[str, tuple[Callable[[], Patches], str]] = {
    "skip-fencing": (skip_fencing, "one owner"),
    "accept-lower-epoch": (accept_lower_epoch, "one owner"),
    "ack-before-store": (ack_before_store, "ack after store"),
    "send-before-journal": (send_before_journal, "journal before send"),
    "send-in-next-session": (send_in_next_session, "closed never leaves"),
    "forget-predecessor": (forget_predecessor, "ramps"),
    "drive-without-booking": (drive_without_booking, "ramps"),
    "drop-failures": (drop_failures, "no lost command"),
    "energise-locked": (energise_locked, "locks"),
    "apply-again": (apply_again, "effective once"),
    "ignore-lease-deadline": (ignore_lease_deadline, "within the lease"),
    "forget-uncertain-commits": (forget_uncertain_commits, "no lost command"),
    "forget-late-commits": (forget_late_commits, "no lost command"),
    "ignore-floor": (ignore_floor, "floors"),
    "ignore-floor-alone": (ignore_floor_alone, "floors"),
    "trust-stale-prices": (trust_stale_prices, "nothing on old inputs"),
    "need-a-policy": (need_a_policy, "hold then fallback"),
    "hold-anew": (hold_anew, "hold then fallback"),
    "forget-refusals": (forget_refusals, "no lost command"),
    "take-of-any-session": (take_of_any_session, "no lost command"),
    "work-for-nobody": (work_for_nobody, "work for somebody"),
    "keep-withdrawn-rows": (keep_withdrawn_rows, "work for somebody"),
    "leave-void-unsaid": (leave_void_unsaid, "no lost command"),
    "end-with-the-channel": (end_with_the_channel, "no defect"),
}


@contextlib.contextmanager
def seeded(name: str) -> Iterator[None]:
    """The code with a bug in it; as it is with an empty name.

    Raises:
        KeyError: there is no such bug; BUGS names them.
    """
    with contextlib.ExitStack() as stack:
        for change in BUGS[name][0]() if name else ():
            stack.enter_context(change)
        yield
