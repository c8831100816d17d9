"""How each happening of a schedule is done to a universe, and undone."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from hcp_pipelines.allocator.intake import PolicyRow
from hcp_pipelines.allocator.standing import Lockout, Timed
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.obligations import Obligation, Signals, Status
from hcp_pipelines.wire.slots import encode_slots
from tests.faults import fleet
from tests.faults.hall import GOOD, LYING, STUCK
from tests.faults.records import Span
from tests.faults.schedule import Happening
from tests.faults.virtual import SPEED, ProcessClock, simulated_s

if TYPE_CHECKING:
    from tests.faults.universe import Universe


class Happenings:
    """The hand of fate, of operators, of the grid and of the optimizer."""

    def __init__(self, universe: "Universe") -> None:
        self._u = universe
        self._rng = random.Random(f"{universe.seed}/details")
        self._clock = ProcessClock(universe.loop)
        self._undo: dict[int, Callable[[], None]] = {}
        self._numbers = 0
        self._no_price_since: float | None = None

    def do(self, happening: Happening) -> None:
        """Do it now; undo it when its time is over."""
        details = random.Random(f"{self._u.seed}/{happening}")
        self._rng = details  # what is left of a schedule does the same whatever was taken out of it
        undo = getattr(self, "_" + happening.what.replace(" ", "_"))(happening)
        if undo is None:
            return
        self._numbers += 1
        number = self._numbers
        self._undo[number] = undo
        self._u.loop.later(happening.for_s, self._end, number)

    def end_all(self) -> None:
        """The calm begins."""
        for number in list(self._undo):
            self._end(number)
        for name in self._u.processes:
            self._u.start(name)

    def _end(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    # -- processes and links ------------------------------------------------------------------------------------------

    def _kill_allocator(self, h: Happening) -> Callable[[], None]:
        self._u.kill(h.target)
        return lambda: self._u.start(h.target)

    _kill_gateway = _kill_allocator

    def _pause_allocator(self, h: Happening) -> Callable[[], None]:
        process = self._u.processes[h.target]
        process.pause()
        return process.resume

    _pause_gateway = _pause_allocator

    def _link(self, h: Happening) -> tuple[str, str]:
        client, _, gateway = h.target.partition(">")
        return client, gateway

    def _cut_link(self, h: Happening) -> Callable[[], None]:
        self._u.network.change(self._link(h), is_cut=True)
        return lambda: self._u.network.change(self._link(h), is_cut=False)

    def _isolate_gateway(self, h: Happening) -> Callable[[], None]:
        links = [(client, h.target) for client in self._u.names.allocators]
        for link in links:
            self._u.network.change(link, is_cut=True)
        return lambda: [self._u.network.change(link, is_cut=False) for link in links] and None

    def _reset_link(self, h: Happening) -> None:
        self._u.network.break_streams(self._link(h))

    def _slow_link(self, h: Happening) -> Callable[[], None]:
        self._u.network.slow_s[self._link(h)] = h.amount
        return lambda: self._u.network.slow_s.pop(self._link(h), None) and None

    def _deliver_twice(self, h: Happening) -> Callable[[], None]:
        self._u.network.twice[self._link(h)] = h.amount
        return lambda: self._u.network.twice.pop(self._link(h), None) and None

    def _repeat_an_old_command(self, h: Happening) -> None:
        self._u.network.repeat(h.target)

    # -- store and disks ----------------------------------------------------------------------------------------------

    def _set(self, what: object, name: str, value: object, back: object) -> Callable[[], None]:
        setattr(what, name, value)
        return lambda: setattr(what, name, back)

    def _stop_database(self, _: Happening) -> Callable[[], None]:
        return self._set(self._u.db, "is_down", True, False)

    def _hang_database(self, _: Happening) -> Callable[[], None]:
        self._u.db.hangs = True
        return self._u.db.go_on

    def _lose_replies(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.db, "reply_lost", h.amount, 0.0)

    def _lose_requests(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.db, "request_lost", h.amount, 0.0)

    def _slow_commits(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.db, "commit_late_s", h.amount, 0.0)

    def _unheard_commits(self, h: Happening) -> Callable[[], None]:
        db = self._u.db
        db.commit_unheard, db.commit_late_s = 0.5, h.amount

        def end() -> None:
            db.commit_unheard = db.commit_late_s = 0.0

        return end

    def _lose_notifications(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.db, "deaf", h.amount, 0.0)

    def _fill_disk(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.disks[h.target], "is_full", True, False)

    def _slow_disk(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.disks[h.target], "slow_s", h.amount, 0.0)

    # -- devices and prices -------------------------------------------------------------------------------------------

    def _cut_devices(self, h: Happening) -> Callable[[], None]:
        hall = self._u.halls[h.target]
        hall.cut()
        return lambda: setattr(hall, "is_unreachable", False)

    def _silence_devices(self, h: Happening) -> Callable[[], None]:
        return self._set(self._u.halls[h.target], "is_silent", True, False)

    def _devices_stuck(self, h: Happening) -> Callable[[], None]:
        return self._spoil(h, STUCK)

    def _devices_lie(self, h: Happening) -> Callable[[], None]:
        return self._spoil(h, LYING)

    def _spoil(self, h: Happening, nature: int) -> Callable[[], None]:
        hall = self._u.halls[h.target]
        known = [s for g in hall.facility.groups for s in g.slots]
        slots = self._rng.sample(known, min(int(h.amount), len(known)))
        hall.nature[slots] = nature
        hall.was_faulty[slots] = True
        return lambda: hall.nature.__setitem__(slots, GOOD)

    def _stop_prices(self, h: Happening) -> Callable[[], None] | None:
        if not self._u.has_prices:
            return None
        return self._set(self._u, "has_prices", False, True)

    # -- policies and orders ------------------------------------------------------------------------------------------

    def publish(self, facility_id: str, *, basis: int | None = None) -> None:
        """A new live policy."""
        db, made = self._u.db, self._u.inventories[facility_id]
        basis = max(len(db.ticks), 1) if basis is None else basis
        floor_mw = sum(
            o.mw for o in db.obligations.values() if o.facility_id == facility_id and o.status is Status.ARMED
        )
        version = db.standing[facility_id].obligations_version
        body = fleet.policy(made, self._rng, basis, self._clock.now(), version, floor_mw)
        number = 1 + sum(len(p) for p in db.policies.values())
        db.policies[facility_id].append(
            PolicyRow(facility_id, number, basis, body.digest(), body.model_dump(mode="json"))
        )
        db.notify("hcp_policy")

    def _policy(self, h: Happening) -> None:
        self.publish(h.target)

    def _old_policy(self, h: Happening) -> None:
        self.publish(h.target, basis=max(len(self._u.db.ticks) - 20, 1))

    def _lock(self, h: Happening) -> Callable[[], None]:
        db, hall = self._u.db, self._u.halls[h.target]
        group = self._rng.choice(hall.facility.groups)
        slots = np.array(self._rng.sample(group.slots, min(3, len(group.slots))), dtype=np.uint32)
        is_device = h.amount < 0.7
        self._numbers += 1
        lockout = Lockout(
            self._numbers, "ann", "maintenance", "device" if is_device else "feeder", group.feeder_id,
            encode_slots(np.sort(slots)) if is_device else b"",
        )  # fmt: skip

        def change(*, is_locked: bool) -> None:
            standing = db.standing[h.target]
            others = tuple(x for x in standing.lockouts if x.lockout_id != lockout.lockout_id)
            locks = (*others, lockout) if is_locked else others
            db.standing[h.target] = replace(standing, lockouts=locks, version=standing.version + 1)
            db.notify("hcp_directive")

        change(is_locked=True)
        return lambda: change(is_locked=False)

    def _order(self, h: Happening, directive: Directive) -> None:
        until = self._clock.now() + timedelta(seconds=h.for_s * SPEED)
        self._u.db.order(h.target, Timed(directive, self._clock.now(), until))

    def _curtail(self, h: Happening) -> None:
        cap_mw = self._u.inventories[h.target].capacity_mw * h.amount
        self._numbers += 1
        self._order(h, Directive(f"curtail/{self._numbers}", Kind.CURTAIL, "ann", "too hot", cap_mw=cap_mw))

    def _stop_all(self, h: Happening) -> None:
        self._numbers += 1
        self._order(h, Directive(f"stop_all/{self._numbers}", Kind.STOP, "ann", "smoke", cap_mw=0.0))

    def _override(self, h: Happening) -> None:
        group = self._rng.choice(self._u.inventories[h.target].groups)
        state = DeviceState(self._rng.choice(group.ladder).state)
        self._numbers += 1
        number = f"override/{self._numbers}"
        self._u.run.spans.append(Span("override", h.target, h.at_s, h.at_s + h.for_s))
        self._order(h, Directive(number, Kind.OVERRIDE, "ann", "trial", group_id=group.group_id, state=state))

    def _desire(self, h: Happening) -> Callable[[], None] | None:
        """The scheduler wants some GPUs; it takes them back long before its lease ends, or that runs out."""
        db, now_s, is_withdrawn = self._u.db, self._u.loop.now_s, h.amount < 0.5
        lasts_s = h.for_s * 3 if is_withdrawn else h.for_s
        row = db.desires.desire(self._u.inventories[h.target], self._rng, now_s, lasts_s)
        if row is None:
            return None
        db.notify(f"hcp_desired/{h.target}")
        if not is_withdrawn:
            return None

        def withdraw() -> None:
            if db.desires.withdraw(row, self._u.loop.now_s):
                db.notify(f"hcp_desired/{h.target}")

        return withdraw

    def _sell_reserve(self, h: Happening) -> None:
        """Reserve is sold from soon on, and called for in half of the cases."""
        db, hall = self._u.db, self._u.halls[h.target]
        sheddable_mw = sum(
            len(g.slots) * (max(g.power_mw.values()) - min(g.power_mw.values()))
            for g in hall.facility.groups
            if g.is_sheddable
        )
        now_s = simulated_s(self._u.loop.now_s)
        if any(o.facility_id == h.target and o.end_s > now_s for o in db.obligations.values()):
            return
        self._numbers += 1
        start_s, end_s = now_s + 300.0, now_s + 300.0 + h.for_s * SPEED
        number = self._numbers
        db.obligations[number] = Obligation(
            number, h.target, "ECRS", Status.AWARDED, sheddable_mw * h.amount, start_s, end_s, 600.0, 600.0, 300.0
        )
        standing = db.standing[h.target]
        db.standing[h.target] = replace(standing, obligations_version=standing.obligations_version + 1)
        db.notify("hcp_directive")
        if self._rng.random() < 0.5:
            called_s = self._rng.uniform(20, max(h.for_s - 10, 21))
            self._u.loop.later(called_s, self._call, number)

    def _call(self, number: int) -> None:
        now_s = simulated_s(self._u.loop.now_s)
        self._u.db.signals[number] = Signals(deploy_at_s=now_s)
        self._u.db.notify("hcp_directive")
